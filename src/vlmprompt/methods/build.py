"""From a method's name and options to a method over a backbone and class names."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import torch
from pydantic import ValidationError

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.capabilities import lacking
from vlmprompt.backbones.outliving import outliving
from vlmprompt.backbones.vision.tower import INSTEAD_OF_LOCAL
from vlmprompt.config.keys import reason_of
from vlmprompt.data.names import read_as, spellings
from vlmprompt.errors import CapabilityError, InputError, PluginError, UsageError, did_you_mean
from vlmprompt.methods.blame import blaming
from vlmprompt.methods.class_text import require_list, require_template
from vlmprompt.methods.config import MethodConfig
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.declared import require_built, require_config, require_overrides, require_type
from vlmprompt.methods.requirements import REQUIREMENTS, DescriptionUse
from vlmprompt.plugins import host

NAMES_SHOWN = 5  # in a warning

# What works in place of what a backbone lacks.
_INSTEAD = {
    "visual_prompts": "use a ViT such as ViT-B-16-quickgelu/openai, or a method that prompts the text only, such as "
    "coop ('vlmprompt backbones show SPEC' lists all)",
    "local_features": f"{INSTEAD_OF_LOCAL} ('vlmprompt backbones show SPEC' lists all)",
    "deep_text_prompts": "use a text tower of open_clip's own such as that of ViT-B-16-quickgelu/openai, or a method "
    "that prompts its input only, such as coop ('vlmprompt backbones show SPEC' lists all)",
    "text_deltas": "use a text tower of open_clip's own such as that of ViT-B-16-quickgelu/openai, or a method that "
    "leaves it as it is ('vlmprompt backbones show SPEC' lists all)",
    "image_deltas": "use a ViT such as ViT-B-16-quickgelu/openai, or a method that leaves the image tower as it is "
    "('vlmprompt backbones show SPEC' lists all)",
}


def list_methods() -> list[str]:
    """Names of all registered methods, sorted."""
    return host().methods.names()


def build_method(
    name: str,
    backbone: Backbone,
    class_names: Sequence[str],
    config: Mapping[str, Any] | None = None,
    *,
    descriptions: Sequence[Sequence[str]] | None = None,
    generator: torch.Generator | None = None,
    template: str | None = None,
) -> PromptMethod:
    """A method with fresh initial values, on the backbone's device.

    Args:
        name: a registered method.
        backbone: frozen towers.
        class_names: the label space, in label order.
        config: options that differ from the defaults; the key "preset" names a set of them.
        descriptions: phrases for each class, aligned with `class_names`.
        generator: source of initial values and random draws (on the CPU); default: seed 0.
        template: the data set's text with one {} for the class name; default "a photo of a {}.".

    Raises:
        UsageError: no such method or option, or a value that is not allowed.
        InputError: empty class names, descriptions that are not aligned with them, or a template without one {}.
        CapabilityError: the backbone lacks what the method needs.
        PluginError: the method's plugin failed, or says something of the method that cannot be.
    """
    entry = host().methods.get(name)
    cls = require_type(entry)
    require_overrides(entry)
    _require(name, cls.requires, backbone)
    options = method_config(name, config)
    with blaming(entry):
        required = cls.required(options)
    _require(name, required, backbone)
    require_list(class_names)
    _check_names(class_names)
    _warn_of_unknown(backbone, class_names)
    if descriptions is not None and len(descriptions) != len(class_names):
        raise InputError(f"descriptions of {len(descriptions)} classes, but there are {len(class_names)}")
    if template is not None:
        require_template(template)
    with outliving():
        with blaming(entry):
            method = cls.__new__(cls)
            if template is not None:  # before the constructor, whatever arguments a plugin's own takes
                method.template = template
            method.__init__(  # type: ignore[misc]
                backbone, class_names, options, descriptions=descriptions, generator=generator
            )
            method.registration = entry
            require_built(method, entry)
        if method.image_needs().local is not None:
            _require(name, {"local_features"}, backbone)
            _require_kind(name, method, backbone)
        return as_exact(method, backbone).to(backbone.device)


def as_exact(method: PromptMethod, backbone: Backbone) -> PromptMethod:
    """The method with its own numbers in float64 where the towers are: what is multiplied has one type."""
    return method.double() if backbone.dtype == torch.float64 else method


def written_for(method: PromptMethod, template: str) -> PromptMethod:
    """The method with its classes written in their data set's template, if it takes one (zero-shot CLIP does)."""
    if "new_classes" not in method.capabilities:
        return method
    return method.with_classes(method.class_names, template=template, descriptions=method.descriptions)


def method_config(name: str, options: Mapping[str, Any] | None = None) -> MethodConfig:
    """The validated options of a method, complete with defaults.

    Args:
        options: values by name; "preset" names a set of values that the others override.

    Raises:
        UsageError: an option or preset that the method does not have, or a value that is not allowed.
    """
    model = require_config(host().methods.get(name))
    fields = model.model_fields
    given = dict(options or {})
    if "preset" not in fields and (preset := given.pop("preset", None)) is not None:
        given = {**_preset(name, model, preset), **given}
    for key in given.keys() - fields.keys():
        raise UsageError(f"method {name!r} has no option {key!r}", hint=did_you_mean(key, fields) or None)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _explained(name, model, error) from None


def template_option(name: str) -> str | None:
    """The option in which a registered method takes a run's own templates; None for one that takes none."""
    return require_config(host().methods.get(name)).template_option


def description_use(name: str, options: Mapping[str, Any] | None = None) -> DescriptionUse:
    """Whether a registered method with these options reads descriptions of its classes.

    Raises:
        UsageError: see `method_config`.
        PluginError: the method's plugin failed, or says something else.
    """
    entry, config = host().methods.get(name), method_config(name, options)
    with blaming(entry):
        use: Any = require_type(entry).reads_descriptions(config)
    if use not in get_args(DescriptionUse):
        allowed = ", ".join(map(repr, get_args(DescriptionUse)))
        raise PluginError(f"{entry.told}: reads_descriptions gives {use!r}", hint=f"allowed: {allowed}; {entry.author}")
    found: DescriptionUse = use
    return found


def method_type(name: str) -> type[PromptMethod]:
    """The class of a registered method.

    Raises:
        UsageError: no such method.
        PluginError: its plugin failed, or see `require_type`.
    """
    return require_type(host().methods.get(name))


def _require(name: str, needs: Iterable[str], backbone: Backbone) -> None:
    for need in lacking(needs, backbone):
        raise CapabilityError(
            f"method {name!r} needs {REQUIREMENTS.get(need, need)}; backbone {backbone.spec!r} has none",
            hint=_INSTEAD.get(need),
        )


def _require_kind(name: str, method: PromptMethod, backbone: Backbone) -> None:
    try:
        backbone.vision.require(method.image_needs())
    except CapabilityError as error:
        raise CapabilityError(f"method {name!r}: {error.message}", hint=error.hint) from None


def _check_names(class_names: Sequence[str]) -> None:
    """Every class needs words; two that read the same cannot be told apart, which may be meant (CLIP's ImageNet)."""
    if not class_names:
        raise InputError("there are no classes")
    seen: dict[tuple[str, ...], int] = {}
    for label, name in ((label, part) for label, whole in enumerate(class_names) for part in spellings(whole)):
        words = read_as(name)
        if not words:
            raise InputError(f"the name of class {label} is empty", hint="give names with --class-names FILE")
        if seen.get(words, label) != label:
            warnings.warn(
                f"classes {seen[words]} and {label} have the same name, {name!r}: no text tower can tell them apart",
                stacklevel=3,
            )
        seen[words] = label


def _warn_of_unknown(backbone: Backbone, class_names: Sequence[str]) -> None:
    """A name without a known word has a text feature like any other, but one that means nothing."""
    names = backbone.text.unknown_names(class_names)
    if not names:
        return
    shown = ", ".join(map(repr, names[:NAMES_SHOWN])) + (", ..." if len(names) > NAMES_SHOWN else "")
    warnings.warn(
        f"backbone {backbone.spec!r} has never seen a word of {len(names)} of {len(class_names)} class names: {shown}; "
        "such a text means nothing to it",
        stacklevel=3,
    )


def _preset(name: str, model: type[MethodConfig], preset: Any) -> Mapping[str, Any]:
    if preset not in model.presets:
        hint = did_you_mean(str(preset), model.presets) or "it has no presets"
        raise UsageError(f"method {name!r} has no preset {preset!r}", hint=hint)
    return model.presets[preset]


def _explained(name: str, model: type[MethodConfig], error: ValidationError) -> UsageError:
    """The first wrong option in one line; the hint is what the option means."""
    problem = error.errors(include_url=False)[0]
    reason = reason_of(problem["msg"])
    if not problem["loc"]:
        return UsageError(f"the options of method {name!r} do not fit together: {reason}")
    key = str(problem["loc"][0])
    about = model.model_fields[key].description
    if problem["type"] == "missing":
        return UsageError(f"method {name!r} needs option {key}", hint=f"{key}: {about}" if about else None)
    return UsageError(
        f"option {key} = {problem['input']!r} of method {name!r} is not allowed: it {reason}",
        hint=f"{key}: {about}" if about else None,
    )
