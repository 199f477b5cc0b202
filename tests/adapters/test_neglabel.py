"""NegLabel: the formula by hand, the words that it reads, and the suite with it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.evaluation.material import patches
from tests.evaluation.test_context import make_bank, make_context
from vlmprompt.api import (
    Backbone,
    Context,
    InputError,
    UsageError,
    build_method,
    class_text,
    ood_scores,
    score_split,
    scorer,
)
from vlmprompt_adapters.neglabel import NegLabel, least_alike, neglabel_score, similarity
from vlmprompt_adapters.words import Words, read_words

AXES = torch.eye(4)


def mass(positive: list[float], negative: list[float], scale: float) -> float:
    inside, outside = (sum(math.exp(scale * c) for c in cosines) for cosines in (positive, negative))
    return inside / (inside + outside)


def test_the_share_of_the_classes_by_hand() -> None:
    image_Bd = torch.tensor([[0.6, 0.8, 0.0, 0.0], [0.0, 0.0, 0.6, 0.8]])
    ours = neglabel_score(image_Bd, AXES[:1], AXES[1:], scale=2.0)
    assert ours.tolist() == pytest.approx([mass([0.6], [0.8, 0, 0], 2), mass([0], [0, 0.6, 0.8], 2)])
    # Three negatives in two groups: the third is left out, each group has one; in the order that is given.
    grouped = neglabel_score(image_Bd, AXES[:1], AXES[1:], scale=2.0, groups=2, permutation=[1, 0])
    expected = [(mass([a], [b], 2) + mass([a], [c], 2)) / 2 for a, b, c in ((0.6, 0.0, 0.8), (0.0, 0.6, 0.0))]
    assert grouped.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("groups", "permutation", "said"),
    [(4, None, "3 negative labels cannot be cut into 4 groups"), (2, [0, 2], "permutation is no order of the 2")],
)
def test_groups_that_cannot_be(groups: int, permutation: list[int] | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        neglabel_score(AXES[:1], AXES[:1], AXES[1:], groups=groups, permutation=permutation)


def test_the_words_least_like_the_classes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The .95 quantile of two cosines lies 95 % of the way to the larger one."""
    candidate_Cd = torch.tensor([[0.6, 0.8, 0, 0], [0, 0, 1, 0], [0.8, 0, 0.6, 0], [0, 0.2, 0, 0.98]])
    expected = [0.6 + 0.95 * 0.2, 0.0, 0.95 * 0.8, 0.95 * 0.2]
    assert similarity(candidate_Cd, AXES[:2]).tolist() == pytest.approx(expected)
    assert torch.equal(least_alike(candidate_Cd, AXES[:2], 0.7), candidate_Cd[[1, 3]])  # int(2.8)
    monkeypatch.setattr("vlmprompt_adapters.neglabel.AT_ONCE", 2)  # one candidate at a time
    assert similarity(candidate_Cd, AXES[:2]).tolist() == pytest.approx(expected)


def test_words_of_a_file_and_of_wordnet(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(
        "# mine\nriver\n ice cream \nriver\n\n[adjectives]\nblue\nriver\n", encoding="utf-8"
    )
    assert read_words(str(tmp_path / "words.txt")) == Words(("river", "ice cream"), ("blue",))
    licence = "  1 This software and database is being provided to you\n"
    (tmp_path / "index.noun").write_text(f"{licence}ice_cream n 1 2 @ ~ 1 0 07614500\nblue n 1 1 @ 1 0 04968056\n")
    with pytest.raises(InputError, match=r"there is no index\.adj in"):
        read_words(str(tmp_path))
    (tmp_path / "index.adj").write_text(f"{licence}blue a 2 1 & 2 0 00370869 01\nfar-off a 1 1 & 1 0 00443988\n")
    assert read_words(str(tmp_path)) == Words(("ice cream", "blue"), ("far-off",))


def test_what_is_no_list_of_words_says_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n[adjectives]\n")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff")
    for name, said in (("empty.txt", "holds no words"), ("image.png", "no UTF-8"), ("gone.txt", "No such file")):
        with pytest.raises(InputError, match=said) as error:
            read_words(str(tmp_path / name))
        assert "a text file with a word a line" in str(error.value.hint)


def test_the_option_is_required_and_explained() -> None:
    with pytest.raises(UsageError, match="score 'neglabel' needs option negatives") as error:
        scorer("neglabel")
    assert "--score-set neglabel.negatives=VALUE" in str(error.value.hint)
    assert "index.noun" in str(error.value.hint)


def test_the_words_for_a_trial_are_many_and_distinct() -> None:
    nouns, adjectives = read_words("demo")
    assert (len(nouns), len(adjectives)) == (150, 30)


def test_among_the_scores_of_a_data_set(tiny_backbone: Backbone, tmp_path: Path) -> None:
    """Beside the core's, prepared for the method's classes; with groups that the words fill."""
    dataset = patches(3, 2, [])
    subject = make_context(dataset, make_bank(tiny_backbone)).subject
    assert "neglabel" not in make_context(dataset, make_bank(tiny_backbone)).scores
    options = {"negatives": "demo", "groups": 4}
    context = Context(subject, dataset, make_bank(tiny_backbone), score_options={"neglabel": options})
    scored = score_split(context, dataset)
    method = context.method()
    with torch.no_grad():
        outputs = [output for output, _ in context.outputs(method, dataset)]
        found_B = torch.cat([ood_scores(one, "neglabel", method=method, options=options) for one in outputs])
        image_Bd = torch.cat([one.aux["image_Bd"] for one in outputs])
        ready = scorer("neglabel", options, method)
        labels = ready.prepared
        assert labels.positive_Kd.shape == (3, 32) and labels.negative_Md.shape == (22 + 4, 32)
        order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
        groups_Gjd = labels.negative_Md[:24][order].unflatten(0, (4, 6))
        own_BK = (100 * image_Bd @ labels.positive_Kd.T).exp().double()
        rest_BG = torch.stack([(100 * image_Bd @ group_jd.T).exp().double().sum(1) for group_jd in groups_Gjd], dim=1)
        expected_B = (own_BK.sum(1, keepdim=True) / (own_BK.sum(1, keepdim=True) + rest_BG)).mean(1)
    torch.testing.assert_close(scored.of("neglabel"), expected_B.float(), atol=1e-5, rtol=0)
    assert torch.equal(scored.of("neglabel"), found_B)
    assert "groups=4" in scored.basis["neglabel"] and scored.basis["neglabel"].startswith("image features (")
    with pytest.raises(InputError, match="26 negative labels are left of demo, too few for 30 groups"):
        scorer("neglabel", {**options, "groups": 30}, method)


def test_other_words_are_another_score(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("river\nlamp\n")
    first = scorer("neglabel", {"negatives": str(file)})
    before = first.label
    file.write_text("river\nlamps\n")
    assert first.label != before and first.label.startswith("neglabel ")
    assert isinstance(first.score, NegLabel)


def test_zero_shot_and_a_learned_method_see_the_same_words(tiny_backbone: Backbone) -> None:
    """The text is hand-written whatever was learned, so equal image features have equal scores."""
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    options = {"negatives": "demo"}
    names = ["cat", "dog"]
    found = []
    for name in ("zeroshot", "coop", "linear_probe"):
        method = build_method(name, tiny_backbone, names).eval()
        with torch.no_grad():
            found.append(ood_scores(method(images), "neglabel", method=method, options=options))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_words_are_encoded_once_for_all_that_have_the_classes(
    tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []

    def counting(engine: object, template: object, names: tuple[str, ...]) -> torch.Tensor:
        encoded.append(len(names))
        return class_text(engine, template, names)  # type: ignore[arg-type]

    monkeypatch.setattr("vlmprompt_adapters.neglabel.class_text", counting)
    options = {"negatives": "demo", "top": 0.5}
    for names in (["ash", "elm"], ["ash", "elm"], ["ash", "fir", "oak"]):
        for groups in (1, 2):
            method = build_method("zeroshot", tiny_backbone, names)
            assert scorer("neglabel", options | {"groups": groups}, method).prepared.negative_Md.shape == (90, 32)
    assert encoded == [2, 150, 30, 3, 150, 30]
