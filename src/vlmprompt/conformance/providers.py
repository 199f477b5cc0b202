"""The checks of providers of descriptions; nothing leaves the machine."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from vlmprompt.conformance.chat import always_good, serving
from vlmprompt.conformance.check import BrokenRuleError, Check, checks, require, skip
from vlmprompt.describe.provider import (
    KEY_VARIABLE,
    AnswerError,
    Provider,
    ProviderConfig,
    Question,
    Reply,
    RequestError,
)
from vlmprompt.describe.templates import Template
from vlmprompt.plugins import host
from vlmprompt.registry import Entry, one_line

SECRET = "sk-conformance-0123456789"
ADDRESS = "base_url"
NOBODY = "http://127.0.0.1:9/v1"  # the port of the service that throws everything away, which nobody runs
QUESTION = Question(0, "red fox", "What are useful features for distinguishing a red fox in a photo?", "phrase")


@dataclass
class ProviderCase:
    """A registered provider with some options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entry(self) -> Entry:
        """How it is registered."""
        return host().llm_providers.get(self.name)

    @property
    def model(self) -> type[ProviderConfig]:
        """The class of its options."""
        return self.entry.load_config() or ProviderConfig

    @property
    def asks_a_server(self) -> bool:
        """Whether it can be told where its server is, and nobody has."""
        return ADDRESS in self.model.model_fields and ADDRESS not in self.options

    def make(self, **options: Any) -> Provider:
        """A new one."""
        made: Provider = self.entry.load()(self.model(**{**self.options, **options}))
        return made

    @contextmanager
    def served(self) -> Iterator[Provider]:
        """A provider with a key and, if it wants one, a server on loopback."""
        before = os.environ.get(KEY_VARIABLE)
        os.environ[KEY_VARIABLE] = SECRET
        try:
            if self.asks_a_server:
                with serving(always_good) as server:
                    yield self.make(**{ADDRESS: server.url})
            else:
                yield self.make()
        finally:
            if before is None:
                del os.environ[KEY_VARIABLE]
            else:
                os.environ[KEY_VARIABLE] = before


async def _ask_and_close(provider: Provider) -> Reply | RequestError | AnswerError:
    try:
        return await provider.ask(QUESTION)
    except (RequestError, AnswerError) as refusal:
        return refusal
    finally:
        await provider.close()


def says_what_it_is(case: ProviderCase) -> None:
    """A provider has a docstring, and says whether it costs requests, who answers, and where to look that up."""
    require(bool(inspect.getdoc(case.entry.load())), "it has no docstring", "say whom it asks, and what it needs")
    with case.served() as provider:
        for name, type_ in (("online", bool), ("model", str), ("source", str), ("notes", list)):
            value = getattr(provider, name, None)
            require(isinstance(value, type_), f"{name} = {value!r}", f"set it to a {type_.__name__}")
        template = getattr(provider, "template", "")
        fits = template is None or isinstance(template, Template)
        require(fits, f"template = {template!r}", "set it to None if questions are asked in words")


def describes_its_options(case: ProviderCase) -> None:
    """Every option says what it means, and a misspelt one is an error."""
    silent = [name for name, field in case.model.model_fields.items() if not field.description]
    require(not silent, f"no description of the options {', '.join(silent)}", "write Field(..., description=...)")
    try:
        case.model(**{**case.options, "no_such_option": 1})
    except ValidationError:
        return
    raise BrokenRuleError(
        "it takes an option that it does not have", 'derive its options from ProviderConfig: extra="forbid"'
    )


def identity_is_for_the_cache(case: ProviderCase) -> None:
    """`identity()` is the same for the same options, can be written as JSON, and holds no secret."""
    with case.served() as provider:
        identity = dict(provider.identity())
        address = {ADDRESS: identity[ADDRESS]} if case.asks_a_server and ADDRESS in identity else {}
        again = dict(case.make(**address).identity()) if address or not case.asks_a_server else identity
    text = json.dumps(identity, sort_keys=True)
    require(SECRET not in text, "the key is part of identity()", "leave secrets in the environment")
    require(
        again == identity, "the same options have two identities", "put nothing into it but what an answer depends on"
    )


def keeps_its_secrets(case: ProviderCase) -> None:
    """The key stands in nothing that is shown or written."""
    with case.served() as provider:
        asyncio.run(_ask_and_close(provider))
        shown = f"{provider.model} {provider.source} {provider.notes} {provider!r}"
    require(SECRET not in shown, "the key is part of model, source, notes or repr", "leave secrets in the environment")


def answers_or_says_why_not(case: ProviderCase) -> None:
    """`ask` gives a `Reply`, or raises `RequestError` or `AnswerError`; `close` may be called twice."""
    with case.served() as provider:

        async def all_of_it() -> object:
            answer = await _ask_and_close(provider)
            await provider.close()
            return answer

        try:
            answer = asyncio.run(all_of_it())
        except Exception as error:
            raise BrokenRuleError(
                f"ask ends in {one_line(error)}", "raise RequestError without an answer, AnswerError with a useless one"
            ) from error
    if isinstance(answer, RequestError | AnswerError):
        served = case.asks_a_server
        require(not served, f"a server that answers is not understood: {answer}", "speak OpenAI's chat completions")
        return
    require(isinstance(answer, Reply), f"ask gives a {type(answer).__name__}", "return a Reply")
    assert isinstance(answer, Reply)
    require(
        isinstance(answer.text, str), f"text of the Reply is {answer.text!r}", "give a text, empty if there is none"
    )


def says_that_nobody_answers(case: ProviderCase) -> None:
    """Where there is no server it raises `RequestError`."""
    if not case.asks_a_server:
        skip("it asks no server whose address is an option")
    with case.served():
        provider = case.make(**{ADDRESS: NOBODY})
        try:
            answer = asyncio.run(_ask_and_close(provider))
        except Exception as error:
            raise BrokenRuleError(f"without a server ask ends in {one_line(error)}", "raise RequestError") from error
    require(isinstance(answer, RequestError), f"without a server it gives {answer!r}", "raise RequestError")


PROVIDER_CHECKS: tuple[Check[ProviderCase], ...] = checks(
    says_what_it_is,
    describes_its_options,
    identity_is_for_the_cache,
    keeps_its_secrets,
    answers_or_says_why_not,
    says_that_nobody_answers,
)
