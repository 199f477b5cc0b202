"""The contract of a provider of descriptions, and how its answers can fail.

A provider is registered with `register_llm_providers`: a class that is made with its options (the model that was
registered as `config=`). It answers one question at a time; asking many at once, asking again, waiting and
storing are the service's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from vlmprompt.describe.lines import Kind
from vlmprompt.describe.templates import Template

# Here, so that who has a key can be known without loading a provider.
KEY_VARIABLE = "OPENAI_API_KEY"


class ProviderConfig(BaseModel):
    """Base of a provider's options: unknown keys are errors. Secrets are no options; they stay in the environment."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


@dataclass(frozen=True)
class Question:
    """What is asked of one class.

    Attributes:
        class_index: the class's label.
        class_name: as prompts spell it.
        text: the template with the name in it; the name alone for a provider that is not asked in words.
        kind: what the answer should be a list of.
        sample: which of several answers to the same question is wanted.
        earlier: an answer to it that could not be used.
        remark: what was wrong with that; asked for again with these words.
    """

    class_index: int
    class_name: str
    text: str
    kind: Kind
    sample: int = 0
    earlier: str = ""
    remark: str = ""

    def again(self, earlier: str, remark: str) -> Question:
        """The same question after an answer that could not be used."""
        return replace(self, earlier=earlier, remark=remark)


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        text: of the answer.
        finish_reason: why it ended: "length" says that it was cut off, "content_filter" that it was refused.
        refusal: why the model would not answer.
        prompt_tokens, completion_tokens: what it cost, as far as the server says.
        fingerprint: of the system that answered.
        beside: what came in the place of a text, in words, such as thoughts alone.
    """

    text: str
    finish_reason: str = ""
    refusal: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    fingerprint: str = ""
    beside: str = ""


class RequestError(Exception):
    """A request without an answer.

    Args:
        reason: in words, without secrets.
        retry: whether the same request may succeed later.
        wait_s: how long the server asks to wait.
        changed: the provider will ask in another way next time (without a parameter that was rejected).
        stops: no request can succeed; all asking ends. The hint is the next step.
        refuses: the server heard the question and will not have it; if it says so to all, it is not the question.
    """

    def __init__(
        self,
        reason: str,
        *,
        retry: bool = False,
        wait_s: float | None = None,
        changed: bool = False,
        stops: bool = False,
        refuses: bool = False,
        hint: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint
        self.retry, self.wait_s, self.changed, self.stops, self.refuses = retry, wait_s, changed, stops, refuses


class AnswerError(Exception):
    """An answer that is no list of descriptions.

    Args:
        reason: in words.
        earlier: the answer, to be shown to the model when it is asked again; empty if that makes no sense.
        remark: what to say then.
        foreign: it did not come from a model at all (a page of HTML).
    """

    def __init__(self, reason: str, *, earlier: str = "", remark: str = "", foreign: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.earlier, self.remark, self.foreign = reason, earlier, remark, foreign


class Provider(Protocol):
    """Answers questions.

    Attributes:
        online: its answers cost requests, so they are cached and bounded.
        template: what stands in a template's place where nothing is asked in words; None: a template is needed.
        model: who answers, for file names and provenance.
        source: where a person would look it up.
        notes: what the user should know of how it asks, growing while it works; each is said once.
    """

    online: ClassVar[bool]
    template: Template | None
    model: str
    source: str
    notes: list[str]

    def __init__(self, config: Any) -> None: ...

    def identity(self) -> Mapping[str, Any]:
        """Everything but question and sample that an answer depends on, as JSON types and without secrets."""

    async def ask(self, question: Question) -> Reply:
        """One request.

        Raises:
            RequestError: there was no answer.
            AnswerError: there was one that is none.
        """

    async def close(self) -> None:
        """Let go of connections."""
