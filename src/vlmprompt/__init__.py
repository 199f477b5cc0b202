"""vlmprompt: prompt learning for CLIP-like models. Plugin authors import from `vlmprompt.api`."""

__version__ = "0.1.0.dev0"
