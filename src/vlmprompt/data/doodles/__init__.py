"""The built-in world: drawn pictures of everyday things, rendered when asked for; nothing is stored or downloaded."""

from vlmprompt.data.doodles.pictures import picture
from vlmprompt.data.doodles.render import Rendered

__all__ = ["Rendered", "picture"]
