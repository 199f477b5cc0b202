"""The settings that the baselines ship for data sets, shots and settings."""

from __future__ import annotations

import tomllib
from importlib import resources

import pytest

from tests.baselines.cases import OPTIONS, THROUGH_IMAGES
from vlmprompt.config.models import RunConfig, TrainConfig
from vlmprompt.config.overrides import override_layers
from vlmprompt.training.schedule import Plan

METHODS = sorted(OPTIONS)


def shipped(name: str, *, data: str = "folder:photos", shots: int = 16, setting: str = "few-shot") -> dict[str, object]:
    """What the overrides of a method set for a run."""
    text = resources.files("vlmprompt_baselines").joinpath(f"schedules/{name}.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)["override"]
    known = {f"{part}.{key}" for table in tables for part in ("train", "options") for key in table.get(part, {})}
    run = RunConfig(method=name, data=data, backbone="x", shots=shots, setting=setting)
    values: dict[str, object] = {}
    for layer in override_layers(f"vlmprompt_baselines:schedules/{name}.toml", run, known=known):
        values |= layer.values
    return values


@pytest.mark.parametrize(
    ("name", "where", "expected"),
    [
        ("cocoop", {}, {"train.epochs": 10, "train.batch_size": 1}),
        ("ivlp", {}, {"train.epochs": 5, "train.lr": 0.0035, "train.batch_size": 4}),
        ("maple", {"setting": "base-to-new"}, {"train.epochs": 5, "train.lr": 0.0035, "train.batch_size": 4}),
        (
            "maple",
            {"setting": "cross-dataset"},
            {"train.epochs": 2, "train.lr": 0.0026, "train.batch_size": 4, "options.depth": 3},
        ),
        ("vpt", {}, {"train.epochs": 5, "train.lr": 0.0025, "train.batch_size": 4}),
        ("locoop", {}, {"train.epochs": 50, "train.batch_size": 32}),
        ("plot", {}, {"train.epochs": 50, "train.batch_size": 128}),
        ("plot", {"data": "coop:imagenet"}, {"train.epochs": 50, "train.batch_size": 128, "options.add_global": True}),
        ("proda", {}, {"train.epochs": 100, "train.lr": 0.001, "train.batch_size": 4}),
        ("kgcoop", {}, {"train.epochs": 100, "train.batch_size": 32}),
        ("kgcoop", {"setting": "base-to-new"}, {"train.epochs": 100, "train.batch_size": 128}),
        (
            "promptsrc",
            {"data": "coop:imagenet"},
            {
                "train.epochs": 50,
                "train.lr": 0.0025,
                "train.batch_size": 4,
                "options.gpa_mean": 30.0,
                "options.gpa_std": 30.0,
            },
        ),
        (
            "promptsrc",
            {"data": "coop:dtd"},
            {
                "train.epochs": 50,
                "train.lr": 0.0025,
                "train.batch_size": 4,
                "options.gpa_mean": 45.0,
                "options.gpa_std": 5.0,
            },
        ),
        (
            "promptsrc",
            {"setting": "base-to-new", "data": "coop:dtd"},
            {
                "train.epochs": 20,
                "train.lr": 0.0025,
                "train.batch_size": 4,
                "options.gpa_mean": 15.0,
                "options.gpa_std": 1.0,
            },
        ),
        (
            "promptsrc",
            {"setting": "cross-dataset"},
            {
                "train.epochs": 20,
                "train.lr": 0.0025,
                "train.batch_size": 4,
                "options.gpa_mean": 6.0,
                "options.gpa_std": 10.0,
                "options.depth_text": 3,
                "options.depth_vision": 3,
            },
        ),
    ],
)
def test_shipped_schedules(name, where, expected):
    assert shipped(name, **where) == expected


@pytest.mark.parametrize(
    ("data", "template"),
    [
        ("coop:dtd", "a photo of a {}, a type of texture."),
        ("coop:oxford_pets", "a photo of a {}, a type of pet."),
        ("coop:flowers102", "a photo of a {}, a type of flower."),
        ("coop:fgvc_aircraft", "a photo of a {}, a type of aircraft."),
        ("coop:eurosat", "a centered satellite photo of {}."),
        ("coop:food101", "a photo of {}, a type of food."),
        ("coop:ucf101", "a photo of a person doing {}."),
        ("coop:caltech101", None),
        ("coop:imagenet", None),
    ],
)
def test_kgcoop_template_of_each_data_set(data, template):
    assert shipped("kgcoop", data=data).get("options.teacher_template") == template


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16])
@pytest.mark.parametrize(("data", "classes"), [("doodles", 64), ("doodles:sketch", 64), ("doodles-animals", 16)])
def test_doodles_take_at_most_300_steps(name, shots, data, classes):
    values = shipped(name, data=data, shots=shots)
    train = TrainConfig(**{k.removeprefix("train."): v for k, v in values.items() if k.startswith("train.")})
    plan = Plan.of(train, shots * classes)
    assert 150 <= plan.steps <= 300
    assert (train.views == 1) == (name not in THROUGH_IMAGES)
    if name == "promptsrc":
        assert 0.7 <= values["options.gpa_mean"] / plan.epochs <= 0.8


def test_promptsrcs_average_lies_late_in_base_to_new_of_doodles():
    values = shipped("promptsrc", data="doodles", setting="base-to-new")
    plan = Plan.of(TrainConfig(epochs=values["train.epochs"], max_steps=300), 16 * 32)
    assert (plan.steps, plan.epochs, values["options.gpa_mean"]) == (288, 18, 14.0)
