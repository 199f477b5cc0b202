"""Shared fixtures: tiny CLIPs in open_clip's own class, and an environment of their own for every test.

No test depends on time: hypothesis has one profile here, without any limit of time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Read when torch, NumPy and huggingface_hub are imported. The models of the tests are tiny: a second thread only spins.
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

import hypothesis
import open_clip
import pytest
import torch

from tests.processes import stop_server
from tests.tiny_architectures import register
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.plugins import host
from vlmprompt.registry import Source

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

TINY_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2}


def tiny_clip(*, vision_layers: int = 3, text_layers: int = 3, resnet: bool = False, seed: int = 0) -> torch.nn.Module:
    """A random open_clip CLIP of a few hundred thousand weights (plus the token table), QuickGELU on."""
    vision = (
        {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}
        if resnet
        else {"image_size": 32, "layers": vision_layers, "width": 96, "patch_size": 8, "head_width": 48}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.model.CLIP(
            embed_dim=32, vision_cfg=vision, text_cfg=TINY_TEXT | {"layers": text_layers}, quick_gelu=True
        )
        # open_clip's initial values leave short random towers almost linear: stir the text side a little.
        for parameter in model.transformer.parameters():
            parameter.data += 0.02 * torch.randn(parameter.shape)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tokenizer() -> open_clip.SimpleTokenizer:
    """open_clip's BPE tokenizer (its vocabulary is in the package)."""
    return open_clip.SimpleTokenizer()


@pytest.fixture(scope="session")
def tiny_model() -> torch.nn.Module:
    """A tiny ViT CLIP."""
    return tiny_clip()


@pytest.fixture(scope="session")
def tiny_backbone(tiny_model: torch.nn.Module, tokenizer: open_clip.SimpleTokenizer) -> Backbone:
    """The tiny ViT CLIP behind the engines."""
    return Backbone.from_model(tiny_model, tokenizer, name="tiny-vit")


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


@pytest.fixture(scope="session")
def tiny_resnet(tokenizer: open_clip.SimpleTokenizer) -> Backbone:
    """A tiny ModifiedResNet CLIP behind the engines."""
    return Backbone.from_model(tiny_clip(resnet=True), tokenizer, name="tiny-rn")


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
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg-cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "xdg-data"))
