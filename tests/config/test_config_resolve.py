"""Precedence of every layer, sources, and an error line for each kind of bad input."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_methods import Entry, Methods, NeedyConfig

from vlmprompt.config.explain import explain
from vlmprompt.config.models import Runtime
from vlmprompt.config.resolve import Resolved, resolve
from vlmprompt.errors import UsageError

BASE = {"method": "blossom", "data": "folder:photos", "backbone": "RN50", "random_weights": 0}
OVERRIDES = """
[[override]]
when = { setting = "base-to-new" }
train = { epochs = 5, lr = 0.25 }
options = { depth = 4 }

[[override]]
when = { dataset = ["flowers102", "photos"], shots = 2 }
train = { epochs = 7 }

[[override]]
train = { momentum = 0.5 }
"""


@pytest.fixture
def methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Methods:
    package = tmp_path / "blossom_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "overrides.toml").write_text(OVERRIDES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "blossom_package", raising=False)
    return Methods(
        Entry("blossom", overrides="blossom_package:overrides.toml"),
        Entry("plain", config=None),
        Entry("needy", config=NeedyConfig),
        Entry("lost", overrides="blossom_package:nowhere.toml"),
    )


def resolved(methods: Methods, flags: Mapping[str, Any] | None = None, **more: Any) -> Resolved:
    return resolve({**BASE, **(flags or {})}, methods=methods, **({"env": {}} | more))


def failure(methods: Methods, flags: Mapping[str, Any] | None = None, **more: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        resolved(methods, flags, **more)
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"devcie": "cpu"}, "Runtime has no argument 'devcie'", "did you mean 'device'?"),
        ({"workers": -1}, "argument workers = -1 of Runtime is not allowed: it should be", "image-decoding processes"),
        ({"root": 5}, "argument root = 5 of Runtime is not allowed", "parent folder"),
    ],
)
def test_what_no_runtime_takes(values: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        Runtime(**values)
    assert hint in str(error.value.hint)
    assert Runtime(workers=0).workers == 0


def test_defaults_are_complete_and_say_whose_they_are(methods: Methods) -> None:
    outcome = resolved(methods)
    assert outcome.run.options == {
        "depth": 9,
        "topk": None,
        "ctx_init": "a photo of a",
        "fusion": "gate",
        "gated": True,
        "momentum": 0.5,
    }
    assert outcome.run.train.lr == 0.002
    assert outcome.run.shots == 16
    assert outcome.sources["options.depth"] == "default of blossom"
    assert outcome.sources["train.lr"] == "default"
    assert outcome.sources["shots"] == "default"
    assert outcome.sources["data"] == "--data"
    leaves = set(outcome.run.model_dump()) - {"train", "options"}
    leaves |= {f"train.{k}" for k in type(outcome.run.train).model_fields}
    leaves |= {f"options.{k}" for k in outcome.run.options}
    assert set(outcome.sources) == leaves


def test_each_layer_beats_the_one_before(methods: Methods, tmp_path: Path) -> None:
    """options.depth is raised layer by layer: 9, 4, 12, 3, 5, 6, 7."""
    file = tmp_path / "mine.toml"
    file.write_text("[options]\ndepth = 3\n")
    steps: list[tuple[dict[str, Any], int, str]] = [
        ({}, 9, "default of blossom"),
        (
            {"setting": "base-to-new"},
            4,
            "override blossom_package:overrides.toml [setting=base-to-new]",
        ),
        ({"preset": "official"}, 12, "preset official"),
        ({"config_file": file}, 3, "mine.toml"),
        ({"env": {"VLMPROMPT_OPTIONS_DEPTH": "5"}}, 5, "env VLMPROMPT_OPTIONS_DEPTH"),
        ({"sets": ["depth=6"]}, 6, "--set"),
        ({"options.depth": 7}, 7, "--depth"),
    ]
    flags: dict[str, Any] = {}
    more: dict[str, Any] = {}
    for given_now, depth, source in steps:
        for key, value in given_now.items():
            (more if key in ("config_file", "env", "sets") else flags)[key] = value
        outcome = resolved(methods, flags, **more)
        assert (outcome.run.options["depth"], outcome.sources["options.depth"]) == (depth, source)
    said = {row.key: row for row in explain(outcome)}["options.depth"]
    assert [s.source for s in said.overridden] == [source for _, _, source in reversed(steps[:-1])]


@given(
    values=st.lists(st.none() | st.integers(1, 10_000), min_size=4, max_size=4),
    key=st.sampled_from(["shots", "seed", "train.epochs", "train.batch_size"]),
)
def test_a_higher_layer_always_wins(
    values: list[int | None], key: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    in_file, in_env, in_set, flag = values
    more: dict[str, Any] = {"env": {}}
    if in_file is not None:
        more["config_file"] = tmp_path_factory.mktemp("config") / "run.toml"
        more["config_file"].write_text(f"{key} = {in_file}\n")
    if in_env is not None:
        more["env"] = {"VLMPROMPT_" + key.upper().replace(".", "_"): str(in_env)}
    if in_set is not None:
        more["sets"] = [f"{key}={in_set}"]
    outcome = resolve({**BASE, key: flag}, methods=Methods(Entry("blossom")), **more)
    run = outcome.run.model_dump()
    got = run["train"][key.removeprefix("train.")] if "." in key else run[key]
    default = {"shots": 16, "seed": 1, "train.epochs": 50, "train.batch_size": 32}[key]
    assert got == next((v for v in (flag, in_set, in_env, in_file) if v is not None), default)
    row = next(row for row in explain(outcome) if row.key == key)
    heads = [("run.toml", in_file), ("env", in_env), ("--set", in_set), ("--", flag)]
    spoke = ["default"] + [head for head, value in heads if value is not None]
    order = [*(said.source for said in reversed(row.overridden)), row.source]
    assert len(order) == len(spoke)
    assert all(source.startswith(head) for source, head in zip(order, spoke, strict=True))


def test_overrides_see_run_level_keys_from_any_layer(methods: Methods, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('setting = "base-to-new"\n')
    assert resolved(methods, config_file=file).run.train.epochs == 5
    assert resolved(methods, env={"VLMPROMPT_SETTING": "base-to-new"}).run.train.epochs == 5
    assert resolved(methods, sets=["setting=base-to-new"]).run.train.epochs == 5
    both = resolved(methods, {"setting": "base-to-new", "shots": "2"})
    assert (both.run.train.epochs, both.run.train.lr, both.run.train.momentum) == (7, 0.25, 0.5)
    assert both.sources["train.epochs"].endswith("[dataset=flowers102|photos, shots=2]")
    assert both.sources["train.momentum"] == "override blossom_package:overrides.toml"


def test_a_whole_run_toml(methods: Methods, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'method = "blossom"\ndata = "csv:list.csv"\nbackbone = "RN50"\nshots = "all"\n'
        "[train]\nlr = 0.5\n[options]\ntopk = [3, 4]\nctx_init = 'none'\n"
    )
    outcome = resolve({"method": None, "shots": None}, config_file=file, env={}, methods=methods)
    assert outcome.run.shots is None
    assert outcome.run.train.lr == 0.5
    assert outcome.run.options["topk"] == [3, 4]
    assert outcome.run.options["ctx_init"] is None
    assert outcome.sources["shots"] == "run.toml"


def test_weights_of_classes_from_text_file_and_environment(methods: Methods, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[train.class_weights]\n'red fox' = 3\n")
    assert resolved(methods, config_file=file).run.train.class_weights == {"red fox": 3}
    over = resolved(methods, config_file=file, sets=["class_weights={owl = 0.5}"]).run.train.class_weights
    assert over == {"owl": 0.5}
    assert resolved(methods, config_file=file, sets=["class_weights=none"]).run.train.class_weights is None
    env = {"VLMPROMPT_TRAIN_CLASS_WEIGHTS": "balanced", "VLMPROMPT_TRAIN_MILESTONES": "[2, 4]"}
    train = resolved(methods, env=env).run.train
    assert (train.class_weights, train.milestones) == ("balanced", (2, 4))


def test_shots_all_and_none_from_text(methods: Methods) -> None:
    assert resolved(methods, {"shots": "all"}).run.shots is None
    assert resolved(methods, sets=["shots=all"]).run.shots is None
    assert resolved(methods, env={"VLMPROMPT_SHOTS": "all"}).run.shots is None
    assert resolved(methods, sets=["random_weights=none"]).run.random_weights == 0, "the flag is higher"
    assert resolved(methods, {"shots": "4"}).run.shots == 4


def test_empty_and_foreign_variables_are_ignored(methods: Methods) -> None:
    env = {"VLMPROMPT_SHOTS": "", "VLMPROMPT_ROOT": "/data", "VLMPROMPT_STRICT_PLUGINS": "1", "SHOTS": "3"}
    assert resolved(methods, env=env).run.shots == 16


def test_a_method_without_options(methods: Methods) -> None:
    assert resolved(methods, {"method": "plain"}).run.options == {}
    assert "unknown configuration key 'depth'" in failure(methods, {"method": "plain"}, sets=["depth=1"]).message


@pytest.mark.parametrize(
    ("given_now", "message", "hint"),
    [
        ({"sets": ["lrr=1"]}, "unknown configuration key 'lrr' (--set)", "'lr'"),
        ({"sets": ["train.lrr=1"]}, "unknown configuration key 'train.lrr' (--set)", "'train.lr'"),
        ({"sets": ["options.dept=1"]}, "unknown configuration key 'options.dept'", "'options.depth'"),
        ({"sets": ["momentum=1"]}, "short for both train.momentum and options.momentum", "in full"),
        ({"sets": ["device=cpu"]}, "'device' (--set) is not part of a run's configuration", "--device"),
        ({"sets": ["lr"]}, "--set 'lr' is not key=value", "--set train.lr=0.002"),
        ({"sets": ["lr=-1"]}, "train.lr = -1 (--set) is not allowed: it should be greater than 0", "CoOp"),
        ({"sets": ["lr=nan"]}, "train.lr = nan (--set) is not a finite number", "CoOp"),
        ({"sets": ["lr=true"]}, "train.lr = true (--set) is not allowed", "CoOp"),
        (
            {"sets": ["lr=fast"]},
            "train.lr = fast (--set) is not allowed: it should be a valid number",
            "CoOp",
        ),
        ({"sets": ["depth=13"]}, "options.depth = 13 (--set) is not allowed: it should be less", "layers"),
        (
            {"sets": ["fusion=ad"]},
            "options.fusion = ad (--set) is not allowed: it should be 'gate', 'add'",
            None,
        ),
        ({"sets": ["patience=3"]}, "patience = 3 needs measurements on validation images: give validate_every", None),
        ({"sets": ["keep=best"]}, "keep = best needs measurements on validation images: give validate_every", None),
        ({"sets": ["keep=first"]}, "train.keep = first (--set) is not allowed: it should be 'last' or 'best'", "state"),
        ({"sets": ["schedule=step"]}, "schedule = step needs milestones", None),
        ({"sets": ["schedule=stepp"]}, "it should be 'cosine', 'linear', 'step' or 'constant'", "after warm-up"),
        ({"sets": ["milestones=[9,3]"]}, "milestones = [9, 3] must rise", None),
        ({"sets": ["milestones=[0]"]}, "train.milestones = [0] (--set) is not allowed: it should be greater", "gamma"),
        ({"sets": ["gamma=1"]}, "train.gamma = 1 (--set) is not allowed: it should be less than 1", "factor"),
        ({"sets": ["class_weights=balanc"]}, "it should be 'balanced' or should be a valid dictionary", "n_c"),
        ({"sets": ["class_weights={cat=-1}"]}, 'train.class_weights = {"cat" = -1} (--set) is not allowed', "n_c"),
        ({"sets": ["sampling=even"]}, "train.sampling = even (--set) is not allowed", "each class equally often"),
        ({"sets": ["fusion=concat", "depth=12"]}, "fusion concat reaches no further than depth 11", None),
        ({"sets": ["topk=[1,x]"]}, "options.topk = [1,x] (--set) is not allowed", "patches"),
        ({"env": {"VLMPROMPT_TRAIN_LRR": "1"}}, "'train.lrr' (env VLMPROMPT_TRAIN_LRR)", "'train.lr'"),
        ({"env": {"VLMPROMPT_OPTIONS_DEPHT": "1"}}, "'options.depht' (env VLMPROMPT_OPTIONS_DEPHT)", "depth"),
        (
            {"env": {"VLMPROMPT_SHOTS": "0"}},
            "shots = 0 (env VLMPROMPT_SHOTS) is not allowed",
            "images per class",
        ),
        ({"flags": {"shots": "many"}}, "shots = many (--shots) is not allowed", "images per class"),
        ({"flags": {"setting": "fewshot"}}, "it should be 'few-shot', 'base-to-new' or", "classes"),
        ({"flags": {"method": "blosom"}}, "unknown method 'blosom'", "'blossom'"),
        ({"flags": {"preset": "offical"}}, "unknown preset 'offical' of method 'blossom'", "'official'"),
        ({"flags": {"preset": "x", "method": "plain"}}, "unknown preset 'x'", "plain has no presets"),
        (
            {"flags": {"preset": "broken"}},
            "unknown configuration key 'options.depht' (preset broken)",
            "depth",
        ),
        (
            {"flags": {"method": "needy"}},
            "options.width has no default (width in tokens)",
            "--set options.width=",
        ),
        ({"flags": {"method": None}}, "no method given", "--method bloom"),
    ],
)
def test_bad_input_is_one_line(methods: Methods, given_now: dict[str, Any], message: str, hint: str | None) -> None:
    error = failure(methods, **given_now)
    assert message in error.message
    assert (hint or "") in (error.hint or "")


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ("lr = [", "is not TOML", "config show"),
        ("lr = 1", "unknown configuration key 'lr' (run.toml)", "'lr'"),
        ("train = 3", "'train' (run.toml) must be a table", "[train]"),
        ("[train]\nlrr = 1", "unknown configuration key 'train.lrr' (run.toml)", "'train.lr'"),
        ("[model]\nx = 1", "unknown configuration key 'model' (run.toml)", ""),
        ("[train]\nlr = 'high'", "train.lr = high (run.toml) is not allowed", "learning rate"),
    ],
)
def test_bad_files_are_one_line(methods: Methods, tmp_path: Path, content: str, message: str, hint: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(content)
    error = failure(methods, config_file=file)
    assert message in error.message
    assert hint in (error.hint or "")


def test_a_missing_file_is_named(methods: Methods, tmp_path: Path) -> None:
    assert (
        f"cannot read the configuration file {tmp_path / 'no.toml'}"
        in failure(methods, config_file=tmp_path / "no.toml").message
    )
