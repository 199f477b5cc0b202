"""Checkpoints that Dassl's trainers have written: what is read of them, what is refused, and what is said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.dassl import checkpoint, save, texts, whole_model
from tests.training.material import Hooked, config, runtime
from tests.training.test_imported import Harmful
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.load import load_backbone
from vlmprompt.cli.main import main
from vlmprompt.config.models import RunConfig
from vlmprompt.data.images import read_image
from vlmprompt.data.load import load_dataset
from vlmprompt.errors import InputError, UsageError
from vlmprompt.methods.build import method_type
from vlmprompt.methods.foreign import ForeignState
from vlmprompt.training.dassl import newest_checkpoint
from vlmprompt.training.foreign import read_foreign
from vlmprompt.training.imported import import_run
from vlmprompt.training.recognised import recognise
from vlmprompt.training.runs import load_run

WIDTH = 64  # of the tiny text tower; its image tower has 96


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def coop(backbone: Backbone, *shape: int, classes: int = 4) -> dict[str, Tensor]:
    """What CoOp's code saves over the photos' classes."""
    return {"ctx": draw(*shape, WIDTH), **texts(backbone, classes, shape[-1])}


def maple_learner(depth: int) -> dict[str, Tensor]:
    """MaPLe's prompts, every tensor of its own value, in an order that sorting names as text would give."""
    maps = {"proj": depth} | {f"compound_prompt_projections.{i}": i for i in range(depth - 1)}
    state = {f"{name}.weight": torch.full((96, WIDTH), float(i)) for name, i in maps.items()}
    state |= {f"{name}.bias": torch.full((96,), float(i)) for name, i in maps.items()}
    state |= {f"compound_prompts_text.{i}": torch.full((2, WIDTH), float(i)) for i in range(depth - 1)}
    return dict(sorted((state | {"ctx": torch.full((2, WIDTH), float(depth))}).items()))


def src_learned(depth: int) -> dict[str, Tensor]:
    """PromptSRC's prompts, layer i of value i."""
    blocks = [f"{tower}_encoder.transformer.resblocks.{i}" for tower in ("text", "image") for i in range(1, depth)]
    widths = {"text": WIDTH, "imag": 96}
    deeper = {f"{b}.VPT_shallow": torch.full((4, widths[b[:4]]), float(b.rpartition(".")[2])) for b in blocks}
    return (
        dict(sorted(deeper.items()))
        | {"prompt_learner.ctx": torch.zeros(4, WIDTH)}
        | {"image_encoder.VPT": torch.zeros(4, 96)}
    )


def read(method: str, state: Mapping[str, Tensor]) -> ForeignState:
    return method_type(method).foreign_state(checkpoint(state))


def plain(photos: Path, method: str = "coop", **options: Any) -> RunConfig:
    """Options that were not given are not in it."""
    return config(photos, method=method).model_copy(update={"options": options})


# -- the file --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("new_format", [True, False])
def test_optimisers_and_schedules_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_format: bool
) -> None:
    """Its file asks for them by name; nothing of theirs is called, and torch's own list stays as it was."""
    path = tmp_path / "model.pth.tar-3"
    torch.save(checkpoint({"ctx": torch.ones(2)}), path, _use_new_zipfile_serialization=new_format)
    for cls in (torch.optim.SGD, torch.optim.lr_scheduler.CosineAnnealingLR):
        monkeypatch.setattr(cls, "__setstate__", lambda *_: pytest.fail("filled"), raising=False)
    before = set(torch.serialization.get_safe_globals())
    content = read_foreign(path)
    assert content["epoch"] == 3 and torch.equal(content["state_dict"]["ctx"], torch.ones(2))
    assert not isinstance(content["scheduler"]["successor"], torch.optim.lr_scheduler.LRScheduler)
    assert set(torch.serialization.get_safe_globals()) == before


def test_what_could_run_code_is_refused_within_a_schedule(tmp_path: Path) -> None:
    content = checkpoint({"ctx": torch.ones(2)})
    content["scheduler"]["successor"].extra = Harmful(tmp_path / "touched")
    torch.save(content, tmp_path / "model.pth.tar-3")
    with pytest.raises(InputError, match=r"asks for .*system: refused"):
        read_foreign(tmp_path / "model.pth.tar-3")
    assert not (tmp_path / "touched").exists()


def test_a_metric_of_numpy_is_skipped(tmp_path: Path) -> None:
    import numpy as np

    torch.save(checkpoint({"ctx": torch.ones(2)}) | {"val_result": np.float64(71.5)}, tmp_path / "best.pth.tar")
    assert torch.equal(read_foreign(tmp_path / "best.pth.tar")["state_dict"]["ctx"], torch.ones(2))


# -- the folder ------------------------------------------------------------------------------------------
def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_of_a_folder_the_last_epoch_is_taken(tmp_path: Path) -> None:
    touch(
        tmp_path, *(f"prompt_learner/model.pth.tar-{i}" for i in (5, 50, 100)), "log.txt", "prompt_learner/checkpoint"
    )
    touch(tmp_path, "prompt_learner/model-best.pth.tar", "prompt_learner/model.pth.tar-100.part")
    progress = Hooked()
    assert newest_checkpoint(tmp_path, progress).name == "model.pth.tar-100"
    (said,) = progress.messages
    assert said.endswith("beside it: model-best.pth.tar, model.pth.tar-5, model.pth.tar-50")
    for file in (tmp_path / "prompt_learner").glob("model.pth.tar-*"):
        file.unlink()
    assert newest_checkpoint(tmp_path, progress).name == "model-best.pth.tar"


def test_folders_of_none_and_of_several_runs(tmp_path: Path) -> None:
    touch(tmp_path, "log.txt", "model.txt")
    with pytest.raises(InputError, match=r"neither model\.pth\.tar-<epoch> nor model-best"):
        newest_checkpoint(tmp_path, Hooked())
    touch(tmp_path, *(f"seed{i}/prompt_learner/model.pth.tar-50" for i in range(7)))
    with pytest.raises(InputError, match=r"of 7 runs: .*seed0.*seed4/prompt_learner, \.\.\.$"):
        newest_checkpoint(tmp_path, Hooked())


# -- the method ------------------------------------------------------------------------------------------
def test_recognised_where_the_tensors_tell(tiny_backbone: Backbone) -> None:
    one, many = texts(tiny_backbone, 4, 4), texts(tiny_backbone, 8, 4)
    maps = {f"meta_net.linear{i}.{kind}": torch.ones(2) for i in (1, 2) for kind in ("weight", "bias")}
    frozen = {"prompt_learner.ZS_image_encoder.proj": torch.ones(2, 2)}
    states = {
        "cocoop": {"ctx": draw(4, WIDTH), **maps, **one},
        "gallop": {"global_prompt": draw(4, 4, WIDTH), "local_prompts": draw(4, 4, WIDTH)},
        "kgcoop": {"ctx": draw(4, WIDTH), "bias_vectors": torch.ones(1, 512), **one},
        "maple": whole_model({}, maple_learner(3)),
        "plot": {"ctx": draw(2, 4, WIDTH), **many},
        "promptsrc": src_learned(3) | frozen,
        "vpt": {"image_encoder.VPT": draw(8, 96)},
    }
    assert {name: recognise(checkpoint(state), "x") for name, state in states.items()} == {n: n for n in states}


@pytest.mark.parametrize(
    ("state", "methods"),
    [
        ({"ctx": draw(4, WIDTH)}, "coop, kgcoop, locoop"),
        ({"ctx": draw(4, 4, WIDTH)}, "coop, locoop, plot"),
        ({"ctx": draw(4, 4, WIDTH), "token_prefix": draw(4, 1, WIDTH)}, "coop, locoop"),
        (src_learned(3), "ivlp, promptsrc"),
    ],
)
def test_asked_for_where_they_do_not(state: dict[str, Tensor], methods: str) -> None:
    with pytest.raises(UsageError, match=rf"checkpoint x may be of {methods}, which save the same tensors"):
        recognise(checkpoint(state), "x")


def test_of_no_known_method() -> None:
    with pytest.raises(InputError, match="those of no method that is known here"):
        recognise(checkpoint({"fc.weight": torch.ones(2, 2)}), "x")


# -- the tensors -----------------------------------------------------------------------------------------
def test_layers_stand_in_the_order_of_their_numbers() -> None:
    """Twelve of them: as text, 10 comes before 2."""
    maple = read("maple", whole_model({}, maple_learner(12)))
    layers = [12.0, *range(11)]
    assert maple.options == {"n_ctx": 2, "depth": 12}
    assert maple.state["text_prompts"][:, 0, 0].tolist() == layers
    assert [float(maple.state[f"projections.{i}.bias"][0]) for i in range(12)] == layers
    src = read("promptsrc", src_learned(12))
    assert src.options == {"depth_text": 12, "n_ctx_text": 4, "depth_vision": 12, "n_ctx_vision": 4}
    assert src.state["text_prompts"][:, 0, 0].tolist() == src.state["visual_prompts"][:, 0, 0].tolist() == [*range(12)]


def test_text_prompts_alone() -> None:
    text = {name: t for name, t in src_learned(3).items() if not name.startswith("image_encoder")}
    assert read("ivlp", text).options == {"depth_text": 3, "n_ctx_text": 4, "depth_vision": 0}


@pytest.mark.parametrize(
    ("method", "missing"),
    [("maple", "prompt_learner.proj.bias"), ("promptsrc", "text_encoder.transformer.resblocks.1.VPT_shallow")],
)
def test_a_missing_tensor_is_named(method: str, missing: str) -> None:
    state = whole_model({}, maple_learner(3)) if method == "maple" else src_learned(3)
    del state[missing]
    with pytest.raises(InputError, match=rf"code saves a tensor '{missing.removeprefix('prompt_learner.')}'"):
        read(method, state)


@pytest.mark.parametrize(
    ("method", "state", "reason"),
    [
        ("coop", {"ctx": draw(WIDTH)}, r"'ctx' of the checkpoint has shape \(64,\); that of CoOp's code has 2 or 3"),
        ("kgcoop", {"ctx": draw(4, 4, WIDTH)}, r"has shape \(4, 4, 64\); that of KgCoOp's code has 2 dimensions"),
        ("coop", {"ctx": torch.ones(4, WIDTH, dtype=torch.int64)}, "'ctx' of the checkpoint holds torch.int64"),
        ("coop", {"ctx": draw(2, 4, WIDTH), "token_prefix": draw(8, 1, WIDTH)}, "2 contexts and 8 texts"),
        ("plot", {"ctx": draw(3, 4, WIDTH), "token_prefix": draw(8, 1, WIDTH)}, "3 contexts and 8 texts"),
        ("coop", {"ctx": draw(4, WIDTH), "bias_vectors": draw(1, 512)}, "'bias_vectors', which CoOp's code does not"),
        ("ivlp", src_learned(3) | {"prompt_learner.ctx": draw(2, WIDTH)}, "different shapes in different layers"),
    ],
)
def test_tensors_that_are_not_the_codes(method: str, state: dict[str, Tensor], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read(method, state)


def test_a_value_that_is_no_tensor() -> None:
    with pytest.raises(InputError, match="tensor 'ctx' of the checkpoint is a list"):
        method_type("coop").foreign_state({"state_dict": {"ctx": [1.0]}})


# -- the run ---------------------------------------------------------------------------------------------
def test_shapes_decide_what_nobody_chose(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    file = save(tmp_path / "model.pth.tar-50", coop(tiny_backbone, 4, 3))
    where = runtime(tmp_path / "runs")
    method = load_run(import_run(plain(photos), file, where, backbone=tiny_backbone)).build_method(tiny_backbone)
    assert (method.config.n_ctx, method.config.class_specific) == (3, True)
    with pytest.raises(
        InputError, match=r"'ctx' has shape \(4, 3, 64\) in the checkpoint, \(4, 16, 64\) here"
    ) as error:
        import_run(plain(photos, n_ctx=16), file, where, out=tmp_path / "x", backbone=tiny_backbone)
    assert "decide n_ctx, ctx_init, class_specific, which may be left out" in str(error.value.hint)


def test_a_shipped_setting_is_nobodys_choice(
    photos: Path, tiny_spec: None, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CoOp's setting for new classes has four tokens from words; the checkpoint has three."""
    backbone = load_backbone("tiny-vit")
    file = save(tmp_path / "model.pth.tar-50", coop(backbone, 3, classes=2))
    data = ["--data", f"folder:{photos}", "--backbone", "tiny-vit", "--device", "cpu", "--setting", "base-to-new"]
    command = ["import", str(file), *data, "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert "may be of coop, kgcoop, locoop" in capsys.readouterr().err
    monkeypatch.setenv("VLMPROMPT_METHOD", "coop")
    assert main(command) == 0
    assert "warning" not in capsys.readouterr().err
    run = load_run(tmp_path / "run")
    assert run.config.options["n_ctx"] == 3 and run.info.sources["options.n_ctx"] == "checkpoint"


def test_other_numbers_of_classes(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    where, progress = runtime(tmp_path / "runs"), Hooked()
    own = save(tmp_path / "own", coop(tiny_backbone, 2, 3, classes=2))
    with pytest.raises(InputError, match=r"trained on 2 classes, this run has 4 .* class-specific") as error:
        import_run(plain(photos), own, where, backbone=tiny_backbone)
    assert "--setting base-to-new" in str(error.value.hint)
    shared = save(tmp_path / "shared", coop(tiny_backbone, 3, classes=2))
    import_run(plain(photos), shared, where, progress=progress, backbone=tiny_backbone)
    assert "trained on 2 classes, this run has 4" in progress.warnings[0]


def test_other_towers(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    """Of the same width, which no shape tells, and of another."""
    where = runtime(tmp_path / "runs")
    states = {
        "its text tower is another one$": coop(tiny_backbone, 3) | {"token_prefix": draw(4, 1, WIDTH)},
        "another one, of width 512 in place of 64": {"ctx": draw(3, 512), "token_prefix": draw(4, 1, 512)},
    }
    for reason, state in states.items():
        file = save(tmp_path / "model.pth.tar-50", state)
        with pytest.raises(InputError, match=rf"other towers than 'tiny-vit': .*{reason}") as error:
            import_run(plain(photos), file, where, backbone=tiny_backbone)
        assert "--backbone" in str(error.value.hint)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").glob("*/run.json"))


def test_a_runs_own_checkpoint(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    file = save(tmp_path / "model.pth.tar-50", coop(tiny_backbone, 3))
    run = import_run(plain(photos), file, runtime(tmp_path / "runs"), backbone=tiny_backbone)
    with pytest.raises(InputError, match="is the checkpoint of a run of this program"):
        read_foreign(run / "checkpoint.safetensors")


# -- from the command to a table -------------------------------------------------------------------------
def drawn(folder: Path, classes: int, images: int) -> Path:
    """A few drawings of the built-in world as class folders."""
    data = load_dataset("doodles-food")
    for split in ("train", "test"):
        for label, name in enumerate(data.class_names[:classes]):
            (folder / split / name).mkdir(parents=True)
            for i, record in enumerate([r for r in data.split(split) if r.label == label][:images]):
                read_image(record).save(folder / split / name / f"{i}.png")
    return folder


def test_imported_and_evaluated_on_drawings(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dassl's folder; its method and its options are known by its tensors."""
    monkeypatch.chdir(tmp_path)
    backbone = load_backbone("doodle-clip")
    state = {"ctx": 0.02 * draw(2, 4, backbone.text.width), **texts(backbone, 8, 4)}
    save(tmp_path / "output/prompt_learner/model.pth.tar-50", state, epoch=50)
    drawn(tmp_path / "food", classes=4, images=2)
    towers = ["--backbone", "doodle-clip", "--device", "cpu", "--workers", "0"]
    assert main(["import", "output", "--data", "folder:food", "--out", "run", *towers]) == 0
    assert "are those of plot" in capsys.readouterr().err
    assert main(["evaluate", "run", "--suite", "accuracy", "--no-reference", "--json", *towers[2:]]) == 0
    rows = json.loads(capsys.readouterr().out)["data"]["rows"]
    assert {(row["method"], row["dataset"], row["status"], row["n"]) for row in rows} == {("plot", "food", "ok", 8)}
