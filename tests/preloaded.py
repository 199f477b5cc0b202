"""What tests.processes imports once: all of ours, and what it imports where it is needed."""

from __future__ import annotations

from importlib import import_module
from pkgutil import walk_packages

import accelerate  # noqa: F401
import sklearn.metrics
import sklearn.model_selection  # noqa: F401

import tests.evaluation.sweep_tiny
import tests.training.train_tiny  # noqa: F401
import vlmprompt

for found in walk_packages(vlmprompt.__path__, "vlmprompt."):
    if not found.name.endswith("__main__"):
        import_module(found.name)
