"""Which shipped overrides hold, and what a broken file says."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from vlmprompt.config.models import RunConfig
from vlmprompt.config.overrides import dataset_names, override_layers, protocol_layers
from vlmprompt.errors import PluginError

KNOWN = ("train.lr", "train.epochs", "options.depth")


def run(**fields: object) -> RunConfig:
    return RunConfig.model_validate({"method": "m", "data": "folder:photos", "backbone": "RN50"} | fields)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    counter = itertools.count()
    monkeypatch.syspath_prepend(str(tmp_path))

    def package(text: str) -> str:
        name = f"shipped_{tmp_path.name.replace('-', '_')}_{next(counter)}"
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "o.toml").write_text(text)
        return f"{name}:o.toml"

    return package


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("folder:photos", {"folder", "photos"}),
        ("folder:../data/my.photos/", {"folder", "my.photos", "my"}),
        ("csv:lists/birds.csv", {"csv", "birds.csv", "birds"}),
        ("coop:flowers102", {"coop", "flowers102"}),
        ("doodles:sketch", {"doodles", "sketch"}),
        ("doodles", {"doodles"}),
    ],
)
def test_names_of_a_spec(spec: str, names: set[str]) -> None:
    assert set(dataset_names(spec)) == names


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("{}", True),
        ("{ dataset = 'photos' }", True),
        ("{ dataset = ['a', 'photos'] }", True),
        ("{ dataset = 'photo' }", False),
        ("{ dataset = 'pho*s' }", True),
        ("{ dataset = ['a', 'photo-*'] }", False),
        ("{ shots = 4 }", True),
        ("{ shots = [1, 2] }", False),
        ("{ shots = 'all' }", False),
        ("{ setting = 'few-shot', protocol = 'coop' }", True),
        ("{ setting = 'few-shot', protocol = 'gallop-code' }", False),
    ],
)
def test_when(write: object, when: str, holds: bool) -> None:
    assert callable(write)
    resource = write(f"[[override]]\nwhen = {when}\ntrain = {{ lr = 0.5 }}\n")
    layers = override_layers(resource, run(shots=4), known=KNOWN)
    assert [dict(layer.values) for layer in layers] == ([{"train.lr": 0.5}] if holds else [])


def test_all_shots(write: object) -> None:
    assert callable(write)
    resource = write("[[override]]\nwhen = { shots = 'all' }\noptions = { depth = 2 }\n")
    (layer,) = override_layers(resource, run(shots=None), known=KNOWN)
    assert layer.values == {"options.depth": 2}
    assert layer.source == f"override {resource} [shots=all]"


def test_file_order_and_none() -> None:
    assert override_layers(None, run(), known=KNOWN) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[override]]\ntrain = { lrr = 1 }", "sets an unknown key 'train.lrr'"),
        (
            "[[override]]\nwhen = { setting = 'x' }\noptions = { nope = 1 }",
            "sets an unknown key 'options.nope'",
        ),
        ("[[override]]\nwhen = { shot = 1 }", "cannot be read"),
        ("[[overrides]]\n", "cannot be read"),
        ("[[override", "cannot be read"),
    ],
)
def test_a_broken_file_is_the_plugins_fault(write: object, text: str, message: str) -> None:
    assert callable(write)
    with pytest.raises(PluginError, match=message) as caught:
        override_layers(write(text), run(), known=KNOWN)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("resource", ["no_such_package:o.toml", "vlmprompt:none.toml"])
def test_a_missing_file(resource: str) -> None:
    with pytest.raises(PluginError, match="cannot be read"):
        override_layers(resource, run(), known=KNOWN)


def test_a_protocol_sets_only_what_the_method_has() -> None:
    gallop = run().model_copy(update={"protocol": "gallop-code"})
    known = [*KNOWN, "options.keep_underscores"]
    (layer,) = protocol_layers(gallop, known=known)
    assert layer.values == {"options.keep_underscores": True}
    assert [dict(layer.values) for layer in protocol_layers(gallop, known=KNOWN)] == [{}]
    assert protocol_layers(run(), known=known) == []
