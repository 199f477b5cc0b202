"""Any server that speaks OpenAI's chat completions: the only file that knows the `openai` package."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, ClassVar
from urllib.parse import urlsplit

import openai
from openai import AsyncOpenAI
from pydantic import BaseModel, Field, ValidationError

from vlmprompt.describe.provider import KEY_VARIABLE, AnswerError, ProviderConfig, Question, Reply, RequestError
from vlmprompt.errors import InputError

BASE_URL = "OPENAI_BASE_URL"
DEFAULT_URL = "https://api.openai.com/v1"
CONNECT_S = 10.0
# Shorter keys are no secrets but words such as "none" or "test", which local servers take and descriptions use.
SECRET_LENGTH = 8
RETRIED = frozenset({408, 409, 425, 429})
LIST_SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "descriptions",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"descriptions": {"type": "array", "items": {"type": "string"}}},
            "required": ["descriptions"],
            "additionalProperties": False,
        },
    },
}


class OpenAIConfig(ProviderConfig):
    """Options of the provider; the key is read from OPENAI_API_KEY and kept nowhere."""

    model: str = Field("gpt-5-mini", min_length=1, description="model, as the server calls it")
    base_url: str | None = Field(None, description=f"address of the server; null: {BASE_URL}, else {DEFAULT_URL}")
    temperature: float | None = Field(0.7, ge=0, description="of sampling; DUAL-PT: 0.7. null: the server's")
    top_p: float | None = Field(None, gt=0, le=1, description="of nucleus sampling; null: the server's")
    max_tokens: int | None = Field(None, ge=1, description="most tokens of an answer; null: the server's")
    seed: int | None = Field(None, description="of sampling, where the server has such a thing; null: none")
    structured: bool = Field(True, description="ask for JSON by a schema, where the server can; false: never")


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
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None
    system_fingerprint: str | None = None


class OpenAIProvider:
    """Chat completions of OpenAI, or of any server that speaks the same (`--base-url`, OPENAI_BASE_URL).

    Needs OPENAI_API_KEY; a local server that wants none takes any text. A parameter that the server rejects is left
    out from then on. Answers come as JSON where the server knows schemas, else as whatever list the model writes.
    """

    online: ClassVar[bool] = True
    template = None

    def __init__(self, config: OpenAIConfig) -> None:
        self.model = config.model
        self.notes: list[str] = []
        self._url = config.base_url or os.environ.get(BASE_URL) or DEFAULT_URL
        parts = urlsplit(self._url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(
                f"{_without_password(self._url)!r} is not the address of a server",
                hint=f"--base-url or {BASE_URL} such as http://localhost:8000/v1",
            )
        self._host = parts.hostname
        self.source = self._host
        self._key = os.environ.get(KEY_VARIABLE, "").strip()
        if not self._key:
            raise InputError(
                f"provider openai needs a key: {KEY_VARIABLE} is not set",
                hint="set it (a local server takes any text); without a key --provider file imports descriptions, "
                "--provider parts describes the built-in classes",
            )
        parameters = {name: getattr(config, name) for name in ("temperature", "top_p", "max_tokens", "seed")}
        self._identity = {"host": self._host, "model": config.model, "structured": config.structured, **parameters}
        parameters["response_format"] = LIST_SCHEMA if config.structured else None
        self._parameters = {name: value for name, value in parameters.items() if value is not None}
        self._reached = False
        self._opened: AsyncOpenAI | None = None

    @property
    def _client(self) -> AsyncOpenAI:
        """Opened at the first question: reading the system's certificates takes longer than 100 cached answers."""
        if self._opened is None:
            # Retries are the service's, which bounds their number; two layers would multiply them.
            timeout = openai.Timeout(None, connect=CONNECT_S)  # of a whole request: the service's, too
            self._opened = AsyncOpenAI(api_key=self._key, base_url=self._url, max_retries=0, timeout=timeout)
        return self._opened

    def identity(self) -> Mapping[str, Any]:
        """Host, model and sampling; neither the key nor where else the address leads."""
        return self._identity

    async def ask(self, question: Question) -> Reply:
        """One request; see `Provider.ask`."""
        sent = dict(self._parameters)
        create: Any = self._client.chat.completions.with_raw_response.create
        try:
            raw = await create(model=self.model, messages=_messages(question), **sent)
        except openai.APIStatusError as error:
            self._reached = True
            fault = self._status_fault(error, sent)
        except openai.APIConnectionError as error:
            fault = self._connection_fault(error)
        else:
            self._reached = True
            return self._reply(raw.http_response)
        raise fault  # without its cause, which may carry what the server echoed

    async def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            await self._opened.close()

    def _reply(self, response: Any) -> Reply:
        # Parsed here: the client hands HTML over as a bare string, and raises its own errors on torn JSON.
        try:
            completion = _Completion.model_validate_json(response.text)
        except ValidationError:
            kind = "HTML" if response.text.lstrip()[:1] == "<" else "no chat completion"
            raise AnswerError(f"the server sent {kind} with status 200", foreign=True) from None
        choice, usage = completion.choices[0], completion.usage or _Usage()
        return Reply(
            text=self._hide(choice.message.text),
            finish_reason=self._hide(choice.finish_reason or ""),
            refusal=self._hide(choice.message.refusal or ""),
            prompt_tokens=usage.prompt_tokens or 0,
            completion_tokens=usage.completion_tokens or 0,
            fingerprint=self._hide(completion.system_fingerprint or ""),
        )

    def _connection_fault(self, error: openai.APIConnectionError) -> RequestError:
        cause = self._hide(str(error.__cause__ or error)) or type(error.__cause__).__name__
        unreachable = type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout", "UnsupportedProtocol")
        if unreachable and not self._reached:
            hint = f"check --base-url or {BASE_URL}, and that the server runs"
            return RequestError(f"cannot reach {self._shown_url()}: {cause}", stops=True, hint=hint)
        return RequestError(f"the connection to {self._host} broke: {cause}", retry=True)

    def _status_fault(self, error: openai.APIStatusError, sent: Mapping[str, Any]) -> RequestError:
        status, body = error.status_code, error.body if isinstance(error.body, dict) else {}
        said = " ".join(str(body.get("message") or body or "").split())[:200]
        said = self._hide(f" ({said})" if said else "")
        if status in (401, 403):
            return RequestError(
                f"{self._host} refuses the key: {status}{said}", stops=True, hint=f"check {KEY_VARIABLE}"
            )
        if status == 404:
            hint = f"check --base-url or {BASE_URL} (it usually ends in /v1) and --model"
            what = f"{self._shown_url()} knows no chat completions, or no model {self.model!r}: 404{said}"
            return RequestError(what, stops=True, hint=hint)
        if body.get("code") == "insufficient_quota":
            hint = "the same command goes on from here once there is some"
            return RequestError(f"{self._host} says that the quota is used up{said}", stops=True, hint=hint)
        if status in (400, 422) and self._drop_rejected(body, said, sent):
            return RequestError(f"{self._host} rejects a parameter{said}", changed=True)
        wanted = error.response.headers.get("x-should-retry", "")
        retry = wanted == "true" or (wanted != "false" and (status in RETRIED or status >= 500))
        what = "limits the rate" if status == 429 else f"answers {status}"
        wait_s = _retry_after(error.response.headers) if retry else None
        return RequestError(f"{self._host} {what}{said}", retry=retry, wait_s=wait_s)

    def _drop_rejected(self, body: Mapping[str, Any], said: str, sent: Mapping[str, Any]) -> bool:
        """Leave out the parameter that an error names; whether the request was sent with it."""
        named = str(body.get("param") or "").split(".")[0]
        hints = {"response_format": r"response_format|json_schema|structured"}
        rejected = [name for name in sent if name == named] or [
            name for name in sent if re.search(rf"\b({hints.get(name, name)})\b", said)
        ]
        if not rejected:
            return False
        name = rejected[0]
        if name in self._parameters:
            value = self._parameters.pop(name)
            if name == "max_tokens" and "max_completion_tokens" in said:
                self._parameters["max_completion_tokens"] = value
            self.notes.append(f"{self._host} rejects {name} for {self.model}: asked without it")
        return True

    def _hide(self, text: str) -> str:
        """Without the key, should a server echo it; and without what is no Unicode."""
        if len(self._key) >= SECRET_LENGTH:
            text = text.replace(self._key, "[key]")
        elif not self._key.isalpha():  # as a whole word: "sk-test"
            text = re.sub(rf"(?<!\w){re.escape(self._key)}(?!\w)", "[key]", text)
        return text.encode("utf-8", "replace").decode()

    def _shown_url(self) -> str:
        """The address without user and password."""
        parts = urlsplit(self._url)
        port = f":{parts.port}" if parts.port else ""
        return self._hide(f"{parts.scheme}://{self._host}{port}{parts.path}")


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)


def _messages(question: Question) -> list[dict[str, str]]:
    first = {"role": "user", "content": question.text}
    if question.earlier:
        return [first, {"role": "assistant", "content": question.earlier}, {"role": "user", "content": question.remark}]
    if question.remark:
        return [{"role": "user", "content": f"{question.text}\n\n{question.remark}"}]
    return [first]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: milliseconds, seconds or a date."""
    value = headers.get("retry-after", "")
    readings: tuple[Callable[[], float], ...] = (
        lambda: float(headers["retry-after-ms"]) / 1000,
        lambda: float(value),
        lambda: parsedate_to_datetime(value).timestamp() - time(),
    )
    for read in readings:
        with suppress(KeyError, TypeError, ValueError):
            return max(0.0, read())
    return None
