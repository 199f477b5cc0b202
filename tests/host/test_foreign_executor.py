"""An executor of somebody else's package carries out a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.sweep_tiny import resolver
from tests.host.conftest import Install
from tests.training.material import Hooked, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.cli.main import main
from vlmprompt.errors import PluginError, UsageError
from vlmprompt.evaluation.executors.options import make_executor, read_settings
from vlmprompt.evaluation.grid import Grid
from vlmprompt.evaluation.sweep import sweep
from vlmprompt.plugins import load_host

ENTRY = """
@hookimpl
def register_executors(register):
    register("acme", target="acme_farm:Farm", config="acme_farm:FarmConfig", summary="backwards")
    register("wrong", target="acme_farm:FarmConfig", summary="no executor")
"""
FARM = """
import json

from vlmprompt.api import Executor, ExecutorConfig, Field, Retold, SweepOutcome, SweepTask, SweepWorker


class FarmConfig(ExecutorConfig):
    mark: str = Field("-", description="what stands before messages")


class Farm(Executor):
    seen = []

    def run(self, tasks, progress):
        told = Retold(progress, self.config.mark)
        worker = SweepWorker(lambda event: told.tell(json.loads(json.dumps(event))))
        for task in reversed(tasks):
            sent = json.loads(json.dumps({"name": task.name, "spec": task.spec}))
            outcome = worker.do(SweepTask(**sent))
            self.seen.append(task.name)
            yield task, SweepOutcome(**json.loads(json.dumps(vars(outcome))))
"""


def test_the_hook_works(
    install: Install,
    tmp_path: Path,
    tiny_backbone: Backbone,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("vlmprompt.evaluation.resources.load_backbone", lambda *args, **more: tiny_backbone)
    (tmp_path / "acme_farm.py").write_text(FARM)
    install("acme", ENTRY)
    load_host()
    photos = make_photos(tmp_path / "photos", splits={"train": 2, "test": 2})

    def run(out: str, **more: Any) -> list[tuple[Any, ...]]:
        rows = sweep(
            Grid(["coop"], [f"folder:{photos}"], [1], [1, 2]),
            resolver("n_ctx=2", "epochs=2"),
            ["accuracy"],
            runtime(tmp_path / "unused"),
            out=tmp_path / out,
            **more,
        )
        return [(row.run, row.method, row.metric, row.value, row.key) for row in rows]

    progress = Hooked()
    with make_executor("acme", read_settings("acme", ["mark=farm"])) as executor:
        found = run("there", executor=executor, progress=progress)
        assert executor.seen == [f"coop-photos-tiny-vit-1shot-seed{seed}" for seed in (2, 1)]  # type: ignore[attr-defined]
    assert sorted(row[1:] for row in found) == sorted(row[1:] for row in run("here"))
    assert all(text.startswith("farm: ") for text in progress.messages)
    assert progress.messages
    with pytest.raises(UsageError, match="executor 'acme' has no option 'marc'"):
        make_executor("acme", {"marc": "x"})
    with pytest.raises(PluginError, match="is not an Executor"):
        make_executor("wrong")
    assert main(["executors", "list"]) == 0
    assert "acme 1.0" in capsys.readouterr().out
    assert main(["executors", "show", "acme"]) == 0
    assert "--executor-set NAME=VALUE" in capsys.readouterr().out
