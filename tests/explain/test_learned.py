"""The nearest words of learned contexts against a plain search, on every text method; curves against the log."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.openclip.readable import token_reader
from vlmprompt.backbones.openclip.tokenizers import StandInTokenizer
from vlmprompt.backbones.openclip.tokens import words_of
from vlmprompt.backbones.text.engine import TextEngine
from vlmprompt.backbones.text.tower import Words
from vlmprompt.backbones.text.whole import WholeTower
from vlmprompt.backbones.types import TextPrompts
from vlmprompt.errors import CapabilityError, InputError
from vlmprompt.explain import learned
from vlmprompt.explain.curves import epoch_lines, figure_of, names_of
from vlmprompt.explain.learned import learned_figures, learned_tables, nearest_tokens
from vlmprompt.methods.build import build_method, list_methods
from vlmprompt.methods.coop import CoOp
from vlmprompt.methods.curves import Curves, Panel

NAMES = ["red fox", "owl", "oak", "rose"]
RUN: Any = None  # tables need no more than the method
# Prompts shown and their tokens, at their smallest settings where those are many; of other methods no text is learned.
LEARNED: dict[str, tuple[dict[str, Any], int]] = {
    "coop": ({"n_ctx": 2}, 2),
    "cocoop": ({"ctx_init": "", "n_ctx": 3}, 3),
    "kgcoop": ({"ctx_init": "", "n_ctx": 2}, 2),
    "locoop": ({"n_ctx": 2}, 2),
    "proda": ({"n_ctx": 4, "n_prompts": 12}, 8 * 4),
    "plot": ({"n_ctx": 2, "n_prompts": 3}, 3 * 2),
    "ivlp": ({}, 2),
    "promptsrc": ({}, 4),
    "maple": ({}, 2),
    "bloom": ({}, 2),
    "gallop": ({"n_global": 2, "n_local": 1, "topk": [2]}, 3 * 4),
    "dual_pt": ({"n_ctx": 2, "n_prompts": 2}, 2 * 2),
    "tcp": ({}, 4),
}


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain_nearest(model: Any, vectors: torch.Tensor, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Every distance in NumPy's double precision, without chunks."""
    table = model.token_embedding.weight.detach().double().numpy()
    own = vectors.detach().double().numpy()
    distances = np.stack([np.sqrt(((table - v) ** 2).sum(axis=1)) for v in own])
    ids = np.argsort(distances, axis=1, kind="stable")[:, :n]
    return np.take_along_axis(distances, ids, axis=1), ids


@pytest.mark.parametrize("chunk", [learned.CHUNK, 999, 100_000])
def test_nearest_tokens_are_those_of_a_plain_search(
    chunk: int, tiny_backbone: Backbone, tiny_model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learned, "CHUNK", chunk)
    vectors = 0.02 * torch.randn(5, 64, generator=generator())
    distances, ids = nearest_tokens(tiny_backbone.text, vectors, 4)
    expected, expected_ids = plain_nearest(tiny_model, vectors, 4)
    assert ids.tolist() == expected_ids.tolist()
    assert distances.numpy() == pytest.approx(expected, rel=1e-5)


def test_a_context_of_words_is_these_words_at_distance_0(tiny_backbone: Backbone) -> None:
    method = build_method("coop", tiny_backbone, NAMES, {"ctx_init": "a photo of unbelievableness"})
    method.ctx.data[1] += 1e-3
    (table,) = learned_tables(RUN, method)
    assert table["columns"] == ["token", "nearest word (distance)", "2.", "3."]
    assert [row[:2] for row in table["rows"]] == [
        ["1", "a (0.0000)"],
        ["2", "photo (0.0080)"],  # 0.001 * sqrt(64)
        ["3", "of (0.0000)"],
        ["4", "unbeliev- (0.0000)"],
        ["5", "ab- (0.0000)"],
        ["6", "leness (0.0000)"],
    ]
    assert "49,408 tokens;" in table["caption"] and "mean little" in table["caption"]


@pytest.mark.parametrize("name", list_methods())
def test_every_method(name: str, tiny_backbone: Backbone, tiny_model: nn.Module) -> None:
    options, expected = LEARNED.get(name, ({}, 0))
    descriptions = [[f"a {own}", f"the {own}"] for own in NAMES]
    method = build_method(name, tiny_backbone, NAMES, options, descriptions=descriptions)
    tables = learned_tables(RUN, method)
    assert sum(len(table["rows"]) for table in tables) == expected
    if not expected:
        assert tables == []
        return
    prompts = method.shared_text_prompts()
    assert prompts is not None
    _, ids = plain_nearest(tiny_model, prompts.ctx[:8].flatten(0, 1), 1)
    nearest = [tiny_backbone.text.token(id_) for (id_,) in ids.tolist()]
    at = tables[0]["columns"].index("nearest word (distance)")
    assert [row[at].rpartition(" (")[0] for row in tables[0]["rows"]] == nearest
    assert ("first 8 of 12 prompts" in tables[0]["caption"]) == (name == "proda")


def test_the_first_classes_of_class_specific_contexts_are_shown(tiny_backbone: Backbone) -> None:
    method = build_method("coop", tiny_backbone, NAMES, {"n_ctx": 2, "class_specific": True})
    (table,) = learned_tables(RUN, method)
    assert [row[:2] for row in table["rows"]] == [[name, token] for name in NAMES[:3] for token in "12"]
    assert "shown are the first 3 of 4." in table["caption"]
    few = build_method("coop", tiny_backbone, NAMES[:2], {"n_ctx": 2, "class_specific": True})
    assert "first" not in learned_tables(RUN, few)[0]["caption"]


class Conditioned(CoOp):
    """Has a context for each image, and does not say what they share."""

    def text_prompts(self, global_Bd: Any = None, *, draws: Any = None) -> TextPrompts:
        return TextPrompts(self.ctx[None, None], scope="image")


def test_what_cannot_be_shown_is_said_in_a_sentence(tiny_backbone: Backbone) -> None:
    conditioned = Conditioned(tiny_backbone, NAMES, CoOp(tiny_backbone, NAMES, coop_config()).config)
    assert caption(conditioned) == (
        "There are no words to show: the context depends on the image, and the method does not say which part does not."
    )
    stand_in = StandInTokenizer("made", 77, 49408, (49406,), (49407,), 0, str.lower)
    words = words_of(stand_in)
    assert words.token is None
    assert "does not say which word a token id stands for" in caption(coop_on(tiny_backbone, words=words))
    words = Words(ids=lambda text: [1, 2], start=(0,), end=(3,), token=str)
    table = nn.Embedding(9, 64)
    tower = WholeTower(words, lambda ids: table(ids), lambda texts: texts.x_QTD[:, 0], 64, 32, 20, torch.device("cpu"))
    assert "has no table of token embeddings that could be searched" in caption(coop_on(tiny_backbone, tower=tower))
    (shown,) = learned_tables(RUN, coop_on(tiny_backbone, tower=replace(tower, embedding=table)))
    assert len(shown["rows"]) == 2 and "9 tokens;" in shown["caption"]


def test_only_tokens_that_the_tower_was_trained_on_are_near(tiny_backbone: Backbone) -> None:
    ids = frozenset(tiny_backbone.text.tower.words.ids("cat dog horse"))
    method = coop_on(tiny_backbone, words=replace(tiny_backbone.text.tower.words, known=ids))
    (table,) = learned_tables(RUN, method, n=5)
    assert table["columns"] == ["token", "nearest word (distance)", "2.", "3."]  # there are no more
    for row in table["rows"]:
        assert sorted(cell.partition(" ")[0] for cell in row[1:]) == ["cat", "dog", "horse"]
    assert "the 3 tokens that the tower was trained on" in table["caption"]


def coop_config() -> Any:
    from vlmprompt.methods.config import CoOpConfig

    return CoOpConfig(n_ctx=2)


def coop_on(backbone: Backbone, *, tower: Any = None, words: Words | None = None) -> CoOp:
    """CoOp whose text tower, or its words, are other ones."""
    tower = tower or replace(backbone.text.tower, words=words)  # type: ignore[type-var]
    other = Backbone(
        backbone.model,
        TextEngine(tower),
        backbone.vision,
        identity=backbone.identity,
        preprocess=backbone.preprocess,
        scale=backbone.scale,
    )
    return CoOp(other, NAMES, coop_config())


def caption(method: CoOp) -> str:
    (table,) = learned_tables(RUN, method)
    assert table["rows"] == []
    return str(table["caption"])


# -- tokens as people read them ----------------------------------------------------------------------
def test_tokens_of_clip(tokenizer: Any) -> None:
    read = token_reader(tokenizer)
    assert read is not None
    assert [read(id_) for id_ in tokenizer.encode("unbelievableness, tschüss")] == [
        *("unbeliev-", "ab-", "leness", ",", "t-", "sch-", "ü-", "ss"),
    ]
    assert (read(49406), read(49407), read(99999)) == ("<start_of_text>", "<end_of_text>", "token 99999")


@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece", "bytes"])
def test_tokens_of_hugging_face(kind: str) -> None:
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = {
        "wordpiece": ["[UNK]", "cat", "un", "##able"],
        "sentencepiece": ["[UNK]", "▁cat", "▁un", "able"],
        "bytes": ["[UNK]", "Ġcat", "Ġun", "able", "Ã¼"],
    }[kind]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    if kind == "wordpiece":
        inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        inner.pre_tokenizer, inner.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    else:
        inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        if kind == "sentencepiece":
            inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        else:
            inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    wrapped = SimpleNamespace(tokenizer=PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]"))
    read = token_reader(wrapped)
    assert read is not None
    assert [read(i) for i in range(4)] == ["[UNK]", "cat", "un", "-able"]
    if kind == "bytes":
        assert read(4) == "-ü"


def test_other_tokenizers_say_nothing() -> None:
    assert token_reader(lambda texts: torch.zeros(1, 77)) is None


# -- curves ------------------------------------------------------------------------------------------
def log_of(folder: Path, epochs: int) -> Path:
    """A log of steps and epochs with numbers that tell where they stand."""
    lines: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        lines.append({"step": epoch, "epoch": epoch, "loss": 9.0, "gradients": {"gate_v.ratio": 9.0}})
        shares = {f"gate_v.{layer}.cross": 0.5 + layer / 100 + epoch / 1000 for layer in range(1, 13)}
        seen = {"gate_v.spread": 0.11, "gate_v.change": epoch / 10}
        ratio = {"gate_v.ratio": None if epoch == 2 else epoch / 100}
        lines.append(
            {"step": epoch, "epoch": epoch, "epoch_end": True, "diagnostics": shares | seen, "gradients": ratio}
        )
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "log.jsonl"


def bloom_run(folder: Path) -> Any:
    return SimpleNamespace(path=folder, config=SimpleNamespace(method="bloom"))


def test_the_picture_of_gates_shows_the_numbers_of_the_log(tmp_path: Path) -> None:
    from vlmprompt_bloom.bloom import Bloom

    lines = epoch_lines(log_of(tmp_path, 3))
    (curves,) = Bloom.curves(names_of(lines))
    axes = figure_of(curves, lines).axes
    assert [a.get_title() for a in axes][:3] == [
        *("Gates of the image tower", "How far they are apart, and moved", "Gradient of gates : prompts"),
    ]
    gates, moves, ratio = (axes[i].get_lines() for i in range(3))
    assert [line.get_label() for line in gates] == [f"layer {layer}" for layer in range(1, 13)]
    for layer, line in enumerate(gates, 1):
        assert list(line.get_xdata()) == [1, 2, 3]
        assert list(line.get_ydata()) == pytest.approx([0.5 + layer / 100 + epoch / 1000 for epoch in (1, 2, 3)])
    assert len({str(line.get_color()) for line in gates}) == 12 and axes[0].get_ylim() == (0, 1)
    assert [list(line.get_ydata()) for line in moves] == [[0.11] * 3, [0.1, 0.2, 0.3]]
    assert list(ratio[0].get_ydata()) == pytest.approx([0.01, float("nan"), 0.03], nan_ok=True)
    assert axes[2].get_yscale() == "log"


def test_the_files_are_whole_pictures_and_equal_for_equal_logs(tmp_path: Path) -> None:
    log_of(tmp_path, 2)
    (entry,) = learned_figures(bloom_run(tmp_path), tmp_path / "a")
    assert learned_figures(bloom_run(tmp_path), tmp_path / "b") == [entry]
    assert entry["file"] == "gates.svg" and entry["caption"].endswith("Values at the end of 2 epochs.")
    content = (tmp_path / "a" / "gates.svg").read_bytes()
    assert content == (tmp_path / "b" / "gates.svg").read_bytes()
    assert (
        content.rstrip().endswith(b"</svg>") and b"http://www.w3.org/2000/svg" in content and b"<image" not in content
    )


def test_a_run_without_a_log_or_a_whole_epoch_has_no_pictures(tmp_path: Path) -> None:
    assert learned_figures(bloom_run(tmp_path), tmp_path / "a") == []
    (tmp_path / "log.jsonl").write_text('{"step": 1, "epoch": 1, "loss": 1.0}\n')
    assert learned_figures(bloom_run(tmp_path), tmp_path / "a") == [] and not (tmp_path / "a").exists()


@pytest.mark.parametrize("line", ["garbage", "[1]", '{"epoch_end": true}', "[" * 99_999])
def test_a_damaged_log_is_named(tmp_path: Path, line: str) -> None:
    log_of(tmp_path, 1)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=r"line 3 of .*log\.jsonl is damaged"):
        learned_figures(bloom_run(tmp_path), tmp_path)


def test_a_logarithmic_panel_without_a_positive_value_is_empty() -> None:
    curves = Curves("x", "x", "x", (Panel("x", "x", {"a": "a"}, log=True),))
    (axes,) = figure_of(curves, [{"epoch": 1, "a": 0.0}]).axes
    assert np.isnan(axes.get_lines()[0].get_ydata()).all() and axes.get_yscale() == "linear"


def test_a_missing_image_is_no_traceback(tiny_backbone: Backbone) -> None:
    method = build_method("cocoop", tiny_backbone, NAMES)
    with pytest.raises(CapabilityError):
        method.text_prompts()
    prompts = method.shared_text_prompts()
    assert prompts is not None and torch.equal(prompts.ctx[0], method.ctx)
    both = build_method(
        "dual_pt", tiny_backbone, NAMES, {"conditional": True, "context": "none", "n_prompts": 3, "n_ctx": 2}
    )
    assert len(learned_tables(RUN, both)[0]["rows"]) == 3 * 2
