"""Environment variables: names that nothing reads are said, sizes that are none are forgotten."""

from __future__ import annotations

import os

import pytest

from vlmprompt import plugins
from vlmprompt.cli.environment import settle_sizes, unknown_variables
from vlmprompt.cli.main import main
from vlmprompt.registry import Source


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("VLMPROMPT_SHOT", "did you mean 'VLMPROMPT_SHOTS'"),
        ("VLMPROMPT_RUN_DIR", "did you mean 'VLMPROMPT_RUNS_DIR'"),
        ("VLMPROMPT_DISABLE_PLUGIN", "did you mean 'VLMPROMPT_DISABLE_PLUGINS'"),
        ("VLMPROMPT_LR", "did you mean"),
        ("vlmprompt_shot", "did you mean 'VLMPROMPT_SHOTS'"),
    ],
)
def test_a_name_that_nothing_reads(
    name: str, nearest: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "4")
    assert main(["methods", "list"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: nothing reads the environment variable {name}; {nearest}")


def test_names_that_mean_something(monkeypatch: pytest.MonkeyPatch) -> None:
    host = plugins.PluginHost()
    host.plugins.append(plugins.PluginInfo(Source("acme", "acme-prompts", "1"), "acme", "ok"))
    known = ["SHOTS", "TRAIN_LR", "TRAIN_LRR", "OPTIONS_N_CTX", "ROOT", "RUNS_DIR", "CACHE_DIR"]
    known += ["FEATURE_CACHE", "FEATURE_LIMIT", "FEATURE_DTYPE"]
    known += ["DISABLE_PLUGINS", "STRICT_PLUGINS", "ACME_KEY", "ACME_PROMPTS_KEY"]
    for name in known:
        monkeypatch.setenv(f"VLMPROMPT_{name}", "1")
    assert list(unknown_variables(host)) == []
    monkeypatch.setenv("VLMPROMPT_ACMEKEY", "1")
    assert len(list(unknown_variables(host))) == 1


@pytest.mark.parametrize(
    ("text", "size"),
    [("80", "80"), ("0", None), ("", None), ("-5", None), ("²", None), ("wide", None), ("1", "20")]
    + [("1" + "0" * 20, "10000"), ("9" * 5000, "10000")],
    ids=lambda text: str(text)[:21],
)
@pytest.mark.parametrize("name", ["COLUMNS", "LINES", "TERMINAL_WIDTH"])
def test_sizes(name: str, text: str, size: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, text)
    settle_sizes()
    assert os.environ.get(name) == size


@pytest.mark.parametrize("text", ["0", "1", "1" + "0" * 20])
def test_any_width_will_do(text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", text)
    assert main(["methods", "list"]) == main(["methods", "show", "coop"]) == main(["train", "--help"]) == 0
    assert capsys.readouterr().err == ""
