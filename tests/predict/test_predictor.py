"""What is said of pictures, held against the method alone and against open_clip's own arithmetic."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.data.records import Record
from vlmprompt.errors import CapabilityError, InputError, UsageError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.predict.decoding import read_ahead
from vlmprompt.predict.prediction import ROWS, Prediction
from vlmprompt.predict.predictor import Predictor, scoring
from vlmprompt.predict.rejection import Reference, Rejection
from vlmprompt.predict.thresholds import SetThreshold
from vlmprompt.predict.work import Tally

NAMES = ("cat", "red panda", "oak", "bee")
VAL = Reference("val", 20)


def noise(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 52, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def method(tiny_backbone: Backbone) -> PromptMethod:
    return build_method("coop", tiny_backbone, NAMES, {"n_ctx": 2}).eval()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for i, path in enumerate(paths):
        noise(i).save(path)
    return paths


def cosines(method: PromptMethod, images: list[Image.Image]) -> Tensor:
    """(B,K) in float64, by open_clip's own image tower."""
    transform = method.backbone.transform(train=False)
    with torch.no_grad():
        z_Bd = method.backbone.model.encode_image(torch.stack([transform(image) for image in images])).double()
        text_Kd = method.encode_text().unit_PKd[0].double()
    return z_Bd / z_Bd.norm(dim=1, keepdim=True) @ text_Kd.T


def test_probabilities_scores_and_verdicts(method: PromptMethod, files: list[Path]) -> None:
    cosines_BK = cosines(method, [noise(i) for i in range(5)])
    mcm_B = (cosines_BK.exp() / cosines_BK.exp().sum(dim=1, keepdim=True)).amax(dim=1)
    between = float(mcm_B.sort().values[1:3].mean())  # two are below
    rejection = Rejection("mcm", 0.6, between, VAL)
    said = Predictor(method, temperature=2.0, rejection=rejection, batch_size=2)(files)
    expected_BK = (method.scale * cosines_BK / 2).softmax(dim=1)
    torch.testing.assert_close(said.probabilities_BK.double(), expected_BK, rtol=1e-4, atol=1e-6)
    assert said.scores_B is not None
    torch.testing.assert_close(said.scores_B.double(), mcm_B, rtol=1e-5, atol=1e-7)
    assert said.verdicts == ["known" if score > between else "unknown" for score in mcm_B.tolist()]
    assert said.verdicts.count("unknown") == 2
    assert said.sources == tuple(map(str, files)) and said.sets is None
    assert said.names == [NAMES[label] for label in cosines_BK.argmax(dim=1).tolist()]


def test_the_score_of_local_features(tiny_backbone: Backbone, method: PromptMethod) -> None:
    """GL-MCM: MCM and the largest of any patch, each softmax by hand."""
    reader = scoring(method, "gl-mcm")
    assert scoring(method, "mcm") is method and reader is not method
    said = Predictor(reader, rejection=Rejection("gl-mcm", 0.9, 0.0, VAL))(noise(0))
    images = tiny_backbone.transform(train=False)(noise(0))[None]
    with torch.no_grad():
        local = tiny_backbone.encode_image(images, reader.image_needs()).local_BNc
        text_Kd = method.encode_text().unit_PKd[0].double()
    assert local is not None and said.scores_B is not None
    patches_NK = (local[0].double() / local[0].double().norm(dim=1, keepdim=True)) @ text_Kd.T
    expected = cosines(method, [noise(0)]).softmax(dim=1).max() + patches_NK.softmax(dim=1).max()
    assert float(said.scores_B[0]) == pytest.approx(float(expected), rel=1e-5)


def test_a_score_that_a_method_cannot_give(tiny_backbone: Backbone) -> None:
    probe = build_method("linear_probe", tiny_backbone, NAMES).eval()
    with pytest.raises(CapabilityError, match=r"score 'gl-mcm' cannot be had: the score needs local features") as error:
        Predictor(probe, rejection=Rejection("gl-mcm", 0.9, 0.0, VAL))
    assert error.value.hint == "--score of max-logit, energy, msp"


def test_sets_by_hand() -> None:
    """Probabilities 0.6, 0.3, 0.1: a class is in where 1 - p is at most the threshold."""
    logits = torch.tensor([[0.6, 0.3, 0.1]]).log()
    threshold = SetThreshold(0.1, 0.75, 1.0, VAL)
    said = Prediction(("a", "b", "c"), logits, ("x",), sets_BK=threshold.sets(logits.softmax(dim=1)))
    assert said.sets == [["a", "b"]]


def test_the_result_does_not_depend_on_threads(method: PromptMethod, files: list[Path]) -> None:
    found = [Predictor(method, batch_size=2, workers=workers)(files * 3) for workers in (0, 1, 3)]
    for other in found[1:]:
        assert torch.equal(other.logits_BK, found[0].logits_BK) and other.sources == found[0].sources


def test_threads_read_ahead_and_keep_the_order() -> None:
    """The first is only read once the third has been, which needs two threads and gives the order all the same."""
    third = threading.Event()
    taken: list[int] = []

    def things() -> Iterator[int]:
        for i in range(1000):
            taken.append(i)
            yield i

    def read(thing: int) -> int:
        if thing == 0:
            assert third.wait()
        if thing == 2:
            third.set()
        if thing == 1:
            raise InputError("no")
        return 10 * thing

    found = read_ahead(things(), read, workers=2, ahead=4)
    assert [next(found) for _ in range(1)] == [(0, 0)]
    assert len(taken) == 5  # one is out, four wait
    thing, error = next(found)
    assert thing == 1 and isinstance(error, InputError)
    assert next(found) == (2, 20)
    found.close()  # type: ignore[attr-defined]


def test_no_more_than_a_batch_is_held(method: PromptMethod) -> None:
    taken: list[int] = []

    def stream() -> Iterator[Image.Image]:
        for i in range(10**9):
            taken.append(i)
            yield noise(i)

    batches = Predictor(method, batch_size=2).batches(stream())
    for n in (2, 4, 6):
        assert len(next(batches)) == 2 and len(taken) == n
    taken.clear()
    batches = Predictor(method, batch_size=2, workers=2).batches(stream())
    for n in (4, 6, 8):  # and a batch ahead
        assert len(next(batches)) == 2 and len(taken) == n


def test_what_cannot_be_read_is_left_out(method: PromptMethod, files: list[Path]) -> None:
    files[1].write_text("no picture")
    files[3].unlink()
    told: list[str] = []
    predictor = Predictor(method, batch_size=2)
    records = [Record(str(path), 0, path, True) for path in files]
    parts = list(predictor.batches(records, lambda name, error: told.append(f"{Path(name).name}: {error.message}")))
    assert [len(part) for part in parts] == [2, 1]  # batches are filled up
    assert [source for part in parts for source in part.sources] == [str(files[i]) for i in (0, 2, 4)]
    assert told[0].startswith("1.png: cannot read image") and told[1].startswith("3.png: cannot read image")
    with pytest.raises(InputError, match=r"cannot read image .*1\.png"):
        predictor(files)


def test_what_is_not_finite_is_left_out(method: PromptMethod) -> None:
    good = method.backbone.transform(train=False)(noise(0))
    told: list[str] = []
    predictor = Predictor(method, rejection=Rejection("mcm", 0.9, 0.0, VAL), batch_size=3)
    (part,) = predictor.batches(
        [good, torch.full_like(good, math.nan), good], lambda name, error: told.append(error.message)
    )
    assert part.sources == ("picture 1", "picture 3") and part.verdicts == ["known"] * 2
    assert told == ["what the method says of picture 2 is not finite"]
    assert list(predictor.batches(torch.full_like(good, math.inf), lambda name, error: None)) == []
    with pytest.raises(InputError, match="picture 1 is not finite"):
        predictor(torch.full_like(good, math.nan))


def test_nothing_gives_nothing(method: PromptMethod) -> None:
    rejection = Rejection("mcm", 0.9, 0.0, VAL)
    said = Predictor(method, rejection=rejection, set_threshold=SetThreshold(0.1, 0.5, 1.0, VAL))([])
    assert (len(said), said.verdicts, said.sets, said.top()) == (0, [], [], [])
    assert said.probabilities_BK.shape == (0, 4)


def test_a_temperature_however_small_gives_probabilities() -> None:
    said = Prediction(("a", "b"), torch.tensor([[90.0, 100.0], [3.0, 3.0]]), ("x", "y"), temperature=1e-40)
    assert said.probabilities_BK.tolist() == [[0.0, 1.0], [0.5, 0.5]]


def test_what_it_looks_like() -> None:
    logits = torch.tensor([[0.7, 0.2, 0.1]]).log()
    rejection = Rejection("mcm", 0.9, 0.5, VAL)
    names = ("<b>", "wolf", "\x1b[31m")
    said = Prediction(names, logits, ("a & b.png",), 1.0, rejection, torch.tensor([0.4]), shown=2)
    assert repr(said) == "Prediction(1 pictures, 3 classes)\n  a & b.png: <b> 0.700, wolf 0.200, unknown"
    shown = said._repr_html_()
    assert "<td>&lt;b&gt;</td><td>0.700</td><td>wolf</td>" in shown and "<td>a &amp; b.png</td>" in shown
    assert "<td><b>unknown</b></td>" in shown and shown.count("<th>") == 6
    many = Prediction(names, logits.expand(ROWS + 1, 3), ("x",) * (ROWS + 1))
    assert repr(many).splitlines()[-1] == "  ..." and repr(many).count("\n") == ROWS + 1
    assert f"the first {ROWS} of {ROWS + 1} pictures" in many._repr_html_() and "\\u001b[31m" in repr(many)
    assert [len(one) for one in many.top(1)] == [1] * (ROWS + 1)


@pytest.mark.parametrize(
    ("more", "message"), [({"batch_size": 0}, "batch_size = 0"), ({"shown": 0}, "asks for no class")]
)
def test_what_makes_no_predictor(method: PromptMethod, more: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Predictor(method, **more)


def test_counts() -> None:
    tally = Tally()
    rejection = Rejection("mcm", 0.9, 0.5, VAL)
    tally.count(Prediction(("a", "b"), torch.eye(2), ("x", "y"), 1.0, rejection, torch.tensor([0.5, 0.1])))
    assert (tally.pictures, tally.unknown, dict(tally.classes), tally.failure) == (2, 1, {"a": 1}, None)
    for i in range(150):
        tally.leave_out(str(i), InputError("why"))
    assert len(tally.reasons) == 100 and tally.failure is not None
    assert tally.failure.message == "150 of 152 pictures could not be read, and are left out"
