"""A check: a rule, the code that tries it on something, and what came of it."""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, NoReturn, TypeVar

from vlmprompt.errors import Interrupted, VlmPromptError
from vlmprompt.registry import one_line

Case = TypeVar("Case")
Status = Literal["ok", "failed", "not applicable"]
TAIL_LINES = 12  # of a traceback that is shown


class BrokenRuleError(AssertionError):
    """A rule is broken.

    Args:
        what: what was found, in a sentence without its full stop.
        step: what to do about it.
    """

    def __init__(self, what: str, step: str) -> None:
        super().__init__(f"{what}\nnext step: {step}")
        self.what, self.step = what, step


class NotApplicable(Exception):  # noqa: N818 (nothing is wrong)
    """A rule does not concern what is tried on it; the message says why, of nobody in particular."""


def require(holds: bool, what: str, step: str) -> None:
    """Go on if it holds.

    Raises:
        BrokenRuleError: it does not.
    """
    if not holds:
        raise BrokenRuleError(what, step)


def skip(reason: str) -> NoReturn:
    """End a check that does not apply."""
    raise NotApplicable(reason)


@dataclass(frozen=True)
class Outcome:
    """What came of a check.

    Attributes:
        check: its name.
        rule: in a sentence.
        reason: why it failed or does not apply.
        step: what to do about a failure.
        trace: the end of the traceback of an error that nobody expected.
    """

    check: str
    rule: str
    status: Status
    reason: str = ""
    step: str | None = None
    trace: tuple[str, ...] = ()

    def public(self) -> dict[str, Any]:
        """The outcome as JSON documents show it."""
        return {**vars(self), "trace": list(self.trace)}


@dataclass(frozen=True)
class Check(Generic[Case]):
    """A rule that can be tried; made of a function whose name and docstring are the rule's."""

    attempt: Callable[[Case], None]

    @property
    def name(self) -> str:
        """The function's name."""
        return self.attempt.__name__

    @property
    def rule(self) -> str:
        """The rule in a sentence: the first paragraph of the function's docstring."""
        return " ".join((inspect.getdoc(self.attempt) or "").split("\n\n")[0].split())

    def __call__(self, case: Case) -> None:
        """Try it, without warnings: what a method warns of is no matter of conformance.

        Raises:
            BrokenRuleError, NotApplicable: see there; or whatever the plugin's own code raises.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.attempt(case)

    def outcome(self, case: Case) -> Outcome:
        """Try it; whatever happens is an outcome.

        Raises:
            Interrupted: by Ctrl-C.
        """
        try:
            self(case)
        except NotApplicable as reason:
            return Outcome(self.name, self.rule, "not applicable", str(reason))
        except BrokenRuleError as broken:
            return Outcome(self.name, self.rule, "failed", broken.what, broken.step)
        except Interrupted:
            raise
        except VlmPromptError as error:
            cause = error.__cause__
            return Outcome(self.name, self.rule, "failed", error.message, error.hint, _tail(cause) if cause else ())
        except (Exception, SystemExit) as error:  # of the plugin's own code
            return Outcome(self.name, self.rule, "failed", one_line(error), None, _tail(error))
        return Outcome(self.name, self.rule, "ok")


def checks(*functions: Callable[[Case], None]) -> tuple[Check[Case], ...]:
    """Functions as checks, in their order."""
    return tuple(Check(function) for function in functions)


def _tail(error: BaseException) -> tuple[str, ...]:
    return tuple("".join(traceback.format_exception(error)).splitlines()[-TAIL_LINES:])
