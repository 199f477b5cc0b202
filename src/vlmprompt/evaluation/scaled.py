"""Which suites a temperature makes a difference to; nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Iterable

from vlmprompt.errors import UsageError

# Suites of the core to which it makes none, and why.
WITHOUT: dict[str, str] = {
    "few-shot": "it also measures other runs, which have temperatures of their own",
    "ood": "its scores have a temperature of their own",
    "pointing": "it reads no probabilities",
    "parameters": "it reads no probabilities",
    "prompts": "it reads no probabilities",
}


def require_scaled(suites: Iterable[str]) -> None:
    """Refuse to measure at a run's temperature what does not depend on it.

    Raises:
        UsageError: names the suite.
    """
    for suite in suites:
        if why := WITHOUT.get(suite.partition(":")[0]):
            problem = f"suite {suite} is not measured at a run's temperature: {why}"
            raise UsageError(problem, hint="leave --calibrated out")
