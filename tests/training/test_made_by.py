"""A run whose plugin is gone, disabled or of another version says which package and version it was trained with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.training.material import config, runtime
from vlmprompt import distributions
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import InputError, PluginError
from vlmprompt.methods.coop import CoOp
from vlmprompt.plugins import PluginFailure, host
from vlmprompt.registry import Source
from vlmprompt.training import made_by, provenance
from vlmprompt.training.checkpoint import Checkpoint
from vlmprompt.training.made_by import package_of
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, load_run

ACME = Source("acme", "acme-prompts", "1.2.3")
TRAINED_BY = "was trained by method 'nudge' of acme-prompts 1.2.3"
PIP = "python -m pip install 'acme-prompts==1.2.3'"
Installed = Callable[[str], None]


class Nudge(CoOp):
    """CoOp by another name."""


class Wider(CoOp):
    """What a later version made of it: a tensor more."""

    def create(self) -> None:
        super().create()
        self.tone = nn.Parameter(torch.zeros(3))


def register(cls: str = "Nudge") -> None:
    own = "vlmprompt.methods.config:CoOpConfig"
    host().methods.register("nudge", target=f"{__name__}:{cls}", config=own, source=ACME)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Says which version of acme-prompts is here."""

    known = distributions.code_version

    def say(version: str) -> None:
        found = {"acme-prompts": version}
        for module in (provenance, made_by):
            monkeypatch.setattr(module, "code_version", lambda name: found.get(name) or known(name))

    return say


@pytest.fixture
def run(photos: Path, tiny_backbone: Backbone, tmp_path: Path, installed: Installed) -> Iterator[Run]:
    installed("1.2.3")
    register()
    try:
        settings = config(photos, method="nudge", max_steps=1)
        yield load_run(train(settings, runtime(tmp_path), out=tmp_path / "run", backbone=tiny_backbone).run)
    finally:
        host().methods.withdraw(ACME)


def test_the_package_is_kept_in_the_run_and_its_checkpoint(run: Run) -> None:
    header = Checkpoint.load(run.path / "checkpoint.safetensors").header
    assert package_of(run.info.versions) == package_of(header.versions) == ("acme-prompts", "1.2.3")
    core = {name: run.info.versions[name] for name in ("python", "vlmprompt", "torch", "open_clip")}
    assert package_of(core) == ("vlmprompt", core["vlmprompt"])
    assert package_of({}) == ("vlmprompt", "unknown")


def test_a_run_whose_plugin_is_gone(run: Run, installed: Installed, tiny_backbone: Backbone) -> None:
    host().methods.withdraw(ACME)
    installed("unknown")
    for use in (run.load_dataset, run.load_backbone, lambda: run.build_method(tiny_backbone)):
        with pytest.raises(InputError) as caught:
            use()
        assert caught.value.message == f"run run {TRAINED_BY}, which is not installed"
        assert caught.value.hint == PIP


def test_a_run_whose_plugin_has_no_such_method_any_more(run: Run, installed: Installed) -> None:
    host().methods.withdraw(ACME)
    installed("2.0+0123456789ab")
    with pytest.raises(InputError) as caught:
        run.load_dataset()
    assert caught.value.message == (
        f"run run {TRAINED_BY}; acme-prompts 2.0+0123456789ab is installed and has no such method"
    )
    assert caught.value.hint == PIP


def test_a_run_whose_plugin_is_disabled_or_has_failed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    host().methods.withdraw(ACME)
    monkeypatch.setattr(host(), "disabled", [ACME])
    with pytest.raises(InputError, match=f"{TRAINED_BY}, which is disabled") as caught:
        run.load_dataset()
    assert caught.value.hint == "take it out of VLMPROMPT_DISABLE_PLUGINS"
    failure = PluginFailure(ACME, "import", "out of ink", names=frozenset({("method", "nudge")}))
    monkeypatch.setattr(host().methods, "failures", [failure])
    with pytest.raises(PluginError, match="out of ink"):
        run.load_dataset()


@pytest.mark.parametrize(
    ("version", "told", "hint"),
    [
        ("2.0", "; it was written with acme-prompts 1.2.3, installed is 2.0", f"{PIP}, or train again"),
        ("1.2.3", "", None),
    ],
)
def test_tensors_of_another_version(
    run: Run, installed: Installed, tiny_backbone: Backbone, version: str, told: str, hint: str | None
) -> None:
    host().methods.withdraw(ACME)
    register("Wider")
    installed(version)
    with pytest.raises(InputError) as caught:
        run.build_method(tiny_backbone)
    assert caught.value.message == f"the checkpoint lacks tensor 'tone' for method Wider{told}"
    assert caught.value.hint == hint


def test_the_digest_of_a_checkout_is_no_version_to_install() -> None:
    assert made_by._pip("acme", "1.0+0123456789ab") == "python -m pip install 'acme==1.0'"
    assert made_by._pip("acme", "unknown") == "install acme"
