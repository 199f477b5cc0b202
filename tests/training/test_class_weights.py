"""Weights of classes: by hand, against scikit-learn, in every method's loss, and in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.nn import functional as F

from tests.training.material import Breaking, Hooked, config, log_lines, make_photos, registered, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.features import extract
from vlmprompt.data.load import load_dataset
from vlmprompt.errors import UsageError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.weighted import cross_entropy
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run
from vlmprompt.training.weights import class_weights

NAMES = ("cat", "red fox", "owl")


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """2 images of the first class of the data set, 6 of the other."""
    photos = make_photos(tmp_path / "photos", splits={"train": 6, "val": 2, "test": 1}, classes=("blue", "green"))
    for number in range(2, 6):
        (photos / "train" / "blue" / f"{number}.png").unlink()
    return photos


def test_balanced_by_hand_and_as_scikit_learn() -> None:
    labels = [0] * 2 + [1] * 6 + [2] * 4
    found = class_weights("balanced", NAMES, labels)
    assert found is not None and found.tolist() == pytest.approx([12 / (3 * 2), 12 / (3 * 6), 12 / (3 * 4)])
    theirs = compute_class_weight("balanced", classes=torch.arange(3).numpy(), y=torch.tensor(labels).numpy())
    assert found.tolist() == pytest.approx(theirs.tolist())
    assert float(found[labels].mean()) == pytest.approx(1)
    without = class_weights("balanced", NAMES, [0, 2, 2, 2])  # of C = 2 classes that have images
    assert without is not None and without[[0, 2]].tolist() == pytest.approx([4 / (2 * 1), 4 / (2 * 3)])


def test_a_table_is_scaled_to_a_mean_of_one() -> None:
    # Raw 3, 1, 1 on 2, 1, 1 images: their sum is 8 for 4 images, so all are halved.
    found = class_weights({"Cat": 3.0}, NAMES, [0, 0, 1, 2])
    assert found is not None and found.tolist() == pytest.approx([1.5, 0.5, 0.5])
    same = class_weights({"red_fox": 1}, NAMES, [0, 1, 2])
    assert same is not None and same.tolist() == [1, 1, 1]
    twins = class_weights({"missile": 2}, ("missile", "owl", "missile"), [0, 1, 2])
    assert twins is not None and twins.tolist() == pytest.approx([1.2, 0.6, 1.2])
    assert class_weights(None, NAMES, [0]) is None


def test_a_table_of_other_classes() -> None:
    with pytest.raises(UsageError, match="names 'cta', which is none of the classes") as error:
        class_weights({"cta": 2.0}, NAMES, [0, 1, 2])
    assert "'cat'" in str(error.value.hint)
    with pytest.raises(UsageError, match="one class twice: 'red fox' and 'red_fox'"):
        class_weights({"red fox": 2.0, "red_fox": 1.0}, NAMES, [0, 1, 2])


def test_weighted_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 1.0986122887]])  # p = 1/2, 1/2 and 1/4, 3/4
    labels, weights = torch.tensor([0, 0]), torch.tensor([3.0, 0.5])
    expected = (3 * 0.6931471806 + 0.5 * 1.3862943611) / 2
    assert float(cross_entropy(logits, labels, weights)) == pytest.approx(expected)
    assert torch.equal(cross_entropy(logits, labels), F.cross_entropy(logits, labels))
    one = cross_entropy(logits[:1], labels[:1], weights[:1])  # batches of one image, as CoCoOp's, feel it too
    assert float(one) == pytest.approx(3 * 0.6931471806)


def test_a_run_with_balanced_weights(uneven: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    """The first step has all images: each class has half of the loss, whatever its size."""
    settings = {"shots": None, "batch_size": 8, "epochs": 1, "views": 1, "warmup_epochs": 0}
    place = runtime(tmp_path)

    def first_loss(photos: Path, name: str, **more: Any) -> float:
        made = train(config(photos, **settings, **more), place, out=tmp_path / name, backbone=tiny_backbone).run
        return float(log_lines(made)[0]["loss"])

    logits, labels = _logits(uneven, tiny_backbone)
    blue, green = (float(F.cross_entropy(logits[labels == k], labels[labels == k])) for k in (0, 1))
    plain = first_loss(uneven, "plain")
    weighted = first_loss(uneven, "weighted", class_weights="balanced")
    assert plain == pytest.approx((2 * blue + 6 * green) / 8, rel=1e-4)
    assert weighted == pytest.approx((blue + green) / 2, rel=1e-4)
    card = (tmp_path / "weighted" / "MODEL_CARD.md").read_text()
    assert (
        "| class weights | balanced |" in card and "class weights" not in (tmp_path / "plain/MODEL_CARD.md").read_text()
    )


def _logits(photos: Path, backbone: Backbone) -> tuple[Tensor, Tensor]:
    """Of all training images, by the initial prompts."""
    dataset = load_dataset(f"folder:{photos}")
    generator = torch.Generator().manual_seed(1)
    method = build_method("coop", backbone, dataset.class_names, {"n_ctx": 2}, generator=generator)
    cached = extract(method, dataset.split("train"), backbone=backbone, runtime=runtime(photos))
    with torch.no_grad():
        return method(cached.features).logits, cached.labels


def test_a_balanced_run_sees_both_classes_equally_often(uneven: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    seen: list[int] = []
    with registered("watched", Breaking):
        settings = config(uneven, shots=None, batch_size=8, epochs=2, views=2, sampling="balanced", method="watched")
        original = Breaking.loss

        def loss(self: Any, output: Any, labels: Tensor, **more: Any) -> Any:
            seen.extend(labels.tolist())
            return original(self, output, labels, **more)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Breaking, "loss", loss)
            run = train(settings, runtime(tmp_path), out=tmp_path / "run", backbone=tiny_backbone).run
    assert len(seen) == 16 and sum(seen) == 8
    assert "| sampling | balanced: each class equally often |" in (run / "MODEL_CARD.md").read_text()


def test_even_classes_and_both_at_once_are_told(
    photos: Path, uneven: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    def warnings(source: Path, **changes: Any) -> str:
        progress = Hooked()
        settings = config(source, shots=None, epochs=1, warmup_epochs=0, schedule="constant", **changes)
        train(settings, runtime(tmp_path), force=True, backbone=tiny_backbone, progress=progress)
        return " ".join(progress.warnings)

    assert "class_weights = balanced: every class has as many" in warnings(photos, class_weights="balanced")
    assert "sampling = balanced: every class has as many" in warnings(photos, sampling="balanced")
    assert warnings(uneven, class_weights="balanced") == warnings(uneven, sampling="balanced") == ""
    assert "small classes count twice more" in warnings(uneven, class_weights="balanced", sampling="balanced")


def test_methods_that_cannot_are_named(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    def go(method: str, **changes: Any) -> Hooked:
        progress = Hooked()
        train(config(photos, method=method, **changes), runtime(tmp_path), backbone=tiny_backbone, progress=progress)
        return progress

    with (
        registered("breaking", Breaking),
        pytest.raises(UsageError, match="'breaking': its loss has no parameter") as e,
    ):
        go("breaking", class_weights="balanced")
    assert "--sampling balanced" in str(e.value.hint)
    with pytest.raises(UsageError, match="'linear_probe': it is fitted in closed form"):
        go("linear_probe", class_weights="balanced")
    said = go("zeroshot", class_weights="balanced", validate_every=1, keep="best").warnings
    assert said == ["method 'zeroshot' has no training loop: class_weights, validate_every, keep have no effect"]
    assert "sampling has no effect" in go("linear_probe", sampling="balanced").warnings[0]
    with pytest.raises(UsageError, match="class_weights names 'red foks'"):
        go("coop", class_weights={"red foks": 2.0})


def test_a_table_is_recorded_and_repeated(uneven: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    settings = config(uneven, shots=None, epochs=1, class_weights={"blue": 2.0})
    run = train(settings, runtime(tmp_path), backbone=tiny_backbone).run
    assert load_run(run).config.train.class_weights == {"blue": 2.0}
    assert '{"blue" = 2.0}' in (run / "MODEL_CARD.md").read_text()
