"""Runs that an older version of a method's package has made: renamed on the way, said once, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from tests.training.material import Hooked, config, runtime
from vlmprompt.api import Field, MethodConfig, TextPrompts
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import RunConfig
from vlmprompt.errors import InputError, PluginError
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.plugins import host
from vlmprompt.registry import Source
from vlmprompt.training import made_by, provenance
from vlmprompt.training import upgraded as upgraded_module
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

Install = Callable[..., None]


class OldConfig(MethodConfig):
    n_tokens: int = Field(2, ge=1)


class NewConfig(MethodConfig):
    n_ctx: int = Field(2, ge=1)


class Old(PromptMethod):
    """Version 1: the context is called "context", its length "n_tokens"."""

    capabilities = frozenset({"new_classes", "feature_cache"})
    config: Any
    seen: ClassVar[list[str | None]] = []

    def create(self) -> None:
        self.context = nn.Parameter(self.initial(self.config.n_tokens))

    def initial(self, n: int) -> Tensor:
        return 0.02 * torch.randn(1, n, self.backbone.text.width, generator=self.generator)

    def text_prompts(self, global_Bd: Tensor | None = None, **more: Any) -> TextPrompts:
        return TextPrompts(self.context)


class New(Old):
    """Version 2: "ctx" and "n_ctx"."""

    def create(self) -> None:
        self.ctx = nn.Parameter(self.initial(self.config.n_ctx))

    def text_prompts(self, global_Bd: Tensor | None = None, **more: Any) -> TextPrompts:
        return TextPrompts(self.ctx)

    @classmethod
    def upgrade(
        cls, options: Mapping[str, Any], tensors: Mapping[str, Tensor], version: str | None
    ) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
        cls.seen.append(version)
        options = {{"n_tokens": "n_ctx"}.get(name, name): value for name, value in options.items()}
        return options, {{"context": "ctx"}.get(name, name): tensor for name, tensor in tensors.items()}


class Reshaped(New):
    """Version 2, whose context has another form."""

    def create(self) -> None:
        self.ctx = nn.Parameter(self.initial(self.config.n_ctx)[0])

    def text_prompts(self, global_Bd: Tensor | None = None, **more: Any) -> TextPrompts:
        return TextPrompts(self.ctx[None])

    @classmethod
    def upgrade(
        cls, options: Mapping[str, Any], tensors: Mapping[str, Tensor], version: str | None
    ) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
        options, tensors = super().upgrade(options, tensors, version)
        return options, {name: tensor.reshape(tensor.shape[-2:]) for name, tensor in tensors.items()}


class Silent(New):
    """Version 2, whose author has forgotten what was."""

    def create(self) -> None:
        self.ctx = nn.Parameter(self.initial(self.config.n_tokens))

    @classmethod
    def upgrade(
        cls, options: Mapping[str, Any], tensors: Mapping[str, Tensor], version: str | None
    ) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
        return options, tensors


class Wrong(New):
    upgrade = classmethod(lambda cls, options, tensors, version: options)  # type: ignore[assignment]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a version of the package into place of the one before."""
    source = Source("renamed", "renamed-prompts", "")

    def put(cls: type[Old], version: str, options: type[MethodConfig]) -> None:
        host().methods.withdraw(source)
        host().methods.register(
            "renamed", target=f"{__name__}:{cls.__name__}", config=f"{__name__}:{options.__name__}", source=source
        )
        for module in (made_by, provenance, upgraded_module):
            monkeypatch.setattr(module, "code_version", lambda name: version if name == "renamed-prompts" else "0")

    Old.seen.clear()
    yield put
    host().methods.withdraw(source)


def settings(photos: Path, **options: Any) -> RunConfig:
    return config(photos, views=1, optimizer="adamw").model_copy(
        update={"method": "renamed", "options": {"keep_underscores": False, **options}}
    )


def test_a_finished_run_is_read_under_new_names(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, install: Install
) -> None:
    install(Old, "1.0", OldConfig)
    path = train(settings(photos, n_tokens=3), runtime(tmp_path), out=tmp_path / "run", backbone=tiny_backbone).run
    learned = load_run(path).build_method(tiny_backbone).trainable_state()["context"]
    install(New, "2.0", NewConfig)
    run = load_run(path)
    with pytest.warns(UserWarning) as told:
        method = run.build_method(tiny_backbone)
    assert torch.equal(method.trainable_state()["ctx"], learned)
    assert run.config.options == {"keep_underscores": False, "n_ctx": 3} and set(Old.seen) == {"1.0"}
    assert [str(warning.message) for warning in told] == [
        "a run made with renamed-prompts 1.0 is read by 2.0: option n_tokens = 3 is no more; option n_ctx = 3 is new; "
        "tensor context is now ctx"
    ]
    done = train(settings(photos, n_ctx=3), runtime(tmp_path), out=path, backbone=tiny_backbone)
    assert load_run(done.run).info == run.info  # it is the same run, and is left as it is


def stopped(folder: Path, photos: Path, backbone: Backbone) -> Path:
    def stop(step: int) -> None:
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            settings(photos, n_tokens=2), runtime(folder), out=folder / "run", backbone=backbone, progress=Hooked(stop)
        )
    return folder / "run"


@pytest.mark.filterwarnings("ignore:a run made with")
def test_a_run_goes_on_under_new_names(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(New, "2.0", NewConfig)
    whole = train(settings(photos, n_ctx=2), runtime(tmp_path), out=tmp_path / "whole", backbone=tiny_backbone).run
    install(Old, "1.0", OldConfig)
    path = stopped(tmp_path, photos, tiny_backbone)
    install(New, "2.0", NewConfig)

    def stop(step: int) -> None:  # before the newer version has written a checkpoint
        raise KeyboardInterrupt

    go = {"out": path, "backbone": tiny_backbone, "resume": True}
    with pytest.raises(KeyboardInterrupt):
        train(settings(photos, n_ctx=2), runtime(tmp_path), progress=Hooked(stop), **go)
    train(settings(photos, n_ctx=2), runtime(tmp_path), **go)
    assert load_run(path).digest == load_run(whole).digest


@pytest.mark.filterwarnings("ignore:a run made with")
def test_an_optimiser_is_not_carried_over_to_another_shape(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, install: Install
) -> None:
    install(Old, "1.0", OldConfig)
    path = stopped(tmp_path, photos, tiny_backbone)
    install(Reshaped, "2.0", NewConfig)
    with pytest.raises(InputError, match="cannot be resumed") as caught:
        train(settings(photos, n_ctx=2), runtime(tmp_path), out=path, backbone=tiny_backbone, resume=True)
    assert "made with renamed-prompts 1.0; installed is 2.0" in caught.value.message


def test_what_does_not_fit_names_both_versions(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, install: Install
) -> None:
    install(Old, "1.0", OldConfig)
    path = train(settings(photos, n_tokens=2), runtime(tmp_path), out=tmp_path / "run", backbone=tiny_backbone).run
    install(Silent, "2.0", OldConfig)
    with pytest.raises(InputError) as caught:
        load_run(path).build_method(tiny_backbone)
    assert caught.value.message == (
        "the checkpoint holds an unknown tensor 'context' for method Silent; "
        "it was written with renamed-prompts 1.0, installed is 2.0"
    )


def test_something_else_than_options_and_tensors(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, install: Install
) -> None:
    install(Old, "1.0", OldConfig)
    path = train(settings(photos, n_tokens=2), runtime(tmp_path), out=tmp_path / "run", backbone=tiny_backbone).run
    install(Wrong, "2.0", NewConfig)
    with pytest.raises(PluginError, match="upgrade gives something else than options and tensors by name"):
        load_run(path).build_method(tiny_backbone)
