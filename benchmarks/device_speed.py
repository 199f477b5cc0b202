"""How fast a device is used: whole steps beside its matmul rate, reading beside computing, evaluating beside a loop."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks import bloom_step, gallop_step
from benchmarks.arithmetic import Tower, needed_text
from benchmarks.device_sizes import Setting
from benchmarks.frame import Mark, Row
from benchmarks.names import SHORT, WORDS
from benchmarks.text_engine import CONTEXT, PROMPTS, engine_step, inputs
from vlmprompt.api import Backbone, PromptMethod, build_method, load_backbone
from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.data.load import load_dataset
from vlmprompt.data.loader import ImageLoader
from vlmprompt.data.records import Record
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.training.run import train

OVERLAP, SPEED = 0.9, 0.95
# The released code's schedule for GalLoP on ImageNet: 16 images of each of 1,000 classes.
EPOCHS, SHOTS, CLASSES, BATCH = 50, 16, 1000, 128


def class_names(count: int) -> list[str]:
    """So many different names of a few tokens."""
    return [f"{word} {name}" for word in WORDS for name in SHORT][:count]


def towers(setting: Setting) -> Backbone:
    """With random weights, on the device."""
    return load_backbone(setting.sizes.tower, device=str(setting.device), random_weights=0)


def steps(setting: Setting) -> Iterator[Row]:
    """Text engine, GalLoP and Bloom: seconds, peak memory, FLOPs strictly needed as a share of the matmul rate."""
    backbone, rate = towers(setting), setting.matmul_rate()
    yield _text(setting, backbone, rate)
    for name, needed in (("gallop", gallop_step.needed_step), ("bloom", bloom_step.needed_step)):
        run, method = training_step(setting, backbone, name, setting.sizes.classes, setting.sizes.images)
        case = f"{name}, {backbone.name}, K={setting.sizes.classes}, B={setting.sizes.images}"
        yield _measured(setting, case, run, needed(method, setting.sizes.images), rate)


def _text(setting: Setting, backbone: Backbone, rate: float) -> Row:
    names = class_names(setting.sizes.classes)
    classes = backbone.text.class_tokens(names, tail="")
    ctx, grad_out = (tensor.to(setting.device) for tensor in inputs(backbone, len(names)))
    suffixes = [len(name) + len(tail) for name, tail in zip(classes.name_ids, classes.tail_ids, strict=True)]
    text = backbone.text
    needed = needed_text(Tower(text.width, text.layers, text.joint_dim), PROMPTS, CONTEXT, suffixes)
    case = f"text engine, {backbone.name}, K={len(names)}, P={PROMPTS}"
    return _measured(setting, case, lambda: engine_step(backbone, classes, ctx, grad_out), needed, rate)


def _measured(setting: Setting, case: str, run: Callable[[], object], needed: float, rate: float) -> Row:
    peak, seconds = setting.peak_gb(run), setting.seconds(run)
    figures = {"step s": seconds, "TFLOP/s of matmul": rate / 1e12, "share of the matmul rate": needed / seconds / rate}
    return Row("step", case, figures | peak)


def training_step(
    setting: Setting, backbone: Backbone, name: str, n_classes: int, n_images: int
) -> tuple[Callable[[], object], PromptMethod]:
    """A whole step on random images (at rate 0, so that every repeat does the same), and its method."""
    generator = torch.Generator().manual_seed(0)
    method = build_method(name, backbone, class_names(n_classes), generator=generator)
    images = torch.randn(n_images, 3, *backbone.preprocess.sides, generator=generator).to(setting.device)
    labels = torch.randint(n_classes, (n_images,), generator=generator).to(setting.device)
    optimizer = torch.optim.SGD(method.trainable_parameters(), lr=0.0, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        method.loss(method(images), labels).total.backward()
        optimizer.step()

    return step, method


def imagenet(setting: Setting) -> Iterator[Row]:
    """What training GalLoP on ImageNet with 16 shots would take by a measured step; reading images is left out."""
    full = setting.cuda
    n_classes, n_images = (CLASSES, BATCH) if full else (setting.sizes.classes, setting.sizes.images)
    step, _ = training_step(setting, towers(setting), "gallop", n_classes, n_images)
    seconds = setting.seconds(step)
    count = EPOCHS * (CLASSES * SHOTS // BATCH)
    hours = {"hours": count * seconds / 3600} if full else {}  # a small step says nothing of a real one
    case = f"gallop, {SHOTS} shots, {EPOCHS} epochs, K={n_classes}, B={n_images}"
    yield Row("imagenet", case, {"step s": seconds, "steps": float(count)} | hours)


def overlap(setting: Setting) -> Iterator[Row]:
    """Reading and computing at once, beside the slower of the two alone.

    The step is repeated until it takes about as long as reading a batch: where both are equal, overlap is worth most.
    """
    backbone = towers(setting)
    with tempfile.TemporaryDirectory() as folder:
        records = [Record(str(path), 0, path, True) for path in write_images(Path(folder), setting)]
        loader = ImageLoader(
            records,
            backbone.transform(train=False),
            setting.sizes.images,
            device=setting.device,
            workers=setting.workers,
        )

        def read() -> None:
            for _ in loader:
                pass

        def encode(images: Tensor, times: int) -> None:
            for _ in range(times):
                backbone.encode_image(images)

        images = next(iter(loader)).images_B3HW
        read_s = setting.seconds(read)
        once_s = setting.seconds(lambda: encode(images, 1))
        times = max(1, round(read_s / len(loader) / once_s))

        def compute() -> None:
            for _ in range(len(loader)):
                encode(images, times)

        def both() -> None:
            for batch in loader:
                encode(batch.images_B3HW, times)

        compute_s, both_s = setting.seconds(compute), setting.seconds(both)
    figures = {"reading s": read_s, "computing s": compute_s, "both s": both_s}
    # On a CPU both want the same cores: nothing can overlap, so nothing is asked for.
    marks = (Mark("overlap", max(read_s, compute_s) / both_s, OVERLAP),) if setting.cuda else ()
    yield Row("overlap", f"{len(records)} JPEG files, {setting.workers} workers", figures, marks)


def evaluating(setting: Setting) -> Iterator[Row]:
    """Images a second of `evaluate` (zero-shot, a run's first measurement) and of a bare loop with the same workers."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        paths = write_images(base / "photos" / "test" / "thing", setting)
        write_images(base / "photos" / "test" / "other", setting, count=1)
        for name in ("thing", "other"):
            write_images(base / "photos" / "train" / name, setting, count=1)
        backbone = towers(setting)
        where = {"device": str(setting.device), "workers": setting.workers, "runs_dir": base / "runs"}
        runtime = Runtime(**where, feature_cache="off")  # each repeat runs the tower
        config = RunConfig(
            method="zeroshot", data=f"folder:{base / 'photos'}", backbone=backbone.spec, random_weights=0
        )
        run = train(config, runtime, backbone=backbone).run

        def ours() -> None:
            rows = evaluate(run, "accuracy", runtime, reference=False, force=True, backbone=backbone)
            assert all(row.status == "ok" for row in rows)

        bare = _bare(setting, backbone, load_dataset(config.data).split("test"))
        ours_s, bare_s = setting.seconds(ours), setting.seconds(bare)
    count = len(paths) + 1
    figures = {"images/s": count / ours_s, "bare images/s": count / bare_s}
    marks = (Mark("speed over the bare loop's", bare_s / ours_s, SPEED),) if setting.cuda else ()
    yield Row("evaluate", f"zeroshot, {backbone.name}, {count} JPEG files", figures, marks)


def _bare(setting: Setting, backbone: Backbone, records: Sequence[Record]) -> Callable[[], object]:
    """Torch's loader, the model's own `encode_image`, one product with fixed text."""
    model: Any = backbone.model
    files = _Files(records, backbone.transform(train=False))
    text_2d = torch.randn(2, backbone.vision.joint_dim, device=setting.device)

    def run() -> Tensor:
        loader: Any = torch.utils.data.DataLoader(
            files, batch_size=100, num_workers=setting.workers, pin_memory=setting.cuda, generator=torch.Generator()
        )
        logits = []
        with torch.no_grad():
            for images in loader:
                z_Bd = model.encode_image(images.to(setting.device, non_blocking=True), normalize=True)
                logits.append(z_Bd @ text_2d.T)
        return torch.cat(logits).cpu()

    return run


class _Files(torch.utils.data.Dataset[Tensor]):
    """Images opened by Pillow and transformed."""

    def __init__(self, records: Sequence[Record], transform: Callable[[Image.Image], Tensor]) -> None:
        self._paths, self._transform = [record.image for record in records], transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self._paths[index]) as image:  # type: ignore[arg-type]
            return self._transform(image.convert("RGB"))


def write_images(folder: Path, setting: Setting, count: int | None = None) -> list[Path]:
    """JPEG files of blurred noise, each another."""
    folder.mkdir(parents=True, exist_ok=True)
    side, paths = setting.sizes.side, []
    for i in range(setting.sizes.files if count is None else count):
        image = Image.frombytes("RGB", (16, 16), os.urandom(16 * 16 * 3)).resize((side, side))
        paths.append(folder / f"{i:05}.jpg")
        image.save(paths[-1], quality=90)
    return paths
