"""What a run has learned, in words and in curves: the nearest words of its context, and what its method logs.

Shapes: P prompts, K classes, V context tokens, D text width, n nearest tokens, C token ids looked at at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlmprompt.backbones.text.engine import TextEngine
from vlmprompt.backbones.types import TextPrompts, at_least_float
from vlmprompt.errors import CapabilityError
from vlmprompt.explain.curves import draw, epoch_lines, names_of
from vlmprompt.methods.blame import blaming
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.streaming import adapts
from vlmprompt.plugins import host
from vlmprompt.training.folder import RunFolder
from vlmprompt.training.runs import Run

NEAREST = 3
MOST_PROMPTS = 8
MOST_CLASSES = 3
CHUNK = 8192  # token ids at a time: their distances to 128 vectors take 4 MB
TITLE = "Nearest words of the learned context"


@dataclass(frozen=True)
class Context:
    """The learned tokens of one prompt.

    Attributes:
        label: which prompt, of which class; empty where there is one alone.
        vectors_VD: its tokens, of the text tower's first layer.
    """

    label: str
    vectors_VD: Tensor


def learned_tables(run: Run, method: PromptMethod, *, n: int = NEAREST) -> list[dict[str, Any]]:
    """The nearest words of each learned context token, as CoOp's authors look at them (Zhou et al. 2022, Table 4).

    Nearest are the tokens of the text tower's vocabulary by Euclidean distance to their embeddings. Tokens of deeper
    layers are left out: what stands there are states, which no word's embedding is comparable with.

    Args:
        method: of the run, trained.
        n: words a token.

    Returns:
        One table: `title`, `columns`, `rows` of text, `caption`. It has no rows where the words cannot be had, and its
        caption says why. None at all for a method without learned text, such as one that adapts it to test images.
    """
    if adapts(method):
        return []
    try:
        with torch.no_grad():
            prompts = method.shared_text_prompts()
        if prompts is None or not prompts.ctx.shape[-2]:
            return []
        contexts, left_out = _contexts(prompts, method.class_names)
        return [_table(method.backbone.text, contexts, left_out, n)]
    except CapabilityError as error:
        why = f"{error.message}. {error.hint}" if error.hint else error.message
        return [{"title": TITLE, "columns": ["token"], "rows": [], "caption": f"There are no words to show: {why}."}]


def learned_figures(run: Run, folder: Path) -> list[dict[str, Any]]:
    """What the method's `curves` name of the run's log, over its epochs, each as an SVG file.

    Args:
        folder: where the files go.

    Returns:
        `file`, `title` and `caption` of each; none where the method names none, or the run has no log.

    Raises:
        InputError: the log is damaged, or a file cannot be written.
    """
    log = RunFolder(run.path).log
    if not log.exists():
        return []
    lines = epoch_lines(log)
    entry = host().methods.get(run.config.method)
    method: type[PromptMethod] = entry.load()
    with blaming(entry):
        found = list(method.curves(names_of(lines)))
    return [draw(curves, lines, folder) for curves in found]


def nearest_tokens(text: TextEngine, vectors_VD: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The tokens of a tower whose embeddings are nearest to some vectors.

    Returns:
        Euclidean distances and token ids, (V,n) each, the nearest first; of equal ones the lower id. Fewer than n where
        the tower has no more.

    Raises:
        CapabilityError: see `TextEngine.vocabulary`.
    """
    ids = text.vocabulary()
    vectors_VD = at_least_float(vectors_VD)
    best_Vn = vectors_VD.new_empty(len(vectors_VD), 0)
    ids_Vn = torch.empty(len(vectors_VD), 0, dtype=torch.long, device=vectors_VD.device)
    for start in range(0, len(ids), CHUNK):
        part = ids[start : start + CHUNK]
        table_CD = text.embed_ids(part).to(vectors_VD)
        # Not by products, whose rounding would leave a distance between a vector and itself.
        found_VC = torch.cdist(vectors_VD, table_CD, compute_mode="donot_use_mm_for_euclid_dist")
        ids_VC = torch.tensor(part, device=vectors_VD.device).expand(len(vectors_VD), -1)
        merged, order = torch.cat([best_Vn, found_VC], dim=1).sort(dim=1, stable=True)
        best_Vn = merged[:, :n]
        ids_Vn = torch.cat([ids_Vn, ids_VC], dim=1).gather(1, order[:, :n])
    return best_Vn, ids_Vn


def _contexts(prompts: TextPrompts, class_names: Sequence[str]) -> tuple[list[Context], str]:
    """The contexts that are shown, and what is left out in words.

    Raises:
        CapabilityError: they depend on an image.
    """
    if prompts.scope == "image":
        raise CapabilityError("the context depends on the image, and the method does not say which part does not")
    own = prompts.scope == "class"
    ctx_KPVD = prompts.ctx if own else prompts.ctx[None]
    n_classes, n_prompts = ctx_KPVD.shape[:2]
    shown = [*_shown(ctx_KPVD[:MOST_CLASSES, :MOST_PROMPTS], class_names if own else ())]
    left_out = []
    if n_classes > MOST_CLASSES:
        left_out.append(f"Each class has a context of its own; shown are the first {MOST_CLASSES} of {n_classes}.")
    if n_prompts > MOST_PROMPTS:
        left_out.append(f"Shown are the first {MOST_PROMPTS} of {n_prompts} prompts.")
    return shown, " ".join(left_out)


def _shown(ctx_KPVD: Tensor, class_names: Sequence[str]) -> Iterator[Context]:
    for k, own_PVD in enumerate(ctx_KPVD):
        for p, vectors_VD in enumerate(own_PVD):
            parts = [class_names[k]] if class_names else []
            parts += [f"prompt {p + 1}"] if len(own_PVD) > 1 else []
            yield Context(", ".join(parts), vectors_VD)


def _table(text: TextEngine, contexts: Sequence[Context], left_out: str, n: int) -> dict[str, Any]:
    distances_Qn, ids_Qn = nearest_tokens(text, torch.cat([c.vectors_VD for c in contexts]), n)
    cells = [
        [f"{text.token(id_)} ({distance:.4f})" for id_, distance in zip(ids_n, distances_n, strict=True)]
        for ids_n, distances_n in zip(ids_Qn.tolist(), distances_Qn.tolist(), strict=True)
    ]
    places = [(c.label, v + 1) for c in contexts for v in range(len(c.vectors_VD))]
    labelled = any(c.label for c in contexts)
    columns = [*(["context"] if labelled else []), "token", *(_rank(i) for i in range(len(cells[0])))]
    rows = [[*([label] if labelled else []), str(v), *own] for (label, v), own in zip(places, cells, strict=True)]
    return {"title": TITLE, "columns": columns, "rows": rows, "caption": _caption(text, left_out)}


def _rank(place: int) -> str:
    return "nearest word (distance)" if place == 0 else f"{place + 1}."


def _caption(text: TextEngine, left_out: str) -> str:
    of = "" if text.tower.words.known is None else " that the tower was trained on"
    said = (
        f"Euclidean distance of each learned token to the embeddings of the {len(text.vocabulary()):,} tokens{of}; a "
        'piece of a word has "-" where the word goes on. Such words mean little: a learned vector need not be near any '
        "word, and the nearest are often far."
    )
    return f"{said} {left_out}".strip()
