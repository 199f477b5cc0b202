"""A process, named so that others can tell whether it still runs."""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """Who holds something.

    Attributes:
        host: the machine's name, for people.
        kernel: the running system and its space of process numbers: elsewhere, `pid` says nothing.
        pid: of the process.
        began: when the process began, in the kernel's own count; numbers of processes come again, this does not.
            Empty where the system does not say.
        since: when it took hold, for people.
        token: of what it holds, unlike any other.
    """

    host: str
    kernel: str
    pid: int
    began: str
    since: str
    token: str

    @classmethod
    def here(cls) -> Owner:
        """This process, now."""
        since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        pid = os.getpid()
        return cls(socket.gethostname(), _kernel(), pid, _began(pid) or "", since, uuid.uuid4().hex)

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """What `dump` wrote; None for anything else."""
        try:
            owner = cls(**json.loads(text))
        except (ValueError, TypeError, RecursionError):
            return None
        texts = (owner.host, owner.kernel, owner.began, owner.since, owner.token)
        return owner if type(owner.pid) is int and all(type(text) is str for text in texts) else None

    def dump(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    def is_gone(self) -> bool:
        """Whether it is a process of this machine that has ended; of other machines' only time can tell."""
        if self.kernel != _kernel():
            return False
        began = _began(self.pid)
        return began is None or bool(self.began and began and began != self.began)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@cache
def _kernel() -> str:
    """The running system (another after a restart), and the space of process numbers (containers have their own)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _began(pid: int) -> str | None:
    """When a process of this machine began, empty if it lives and nobody knows; None if there is none."""
    if Path("/proc/self/stat").exists():
        return _began_linux(pid)
    if os.name == "nt":
        return ""  # there is no asking without harm: os.kill would end the process
    try:
        os.kill(pid, 0)  # signal 0 only asks
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:
        pass
    return ""


def _began_linux(pid: int) -> str | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:
        return ""
    # The process's name, in brackets, may hold anything; after it come its state (field 3) and its beginning (22).
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]  # Z, X: ended, and not yet asked for its exit code
