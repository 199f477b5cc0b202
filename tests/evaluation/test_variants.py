"""The same run with other shots: what follows from defaults follows them, what was given stays."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from vlmprompt.cli import config, output
from vlmprompt.config.models import RunConfig
from vlmprompt.config.resolve import Resolved, resolve
from vlmprompt.evaluation.variants import differs_in_shots_only, train_command, variant

FLAGS: dict[str, Any] = {"method": "coop", "data": "folder:my photos", "backbone": "ViT-B-32-quickgelu"}


def made(*sets: str, **flags: Any) -> Resolved:
    """A configuration as the command line makes it."""
    return resolve(FLAGS | flags, sets=sets, env={})


def test_shipped_settings_follow_the_shots() -> None:
    run = made(shots=16)
    assert run.run.train.epochs == 200
    for shots, epochs in ((1, 50), (2, 100), (None, 50)):
        other = variant(run.run, run.sources, shots=shots)
        assert (other.shots, other.train.epochs) == (shots, epochs)
        assert other == made(shots="all" if shots is None else shots).run


def test_explicit_values_stay_even_where_they_equal_the_default() -> None:
    run = made("epochs=200", shots=16)
    assert variant(run.run, run.sources, shots=1).train.epochs == 200
    # Where nothing is known of its origin, a value that equals the default counts as one.
    assert variant(run.run, {}, shots=1).train.epochs == 50
    assert variant(made("epochs=7", shots=16).run, {}, shots=1).train.epochs == 7


def test_settings_follow_a_changed_setting() -> None:
    run = made(shots=16)
    other = variant(run.run, run.sources, setting="base-to-new")
    assert other == made(shots=16, setting="base-to-new").run
    assert other.options["ctx_init"] == "a photo of a"


def test_the_environment_of_now_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(shots=16)
    monkeypatch.setenv("VLMPROMPT_TRAIN_LR", "0.5")
    assert variant(run.run, run.sources) == run.run


def test_which_runs_belong_to_one_curve() -> None:
    run = made("lr=0.01", shots=16)
    assert differs_in_shots_only(run.run, made("lr=0.01", shots=1).run, run.sources)
    assert differs_in_shots_only(run.run, made("lr=0.01", shots=1, allow_fewer=True).run, run.sources)
    assert differs_in_shots_only(run.run, run.run, run.sources)
    for other in (
        made("lr=0.02", shots=1),
        made("lr=0.01", shots=1, seed=2),
        made("lr=0.01", "n_ctx=4", shots=1),
        made("lr=0.01", "epochs=51", shots=1),
        made("lr=0.01", shots=1, random_weights=0),
        resolve(FLAGS | {"method": "zeroshot", "shots": 1}, env={}),
    ):
        assert not differs_in_shots_only(run.run, other.run, run.sources)


@given(
    shots=st.sampled_from(["all", 1, 4]),
    seed=st.integers(0, 3),
    random_weights=st.none() | st.integers(0, 3),
    setting=st.none() | st.just("base-to-new"),
    allow_fewer=st.none() | st.booleans(),
    quick_gelu=st.none() | st.booleans(),
    image_size=st.none() | st.sampled_from([384, "256x128"]),
    exif=st.none() | st.booleans(),
    sets=st.lists(
        st.sampled_from(["epochs=7", "split_seed=5", "ctx_init=a 'photo'", "class_position=front", "max_steps=none"]),
        unique=True,
    ),
)
def test_the_command_makes_the_same_run(sets: list[str], **flags: Any) -> None:
    run = made(*sets, **flags)
    command = train_command(run.run, run.sources)
    assert command.startswith("vlmprompt train --method coop --data 'folder:my photos'")
    assert parsed(command) == run.run


def parsed(command: str) -> RunConfig:
    """The configuration that the command line makes of a command."""
    output.begin()  # a process prints one document
    app = typer.Typer()
    config.register(app)
    result = CliRunner().invoke(app, ["config", "show", *shlex.split(command)[2:], "--json"])
    assert result.exit_code == 0, result.output
    return RunConfig.model_validate(json.loads(result.stdout)["data"]["config"])
