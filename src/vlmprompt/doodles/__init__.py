"""The built-in world: drawn pictures of everyday things, rendered when asked for; nothing is stored or downloaded."""

from vlmprompt.doodles.pictures import picture
from vlmprompt.doodles.render import Rendered

__all__ = ["Rendered", "picture"]
