"""Pictures in, classes out: whatever a picture is given as, in batches, once encoded."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.training.material import config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.load import load_backbone
from vlmprompt.data.levels import WARNING
from vlmprompt.data.load import load_dataset
from vlmprompt.errors import InputError, UsageError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.classifier import Classification, Classifier
from vlmprompt.methods.scores import ood_scores
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

NAMES = ("cat", "red panda", "tench, fish", "oak", "bee", "bus")


def picture(seed: int = 0, *, height: int = 40, width: int = 52) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.fixture(scope="module")
def classifier(tiny_backbone: Backbone) -> Classifier:
    return Classifier(build_method("coop", tiny_backbone, NAMES, {"n_ctx": 2}), batch_size=2)


def alone(classifier: Classifier, image: Image.Image) -> Tensor:
    """Logits (1,K) by the method itself."""
    method = classifier.frozen.method
    with torch.no_grad():
        logits: Tensor = method(method.backbone.transform(train=False)(image)[None]).logits
    return logits


def same(found: Classification, *images: Image.Image, by: Classifier) -> None:
    expected = torch.cat([alone(by, image) for image in images])
    torch.testing.assert_close(found.logits_BK, expected, rtol=1e-4, atol=1e-4)


def test_one_picture_in_every_form(classifier: Classifier, tmp_path: Path) -> None:
    image = picture()
    image.save(tmp_path / "a.png")
    array = np.asarray(image)
    forms: list[Any] = [
        image,
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        array,
        torch.from_numpy(array.copy()).permute(2, 0, 1),
        classifier.frozen.method.backbone.transform(train=False)(image),
    ]
    for form in forms:
        found = classifier(form)
        assert len(found) == 1
        same(found, image, by=classifier)
    same(classifier(iter(forms)), *[image] * len(forms), by=classifier)


def test_many_in_their_order_and_in_batches(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [picture(seed) for seed in range(5)]
    same(classifier(images), *images, by=classifier)
    same(classifier(np.stack([np.asarray(image) for image in images])), *images, by=classifier)
    transform = classifier.frozen.method.backbone.transform(train=False)
    batch = torch.stack([transform(image) for image in images])
    same(classifier(batch), *images, by=classifier)
    assert [len(part) for part in classifier.batches(images)] == [2, 2, 1]
    empty = classifier([])
    assert len(empty) == 0 and empty.logits_BK.shape == (0, 6) and empty.names == [] and empty.top() == []


def test_no_more_than_a_batch_is_read_ahead(classifier: Classifier) -> None:
    """So any number of pictures takes the memory of one batch."""
    taken: list[int] = []

    def stream() -> Iterator[Image.Image]:
        for i in range(10**9):
            taken.append(i)
            yield picture(i)

    batches = classifier.batches(stream())
    for n in (2, 4, 6):
        next(batches)
        assert len(taken) == n


def test_what_it_says(tiny_backbone: Backbone) -> None:
    logits = torch.tensor([[0.0, math.log(3.0), 0.0], [math.log(8.0), 0.0, 0.0]])
    found = Classification(("a", "b", "c"), logits)
    assert found.labels_B.tolist() == [1, 0] and found.names == ["b", "a"]
    torch.testing.assert_close(found.probabilities_BK, torch.tensor([[0.2, 0.6, 0.2], [0.8, 0.1, 0.1]]))
    assert list(found.top(1)[0]) == ["b"] and found.top(1)[0]["b"] == pytest.approx(0.6)
    assert [next(iter(one)) for one in found.top()] == ["b", "a"] and sum(found.top()[1].values()) == pytest.approx(1)
    assert repr(found) == "Classification(2 pictures, 3 classes: b, a)"


def test_records_of_a_data_set_and_scores(classifier: Classifier, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", splits={"train": 1, "test": 2})
    records = load_dataset(f"folder:{photos}").split("test")
    images = [Image.open(record.image).convert("RGB") for record in records]  # type: ignore[arg-type]
    same(classifier(records), *images, by=classifier)
    scores = torch.cat([ood_scores(output, "mcm") for output in classifier.outputs(records)])
    cosines = torch.cat([alone(classifier, image) for image in images]) / classifier.frozen.method.scale
    torch.testing.assert_close(scores, cosines.softmax(dim=1).amax(dim=1))


def test_pictures_as_a_viewer_shows_them(tiny_backbone: Backbone, tmp_path: Path) -> None:
    image = picture()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    image.save(tmp_path / "turned.png", exif=exif)
    method = build_method("zeroshot", tiny_backbone, NAMES)
    seen, stored = Classifier(method), Classifier(method, upright=False)
    turned = image.transpose(Image.Transpose.ROTATE_270)
    for given in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        same(seen(given), turned, by=seen)
        same(stored(given), image, by=stored)
    clear = Image.fromarray(np.dstack([np.asarray(image), np.zeros((40, 52), np.uint8)]))
    same(seen(clear), Image.new("RGB", image.size, "white"), by=seen)


def test_grey_levels(classifier: Classifier) -> None:
    grey = np.asarray(picture().convert("L"))
    expected = Image.fromarray(grey).convert("RGB")
    for form in (grey, grey[..., None], grey.astype(np.float32) / 255):
        same(classifier(form), expected, by=classifier)
    with pytest.warns(UserWarning, match=WARNING[:40]):
        classifier(grey.astype(np.uint16) << 4)


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        (7, "a int is no picture", "a path, a PIL image"),
        ([picture(), None], "a NoneType is no picture", "a path, a PIL image"),
        (b"content", "a bytes is no picture", "PIL.Image.open(io.BytesIO(content))"),
        ([b"content"], "a bytes is no picture", "PIL.Image.open(io.BytesIO(content))"),
        (io.BytesIO(b"content"), "a BytesIO is no picture", "PIL.Image.open(file)"),
        ({"a": picture()}, "a dict is no picture", "a list of such"),
        (
            np.zeros((3, 8, 9), np.uint8),
            r"an array \(3, 8, 9\) of uint8 is no picture: \(H,W,3\)",
            "channels stand last",
        ),
        (np.zeros((8, 9, 3)), r"an array \(8, 9, 3\) of float64 is no picture", "as uint8"),
        (np.zeros((8, 9), bool), "of bool is no picture", "as uint8"),
        (np.zeros((8, 9), np.complex64), "of complex64 is no picture", "as uint8"),
        (torch.zeros(8, 9, 3, dtype=torch.uint8), r"a tensor \(8, 9, 3\) of uint8", "channels stand first"),
        (torch.zeros(8, 9, dtype=torch.uint8), r"a tensor \(8, 9\) of uint8 is no picture", "channels stand first"),
        (torch.zeros(3, 31, 32), r"\(3, 32, 32\); this one is \(3, 31, 32\)", "apply that transform"),
        ("nowhere.png", "cannot read image nowhere.png", "replace or remove"),
    ],
)
def test_what_is_no_picture(given: Any, message: str, hint: str, classifier: Classifier) -> None:
    with pytest.raises(InputError, match=message) as error:
        classifier(given)
    assert hint in str(error.value.hint)


def test_floats_of_any_precision(classifier: Classifier) -> None:
    transformed = classifier.frozen.method.backbone.transform(train=False)(picture())
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        given = transformed.to(dtype)
        assert torch.equal(classifier(given).logits_BK, classifier(given.float()).logits_BK)


def test_towers_whose_images_are_not_square(tiny_architecture: str) -> None:
    towers = load_backbone(tiny_architecture, random_weights=0, image_size=(24, 48))
    classify = Classifier(build_method("zeroshot", towers, NAMES))
    transformed = towers.transform(train=False)(picture())
    assert transformed.shape == (3, 24, 48)
    same(classify([picture(), transformed]), picture(), picture(), by=classify)
    with pytest.raises(InputError, match=r"gives, \(3, 24, 48\); this one is \(3, 48, 24\)"):
        classify(torch.zeros(3, 48, 24))


def test_what_makes_no_classifier(tiny_backbone: Backbone) -> None:
    method = build_method("zeroshot", tiny_backbone, NAMES)
    found = Classifier(method.frozen())(picture())
    assert torch.equal(found.logits_BK, Classifier(method)(picture()).logits_BK)
    run: Any = object()
    with pytest.raises(UsageError, match="a object is no method") as error:
        Classifier(run)
    assert "run.classifier()" in str(error.value.hint)
    with pytest.raises(UsageError, match="batch_size = 0: a batch holds at least 1 picture"):
        Classifier(method, batch_size=0)
    for k in (0, -1):
        with pytest.raises(UsageError, match=rf"top\({k}\) asks for no class"):
            found.top(k)


def test_a_folder_is_no_picture(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder, not a picture") as error:
        classifier(tmp_path)
    assert "glob" in str(error.value.hint)


@pytest.mark.usefixtures("tiny_spec")
def test_the_model_cards_snippet(tiny_backbone: Backbone, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = make_photos(tmp_path / "photos", splits={"train": 4, "test": 1})
    path = train(config(photos), runtime(tmp_path / "runs"), backbone=tiny_backbone).run
    snippet = (path / "MODEL_CARD.md").read_text().split("```python\n")[1].split("```")[0]
    test = sorted(photos.glob("test/*/*.png"))[0]
    code = snippet.replace("path/to/" + path.name, str(path)).replace("picture.jpg", str(test))
    assert str(path) in code and str(test) in code
    found: dict[str, Any] = {}
    exec(code, found)
    run = load_run(path)
    same(found["found"], Image.open(test), by=Classifier(run.build_method(tiny_backbone)))
    assert not found["found"].logits_BK.requires_grad
    assert found["classify"].batch_size == run.config.train.eval_batch_size
    assert capsys.readouterr().out.startswith(f"{found['found'].names} tensor(")
