"""A chat completion as servers send it, read tolerantly: what is missing or odd beside the answer costs no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from vlmprompt.describe.answers import MOST
from vlmprompt.describe.provider import AnswerError, Reply

# What is no number of tokens counts as none said.
_Tokens = Annotated[int, BeforeValidator(lambda value: value if type(value) is int and 0 <= value <= MOST else 0)]


_Text = Annotated[str, BeforeValidator(lambda value: value if isinstance(value, str) else "")]


class _Message(BaseModel):
    content: str | list[str | dict[str, Any]] | dict[str, Any] | None = None
    refusal: _Text = ""
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: Any = None
    function_call: Any = None

    @property
    def parts(self) -> list[str | dict[str, Any]]:
        """Some servers send a text in parts, among them thoughts."""
        return self.content if isinstance(self.content, list) else [self.content or ""]

    @property
    def text(self) -> str:
        """What is meant to be read."""
        return "".join(part if isinstance(part, str) else _text_of(part) for part in self.parts)

    @property
    def refused(self) -> str:
        """Why the model would not answer."""
        said = (str(part.get("refusal") or "") for part in self.parts if isinstance(part, dict))
        return self.refusal or "".join(said)

    @property
    def beside(self) -> str:
        """What there is in the place of a text."""
        if self.tool_calls or self.function_call:
            return "a call of a tool"
        thinks = any(isinstance(part, dict) and _kind_of(part) not in _READ for part in self.parts)
        return "thoughts alone" if self.reasoning_content or self.reasoning or thinks else ""


_READ = frozenset({"", "text", "output_text"})  # types of parts


def _kind_of(part: dict[str, Any]) -> str:
    return str(part.get("type") or "")


def _text_of(part: dict[str, Any]) -> str:
    text = part.get("text")
    return text if _kind_of(part) in _READ and isinstance(text, str) else ""


class _Choice(BaseModel):
    message: _Message = _Message()
    finish_reason: _Text = ""
    error: Any = None
    text: _Text = ""  # of servers that complete texts rather than chats


class _Usage(BaseModel):
    prompt_tokens: _Tokens = 0
    completion_tokens: _Tokens = 0


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: Annotated[_Usage, BeforeValidator(lambda value: value if isinstance(value, dict) else {})] = _Usage()
    system_fingerprint: _Text = ""


def read_completion(text: str, hide: Callable[[str], str]) -> Reply:
    """The answer in a completion.

    Args:
        text: as it came.
        hide: what must not be kept of it.

    Raises:
        AnswerError: it is no completion, or one that failed on the way.
    """
    try:
        completion = _Completion.model_validate_json(text)
    except ValidationError:
        raise AnswerError(f"the server sent {_what(text)} with status 200", foreign=True) from None
    choice, usage = completion.choices[0], completion.usage
    if choice.error:
        raise AnswerError("the server broke the answer off with an error", foreign=True)
    return Reply(
        text=hide(choice.message.text or choice.text),
        finish_reason=hide(choice.finish_reason),
        refusal=hide(choice.message.refused),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        fingerprint=hide(completion.system_fingerprint),
        beside=choice.message.beside,
    )


def _what(text: str) -> str:
    begin = text.lstrip()[:5]
    if begin.startswith("<"):
        return "HTML"
    return "a stream of events" if begin == "data:" else "no chat completion"
