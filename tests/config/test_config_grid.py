"""`--grid`: which combinations it makes, what they are called, and what is refused."""

from __future__ import annotations

import pytest

from vlmprompt.config.grid import (
    combinations,
    label_of,
    layer_of,
    require_alone,
    require_keys,
    shown_values,
    split_values,
    without_training,
)
from vlmprompt.config.keys import FIXED_FIELDS, option_fields
from vlmprompt.config.resolve import Resolved, resolve
from vlmprompt.errors import UsageError
from vlmprompt.methods.config import CoOpConfig


def resolved(*assignments: str, place: int = 0, method: str = "coop", sets: tuple[str, ...] = ()) -> Resolved:
    layer = layer_of(combinations(assignments)[place])
    return resolve({"method": method}, sets=sets, more=[layer], env={})


def test_every_value_meets_every_other_the_last_key_fastest() -> None:
    assert combinations(["lr=0.1,0.2", "n_ctx=4,16"]) == [
        {"lr": "0.1", "n_ctx": "4"},
        {"lr": "0.1", "n_ctx": "16"},
        {"lr": "0.2", "n_ctx": "4"},
        {"lr": "0.2", "n_ctx": "16"},
    ]
    assert combinations([]) == [{}]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2", ["1", "2"]),
        ("[1,2],[3]", ["[1,2]", "[3]"]),
        ("[[1,2],[3]],4", ["[[1,2],[3]]", "4"]),
        ('"a, b", c', ['"a, b"', "c"]),
        ("'it, too',x", ["'it, too'", "x"]),
        ("{a=1,b=2},{}", ["{a=1,b=2}", "{}"]),
        ("a photo of a {}, a {}.", ["a photo of a {}", "a {}."]),
        ("a],b", ["a]", "b"]),
        ("1,", ["1", ""]),
    ],
)
def test_commas_within_brackets_and_quotes_part_nothing(text: str, values: list[str]) -> None:
    assert split_values(text) == values


@pytest.mark.parametrize(
    ("assignments", "message", "hint"),
    [
        (["lr"], "--grid 'lr' is not key=value,value", "--grid lr=0.002,0.01"),
        (["lr="], "is not key=value,value", "--grid lr=0.002,0.01"),
        (["=1,2"], "is not key=value,value", "--grid lr=0.002,0.01"),
        (["lr=1,,2"], "has an empty value", "--grid lr=0.002,0.01"),
        (["lr=1,2,1"], "--grid lr lists 1 twice", "once"),
        (["lr=1", "lr=2"], "--grid lr is given twice", "--grid lr=A,B"),
        (["shots=1,4"], "--grid shots has a flag of its own", "--shots once for each value"),
    ],
)
def test_what_is_no_grid_is_refused(assignments: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        combinations(assignments)
    assert message in error.value.message
    assert hint in (error.value.hint or "")


def test_values_are_read_as_set_reads_them_and_named_as_they_are_settled() -> None:
    assignments = ["train.lr=1e-2", "n_ctx=4.0", "ctx_init=none", "views=1"]
    found = resolved(*assignments)
    assert (found.run.train.lr, found.run.options["n_ctx"], found.run.options["ctx_init"]) == (0.01, 4, None)
    assert found.sources["train.lr"] == found.sources["options.n_ctx"] == "--grid"
    (combination,) = combinations(assignments)
    assert label_of(found, combination) == "lr=0.01-n_ctx=4-ctx_init=none-views=1"
    assert shown_values(found, combination) == {
        "train.lr": "0.01",
        "options.n_ctx": "4",
        "options.ctx_init": "none",
        "train.views": "1",
    }


def test_names_of_unlike_texts_stay_apart_and_safe() -> None:
    texts = ["ctx_init=a photo/of,a photo_of,a photo of", "class_specific=true"]
    labels = [label_of(resolved(*texts, place=i), combinations(texts)[i]) for i in range(3)]
    assert len(set(labels)) == 3
    assert labels[1] == "ctx_init=a_photo_of-" + labels[1].split("-")[1] + "-class_specific=true"
    assert all(set(label) <= set("abcdefghijklmnopqrstuvwxyz0123456789_=-") for label in labels)


def test_a_key_that_something_else_gives_is_refused() -> None:
    (combination,) = combinations(["lr=0.1"])
    with pytest.raises(UsageError, match=r"lr is given by --grid and by --set"):
        require_alone(resolved("lr=0.1", sets=("train.lr=0.2",)), combination)
    both = combinations(["lr=0.1", "train.lr=0.2"])[0]
    with pytest.raises(UsageError, match=r"is given by --grid and by --grid again"):
        require_alone(resolved("lr=0.1", "train.lr=0.2"), both)
    require_alone(resolved("lr=0.1"), combination)


def test_a_key_that_the_method_lacks_names_both() -> None:
    fields = {**FIXED_FIELDS, **option_fields(CoOpConfig)}
    require_keys(combinations(["lr=1", "options.n_ctx=2"])[0], "coop", fields)
    with pytest.raises(UsageError, match=r"method 'coop' has no setting 'n_prompts' \(--grid\)"):
        require_keys(combinations(["n_prompts=4"])[0], "coop", fields)
    with pytest.raises(UsageError, match=r"'device' \(--grid\) is not part of a run's configuration"):
        require_keys(combinations(["device=cpu"])[0], "coop", fields)


def test_nothing_is_left_of_training_where_nothing_is_trained() -> None:
    found = combinations(["lr=0.1,0.2", "ensemble=none,clip7"])
    assert without_training(found) == [{"ensemble": "none"}, {"ensemble": "clip7"}]
    assert without_training(combinations(["train.lr=0.1,0.2"])) == [{}]
    assert without_training([]) == [{}]
