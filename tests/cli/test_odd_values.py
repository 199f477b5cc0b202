"""Odd values at every option of every command and every key of a configuration: one line, never a bug.

Commands that would train or measure are kept from it: what is looked at is how their values are read.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.material import make_photos
from vlmprompt import plugins
from vlmprompt.cli import failures
from vlmprompt.cli.app import build
from vlmprompt.cli.main import main
from vlmprompt.config.keys import FIXED_FIELDS, option_fields
from vlmprompt.errors import InputError, UsageError
from vlmprompt.methods.build import method_config

ODD = ["", "0", "-1", "nan", "-inf", "1e400", str(2**63), str(2**200), "9" * 5000, "²", "[" * 3000, "a" * 300]
ODD += [
    "a\0b",
    "\udce9",
    "/",
    ".",
    "names.txt",
    "deep.toml",
    "huge.toml",
    "/dev/zero",
    "\x1b[31m",
    "é日",
    "folder:",
    "=",
]
RUN = ["--method", "coop", "--data", "folder:photos", "--backbone", "tiny-vit", "--random-weights", "1"]
# Enough of a command that the option under test is read; nothing here trains, measures or asks.
BASES = {
    "config show": RUN,
    "train": [*RUN, "--no-such-option"],
    "import": [*RUN, "names.txt", "--no-such-option"],
    "sweep": [*RUN, "--no-such-option"],
    "evaluate": ["no-run"],
    "describe-classes": ["--classes", "names.txt", "--provider", "file", "--from", "names.txt", "--dry-run"],
    "data check": ["folder:photos", "--workers", "0"],
    "data show": ["folder:photos"],
    "data sample": ["folder:photos", "--shots", "1"],
    "reproduce": ["no-recipe", "--dry-run"],
    "doctor": ["--no-such-option"],
}


@pytest.fixture
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "photos", splits={"train": 2, "test": 1})
    (tmp_path / "names.txt").write_text("fox\nfrog\n")
    (tmp_path / "deep.toml").write_text("n_ctx = " + "[" * 3000)
    (tmp_path / "huge.toml").write_text("seed = " + "9" * 5000)


def commands() -> Iterator[tuple[str, Any]]:
    groups: list[tuple[list[str], Any]] = [([], build(plugins.load_host()))]
    while groups:
        path, group = groups.pop()
        for name in group.commands:
            command = group.get_command(None, name)
            if hasattr(command, "commands"):
                groups.append(([*path, name], command))
            else:
                yield " ".join([*path, name]), command


COMMANDS = dict(commands())


def some(place: int) -> tuple[str, str]:
    """Two of the values: all of them, over the places where they are tried."""
    return ODD[place % len(ODD)], ODD[(place + len(ODD) // 2) % len(ODD)]


def require_no_bug(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = main(args)
    err = capsys.readouterr().err
    assert code in (0, 2, 3, 4), (args, err[-600:])
    said = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(said) == (code != 0), (args, err[-600:])
    assert max(map(len, said), default=0) < 1100


@pytest.mark.usefixtures("_files", "tiny_spec")
@pytest.mark.parametrize("name", COMMANDS)
def test_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for place, parameter in enumerate(COMMANDS[name].params, start=len(name)):
        flag = parameter.opts[0]
        if parameter.param_type_name == "option" and not parameter.is_flag:
            for value in some(place):
                require_no_bug([*name.split(), *BASES.get(name, ()), f"{flag}={value}"], capsys)
        elif parameter.param_type_name == "argument" and BASES.get(name, ["-"])[-1] != "--no-such-option":
            for value in some(place):
                require_no_bug([*name.split(), "--", value], capsys)


@pytest.mark.usefixtures("_files", "tiny_spec")
@pytest.mark.parametrize("method", ["coop", "gallop"])
def test_keys(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    keys = list(option_fields(plugins.host().methods.get(method).load_config()))
    for place, key in enumerate([*keys, *(FIXED_FIELDS if method == "coop" else ())]):
        for value in some(place):
            require_no_bug(["config", "show", "--method", method, "--set", f"{key}={value}"], capsys)


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize(
    ("args", "code", "message", "hint"),
    [
        (["--seed", "-1"], 2, "seed = -1 (--seed) is not allowed: it should be greater than or equal to 0", "seed"),
        (["--seed", str(2**63)], 2, f"seed = {2**63} (--seed) is not allowed: it should be less than", "seed"),
        (["--random-weights", str(2**64)], 2, f"random_weights = {2**64} (--random-weights) is not allowed", ""),
        (["--shots", "0"], 2, "shots = 0 (--shots) is not allowed: it should be greater than or equal to 1", "shots"),
        (["--shots", "9" * 5000], 2, "shots = 999", "shots"),
        (["--lr", "nan"], 2, "train.lr = nan (--lr) is not a finite number", "learning rate"),
        (["--set", "n_ctx=1000000001"], 2, "n_ctx = 1000000001 (--set) is not allowed: it should be less than", ""),
        (["--data", ""], 2, "--data is empty", "give it a value, or leave it out"),
        (["--data="], 2, "--data is empty", "give it a value, or leave it out"),
        (["--data", "a\0b"], 2, "argument a\\u0000b holds a zero byte", "leave it out"),
        (["--data", "caf\udce9"], 2, "argument caf\\udce9 is no UTF-8", "rename"),
        (["--config", "deep.toml"], 2, "deep.toml is not TOML: it is nested too deeply", "shows the keys"),
        (["--config", "huge.toml"], 2, "huge.toml is not TOML: Exceeds the limit (4300 digits)", "shows the keys"),
        (["--config", "photos"], 2, "cannot read the configuration file photos: Is a directory", "--config"),
        (["--config", "/dev/zero"], 2, "cannot read the configuration file /dev/zero: it is a device", "--config"),
    ],
)  # fmt: skip
def test_the_value_is_named(
    args: list[str], code: int, message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "show", "--method", "coop", *args]) == code
    error, step = capsys.readouterr().err.splitlines()
    assert error.removeprefix("error: ").removeprefix("options.").startswith(message)
    assert step.startswith("hint: ") and hint in step


def test_names_in_a_configuration_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.toml"
    file.write_text('method = "coop"\ndata = "folder:a\\u0000b"\n')
    assert main(["config", "show", "--config", str(file)]) == 2
    assert "should have no zero byte and be UTF-8" in capsys.readouterr().err


def test_a_method_may_state_a_bound_of_its_own() -> None:
    assert method_config("coop", {"n_ctx": 10**6}).model_dump()["n_ctx"] == 10**6
    with pytest.raises(UsageError, match="n_ctx"):
        method_config("coop", {"n_ctx": 10**6 + 1})


def _deep() -> None:
    import json

    json.loads("[" * 100_000)


def _endless() -> None:
    _endless()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300), f"File name too long: {'a' * 78}..."),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), "No such file or directory: x"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "x"), "Is a directory: x"),
        (MemoryError(), "memory is too short: for what was asked"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "memory is too short: CUDA out of memory."),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "memory is too short: DefaultCPU"),
    ],
)
def test_the_machine_is_no_bug(error: Exception, message: str) -> None:
    known = failures.expected(error)
    assert isinstance(known, InputError) and known.message.startswith(message) and known.hint


def test_depth_is_input_where_something_is_read_and_a_bug_elsewhere() -> None:
    with pytest.raises(RecursionError) as caught:
        _deep()
    assert isinstance(failures.expected(caught.value), InputError)
    with pytest.raises(RecursionError) as caught:
        _endless()
    assert failures.expected(caught.value) is None
