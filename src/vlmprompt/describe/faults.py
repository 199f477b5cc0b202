"""What an error of a server means for the asking: ask again, wait, ask otherwise, or stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vlmprompt.describe.complaint import Complaint
from vlmprompt.describe.exchange import NEVER_S, retry_after
from vlmprompt.describe.provider import KEY_VARIABLE, RequestError

BASE_URL = "OPENAI_BASE_URL"
RETRIED = frozenset({408, 409, 425, 429})
UNPAID = 402
CHECK_ADDRESS = f"check --base-url or {BASE_URL} (it usually ends in /v1) and --model"
CHECK_KEY_AND_MODEL = f"check {KEY_VARIABLE} and --model"


@dataclass(frozen=True)
class Server:
    """Whom the messages speak of.

    Attributes:
        host: its name.
        shown_url: its address without secrets.
    """

    host: str
    shown_url: str
    model: str


def fault_of(server: Server, status: int, complaint: Complaint, said: str, headers: Mapping[str, str]) -> RequestError:
    """The error of a status, or of a success that says so.

    Args:
        status: of HTTP; 200 where the body alone says that it is an error.
        said: the complaint's words, hidden and short; may be empty.
    """
    meant = _meant(status, complaint)
    said = f" ({said})" if said else ""
    shown = f"{complaint.status or 'an error'} with status {status}" if status < 300 else str(meant)
    if meant in (401, 403):
        return RequestError(f"{server.host} refuses the key: {shown}{said}", stops=True, hint=f"check {KEY_VARIABLE}")
    if meant == 404:
        what = f"{server.shown_url} knows no chat completions, or no model {server.model!r}: {shown}{said}"
        return RequestError(what, stops=True, hint=CHECK_ADDRESS)
    if meant == UNPAID:
        hint = "the same command goes on from here once there is some"
        return RequestError(f"{server.host} says that the quota is used up{said}", stops=True, hint=hint)
    wanted = headers.get("x-should-retry", "")
    retry = wanted == "true" or (wanted != "false" and (meant in RETRIED or meant >= 500))
    what = "limits the rate" if meant == 429 else f"answers {shown}"
    wait_s = _wait(complaint, headers) if retry else None
    return RequestError(
        f"{server.host} {what}{said}", retry=retry, wait_s=wait_s, refuses=400 <= meant < 500 and not retry
    )


def _meant(status: int, complaint: Complaint) -> int:
    """The status that decides: HTTP's, unless that is one for everything and the complaint says which."""
    if complaint.status == UNPAID:
        return UNPAID
    return complaint.status or 400 if status < 300 or status == 400 else status


def _wait(complaint: Complaint, headers: Mapping[str, str]) -> float | None:
    seconds = retry_after(headers)
    return seconds if seconds is not None or complaint.wait_s is None else min(complaint.wait_s, NEVER_S)
