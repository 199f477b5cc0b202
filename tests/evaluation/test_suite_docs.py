"""The suites of docs/suite.md, as files, as installed, at work."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.tiny_loader import TinyLoader
from tests.test_docs import FILE, ROOT
from tests.training.material import make_photos, runtime
from vlmprompt.api import Backbone, build_method, evaluate_method, load_dataset, ood_metrics, read_image
from vlmprompt.evaluation.load import load_suites, reads
from vlmprompt.plugins import load_host

TEXT = (ROOT / "docs/suite.md").read_text(encoding="utf-8")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package of the page on the path, with the metadata that an installation would add."""
    files = {match["path"]: match["text"] for match in FILE.finditer(TEXT)}
    assert sorted(files) == [
        "pyproject.toml",
        *(f"src/vlmprompt_noise/{name}.py" for name in ("__init__", "ood", "suite")),
    ]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    project = tomllib.loads(files["pyproject.toml"])["project"]
    metadata = tmp_path / "src" / f"vlmprompt_noise-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8")
    points = [f"{name} = {value}" for name, value in project["entry-points"]["vlmprompt"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[vlmprompt]", *points, ""]), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path / "src")
        assert not load_host().failures
        yield
    load_host()


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = make_photos(tmp_path / "photos", splits={"train": 1, "test": 3})
    for split, n in (("train", 2), ("test", 1)):
        for i in range(n):
            pixels = np.random.default_rng(i).integers(0, 255, (36, 36, 3)).astype(np.uint8)
            (tmp_path / "textures" / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "textures" / split / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return folder


def noisy_logits(backbone: Backbone, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Zero-shot logits of each noisy test image, read and altered here, one by one."""
    dataset = load_dataset("folder:photos")
    method = build_method("zeroshot", backbone, dataset.class_names, template=dataset.template).eval()
    rows = []
    for record in dataset.split("test"):
        pixels = np.array(read_image(record)) / 255
        seed = int.from_bytes(hashlib.sha256(record.id.encode()).digest()[:8], "big")
        pixels = np.clip(pixels + sigma * np.random.default_rng(seed).standard_normal(pixels.shape), 0, 1)
        image = Image.fromarray(np.rint(255 * pixels).astype(np.uint8))
        with torch.no_grad():
            rows.append(method(backbone.transform(train=False)(image)[None]).logits[0])
    return torch.stack(rows), torch.tensor([record.label for record in dataset.split("test")])


@pytest.mark.usefixtures("installed", "photos")
def test_the_suites_measure_what_they_say(tiny_backbone: Backbone, tmp_path: Path) -> None:
    assert [reads(suite) for suite in load_suites(["noise", "noisy-ood"])] == [(), ("ood",)]
    named: dict[str, Any] = {"data": "folder:photos", "backbone": tiny_backbone, "runtime": runtime(tmp_path / "runs")}
    rows = evaluate_method("zeroshot", suites="noise", **named)
    by_hand = {sigma: noisy_logits(tiny_backbone, sigma) for sigma in (0.0, 0.1, 0.2)}
    expected = [float((logits.argmax(1) == labels).double().mean()) for logits, labels in by_hand.values()]
    assert [row.cell for row in rows] == ["sigma-0", "sigma-0.1", "sigma-0.2", "mean"]
    assert [row.value for row in rows] == pytest.approx([*expected, sum(expected) / 3])
    assert [row.n for row in rows] == [12, 12, 12, 36] and {row.status for row in rows} == {"ok"}
    assert (by_hand[0.0][0] - by_hand[0.2][0]).abs().max() > 0.01  # else equal numbers would say nothing

    (row,) = evaluate_method("zeroshot", suites="noisy-ood", companions={"ood": "folder:textures"}, **named)
    assert (row.cell, row.status, row.n) == ("folder:textures", "ok", 12 + 3)
    method = build_method("zeroshot", tiny_backbone, load_dataset("folder:photos").class_names).eval()
    others = [Image.open(path) for path in sorted(Path("textures").rglob("*.png"))]
    with torch.no_grad():
        outside = [
            method(tiny_backbone.transform(train=False)(image)[None]).logits.softmax(1).max() for image in others
        ]
    inside = by_hand[0.2][0].softmax(dim=1).amax(dim=1)
    assert row.value == pytest.approx(ood_metrics(inside.tolist(), [float(one) for one in outside])["auroc"])
    (without,) = evaluate_method("zeroshot", suites="noisy-ood", **named)
    assert (without.status, without.cell) == ("missing", "*")


@pytest.mark.usefixtures("installed", "photos", "tiny_spec")
def test_the_lines_from_python_print_a_table(
    tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(TinyLoader, "load", lambda *args, **more: tiny_backbone)
    *_, lines = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    exec(compile(lines.replace("ViT-B-16-quickgelu/openai", "tiny-vit"), "docs/suite.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.startswith("noise on photos, tiny-vit: top1 (%)\n('method', ")
    assert "'sigma-0.1'" in printed and "'zeroshot'" in printed
