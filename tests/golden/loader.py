"""The references' CLIPs as backbones that commands load by name: `golden-coop`."""

from __future__ import annotations

from functools import cache
from typing import Any

from tests.golden.golden import Golden, load
from vlmprompt.backbones.backbone import Backbone


@cache
def case(name: str) -> tuple[Golden, Backbone]:
    """A golden case and its towers."""
    golden = load(name)
    return golden, golden.backbone()


class GoldenLoader:
    """Loads what `golden-<case>` names."""

    def load(self, spec: str, **_: Any) -> Backbone:
        return case(spec.removeprefix("golden-"))[1]
