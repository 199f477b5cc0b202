"""An answer as the cache holds it, and the key that finds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from vlmprompt.digests import digest_of

KEY_VERSION = 1
MOST = 2**53  # beyond, a number counts nothing, and no reader of JSON need keep it


def _usable(asked: dict[str, Any]) -> dict[str, Any]:
    sample = asked.get("sample", 0)
    if type(sample) is not int or not 0 <= sample <= MOST or not isinstance(asked.get("parameters", {}), dict):
        raise ValueError("nobody has asked so")
    digest_of(asked)  # ValueError: a number without end
    return asked


_Count = Annotated[int, Field(ge=0, le=MOST)]


class Answer(BaseModel):
    """An answer that could be used, with all that it depends on and what it cost.

    Attributes:
        asked: everything that decides the answer; its digest is the key.
        dataset, class_index, class_name, template: for whom it was asked first, and with which question.
        items: the descriptions in it.
        text: the answer as it came.
        notes: in what way it was asked otherwise (without a parameter that the server rejects).
        created: when, ISO 8601.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    asked: Annotated[dict[str, Any], AfterValidator(_usable)]
    dataset: str
    class_index: _Count
    class_name: str = Field(min_length=1)
    template: str
    kind: Literal["phrase", "sentence"]
    items: list[Annotated[str, Field(min_length=1)]] = Field(min_length=1)
    text: str
    finish_reason: str = ""
    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0
    fingerprint: str = ""
    notes: list[str] = []
    created: str = ""
    versions: dict[str, str] = {}

    @property
    def key(self) -> str:
        """Where it belongs."""
        return digest_of(self.asked)

    def dump(self) -> str:
        """As the cache stores it."""
        return self.model_dump_json()

    @classmethod
    def parse(cls, text: str) -> Answer | None:
        """From the cache; None for what is none."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None


def asked(
    provider: str, identity: Mapping[str, Any], question: str, template_sha256: str, *, sample: int, twin: int
) -> dict[str, Any]:
    """Everything that decides an answer; its digest is the answer's key.

    Args:
        provider: its registered name.
        identity: see `Provider.identity`.
        question: the text, the class name in it.
        sample: which of several answers.
        twin: how many classes of the same name come before this one; they must not share their answers.
    """
    about = {"version": KEY_VERSION, "provider": provider, "question": question, "template_sha256": template_sha256}
    return {**about, "parameters": dict(identity), "sample": sample, "twin": twin}
