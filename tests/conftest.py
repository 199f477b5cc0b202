"""Shared fixtures: tiny CLIPs in open_clip's own class, and an environment of their own for every test.

No test depends on time: hypothesis has one profile here, without any limit of time.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Read when torch, NumPy and huggingface_hub are imported. The models of the tests are tiny: a second thread only spins.
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
# For what fixtures of a session or a module cache, such as features of a run; each test has a folder of its own.
os.environ |= {"VLMPROMPT_CACHE_DIR": tempfile.mkdtemp(prefix="vlmprompt-tests-")}

import hypothesis
import open_clip
import pytest
import torch

from tests.processes import stop_server
from tests.tiny_architectures import register
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.plugins import host
from vlmprompt.registry import Source

atexit.register(shutil.rmtree, os.environ["VLMPROMPT_CACHE_DIR"], ignore_errors=True)

hypothesis.settings.register_profile(
    "tests",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # which is a limit of time as well
    derandomize="CI" in os.environ,
)
hypothesis.settings.load_profile("tests")
# A shell ignores SIGINT for what it starts in the background, nohup SIGHUP, and every process of the tests would
# inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The tiny towers, and the fixtures `tiny_backbone` and `tiny_resnet` around them, are those that plugins test with.
pytest_plugins = ["vlmprompt.testing.fixtures"]


@pytest.fixture(scope="session")
def tokenizer() -> open_clip.SimpleTokenizer:
    """open_clip's BPE tokenizer (its vocabulary is in the package)."""
    return open_clip.SimpleTokenizer()


@pytest.fixture(scope="session")
def tiny_model(tiny_backbone: Backbone) -> torch.nn.Module:
    """The tiny ViT CLIP of `tiny_backbone`."""
    return tiny_backbone.model


@pytest.fixture
def tiny_spec() -> Iterator[None]:
    """Makes `--backbone tiny-vit` known, as a plugin would."""
    source = Source("tiny", "tiny", "1.0")
    host().backbones.register("tiny-vit", target="tests.cli.tiny_loader:TinyLoader", source=source)
    yield
    host().backbones.withdraw(source)


@pytest.fixture
def tiny_architecture(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """Tiny architectures that open_clip knows by name, see `register`."""
    return register(tmp_path_factory.mktemp("architectures"), monkeypatch)


@pytest.fixture(scope="session", autouse=True)
def _process_server() -> Iterator[None]:
    """Ends with the tests."""
    yield
    stop_server()


@pytest.fixture(autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's settings and terminal, or writes into the user's folders."""
    for name in list(os.environ):
        if name.startswith("VLMPROMPT_"):
            monkeypatch.delenv(name)
    for name in ("COLUMNS", "LINES", "TERMINAL_WIDTH"):
        monkeypatch.delenv(name, raising=False)
    home: Path = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("VLMPROMPT_CACHE_DIR", str(home / "cache"))
    monkeypatch.setenv(
        "VLMPROMPT_JOBS", "1"
    )  # runs of a sweep are done in the test's process, where fixtures reach them
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg-cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "xdg-data"))
