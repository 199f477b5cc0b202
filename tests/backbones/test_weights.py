"""Weights as people have them: each kind of file loads as what it is, or is refused as what it is."""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.backbones import hf_models
from tests.tiny_architectures import TINY_CONFIG
from vlmprompt.backbones.load import load_backbone
from vlmprompt.backbones.openclip.fit import fill
from vlmprompt.backbones.weights.archive import ArchiveError, read_archive
from vlmprompt.backbones.weights.file import Weights, read_weights
from vlmprompt.backbones.weights.folder import HF_CONFIG, HF_IMAGES, open_clip_config
from vlmprompt.errors import CapabilityError, InputError, UsageError

# The first four numbers of each feature, as transformers 5.24.0 computes them of `hf_models` with these token ids.
CLIP_IDS = [[49406, 320, 2368, 49407] + [0] * 73, [49406, 320, 1125, 539, 320, 1929, 49407] + [0] * 70]
CLIP_TEXT = [[0.96159029, 0.71272063, 0.43932319, 0.15080738], [1.02459514, 0.77835244, 0.50532359, 0.21490461]]
CLIP_IMAGE = [[0.57925165, 0.61849022, 0.65703857, 0.69485378], [0.59067589, 0.63027692, 0.66917479, 0.7073257]]
SIGLIP_IDS = [[5, 17, 200, 1] + [1] * 12, [300] * 15 + [1]]
SIGLIP_TEXT = [[0.23154801, -0.23292311, -0.24753816, 0.19337745], [0.22679412, -0.25917143, -0.25236171, 0.21786521]]
SIGLIP_IMAGE = [[1.12152171, -1.14407289, 1.39404202, -1.46133125], [1.10201573, -1.13828993, 1.40332389, -1.48641491]]
TEXTS = ["a cat", "a photo of two dogs."]


@cache
def tiny_model(quick_gelu: bool = True) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = open_clip.model.CLIP(**TINY_CONFIG, quick_gelu=quick_gelu)
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape)
    return model.eval().requires_grad_(False)


def script(model: nn.Module, path: Path) -> Path:
    """A TorchScript archive of a model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that TorchScript has had its day
        torch.jit.save(torch.jit.script(model), path)
    return path


@pytest.fixture(scope="module")
def openai_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As OpenAI's: a TorchScript archive with most tensors in fp16, and three numbers among its buffers."""
    model = deepcopy(tiny_model())
    for part in model.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            part.half()
    for name, value in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 49408)):
        vars(model).pop(name, None)
        model.register_buffer(name, torch.tensor(value))
    return script(model, tmp_path_factory.mktemp("openai") / "ViT-B-16.pt")


def agrees(spec: str, model: Any, **options: Any) -> None:
    """Whether a loaded backbone gives the features of the module that the file was made of."""
    backbone = load_backbone(spec, **options)
    images = hf_models.images()
    with torch.no_grad():
        texts = model.encode_text(open_clip.tokenize(TEXTS))
        assert (backbone.text.encode_sentences(TEXTS) - texts).abs().max() <= 1e-5
        assert (backbone.encode_image(images).global_Bd - model.encode_image(images)).abs().max() <= 1e-5


# -- TorchScript archives ---------------------------------------------------------------------------------------------
def test_openai_archive_gives_the_features_of_its_module(tiny_architecture: str, openai_archive: Path) -> None:
    halved = deepcopy(tiny_model())
    for part in halved.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            part.half().float()
    agrees(f"{tiny_architecture}-quickgelu/{openai_archive}", halved)
    agrees(f"{tiny_architecture}/{openai_archive}", halved, quick_gelu=True)
    assert read_weights(openai_archive).kind == "OpenAI's own archive of CLIP"


def test_its_activation_is_known(tiny_architecture: str, openai_archive: Path, tmp_path: Path) -> None:
    wrong = r"OpenAI's own archive.* was trained with QuickGELU, 'tiny-x' is built without it: every number"
    for said in (False, None):
        with pytest.raises(InputError, match=wrong) as error:
            load_backbone(f"tiny-x/{openai_archive}", quick_gelu=said)
        assert error.value.hint == f"use --backbone tiny-x-quickgelu/{openai_archive}"
    plain = script(tiny_model(quick_gelu=False), tmp_path / "plain.pt")
    agrees(f"tiny-x/{plain}", tiny_model(quick_gelu=False))
    with pytest.raises(InputError, match="was trained without QuickGELU, 'tiny-x-quickgelu' is built with it") as error:
        load_backbone(f"tiny-x-quickgelu/{plain}")
    assert error.value.hint == f"use --backbone tiny-x/{plain}"


def test_buffers_are_read_as_well(tmp_path: Path) -> None:
    """A ResNet's statistics, whose counts are whole numbers."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model(torch.arange(24.0).reshape(2, 3, 2, 2))
    tensors, classes = read_archive(script(model, tmp_path / "norm.pt"))
    assert tensors.keys() == model.state_dict().keys() and "BatchNorm2d" in classes
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())


def test_the_code_of_an_archive_is_not_read(openai_archive: Path, tmp_path: Path) -> None:
    """With its code overwritten an archive cannot be run any more, and gives the same tensors."""
    other = tmp_path / "other.pt"
    with zipfile.ZipFile(openai_archive) as source, zipfile.ZipFile(other, "w") as target:
        for info in source.infolist():
            target.writestr(info, b"not a program" if "/code/" in info.filename else source.read(info))
    before, after = read_weights(openai_archive).tensors, read_weights(other).tensors
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


class Wrapper(nn.Module):
    """As a training script has it around its model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode_image(images)


def test_an_archive_of_a_wrapped_model(tiny_architecture: str, tmp_path: Path) -> None:
    agrees(f"tiny-x-quickgelu/{script(Wrapper(deepcopy(tiny_model())), tmp_path / 'wrapped.pt')}", tiny_model())


def test_script_of_something_else(tiny_architecture: str, tmp_path: Path) -> None:
    path = script(nn.Sequential(nn.Linear(3, 4)), tmp_path / "linear.pt")
    with pytest.raises(
        InputError, match="is no CLIP: it holds a TorchScript program of a model of a kind unknown here"
    ):
        load_backbone(f"{tiny_architecture}/{path}", quick_gelu=True)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("touched"),)


def archive_of(content: bytes, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/constants.pkl", pickle.dumps(()))
    return path


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps(_Evil(), protocol=2), "asks for"),
        (pickle.dumps(_Evil(), protocol=4), "STACK_GLOBAL|FRAME"),
        (b"cposix\nsystem\n(S'true'\ntR.", "pickle instruction STRING"),
        (b"\x80\x02r\xff\xff\xff\x7f.", "damaged"),
        (b"\x80\x02", "damaged"),
        (b"", "damaged"),
        (b"\x80\x02c__torch__\nM\n)\x81q\x00}q\x01X\x01\x00\x00\x00ah\x00sb.", "damaged"),
        (b"\x80\x02c__torch__\nM\n)\x81K\x01b.", "a state of its own"),
        (b"\x80\x02K\x01Q.", "storages of an unknown kind"),
    ],
    ids=["global", "protocol 4", "old", "memory", "cut", "empty", "its own child", "state", "storage"],
)
def test_archives_made_to_harm(content: bytes, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = archive_of(content, tmp_path / "evil.pt")
    with pytest.raises(ArchiveError, match=reason):
        read_archive(path)
    with pytest.raises(InputError, match="a TorchScript program that"):
        read_weights(path)
    assert not Path("touched").exists()


@pytest.mark.parametrize("size", ["(K\x64t", "(J\xff\xff\xff\xfft"], ids=["beyond", "negative"])
def test_tensors_beyond_their_storage(size: str, tmp_path: Path) -> None:
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ"
    shape = size.encode("latin-1")
    content = b"\x80\x02c__torch__\nM\n)\x81}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n("
    content += storage + b"K\x00" + shape + b"(K\x01t\x89ccollections\nOrderedDict\n)RtRsb."
    path = archive_of(content, tmp_path / "beyond.pt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/0", bytes(8))
    with pytest.raises(ArchiveError, match="damaged"):
        read_archive(path)


# -- files of other code ----------------------------------------------------------------------------------------------
def bytes_of(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"epoch": 3, "name": "run", "state_dict": state, "optimizer": {"state": {}, "param_groups": []}},
        lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 1},
        lambda state: {"model": {f"_orig_mod.{name}": tensor for name, tensor in state.items()}},
        lambda state: {"state_dict": {f"model.module.{name}": tensor for name, tensor in state.items()}},
        lambda state: {
            "state_dict": state,
            "args": Path("logs"),
            "seen": defaultdict(int, a=1),
            "at": date(2024, 1, 2),
        },
        lambda state: {f"module.{name}": tensor.half() for name, tensor in state.items()},
    ],
    ids=["plain", "training run", "module", "compiled", "lightning", "paths and dates", "half"],
)
def test_checkpoints_of_training_runs(
    wrap: Callable[[dict[str, Tensor]], Any], tiny_architecture: str, tmp_path: Path
) -> None:
    model = tiny_model()
    path = tmp_path / "epoch_3.pt"
    path.write_bytes(bytes_of(wrap(model.state_dict())))
    backbone = load_backbone(f"{tiny_architecture}/{path}", quick_gelu=True)
    with torch.no_grad():
        far = backbone.text.encode_sentences(TEXTS) - model.encode_text(open_clip.tokenize(TEXTS))
    assert far.abs().max() <= (1e-2 if "half" in str(wrap) else 5e-3)
    assert {p.dtype for p in backbone._model.parameters()} == {torch.float32}


def test_loading_a_file_leaves_the_global_generator_alone(tiny_architecture: str, tmp_path: Path) -> None:
    save_file(tiny_model().state_dict(), tmp_path / "x.safetensors")
    before = torch.random.get_rng_state()
    load_backbone(f"tiny-x-quickgelu/{tmp_path / 'x.safetensors'}")
    assert torch.equal(before, torch.random.get_rng_state())


def of_names(*names: str) -> dict[str, Tensor]:
    return {name: torch.zeros(2) for name in names}


@pytest.mark.parametrize(
    ("tensors", "kind", "hint"),
    [
        (
            of_names("base_model.model.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight"),
            "an adapter",
            "merge",
        ),
        (of_names("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"), "an adapter", "merge"),
        (of_names("prompt_learner.ctx", "prompt_learner.token_prefix"), "prompt-learning method", "vlmprompt import"),
        (of_names("ctx", "optimizer/ctx/momentum_buffer"), "the state of an optimiser", "the backbone's own file"),
        (of_names("text_model.embeddings.token_embedding.weight"), "the text encoder of a CLIP without", None),
        (of_names("vision_model.embeddings.class_embedding"), "the image tower of a CLIP without", None),
        (of_names("visual.conv1.weight"), "the image tower of a CLIP without", None),
        (of_names("bert.embeddings.word_embeddings.weight"), "a language model", None),
        (of_names("model.layers.0.self_attn.q_proj.weight", "lm_head.weight"), "a large language model", None),
        (of_names("down_blocks.0.attentions.0.proj_in.weight"), "a generator of images", None),
        (of_names("patch_embed.proj.weight", "blocks.0.norm1.weight", "head.weight"), "a ViT for images alone", None),
        (of_names("conv1.weight", "layer1.0.conv1.weight", "fc.weight"), "a ResNet for images alone", None),
        (of_names("visual_encoder.a", "text_encoder.b"), "BLIP", None),
        (of_names("a", "b", "c", "d"), r"a kind unknown here \(its tensors are called a, b, c, ...\)", None),
        ({}, "a table without tensors", None),
    ],
)
def test_other_models_are_refused_as_what_they_are(
    tensors: dict[str, Tensor], kind: str, hint: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "file.safetensors"
    save_file(tensors, path)
    with pytest.raises(InputError, match=rf"file.safetensors is no CLIP: it holds .*{kind}") as error:
        load_backbone(f"ViT-B-32/{path}", quick_gelu=False)
    assert hint is None or hint in str(error.value.hint)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0", "an ONNX model"),
        (b"GGUF\x03\x00\x00\x00", "a GGUF file"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a JPEG image"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"", "empty"),
        (b"PK\x03\x04 half", "not whole"),
        (b"just words", "text"),
        (bytes_of([1, 2]), "holds a list, not a table"),
        (bytes_of({"epoch": 3}), r"a table without tensors of a model \(it holds epoch\)"),
        (bytes_of(np.float64(1.0)), "holds a scalar, not a table of tensors"),
        (bytes_of(nn.ReLU()), r"asks for torch\.nn\.modules\.activation\.ReLU: refused, as it could run code"),
        (
            bytes_of(nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Tanh())),
            r"asks for [\w.]+, [\w.]+, [\w.]+ and 1 more:",
        ),
    ],
)
def test_files_of_other_kinds_are_refused_as_what_they_are(content: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=kind) as error:
        load_backbone(f"ViT-B-32/{path}", quick_gelu=False)
    assert "weights.pt" in str(error.value) and "network" not in error.value.told


def test_a_zip_archive_of_something_else(tiny_architecture: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match=r"a zip archive, but none of torch\.save"):
        load_backbone(f"ViT-B-32/{tmp_path / 'photos.zip'}", quick_gelu=False)
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(InputError, match="NumPy arrays, but not those of big_vision's SigLIP for 'tiny-x'"):
        load_backbone(f"tiny-x/{tmp_path / 'x.npz'}")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda t: torch.where(t == t.max(), torch.nan, t), "visual.proj holds infinities or no numbers"),
        (lambda t: t / 0, "visual.proj holds infinities or no numbers"),
        (lambda t: t.to(torch.int8), "visual.proj is kept as int8, not as floating-point numbers"),
        (lambda t: t.to(torch.complex64), "visual.proj is kept as complex64"),
    ],
    ids=["nan", "infinity", "quantised", "complex"],
)
def test_tensors_that_make_no_numbers(
    change: Callable[[Tensor], Tensor], cause: str, tiny_architecture: str, tmp_path: Path
) -> None:
    state = tiny_model().state_dict()
    save_file(state | {"visual.proj": change(state["visual.proj"])}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=rf"x\.safetensors \(open_clip's CLIP\) cannot be used: {cause}"):
        load_backbone(f"tiny-x-quickgelu/{tmp_path / 'x.safetensors'}")


def test_another_architecture_is_named(tiny_architecture: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(tiny_model().state_dict(), path)
    with pytest.raises(InputError, match="is not of architecture 'other-x'") as error:
        load_backbone(f"other-x/{path}")
    assert error.value.hint == f"its shapes are those of tiny-x or tiny-x-quickgelu: --backbone tiny-x/{path}"
    state = tiny_model().state_dict()
    del state["ln_final.bias"]
    state["visual.extra"] = torch.zeros(1)
    save_file(state, path)
    expected = r"1 tensor\(s\) missing \(ln_final.bias\), 1 tensor\(s\) that it does not have \(visual.extra\)"
    with pytest.raises(InputError, match=expected):
        load_backbone(f"tiny-x-quickgelu/{path}")


def test_a_path_without_an_architecture_is_told_it(
    tiny_architecture: str, openai_archive: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "x.safetensors"
    save_file(tiny_model().state_dict(), plain)
    quick = f"tiny-x-quickgelu/{openai_archive}"
    for path, forms in ((openai_archive, quick), (plain, f"tiny-x/{plain} or tiny-x-quickgelu/{plain}")):
        with pytest.raises(UsageError, match="is a path without an architecture") as error:
            load_backbone(str(path))
        assert error.value.hint == f"by its shapes use --backbone {forms}"


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        ("openai/clip-vit-base-patch16", "a name of the Hugging Face hub", "use --backbone ViT-B-16-quickgelu/openai"),
        ("openai/clip-vit-large-patch14-336", "hub", "use --backbone ViT-L-14-336-quickgelu/openai"),
        ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "hub", "use --backbone ViT-B-32/laion2b_s34b_b79k"),
        ("google/siglip2-base-patch16-224", "hub", "use --backbone ViT-B-16-SigLIP2/webli"),
        ("google/siglip-so400m-patch14-384", "hub", "use --backbone ViT-SO400M-14-SigLIP-384/webli"),
        ("https://huggingface.co/a/b", "not a backbone of open_clip", "use --backbone hf-hub:a/b"),
        ("ViT-B/16", "not a backbone of open_clip", "use --backbone ViT-B-16-quickgelu/openai"),
        ("ViT-L/14@336px", "not a backbone of open_clip", "use --backbone ViT-L-14-336-quickgelu/openai"),
        (
            "facebook/metaclip-b32-400m",
            "unknown architecture 'facebook'",
            "--backbone hf-hub:facebook/metaclip-b32-400m",
        ),
        ("ViT-B-61/openai", "unknown architecture 'ViT-B-61'", "did you mean 'ViT-B-16'"),
        ("nowhere/x.pt", "is a path without an architecture", "there is no such file"),
        ("./nowhere", "is a path without an architecture", "there is no such file"),
        ("ViT-B-32/nowhere/x.pt", "there is no file nowhere/x.pt", "check the path"),
        ("ViT-S-32/openai", "neither a file nor a pretrained tag", "give a file: ViT-S-32/FILE"),
    ],
)
def test_names_from_elsewhere(spec: str, message: str, hint: str) -> None:
    with pytest.raises((UsageError, InputError), match=message) as error:
        load_backbone(spec)
    assert hint in str(error.value.hint)
    assert f"--backbone {spec}" not in str(error.value.hint)


# -- Hugging Face -----------------------------------------------------------------------------------------------------
@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "clip"
    folder.mkdir()
    save_file(hf_models.clip_state(), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(hf_models.CLIP_CONFIG))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3]}))
    return folder


def test_hugging_face_clip_by_its_folder(clip_folder: Path) -> None:
    backbone = load_backbone(f"local-dir:{clip_folder}")
    with torch.no_grad():
        text = backbone._model.encode_text(torch.tensor(CLIP_IDS))
        image = backbone.encode_image(hf_models.images()).global_Bd
    assert (text[:, :4] - torch.tensor(CLIP_TEXT)).abs().max() <= 1e-5
    assert (image[:, :4] - torch.tensor(CLIP_IMAGE)).abs().max() <= 1e-5
    assert backbone.preprocess.mean == (0.1, 0.2, 0.3) and backbone.preprocess.size == 32
    assert backbone.scale == pytest.approx(hf_models.clip_state()["logit_scale"].exp().item())


def test_a_flag_that_contradicts_a_folder_is_refused(clip_folder: Path) -> None:
    load_backbone(f"local-dir:{clip_folder}", quick_gelu=False)
    with pytest.raises(InputError, match="is described as a model without QuickGELU") as error:
        load_backbone(f"local-dir:{clip_folder}", quick_gelu=True)
    assert error.value.hint == "leave that flag out"


VISION = hf_models.CLIP_CONFIG["vision_config"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (HF_CONFIG, {"text_config": None}, r"config\.json cannot be used: text_config: Input should be"),
        (
            "config.json",
            {"vision_config": VISION | {"hidden_size": "wide"}},
            r"vision_config\.hidden_size: Input should",
        ),
        (
            "config.json",
            {"vision_config": VISION | {"num_attention_heads": 0}},
            "num_attention_heads: .* greater than 0",
        ),
        (
            "config.json",
            {"vision_config": VISION | {"num_attention_heads": 5}},
            "5 heads do not divide a hidden_size of",
        ),
        (
            "config.json",
            {"vision_config": VISION | {"hidden_act": "silu"}},
            "has the activation gelu and silu; open_clip",
        ),
        (
            "config.json",
            {"vision_config": VISION | {"hidden_size": 96}},
            r"is not the model that local-dir:\S+ describes",
        ),
        (
            "preprocessor_config.json",
            {"image_std": [0, 0, 0]},
            r"preprocessor_config\.json cannot be used: image_std\.0",
        ),
        (HF_IMAGES, {"image_mean": 0.5}, "image_mean: Input should be a valid tuple"),
    ],
)
def test_descriptions_that_cannot_be_used(file: str, content: dict[str, Any], message: str, clip_folder: Path) -> None:
    base = hf_models.CLIP_CONFIG if file == HF_CONFIG else {}
    (clip_folder / file).write_text(json.dumps(base | content))
    with pytest.raises((InputError, CapabilityError), match=message):
        load_backbone(f"local-dir:{clip_folder}")


def test_a_description_may_leave_out_what_transformers_has_a_default_for(clip_folder: Path) -> None:
    (clip_folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": None}))
    assert load_backbone(f"local-dir:{clip_folder}").preprocess.mean == open_clip.OPENAI_DATASET_MEAN
    config = open_clip_config({"text_config": {}, "vision_config": {}}, "here")
    assert (config["embed_dim"], config["quick_gelu"]) == (512, True)
    assert config["vision_cfg"]["head_width"] == 64 and config["text_cfg"]["heads"] == 8


@pytest.mark.parametrize("stem", ["model.safetensors", "pytorch_model.bin"])
def test_weights_in_several_files_are_refused_as_such(stem: str, clip_folder: Path) -> None:
    part = (clip_folder / "model.safetensors").rename(clip_folder / stem.replace(".", "-00001-of-00002.", 1))
    (clip_folder / f"{stem}.index.json").write_text("{}")
    with pytest.raises(InputError, match=rf"in several files, as {stem}\.index\.json says") as error:
        load_backbone(f"local-dir:{clip_folder}")
    assert part.exists() and "save_pretrained" in str(error.value.hint)


def test_a_folder_of_open_clip_that_describes_no_model(tmp_path: Path) -> None:
    save_file(tiny_model().state_dict(), tmp_path / "open_clip_model.safetensors")
    for said, message in (
        ({"model_cfg": {"embed_dim": 32}}, r"cannot load the description of local-dir:\S+: it has no '\w+_cfg'"),
        ({"model_cfg": TINY_CONFIG | {"colour": 1}}, "cannot load the description of .*'colour'"),
        ({"model_cfg": TINY_CONFIG, "preprocess_cfg": {"std": [1, 1]}}, r"open_clip_config\.json cannot be used: std"),
    ):
        (tmp_path / "open_clip_config.json").write_text(json.dumps(said))
        with pytest.raises(InputError, match=message):
            load_backbone(f"local-dir:{tmp_path}")


def test_hugging_face_clip_as_a_file_of_an_architecture(
    clip_folder: Path, tiny_architecture: str, tmp_path: Path
) -> None:
    """The activation is read where config.json lies beside it, and asked for otherwise."""
    file = clip_folder / "model.safetensors"
    with pytest.raises(InputError, match=r"\(a Hugging Face CLIPModel\) is not of architecture 'tiny-x'"):
        load_backbone(f"tiny-x/{file}")
    with pytest.raises(InputError, match="was trained without QuickGELU"):
        load_backbone(f"tiny-x-quickgelu/{file}")
    (clip_folder / "config.json").unlink()
    with pytest.raises(UsageError, match="with or without QuickGELU"):
        load_backbone(f"tiny-x/{file}")


def test_hugging_face_siglip_gives_the_features_of_transformers(tmp_path: Path) -> None:
    text, vision = hf_models.SIGLIP_CONFIG["text_config"], hf_models.SIGLIP_CONFIG["vision_config"]
    save_file(hf_models.siglip_state(), tmp_path / "model.safetensors")
    weights = read_weights(tmp_path / "model.safetensors")
    assert weights.kind == "a Hugging Face SiglipModel"
    published = open_clip.get_model_config("ViT-B-16-SigLIP")["text_cfg"]
    small = {"context_length": 16, "vocab_size": 400, "width": 48, "heads": 3, "layers": 2, "mlp_ratio": 2.0}
    model = open_clip.model.CustomTextCLIP(
        embed_dim=64,
        vision_cfg=TINY_CONFIG["vision_cfg"],
        text_cfg=published | small,
        init_logit_bias=-10.0,
    ).eval()
    model.visual = nn.Module()
    model.visual.trunk = timm.models.VisionTransformer(
        img_size=vision["image_size"],
        patch_size=16,
        embed_dim=64,
        depth=2,
        num_heads=4,
        mlp_ratio=1.5,
        class_token=False,
        global_pool="map",
        num_classes=0,
        act_layer=lambda: nn.GELU(approximate="tanh"),
    ).eval()
    assert text["projection_size"] == 64
    fill(model, weights, "small")
    with torch.no_grad():
        assert (model.text(torch.tensor(SIGLIP_IDS))[:, :4] - torch.tensor(SIGLIP_TEXT)).abs().max() <= 1e-5
        assert (model.visual.trunk(hf_models.images())[:, :4] - torch.tensor(SIGLIP_IMAGE)).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model_type": "blip-2", "architectures": ["Blip2Model"]}, CapabilityError, "a Blip2Model of Hugging Face"),
        ({"vision_config": {**hf_models.CLIP_CONFIG["vision_config"], "hidden_act": "relu"}}, CapabilityError, "relu"),
        ({"text_config": {**hf_models.CLIP_CONFIG["text_config"], "vocab_size": 7}}, CapabilityError, "of its own"),
        ({"projection_dim": 25}, InputError, "24x64|64x24"),
    ],
)
def test_folders_of_other_models(
    change: dict[str, Any], error: type[Exception], message: str, clip_folder: Path
) -> None:
    (clip_folder / "config.json").write_text(json.dumps(hf_models.CLIP_CONFIG | change))
    with pytest.raises(error, match=message):
        load_backbone(f"local-dir:{clip_folder}")


def test_open_clip_folder(tmp_path: Path) -> None:
    model = tiny_model()
    config = {"model_cfg": TINY_CONFIG | {"quick_gelu": True}, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="holds no file of weights"):
        load_backbone(f"local-dir:{tmp_path}")
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    agrees(f"local-dir:{tmp_path}", model)
    assert load_backbone(f"local-dir:{tmp_path}").preprocess.std == (0.25, 0.25, 0.25)


def test_folders_that_say_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not say what model it holds.*\(it holds nothing\)"):
        load_backbone(f"local-dir:{tmp_path}")
    with pytest.raises(InputError, match="is not there"):
        load_backbone(f"local-dir:{tmp_path / 'x'}")
    with pytest.raises(InputError, match="is a folder") as error:
        load_backbone(f"ViT-B-32/{tmp_path}", quick_gelu=False)
    assert f"local-dir:{tmp_path}" in str(error.value.hint)
    with pytest.raises(UsageError, match="is a path without an architecture") as usage:
        load_backbone(str(tmp_path))
    assert f"local-dir:{tmp_path}" in str(usage.value.hint)


def test_published_transform_goes_with_a_file(tiny_architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An architecture whose published weights all want one transform has it with a file, too."""
    assert Weights(Path("x"), "kind", {}).quick_gelu is None
    from vlmprompt.backbones.openclip import pretrained

    monkeypatch.setattr(pretrained.open_clip, "list_pretrained_tags_by_model", lambda name: ["webli"])
    said = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash", "interpolation": "bicubic"}
    monkeypatch.setattr(pretrained.open_clip, "get_pretrained_cfg", lambda name, tag: said)
    model: Any = pretrained._built(tiny_architecture, False)
    assert {key: model.visual.preprocess_cfg[key] for key in said} == said
