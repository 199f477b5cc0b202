"""A chat completion as servers send it, read tolerantly: what is missing or odd beside the answer costs no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from vlmprompt.describe.answers import MOST
from vlmprompt.describe.provider import AnswerError, Reply

# What is no number of tokens counts as none said.
_Tokens = Annotated[int, BeforeValidator(lambda value: value if type(value) is int and 0 <= value <= MOST else 0)]


class _Message(BaseModel):
    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        """Some servers send a text in parts."""
        if isinstance(self.content, list):
            return "".join(str(part.get("text", "")) for part in self.content)
        return self.content or ""


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: _Tokens = 0
    completion_tokens: _Tokens = 0


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: Annotated[_Usage, BeforeValidator(lambda value: value if isinstance(value, dict) else {})] = _Usage()
    system_fingerprint: str | None = None


def read_completion(text: str, hide: Callable[[str], str]) -> Reply:
    """The answer in a completion.

    Args:
        text: as it came.
        hide: what must not be kept of it.

    Raises:
        AnswerError: it is no completion.
    """
    try:
        completion = _Completion.model_validate_json(text)
    except ValidationError:
        kind = "HTML" if text.lstrip()[:1] == "<" else "no chat completion"
        raise AnswerError(f"the server sent {kind} with status 200", foreign=True) from None
    choice, usage = completion.choices[0], completion.usage
    return Reply(
        text=hide(choice.message.text),
        finish_reason=hide(choice.finish_reason or ""),
        refusal=hide(choice.message.refusal or ""),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        fingerprint=hide(completion.system_fingerprint or ""),
    )
