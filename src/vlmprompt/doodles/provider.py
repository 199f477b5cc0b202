"""Descriptions of the built-in classes, from the parts that they are drawn of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from vlmprompt.api import ProviderConfig, Question, Reply, RequestError, unasked
from vlmprompt.doodles.parse import GROUPS, drawings
from vlmprompt.doodles.pictures import VERSION


class PartsConfig(ProviderConfig):
    """It has no options."""


class PartsProvider:
    """The phrases by which the drawings of the built-in classes name their parts; no model is asked."""

    online: ClassVar[bool] = False
    template = unasked("parts")

    def __init__(self, config: PartsConfig) -> None:
        groups = (*GROUPS, "unseen")
        self._phrases = {name: drawing.phrases for group in groups for name, drawing in drawings(group).items()}
        self.model = "doodles"
        self.source = f"parts of the drawings of doodles, version {VERSION}"
        self.notes: list[str] = []

    def identity(self) -> Mapping[str, Any]:
        """Nothing is cached."""
        return {}

    async def ask(self, question: Question) -> Reply:
        """The phrases of a drawing."""
        phrases = self._phrases.get(question.class_name.replace("_", " "))
        if not phrases:
            raise RequestError(f"there is no drawing of {question.class_name!r} among the built-in classes")
        return Reply(json.dumps(list(phrases)))

    async def close(self) -> None:
        """Nothing is open."""
