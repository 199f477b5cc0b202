"""Which methods a backbone serves."""

from __future__ import annotations

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.capabilities import lacking
from vlmprompt.errors import VlmPromptError
from vlmprompt.methods.build import build_method, list_methods, method_config, method_type
from vlmprompt.methods.requirements import REQUIREMENTS

_NAMES = ("one", "two")


def refusals(backbone: Backbone) -> dict[str, str | None]:
    """Every installed method, with why the backbone does not serve it with default options; None where it does."""
    return {name: _refusal(name, backbone) for name in list_methods()}


def _refusal(name: str, backbone: Backbone) -> str | None:
    try:
        cls = method_type(name)
        if missing := lacking(cls.requires | cls.required(method_config(name)), backbone):
            return "needs " + " and ".join(REQUIREMENTS.get(need, need) for need in missing)
        build_method(name, backbone, _NAMES, descriptions=[["a part"]] * len(_NAMES))
    except VlmPromptError as error:
        return error.message
    return None
