"""Where local prompts look: counted on patches of known place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.evaluation.material import patches
from tests.evaluation.test_context import coop, make_bank, make_context
from tests.training.material import config, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.data.records import Dataset, Record
from vlmprompt.errors import CapabilityError
from vlmprompt.evaluation.pointing import masks
from vlmprompt.evaluation.pointing_sheet import patch_light
from vlmprompt.evaluation.suites.pointing import PointingSuite
from vlmprompt.methods.build import build_method
from vlmprompt.methods.output import LocalView, MethodOutput
from vlmprompt.methods.patch_maps import chosen_patches


@dataclass(frozen=True)
class Half:
    """A picture whose left half is red and is its object."""

    shade: int

    def load(self) -> Image.Image:
        pixels = np.full((32, 32, 3), 128, dtype=np.uint8)
        pixels[:, :16] = (self.shade, 30, 30)
        return Image.fromarray(pixels)

    def mask(self) -> Any:
        return np.indices((32, 32))[1] < 16


def halves(n_classes: int = 2, each: int = 3) -> Dataset:
    records = [
        Record(f"{label}/{i}", label, Half(100 + 40 * label + 5 * i)) for label in range(n_classes) for i in range(each)
    ]
    names = tuple(f"thing {'abc'[label]}" for label in range(n_classes))
    return Dataset("halves", "made-up:halves", names, {"test": tuple(records)})


def test_each_prompt_chooses_by_the_images_own_class() -> None:
    features = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]]]).expand(2, -1, -1)
    text_nKd = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.6, 0.8]]])
    aux = {"local_text_nKd": text_nKd, "local_scales_n": torch.tensor([1, 2])}
    output = MethodOutput(torch.zeros(2, 2), 1.0, local=LocalView(features, text_nKd.mean(dim=0)), aux=aux)
    first, second = chosen_patches(output, torch.tensor([0, 1]))
    assert first.tolist() == [[0], [1]]
    assert [sorted(row) for row in second.tolist()] == [[1, 3], [1, 2]]


def test_a_patch_counts_by_its_centre_in_the_middle_square() -> None:
    @dataclass(frozen=True)
    class Wide:
        def mask(self) -> Any:
            seen = np.zeros((4, 8), dtype=bool)
            seen[0, 2], seen[3, 5], seen[:, :2] = True, True, True  # the square is columns 2 to 5
            return seen

    records = [Record("a", 0, Wide())]  # type: ignore[arg-type]
    # Centres of a 2 x 2 grid over 4 x 4 pixels are the pixels 1 and 3.
    assert masks(records, 4).tolist() == [[False, False, False, True]]
    assert masks(records, 16).sum() == 2


def test_shares_are_counted(tiny_backbone: Backbone) -> None:
    dataset = halves()
    method = build_method("gallop", tiny_backbone, dataset.class_names, {"topk": [1, 5, 16]}).eval()
    (cell,) = PointingSuite().cells(make_context(dataset, make_bank(tiny_backbone), method))
    values = {v.metric: v for v in cell.measure().values}
    transform = tiny_backbone.transform(train=False)
    shares = []
    for record in dataset.split("test"):
        output = method(transform(record.image.load())[None])  # type: ignore[union-attr]
        for index in chosen_patches(output, torch.tensor([record.label])):
            shares.append(sum(place % 4 < 2 for place in index[0].tolist()) / index.shape[1])
    assert values["on_object"].value == pytest.approx(sum(shares) / len(shares))
    assert values["chance"].value == 0.5
    assert values["above_chance"].value == pytest.approx(values["on_object"].value - 0.5)
    assert values["on_object"].note.endswith("0.500")  # all patches are on the object by chance
    assert values["on_object"].n == 6


def test_what_it_does_not_apply_to(tiny_backbone: Backbone) -> None:
    bank = make_bank(tiny_backbone)
    dataset = halves()
    (cell,) = PointingSuite().cells(make_context(dataset, bank, coop(tiny_backbone, dataset)))
    with pytest.raises(CapabilityError, match="no local prompts"):
        cell.measure()
    unmasked = patches(2, 2, [])
    method = build_method("gallop", tiny_backbone, unmasked.class_names, {"topk": [1, 2]}).eval()
    (cell,) = PointingSuite().cells(make_context(unmasked, bank, method))
    with pytest.raises(CapabilityError, match="no masks"):
        cell.measure()
    with pytest.raises(CapabilityError, match="square grid"):
        masks([], 12)


def test_light_is_the_choice_or_the_share_of_a_plan() -> None:
    features = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]]])
    aux = {"local_text_nKd": torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]), "local_scales_n": torch.tensor([1, 2])}
    view = LocalView(features, torch.tensor([[1.0, 0.0]]))
    chosen = patch_light(MethodOutput(torch.zeros(1, 1), 1.0, local=view, aux=aux), torch.tensor([0]))
    assert chosen.tolist() == [[[1, 0, 0, 0], [0, 1, 1, 0]]]
    plan_BKNM = torch.zeros(1, 2, 3, 2)
    plan_BKNM[0, 1] = torch.tensor([[0.1, 0.2], [0.4, 0.0], [0.0, 0.3]])
    shared = patch_light(MethodOutput(torch.zeros(1, 2), 1.0, local=view, aux={"plan": plan_BKNM}), torch.tensor([1]))
    torch.testing.assert_close(shared, torch.tensor([[[0.25, 1.0, 0.0], [0.5, 0.0, 0.75]]]))


def test_the_sheet_of_a_run(photos: Path, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: Any) -> None:
    from vlmprompt.evaluation.pointing_sheet import GAP, SIDE, pointing_sheet
    from vlmprompt.training.run import train
    from vlmprompt.training.runs import Run, load_run

    settings = config(photos, method="zeroshot", epochs=1, shots=2).model_copy(update={"method": "gallop"})
    settings = settings.model_copy(update={"options": {"topk": [1, 16]}})
    run = train(settings, runtime(tmp_path), backbone=tiny_backbone).run
    monkeypatch.setattr(Run, "load_backbone", lambda self, runtime=None: tiny_backbone)
    sheet = pointing_sheet(load_run(run), images=3)
    step = SIDE + GAP
    assert sheet.size == (2 * step - GAP, 3 * step - GAP)
    pixels = np.asarray(sheet).astype(int)
    one, every = pixels[:SIDE, :SIDE], pixels[:SIDE, step : step + SIDE]
    assert (one == every).all(axis=-1).mean() == pytest.approx(1 / 16, abs=0.02)  # dimmed but for one patch
