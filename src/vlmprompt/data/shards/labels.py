"""The label of a sample: a line of text, or a field of a JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from vlmprompt.data.shards.index import Sample, read_part
from vlmprompt.data.shards.options import Options
from vlmprompt.errors import InputError, did_you_mean


def label_of(sample: Sample, options: Options) -> str:
    """The label of a sample that has one.

    Raises:
        InputError: the file is not text, or holds no label or several; the field is not there, or no label.
    """
    part = sample.parts[options.label]
    where = f"{part.name} in {sample.shard}"
    try:
        text = read_part(sample.shard, part).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise InputError(f"label {where} is not UTF-8 text", hint="a class name or an index is expected") from error
    if options.field:
        text = _field(text, options.field, where)
    if not text:
        raise InputError(f"label {where} is empty", hint="a class name or an index is expected")
    if "\n" in text or text.startswith("["):
        raise InputError(f"label {where} is not one class: {text[:60]!r}", hint="images have one label each")
    return text


def _field(text: str, field: str, where: str) -> str:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}") from error
    if not isinstance(content, dict) or field not in content:
        known = content if isinstance(content, dict) else ()
        raise InputError(f"{where} has no field {field!r}", hint=did_you_mean(field, known) or None)
    value: Any = content[field]
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise InputError(f"{field!r} of {where} is no label: {json.dumps(value)[:60]}", hint="a class name or an index")
    return str(value).strip()


def unlabelled(samples: Sequence[Sample], count: int, options: Options) -> InputError:
    """The error for samples that have an image but no label.

    Args:
        count: of all samples with an image.
    """
    first = samples[0]
    more = f", nor have {len(samples) - 1} others of {count}" if len(samples) > 1 else ""
    return InputError(
        f"{first.where} has no label, it has {', '.join(sorted(first.parts))}{more}",
        hint=f"expected {first.key}.{options.label}; a label elsewhere is named: ?label=txt or ?label=json.FIELD",
    )
