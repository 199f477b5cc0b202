"""Any server that speaks OpenAI's chat completions: the only file that knows the `openai` package."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar
from urllib.request import getproxies

import openai
from openai import AsyncOpenAI
from pydantic import AfterValidator, Field

from vlmprompt.describe.address import parse_address, user_in
from vlmprompt.describe.complaint import Complaint, complains, read_complaint
from vlmprompt.describe.completion import read_completion
from vlmprompt.describe.exchange import exchange
from vlmprompt.describe.faults import BASE_URL, Server, fault_of
from vlmprompt.describe.provider import KEY_VARIABLE, AnswerError, ProviderConfig, Question, Reply, RequestError
from vlmprompt.describe.secrets import Secrets, check_key
from vlmprompt.errors import InputError

DEFAULT_URL = "https://api.openai.com/v1"
# Lines "name: value" that the client sends with every request; what may be a token in them is none of anybody's.
HEADERS = "OPENAI_CUSTOM_HEADERS"
CONNECT_S = 10.0
# By what other words servers speak of a parameter.
ALSO_CALLED = {
    "response_format": r"response[_ .]?format|json[_ ]schema|response[_ ]?schema|guided_json|structured|json mode",
    "top_p": r"top_p|topP",
    "max_tokens": r"max_tokens|max_output_tokens|maxOutputTokens",
}
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


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a name has no control characters, and nothing that is no Unicode")
    return text


class OpenAIConfig(ProviderConfig):
    """Options of the provider; the key is read from OPENAI_API_KEY and kept nowhere."""

    model: Annotated[str, AfterValidator(_printable)] = Field(
        "gpt-5-mini", min_length=1, max_length=500, description="model, as the server calls it"
    )
    base_url: str | None = Field(None, description=f"address of the server; none: {BASE_URL}, else {DEFAULT_URL}")
    temperature: float | None = Field(
        0.7, ge=0, le=100, allow_inf_nan=False, description="of sampling; DUAL-PT: 0.7. none: the server's"
    )
    top_p: float | None = Field(None, gt=0, le=1, description="of nucleus sampling; none: the server's")
    max_tokens: int | None = Field(None, ge=1, le=10**9, description="most tokens of an answer; none: the server's")
    seed: int | None = Field(
        None, ge=-(2**63), lt=2**63, description="of sampling, where the server has such a thing; none: not sent"
    )
    structured: bool = Field(True, description="ask for JSON by a schema, where the server can; false: never")


class _Client(openai.DefaultAsyncHttpxClient):
    """Sends each request to the server that was named, and reads no more than an answer."""

    def __init__(self, secrets: Secrets, query: str) -> None:
        super().__init__()
        self._secrets, self._query = secrets, query.encode()

    async def send(self, request: Any, **options: Any) -> Any:
        if self._query:  # of the server's address: behind the path, and not in its midst
            request.url = request.url.copy_with(query=self._query)
        hop = partial(super().send, **options | {"stream": True, "follow_redirects": False})
        return await exchange(hop, request, self._secrets.told)


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
        key = os.environ.get(KEY_VARIABLE, "")
        headers = os.environ.get(HEADERS, "").splitlines()
        secret = (key.strip(), *(value.strip() for line in headers for value in line.split(":", 1)[1:]))
        url = config.base_url or os.environ.get(BASE_URL) or DEFAULT_URL
        hint = f"--base-url or {BASE_URL} such as http://localhost:8000/v1"
        address = parse_address(url, hide=Secrets(*secret).hide, hint=hint)
        self._url, self._query, self._host = address.url, address.query, address.host
        # A proxy is told its user as a server is.
        proxies = [part for proxy in getproxies().values() for part in user_in(proxy)]
        self._secrets = Secrets(*secret, *address.secrets, *proxies)
        self._server = Server(self._host, self._secrets.hide(address.shown), config.model)
        self.source = self._host
        if not key.strip():
            raise InputError(
                f"provider openai needs a key: {KEY_VARIABLE} is not set",
                hint="set it (a local server takes any text); without a key --provider file imports descriptions, "
                "--provider parts describes the built-in classes",
            )
        self._key = check_key(key, KEY_VARIABLE)
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
            self._opened = AsyncOpenAI(
                api_key=self._key,
                base_url=self._url,
                max_retries=0,
                timeout=timeout,
                http_client=_Client(self._secrets, self._query),
            )
        return self._opened

    def identity(self) -> Mapping[str, Any]:
        """Host, model and sampling; neither the key nor where else the address leads."""
        return self._identity

    async def ask(self, question: Question) -> Reply:
        """One request; see `Provider.ask`."""
        sent = dict(self._parameters)
        try:
            create: Any = self._client.chat.completions.with_raw_response.create
            raw = await create(model=self.model, messages=_messages(question), **sent)
        except Exception as error:  # of any kind: what a library says may hold the key, and must go through `_fault`
            fault = self._fault(error, sent)
        else:
            self._reached = True
            response = raw.http_response
            try:
                return read_completion(response.text, self._secrets.hide)
            except AnswerError:
                if not complains(response.text):
                    raise
            fault = self._told_fault(response, sent)
        raise fault  # without its cause, which may carry what the server echoed

    async def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            await self._opened.close()

    def _fault(self, error: Exception, sent: Mapping[str, Any]) -> RequestError:
        if isinstance(error, RequestError):
            return error
        if isinstance(error, openai.APIStatusError):
            self._reached = True
            return self._told_fault(error.response, sent)
        if isinstance(error, openai.APIConnectionError):
            return self._connection_fault(error)
        what = f"the client cannot ask {self._host}: {type(error).__name__}: {self._secrets.told(error)}"
        return RequestError(what, stops=True, hint=f"check --base-url, and the variables OPENAI_... such as {HEADERS}")

    def _connection_fault(self, error: openai.APIConnectionError) -> RequestError:
        cause = self._secrets.told(error.__cause__ or error) or type(error.__cause__).__name__
        unreachable = type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout", "UnsupportedProtocol")
        if unreachable and not self._reached:
            hint = f"check --base-url or {BASE_URL}, and that the server runs"
            return RequestError(f"cannot reach {self._server.shown_url}: {cause}", stops=True, hint=hint)
        return RequestError(f"the connection to {self._host} broke: {cause}", retry=True)

    def _told_fault(self, response: Any, sent: Mapping[str, Any]) -> RequestError:
        """What a server says in an error, also where that came with status 200."""
        complaint = read_complaint(response.text)
        said = self._secrets.told(complaint.words)
        fault = fault_of(self._server, response.status_code, complaint, said, response.headers)
        if fault.refuses and self._drop_rejected(complaint, sent):
            return RequestError(f"{self._host} rejects a parameter ({said})", changed=True)
        return fault

    def _drop_rejected(self, complaint: Complaint, sent: Mapping[str, Any]) -> bool:
        """Leave out the parameter that an error names; whether the request was sent with it."""
        words = complaint.words
        rejected = [name for name in sent if name == complaint.parameter] or [
            name for name in sent if re.search(rf"\b({ALSO_CALLED.get(name, name)})\b", words, re.IGNORECASE)
        ]
        if not rejected:
            return False
        name = rejected[0]
        if name in self._parameters:
            value = self._parameters.pop(name)
            if name == "max_tokens" and "max_completion_tokens" in words:
                self._parameters["max_completion_tokens"] = value
            self.notes.append(f"{self._host} rejects {name} for {self.model}: asked without it")
        return True


def _messages(question: Question) -> list[dict[str, str]]:
    first = {"role": "user", "content": question.text}
    if question.earlier:
        return [first, {"role": "assistant", "content": question.earlier}, {"role": "user", "content": question.remark}]
    if question.remark:
        return [{"role": "user", "content": f"{question.text}\n\n{question.remark}"}]
    return [first]
