"""Fixtures for tests of plugins; named in a `conftest.py` as `pytest_plugins = ["vlmprompt.testing.fixtures"]`.

`tiny_backbone` and `tiny_resnet` are CLIPs of random weights that encode in milliseconds, `tiny_photos` is a folder of
drawn pictures, `chat_server` answers as OpenAI's server does, `command` runs the command line within the test, and
`only_plugins` leaves out what else is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from vlmprompt.errors import did_you_mean
from vlmprompt.testing.needed import load_pytest

if TYPE_CHECKING:
    import pytest

    from vlmprompt.backbones.backbone import Backbone
    from vlmprompt.conformance.chat import ChatServer
    from vlmprompt.plugins import PluginHost
else:
    pytest = load_pytest()


@dataclass(frozen=True)
class Finished:
    """A command that has ended.

    Attributes:
        code: its exit code.
    """

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def tiny_backbone() -> Backbone:
    """A CLIP with a ViT: three layers in each tower, 96 and 64 wide, images of 32 x 32 pixels in 16 patches."""
    from vlmprompt.backbones.openclip.miniature import tiny_backbone

    return tiny_backbone()


@pytest.fixture(scope="session")
def tiny_resnet() -> Backbone:
    """A CLIP with a ResNet: images of 64 x 64 pixels, four local positions."""
    from vlmprompt.backbones.openclip.miniature import tiny_backbone

    return tiny_backbone(resnet=True)


@pytest.fixture(scope="session")
def tiny_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of drawn pictures for `folder:`: four classes, three training, one val and two test pictures each."""
    from vlmprompt.conformance.material import TinyPhotos, draw_photos

    return draw_photos(tmp_path_factory.mktemp("tiny") / "photos", dict(TinyPhotos.counts))


@pytest.fixture
def chat_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """A server on loopback that answers questions about classes with two phrases each, and keeps what it was asked.

    Its address is `chat_server.url`; the environment names it and holds a key for it.
    """
    from vlmprompt.conformance.chat import always_good, serving

    with serving(always_good) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-test")
        yield server


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """`command("train", "--method", "acme")` runs a command line of `vlmprompt`; gives exit code, stdout and stderr."""
    from vlmprompt.cli.main import main

    def run(*args: str) -> Finished:
        capsys.readouterr()
        code = main(list(args))
        out, err = capsys.readouterr()
        return Finished(code, out, err)

    return run


@pytest.fixture
def only_plugins(monkeypatch: pytest.MonkeyPatch) -> Callable[..., PluginHost]:
    """`only_plugins("acme")` loads the plugins of these names (or packages) beside the core's own, and no others."""
    from vlmprompt import plugins

    monkeypatch.setattr(plugins, "_host", plugins.loaded_host())  # so that the present one comes back

    def load(*names: str) -> PluginHost:
        points = {point.name: point.dist.name if point.dist else "?" for point in entry_points(group="vlmprompt")}
        for name in set(names) - points.keys() - set(points.values()):
            pytest.fail(f"there is no plugin {name!r}; {did_you_mean(name, points)}", pytrace=False)
        others = [point for point, package in points.items() if not {point, package} & {*names, plugins.CORE}]
        monkeypatch.setenv(plugins.DISABLE, ",".join(sorted(others)))
        return plugins.load_host()

    return load
