"""Scores of plugins: measured beside the core's, refused with the reason, and blamed by name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from tests.evaluation.material import SOURCE, patches
from tests.evaluation.test_context import coop, make_bank, make_context
from tests.training.material import Hooked, runtime
from vlmprompt.api import Field, ScoreConfig
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures, TextFeatures
from vlmprompt.cli.companions import score_options
from vlmprompt.data.ood_sets import OodSet
from vlmprompt.data.records import Dataset
from vlmprompt.errors import CapabilityError, PluginError, UsageError, VlmPromptError
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.measuring import Runner
from vlmprompt.evaluation.ood_metrics import ood_metrics
from vlmprompt.evaluation.scored import score_split
from vlmprompt.evaluation.suites.ood import OodSuite
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.coop import CoOp, CoOpConfig
from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.score import Score
from vlmprompt.methods.score_config import read_score_settings
from vlmprompt.methods.score_names import SCORES
from vlmprompt.methods.scorer import scorer
from vlmprompt.methods.scores import ood_scores
from vlmprompt.plugins import host
from vlmprompt.results.ledger import Ledger
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore
from vlmprompt.training.runs import load_run

WHO = "score 'bad' of plugin 'made-up' (made-up 1.0)"


class HaloConfig(ScoreConfig):
    """Options of Halo."""

    power: int = Field(1, ge=1, description="exponent of the cosine; made up")


class Halo(Score):
    """The cosine with the mean text of the classes, to a power."""

    needs: ClassVar[frozenset[str]] = frozenset({"image"})
    prepared: ClassVar[list[tuple[str, ...]]] = []

    def prepare(self, method: PromptMethod) -> Tensor:
        self.prepared.append(method.class_names)
        return method.encode_text().unit_PKd.mean(dim=(0, 1))

    def score(self, output: MethodOutput, prepared: Any) -> Tensor:
        return (output.aux["image_Bd"] @ prepared) ** self.config.power


class FileConfig(ScoreConfig):
    """Options of a score that needs one."""

    words: str = Field(description="a file of words")


class OfFile(Halo):
    """Halo with an option that has no default."""


class Bad(Score):
    """Gives what a test says."""

    given: ClassVar[Any] = None

    def score(self, output: MethodOutput, prepared: Any) -> Any:
        return type(self).given(output)


class NeedsText(Halo):
    """A score of text features, and of a name that there is not."""

    needs = frozenset({"text", "colour"})


@pytest.fixture(autouse=True)
def plugin() -> Iterator[None]:
    for name, cls, config in (
        ("halo", "Halo", "HaloConfig"),
        ("of-file", "OfFile", "FileConfig"),
        ("bad", "Bad", None),
    ):
        options = None if config is None else f"{__name__}:{config}"
        host().scores.register(name, target=f"{__name__}:{cls}", config=options, source=SOURCE)
    Bad.given = lambda output: output.logits[:, 0]
    Halo.prepared.clear()
    yield
    host().scores.withdraw(SOURCE)


class Silent(CoOp):
    """CoOp that says no more than its cosines."""

    def classify(self, features: ImageFeatures, text: TextFeatures, **method_options: Any) -> MethodOutput:
        return replace(super().classify(features, text, **method_options), aux={})


class Given(OodSuite):
    """The suite over sets in memory, one for each letter."""

    def __init__(self, names: str = "xy") -> None:
        super().__init__()
        self.names = names

    def _sets(self, context: Context) -> Sequence[OodSet]:
        return [OodSet(name, "", name, partial(patches, 5, n, [], name=name)) for n, name in enumerate(self.names, 2)]


def measured(context: Context, folder: Path, names: str = "xy") -> dict[tuple[str, str], ResultRow]:
    runner = Runner(Ledger(ResultStore(folder / "results.jsonl")), "towers", progress=Hooked())
    return {(row.cell, row.metric): row for row in runner.measure([context], [Given(names)])}


def context_of(backbone: Backbone, method: PromptMethod | None = None, **options: dict[str, Any]) -> Context:
    dataset = patches(3, 3, [])
    bank = make_bank(backbone)
    subject = make_context(dataset, bank, method or coop(backbone, dataset)).subject
    return Context(subject, dataset, bank, score_options=options)


def test_it_is_measured_beside_the_cores_own(tiny_backbone: Backbone, tmp_path: Path) -> None:
    method = coop(tiny_backbone, patches(3, 3, []))
    rows = measured(context_of(tiny_backbone, method, halo={"power": 3}), tmp_path)
    assert [cell for cell, metric in rows if metric == "auroc"] == [
        f"{place}/{score}" for place in ("x", "y", "mean") for score in (*SCORES, "bad", "halo")
    ]
    assert Halo.prepared == [method.class_names]  # once, for three data sets

    def by_hand(dataset: Dataset) -> list[float]:
        text_d = method.encode_text().unit_PKd.mean(dim=(0, 1))
        transform = tiny_backbone.transform(train=False)
        images = [transform(record.image.load())[None] for record in dataset.split("test")]  # type: ignore[union-attr]
        return [float((tiny_backbone.encode_image(image).unit_Bd[0] @ text_d) ** 3) for image in images]

    with torch.no_grad():
        expected = ood_metrics(by_hand(patches(3, 3, [])), by_hand(patches(5, 2, [], name="x")))
    for metric, value in expected.items():
        assert rows["x/halo", metric].value == pytest.approx(value, abs=1e-9)
    assert rows["x/halo", "auroc"].note == "image features (made-up 1.0 power=3)"


def test_a_score_without_what_it_needs_is_measured_when_its_option_is_given(tiny_backbone: Backbone) -> None:
    assert context_of(tiny_backbone).scores == [*SCORES, "bad", "halo"]
    assert context_of(tiny_backbone, **{"of-file": {"words": "w.txt"}}).scores == [*SCORES, "bad", "halo", "of-file"]
    with pytest.raises(UsageError, match="score 'of-file' needs option words") as error:
        scorer("of-file")
    assert error.value.hint == "--score-set of-file.words=VALUE: a file of words"


def test_options_make_other_numbers_and_the_cores_cells_stay_as_they_are(tiny_backbone: Backbone) -> None:
    plain, other = (Given().cells(context_of(tiny_backbone, halo={"power": power})) for power in (1, 2))
    parts = [{cell.name: dict(cell.parts) for cell in cells} for cells in (plain, other)]
    assert {name for name in parts[0] if parts[0][name] != parts[1][name]} == {"x/halo", "y/halo", "mean/halo"}
    assert parts[0]["x/halo"]["score"]["options"] == {"power": 1}
    assert parts[0]["x/mcm"].keys() == {"id", "ood"}


def test_what_fails_or_does_not_apply_leaves_the_others(tiny_backbone: Backbone, tmp_path: Path) -> None:
    """A method that gives no image features, and a score that gives no numbers."""
    method = Silent(tiny_backbone, patches(3, 3, []).class_names, CoOpConfig(n_ctx=2))
    Bad.given = lambda output: output.logits
    rows = measured(context_of(tiny_backbone, method), tmp_path, "x")
    status = {(cell.partition("/")[2], row.status) for (cell, _), row in rows.items()}
    assert status == {*((score, "ok") for score in SCORES), ("bad", "failed"), ("halo", "not_applicable")}
    note = rows["x/halo", "auroc"].note
    assert note.startswith("the score needs unit image features, and this method gives none")
    assert rows["x/bad", "auroc"].note.startswith(f"{WHO} gives scores of shape (4, 3)")


def raises(output: MethodOutput) -> Tensor:
    raise KeyError("colour")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda output: output.logits[:, 0] * float("nan"), "of 9 images of patches is not finite, the first is 0/0"),
        (lambda output: output.logits, "gives scores of shape (4, 3) for 4 images (they must be (4,)"),
        (lambda output: output.logits[0, 0], "gives scores of shape () for 4 images"),
        (lambda output: [0.5] * len(output.logits), "gives a list (score returns a tensor (B,)"),
        (lambda output: output.logits.argmax(dim=1), "gives scores of type torch.int64"),
        (raises, "failed in raises (test_plugin_scores.py, line "),
    ],
)
def test_what_is_no_score_is_told_in_its_name(given: Any, said: str, tiny_backbone: Backbone) -> None:
    Bad.given = given
    scored = score_split(context_of(tiny_backbone), patches(3, 3, []))
    assert set(scored.refused) == {"bad"}
    with pytest.raises(VlmPromptError) as error:
        scored.of("bad")
    assert not isinstance(error.value, CapabilityError)  # which would not fail the cell
    assert error.value.told.startswith(f"{WHO} ") and said in error.value.told
    assert "tell the author of made-up" in error.value.told


def test_what_cannot_be_prepared_leaves_the_others(tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(self: Halo, method: PromptMethod) -> Tensor:
        raise CapabilityError("this tower writes no words")

    monkeypatch.setattr(Halo, "prepare", prepare)
    scored = score_split(context_of(tiny_backbone), patches(3, 3, []))
    with pytest.raises(CapabilityError, match="this tower writes no words"):
        scored.of("halo")
    assert len(scored.of("bad")) == 9


def test_as_a_function_of_an_output(tiny_backbone: Backbone) -> None:
    method = coop(tiny_backbone, patches(3, 1, []))
    with torch.no_grad():
        output = method(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
        expected_B = (output.aux["image_Bd"] @ method.encode_text().unit_PKd.mean(dim=(0, 1))) ** 2
    torch.testing.assert_close(ood_scores(output, "halo", method=method, options={"power": 2}), expected_B)
    torch.testing.assert_close(ood_scores(output, "bad"), output.logits[:, 0])
    with pytest.raises(UsageError, match="is prepared for a method") as error:
        ood_scores(output, "halo")
    assert "method=method" in str(error.value.hint)
    with pytest.raises(UsageError, match="takes no temperature"):
        ood_scores(output, "bad", 0.1)
    with pytest.raises(UsageError, match="score 'mcm' has no options"):
        ood_scores(output, "mcm", options={"power": 2})
    with pytest.raises(UsageError, match="unknown OOD score 'hallo'") as unknown:
        ood_scores(output, "hallo")
    assert unknown.value.hint == "did you mean 'halo'?"
    for name in SCORES:
        if "l-mcm" not in name:
            assert torch.equal(scorer(name)(output), ood_scores(output, name))


def test_what_is_registered_is_looked_at() -> None:
    for name, cls, said in (
        ("text", "NeedsText", "needs holds an unknown name 'colour'"),
        ("no", "Given", "is not a Score"),
    ):
        host().scores.register(name, target=f"{__name__}:{cls}", source=SOURCE)
        with pytest.raises(PluginError, match="of plugin 'made-up'") as error:
            scorer(name)
        assert said in error.value.message
    with pytest.raises(PluginError, match="score 'mcm' is already provided"):
        host().scores.register("mcm", target=f"{__name__}:Halo", source=SOURCE)


def test_options_on_the_command_line() -> None:
    assert score_options(["halo.power=2"], ["accuracy", "ood"]) == {"halo": {"power": 2}}
    assert read_score_settings(["of-file.words=12.txt"]) == {"of-file": {"words": "12.txt"}}
    for assignment, said in (
        ("halo", "is not NAME.OPTION=VALUE"),
        ("halo.powr=2", "score 'halo' has no option 'powr'"),
        ("halo.power=0", "option power = 0 of score 'halo' is not allowed: it should be greater than or equal to 1"),
        ("hallo.power=1", "unknown OOD score 'hallo'"),
        ("mcm.t=1", "score 'mcm' has no option 't'"),
    ):
        with pytest.raises(UsageError) as error:
            score_options([assignment], ["ood"])
        assert said in error.value.message
    with pytest.raises(UsageError, match="--score-set has no effect on these suites"):
        score_options(["halo.power=2"], ["accuracy"])


def test_a_run_rejects_by_it_and_keeps_its_threshold_by_its_options(
    trained: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    run = load_run(shutil.copytree(trained, tmp_path / "run"))
    records = run.load_dataset().split("test")
    shares: dict[str, Any] = {"reject": 0.5, "score": "halo", "runtime": runtime(tmp_path), "backbone": tiny_backbone}
    found = {power: run.predict(records, score_options={"halo": {"power": power}}, **shares) for power in (1, 3)}
    method = run.build_method(tiny_backbone)
    output = next(iter(run.classifier(tiny_backbone).outputs(records)))
    for power, prediction in found.items():
        expected_B = ood_scores(output, "halo", method=method, options={"power": power})
        torch.testing.assert_close(prediction.scores_B[: len(expected_B)], expected_B)
        assert prediction.rejection.score.startswith("halo ")
        assert sum(verdict == "known" for verdict in prediction.rejection.verdicts(prediction.scores_B.tolist())) >= 6
    assert found[1].rejection.score != found[3].rejection.score
    assert found[1].rejection.threshold != found[3].rejection.threshold
    again = load_run(run.path).predict(records, score_options={"halo": {"power": 3}}, **shares)
    assert again.rejection == found[3].rejection
