"""Checkpoints in the references' own format, made of their tensors and imported by the command: the same logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.golden.golden import Golden, settled_or_not
from tests.golden.loader import case
from tests.training.dassl import save, texts, whole_model
from tests.training.material import COLOURS, make_photos
from vlmprompt.cli.main import main
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.plugins import host
from vlmprompt.registry import Source
from vlmprompt.training.runs import load_run

CASES = ("coop", "cocoop", "kgcoop", "locoop", "maple", "plot", "promptsrc", "vpt")
COOP = ("end", "middle", "front", "csc_end", "csc_middle", "init_end")


@pytest.fixture(autouse=True)
def _backbones() -> Iterator[None]:
    source = Source("golden", "golden", "1.0")
    for name in CASES:
        host().backbones.register(f"golden-{name}", target="tests.golden.loader:GoldenLoader", source=source)
    yield
    host().backbones.withdraw(source)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of each of the references' classes, which stand in the order of their numbers."""
    folder = tmp_path_factory.mktemp("golden") / "photos"
    golden, _ = case("coop")
    assert len(golden.names) == len(COLOURS) + 1
    make_photos(folder, splits={"train": 1, "test": 1}, classes=("0", "1", "2", "3"))
    make_photos(folder / "more", splits={"train": 1, "test": 1}, classes=("4",))
    for split in ("train", "test"):
        (folder / "more" / split / "4").rename(folder / split / "4")
        (folder / "more" / split).rmdir()
    (folder / "more").rmdir()
    (folder.parent / "names.txt").write_text("\n".join(golden.names) + "\n")
    return folder


@pytest.fixture
def imported(photos: Path, tmp_path: Path) -> Any:
    """Imports a checkpoint by the command; gives the method of the run."""

    def run(name: str, state: Mapping[str, Tensor], *arguments: str, epoch: int = 3) -> PromptMethod:
        file = save(tmp_path / f"model.pth.tar-{epoch}", state, epoch=epoch)
        data = ["--data", f"folder:{photos}", "--class-names", str(photos.parent / "names.txt")]
        where = ["--backbone", f"golden-{name}", "--device", "cpu", "--out", str(tmp_path / "run")]
        assert main(["import", str(file), *data, *where, *arguments]) == 0
        return load_run(tmp_path / "run").build_method(case(name)[1])

    return run


def same_logits(method: PromptMethod, golden: Golden, reference: Tensor) -> None:
    with torch.no_grad():
        logits = method(golden.tensors["in.images"]).logits
    torch.testing.assert_close(logits, reference, atol=5e-5, rtol=0)


@pytest.mark.parametrize("variant", COOP)
def test_coop(imported: Any, variant: str) -> None:
    golden, backbone = case("coop")
    hyper = golden.settings["hyper"]["variants"][variant]
    t = golden.group(f"{variant}.")
    ctx = t["param.ctx"]
    state = {"ctx": ctx, **texts(backbone, len(golden.names), ctx.shape[-2])}
    place = hyper["class_token_position"]
    method = imported("coop", state, "--method", "coop", "--set", f"class_position={place}")
    assert method.config.class_specific == hyper["csc"] and method.config.n_ctx == ctx.shape[-2]
    same_logits(method, golden, t["out.logits"])


def test_cocoop(imported: Any) -> None:
    golden, backbone = case("cocoop")
    state = golden.group("param.") | texts(backbone, len(golden.names), 4)
    same_logits(imported("cocoop", state), golden, golden.tensors["out.logits"])


@pytest.mark.parametrize("variant", ["init", "texture", "random"])
def test_kgcoop(imported: Any, variant: str) -> None:
    """Its code saves parts of the network that it does not use, by which it is known."""
    golden, backbone = case("kgcoop")
    t = golden.group(f"{variant}.")
    ctx = t["param.ctx"]
    idle = {"bias_vectors": torch.ones(1, 512), "meta_net.linear1.weight": torch.ones(512, 512)}
    state = {"ctx": ctx, **idle, "meta_net.linear1.bias": torch.ones(512), **texts(backbone, 5, len(ctx))}
    same_logits(imported("kgcoop", state), golden, t["out.logits"])


def test_locoop(imported: Any) -> None:
    golden, backbone = case("locoop")
    state = golden.group("param.") | texts(backbone, len(golden.names), 16)
    method = imported("locoop", state, "--method", "locoop")
    same_logits(method, golden, golden.tensors["out.logits"])
    with torch.no_grad():
        local = method.scale * method(golden.tensors["in.images"]).local_cosines
    torch.testing.assert_close(local, golden.tensors["out.logits_local"], atol=5e-5, rtol=0)


@settled_or_not
@pytest.mark.parametrize(
    ("variant", "arguments"),
    [("plain", ()), ("imagenet", ("--set", "add_global=true")), ("eps02", ("--set", "sinkhorn_lambda=0.02"))],
)
def test_plot(imported: Any, variant: str, arguments: tuple[str, ...]) -> None:
    """Known by its texts, of which it saves N for each class."""
    golden, backbone = case("plot")
    state = golden.group("param.") | texts(backbone, 4 * len(golden.names), 16)
    same_logits(imported("plot", state, *arguments), golden, golden.tensors[f"{variant}.out.logits"])


def test_maple(imported: Any) -> None:
    golden, backbone = case("maple")
    state = whole_model(golden.group("clip."), golden.group("param.") | texts(backbone, len(golden.names), 2))
    method = imported("maple", state, epoch=5)
    assert (method.config.depth, method.config.n_ctx) == (2, 2)
    same_logits(method, golden, golden.tensors["out.logits"])


def src_state(golden: Golden, learner: Mapping[str, Tensor]) -> dict[str, Tensor]:
    learned = golden.group("param.")
    return whole_model(golden.group("clip."), learner) | learned


@pytest.mark.parametrize("name", ["promptsrc", "ivlp"])
def test_promptsrc_and_ivlp(imported: Any, name: str) -> None:
    """The same prompts; PromptSRC's code saves its frozen image tower beside them."""
    golden, backbone = case("promptsrc")
    learner = texts(backbone, len(golden.names), 4)
    if name == "promptsrc":
        learner["ZS_image_encoder.class_embedding"] = golden.tensors["clip.visual.class_embedding"]
    method = imported("promptsrc", src_state(golden, learner), *(("--method", name) if name == "ivlp" else ()))
    assert (method.config.depth_text, method.config.n_ctx_vision) == (2, 4)
    same_logits(method, golden, golden.tensors["out.logits"])


@pytest.mark.parametrize("variant", ["deep", "partial", "shallow"])
def test_vpt(imported: Any, variant: str) -> None:
    golden, _ = case("vpt")
    learned = {f"image_encoder.{name}": t for name, t in golden.group(f"{variant}.param.").items()}
    state = whole_model(golden.group("clip."), {}) | learned
    same_logits(imported("vpt", state), golden, golden.tensors[f"{variant}.out.logits"])


def test_half_precision_and_the_prefix_of_a_parallel_model(imported: Any) -> None:
    golden, backbone = case("coop")
    ctx = golden.tensors["end.param.ctx"].half()
    state = {"ctx": ctx, **{name: t.half() for name, t in texts(backbone, 5, 16).items()}}
    state = {f"module.prompt_learner.{name}": t for name, t in state.items()}
    method = imported("coop", state, "--method", "coop")
    assert method.ctx.dtype == torch.float32 and torch.equal(method.ctx, ctx.float())
