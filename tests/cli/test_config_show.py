"""`vlmprompt config show` and `describe`, through the program's own entry."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vlmprompt.cli.main import main
from vlmprompt.config.keys import FIXED_FIELDS
from vlmprompt.config.templates import CLIP7

RUN = ["--method", "coop", "--data", "folder:photos", "--backbone", "RN50"]


def document(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0, command: str = "show") -> dict[str, Any]:
    assert main(["config", command, *args, "--json"]) == code
    loaded: dict[str, Any] = json.loads(capsys.readouterr().out)
    return loaded


def test_the_table_names_key_value_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", *RUN, "--shots", "1", "--set", "n_ctx=8"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["key", "value", "source"]
    assert ["shots", "1", "--shots"] in lines
    assert ["options.n_ctx", "8", "--set"] in lines
    assert ["seed", "1", "default"] in lines
    epochs = next(line for line in lines if line[0] == "train.epochs")
    assert epochs[1:4] == ["50", "override", "vlmprompt.methods:coop.toml"]


def test_explain_names_the_losers(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.toml").write_text("[train]\nlr = 0.5\n")
    monkeypatch.setenv("VLMPROMPT_TRAIN_LR", "0.25")
    args = [*RUN, "--config", str(tmp_path / "run.toml"), "--lr", "0.125"]
    assert main(["config", "show", *args, "--explain"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("train.lr "))
    assert "--lr" in line
    assert line.endswith("env VLMPROMPT_TRAIN_LR: 0.25; run.toml: 0.5; default: 0.002")
    keys = document(capsys, *args, "--explain")["data"]["keys"]
    assert next(row for row in keys if row["key"] == "train.lr") == {
        "key": "train.lr",
        "value": 0.125,
        "source": "--lr",
        "overridden": [
            {"source": "env VLMPROMPT_TRAIN_LR", "value": 0.25},
            {"source": "run.toml", "value": 0.5},
            {"source": "default", "value": 0.002},
        ],
    }


def test_the_document_holds_the_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["--shots", "all", "--seed", "3", "--random-weights", "--no-quick-gelu", "--allow-fewer"]
    flags += ["--image-size", "256x128"]
    flags += ["--class-names", "names.txt", "--setting", "base-to-new", "--protocol", "coop"]
    flags += ["--descriptions", "said.jsonl", "--allow-missing", "--templates", "clip7", "--aliases", "aliases.txt"]
    Path("aliases.txt").write_text("old = new\n")
    flags += ["--epochs", "2", "--batch-size", "3", "--max-steps", "4", "--precision", "bf16", "--views", "5"]
    content = document(capsys, *RUN, *flags)
    assert content["command"] == "config show"
    config = content["data"]["config"]
    run_level = {k: v for k, v in config.items() if k not in ("train", "options")}
    assert run_level == {
        "method": "coop",
        "data": "folder:photos",
        "backbone": "RN50",
        "random_weights": 0,
        "quick_gelu": False,
        "image_size": [256, 128],
        "shots": None,
        "seed": 3,
        "setting": "base-to-new",
        "protocol": "coop",
        "preset": None,
        "allow_fewer": True,
        "exif": True,
        "accept_split": False,
        "allow_overlap": False,
        "allow_outside": False,
        "class_names": "names.txt",
        "aliases": {"old": "new"},
        "templates": list(CLIP7),
        "split_seed": 1,
        "descriptions": "said.jsonl",
        "allow_missing": True,
    }
    train = config["train"]
    assert (train["epochs"], train["batch_size"], train["max_steps"]) == (2, 3, 4)
    assert (train["precision"], train["views"], train["lr"]) == ("bf16", 5, 0.002)
    assert config["options"]["ctx_init"] == "a photo of a", "the setting's override"


def test_a_protocol_says_what_it_sets(capsys: pytest.CaptureFixture[str]) -> None:
    def keep(*flags: str) -> tuple[bool, str, list[str]]:
        rows = document(capsys, *RUN, "--explain", *flags)["data"]["keys"]
        row = next(row for row in rows if row["key"] == "options.keep_underscores")
        return row["value"], row["source"], [said["source"] for said in row["overridden"]]

    source = "override vlmprompt.config:protocols.toml [protocol=gallop-code]"
    assert keep() == (False, "default of coop", [])
    assert keep("--protocol", "gallop-code") == (True, source, ["default of coop"])
    own = keep("--protocol", "gallop-code", "--set", "keep_underscores=false")
    assert own == (False, "--set", [source, "default of coop"])


def test_overrides_know_benchmarks_by_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    """CoOp's 50 epochs on ImageNet, written either way, and 200 elsewhere."""
    for data, epochs in {"coop:imagenet": 50, "imagenet": 50, "coop:imagenet-a": 200, "coop:dtd": 200}.items():
        config = document(capsys, *RUN[:2], "--data", data, *RUN[4:], "--accept-split")["data"]["config"]
        assert (config["train"]["epochs"], config["accept_split"]) == (epochs, True)


@pytest.mark.parametrize("spelling", [["--random-weights", "3"], ["--random-weights=3"]])
def test_random_weights_take_a_seed(capsys: pytest.CaptureFixture[str], spelling: list[str]) -> None:
    assert document(capsys, *RUN, *spelling)["data"]["config"]["random_weights"] == 3


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["--method", "coap"], "unknown method 'coap'", "'coop'"),
        (["--set", "n_ctz=3"], "unknown configuration key 'n_ctz' (--set)", "'n_ctx'"),
        (["--shots", "few"], "shots = few (--shots) is not allowed", "images per class"),
        (["--lr", "-1"], "train.lr = -1.0 (--lr) is not allowed: it should be greater than 0", "learning rate"),
        (["--config", "no.toml"], "cannot read the configuration file no.toml", "--config"),
        (["--preset", "x"], "unknown preset 'x' of method 'coop'", "no presets"),
    ],
)
def test_errors_are_documents_of_exit_2(
    capsys: pytest.CaptureFixture[str], args: list[str], message: str, hint: str
) -> None:
    error = document(capsys, *RUN, *args, code=2)["error"]
    assert error["code"] == 2
    assert message in error["message"]
    assert hint in error["hint"]


def test_an_unknown_method_is_found_before_torch_is_imported() -> None:
    check = (
        "import sys\n"
        "from vlmprompt.cli.main import main\n"
        "code = main(['train', '--method', 'blom', '--data', 'folder:x', '--backbone', 'RN50'])\n"
        "sys.exit(code * 10 + ('torch' in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 20, done.stderr
    assert "unknown method 'blom'" in done.stderr


def test_describe_says_what_every_setting_means(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "describe"]) == 0
    page = capsys.readouterr().out
    for key, field in FIXED_FIELDS.items():
        assert f"  {key}  (" in page
        assert (field.description or "?").split()[0] in page
    assert max(map(len, page.splitlines())) <= 100
    assert "\n      here " not in page  # no run, so no values
    settings = document(capsys, "lr", "shots", command="describe")["data"]["settings"]
    assert settings[0] == {
        "name": "train.lr",
        "type": "number > 0",
        "required": False,
        "default": 0.002,
        "description": "peak learning rate; CoOp code: 0.002",
    }
    assert [row["name"] for row in settings] == ["train.lr", "shots"]


def test_describe_with_a_method_adds_its_options_values_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--method", "coop", "--data", "folder:x", "--shots", "1", "--lr", "0.5"]
    settings = document(capsys, "n_ctx", "epochs", "lr", *flags, command="describe")["data"]["settings"]
    found = [(row["name"], row["default"], row["value"], row["source"]) for row in settings]
    assert found == [
        ("options.n_ctx", 16, 16, "default of coop"),
        ("train.epochs", 50, 50, "override vlmprompt.methods:coop.toml [shots=1|all]"),
        ("train.lr", 0.002, 0.5, "--lr"),
    ]
    assert main(["config", "describe", "lr", *flags]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "      here 0.5, from --lr"


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["n_ctx"], "unknown configuration key 'n_ctx' (config describe)", "--method NAME"),
        (["lr", "--lr", "0.5"], "no method given", "--method bloom"),
        (["n_ctxx", "--method", "coop"], "unknown configuration key 'n_ctxx'", "'n_ctx'"),
    ],
)
def test_describe_refuses_what_is_not_there(
    capsys: pytest.CaptureFixture[str], args: list[str], message: str, hint: str
) -> None:
    error = document(capsys, *args, code=2, command="describe")["error"]
    assert message in error["message"]
    assert hint in error["hint"]
