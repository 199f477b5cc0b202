"""What several methods say of a template that stands around learned tokens."""

from __future__ import annotations


def one(template: str | tuple[str, ...] | None) -> str | None:
    """The only template: prompts are learned in one text."""
    if isinstance(template, tuple) and len(template) > 1:
        raise ValueError(f"takes one template, as tokens are learned in its text, not {len(template)}")
    return template[0] if isinstance(template, tuple) else template
