"""Tokens inserted in the layers of text towers, against open_clip's own blocks on longer texts under a longer mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.backbones.test_text import close
from tests.backbones.test_text_kinds import KINDS, NAMES, grads_close
from tests.backbones.text_kinds import SmallText, plain
from vlmprompt.backbones.text.causal import CausalTower
from vlmprompt.backbones.types import TextPrompts
from vlmprompt.errors import InputError

R, V = 2, 3


# Of kinds that differ in their tokenizer alone one is enough.
ALIKE = (
    "causal, a highest token that is not the last id",
    "causal, eos",
    "short causal",
    "bidirectional, last, pads as ends",
)


@pytest.fixture(scope="module", params=[name for name in KINDS if name not in ALIKE])
def kind(request: pytest.FixtureRequest) -> SmallText:
    """Three layers, so that one can lie between two that are named."""
    architecture, changes = KINDS[request.param]
    return SmallText(architecture, {**changes, "layers": 3})


def longer(mask: Tensor | None, first: int, causal: bool) -> Tensor | None:
    """An additive mask (*,T,T) with R more tokens at `first`: seen by all, or under a causal one by those behind."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape).masked_fill(mask, float("-inf"))
    never = float("-inf") if causal else 0.0
    seen = torch.zeros(*mask.shape[:-1], R)
    seen[..., :first, :] = never
    wide = torch.cat([mask[..., :first], seen, mask[..., first:]], dim=-1)
    # What an inserted token sees: the start tokens and its own kind; all that is no pad, where it may look ahead.
    row = wide[..., -1:, :].clone() if not causal else torch.full_like(wide[..., -1:, :], never)
    row[..., :first] = 0.0
    rows = row.expand(*row.shape[:-2], R, -1).clone()
    rows[..., first : first + R] = torch.full((R, R), never).triu(1)
    return torch.cat([wide[..., :first, :], rows, wide[..., first:, :]], dim=-2)


@contextmanager
def inserting(text: Any, inserted: Mapping[int, Tensor], first: int) -> Iterator[list[Tensor]]:
    """Hooks on the module's own blocks; the last one's inserted outputs are taken out again, and given.

    Args:
        inserted: layer -> (Q,R,D).
    """
    blocks, causal, handles = text.transformer.resblocks, text.attn_mask is not None, []

    def enter(layer: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        x_QTD, *rest = args
        if layer in inserted:
            kept = first + (R if layer > min(inserted) else 0)
            x_QTD = torch.cat([x_QTD[:, :first], inserted[layer], x_QTD[:, kept:]], dim=1)
        if layer >= min(inserted):
            kwargs = {**kwargs, "attn_mask": longer(kwargs["attn_mask"], first, causal)}
        return (x_QTD, *rest), kwargs

    for i, block in enumerate(blocks):
        hook = lambda _, args, kwargs, i=i: enter(i, args, kwargs)  # noqa: E731
        handles.append(block.register_forward_pre_hook(hook, with_kwargs=True))
    taken: list[Tensor] = []

    def leave(_: Any, args: Any, x_QTD: Tensor) -> Tensor:
        taken.append(x_QTD[:, first : first + R])
        return torch.cat([x_QTD[:, :first], x_QTD[:, first + R :]], dim=1)

    handles.append(blocks[-1].register_forward_hook(leave))
    yield taken
    for handle in handles:
        handle.remove()


def by_text(tokens: Tensor, n_classes: int) -> Tensor:
    """(P,*,D) or (K,P,*,D) as one for each text, prompts first: (P*K,*,D)."""
    rows = tokens.transpose(0, 1) if tokens.dim() == 4 else tokens[:, None].expand(-1, n_classes, -1, -1)
    return rows.flatten(0, 1)


def both(
    kind: SmallText, ctx: Tensor, inserted: dict[int, Tensor], deep: dict[int, Tensor], position: Any, chunk: Any
) -> tuple[Tensor, Tensor]:
    """(P,K,d) of the engine, and of the module with hooks."""
    scope: Any = "class" if ctx.dim() == 4 else "shared"
    prompts = TextPrompts(ctx, scope=scope, position=position, inserted=inserted, deep=deep)
    ours = kind.engine.encode(prompts, kind.engine.class_tokens(NAMES), chunk=chunk)
    first, n = len(kind.words.start), len(NAMES)
    ids = kind.rows(NAMES, V, position).repeat(ours.shape[0], 1)
    text = getattr(kind.model, "text", kind.model)
    with inserting(text, {i: by_text(t, n) for i, t in inserted.items()}, first):
        rows = {i: by_text(t, n) for i, t in deep.items()}
        put_at = first + (R if min(inserted) <= min(deep, default=0) else 0)
        reference = plain(kind.model, ids, by_text(ctx, n), rows, first=put_at)
    return ours, reference.reshape(ours.shape)


CASES = {  # layers, whether every class has tokens and a context of its own, the class name's place, chunk
    "from the second layer on": ((1,), (), (), "end", "auto"),
    "first layer, overwritten in the last": ((0, 2), (), (), "middle", 2),
    "last layer, every class its own context": ((2,), (), (len(NAMES),), "end", 3),
    "every class its own tokens": ((0, 2), (len(NAMES),), (), "end", 2),
    "every class its own of all": ((1,), (len(NAMES),), (len(NAMES),), "front", "auto"),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(kind: SmallText, case: str) -> None:
    layers, own, own_ctx, position, chunk = CASES[case]
    g = torch.Generator().manual_seed(3)
    ctx = torch.randn(*own_ctx, 2, V, 64, generator=g).requires_grad_()
    inserted = {i: torch.randn(*own, 2, R, 64, generator=g).requires_grad_() for i in layers}
    ours, reference = both(kind, ctx, inserted, {}, position, chunk)
    grads_close(ours, reference, [ctx, *inserted.values()])


@pytest.mark.parametrize("own", [(), (len(NAMES),)])
def test_outputs_of_inserted_tokens(kind: SmallText, own: tuple[int, ...]) -> None:
    """Values and gradients, through the module's last norm and projection; of all texts where those are seen."""
    g, n = torch.Generator().manual_seed(6), len(NAMES)
    ctx = torch.randn(2, V, 64, generator=g)
    inserted = {1: torch.randn(*own, 2, R, 64, generator=g).requires_grad_()}
    classes, text = kind.engine.class_tokens(NAMES), getattr(kind.model, "text", kind.model)
    ours_PKRd = kind.engine.encode_inserted(TextPrompts(ctx, inserted=inserted), classes)
    ids = kind.rows(NAMES, V, "end").repeat(2, 1)
    with inserting(text, {i: by_text(t, n) for i, t in inserted.items()}, len(kind.words.start)) as taken:
        plain(kind.model, ids, by_text(ctx, n), {}, first=0)
    normed_QRD, projection = text.ln_final(taken[0]), text.text_projection
    out_QRd = projection(normed_QRD) if callable(projection) else normed_QRD @ projection
    alone = isinstance(kind.engine.tower, CausalTower) and not own
    assert ours_PKRd.shape[:3] == (2, 1 if alone else n, R)
    grads_close(ours_PKRd.expand(-1, n, -1, -1), out_QRd.unflatten(0, (2, n)), list(inserted.values()))


def test_outputs_of_nothing_are_refused(kind: SmallText) -> None:
    with pytest.raises(InputError, match="insert no tokens"):
        kind.engine.encode_inserted(TextPrompts(torch.zeros(1, V, 64)), kind.engine.class_tokens(NAMES))


@pytest.mark.parametrize(("own", "own_deep"), [((), ()), ((), (len(NAMES),)), ((len(NAMES),), ())])
def test_beside_deep_prompts(kind: SmallText, own: tuple[int, ...], own_deep: tuple[int, ...]) -> None:
    """Deep prompts stay those of the text: behind the inserted tokens. Of all classes, or of each."""
    g = torch.Generator().manual_seed(4)
    ctx = torch.randn(2, V, 64, generator=g).requires_grad_()
    inserted = {i: torch.randn(*own, 2, R, 64, generator=g).requires_grad_() for i in (0, 2)}
    deep = {1: torch.randn(*own_deep, 2, 2, 64, generator=g).requires_grad_()}
    ours, reference = both(kind, ctx, inserted, deep, "end", 2)
    grads_close(ours, reference, [ctx, *inserted.values(), *deep.values()])


def test_where_the_text_depends_on_the_image_and_prompts_have_places_of_their_own(kind: SmallText) -> None:
    """As many encodings with one image and one place each."""
    g, classes = torch.Generator().manual_seed(5), kind.engine.class_tokens(NAMES)
    ctx = torch.randn(2, 2, V, 64, generator=g)
    inserted, deep = ({1: torch.randn(len(NAMES), 2, n, 64, generator=g)} for n in (R, 1))
    places: Any = ("middle", "end")
    together = kind.engine.encode(TextPrompts(ctx, "image", deep, position=places, inserted=inserted), classes)
    for b, ctx_PVD in enumerate(ctx):
        for p, place in enumerate(places):
            own, own_deep = ({1: t[1][:, p : p + 1]} for t in (inserted, deep))
            alone = TextPrompts(ctx_PVD[p : p + 1], deep=own_deep, position=place, inserted=own)
            close(together[b, p], kind.engine.encode(alone, classes)[0])


def test_they_take_no_position(kind: SmallText) -> None:
    """A text that fills the tower takes them as well; one token more is an error that counts the text's own."""
    room = kind.tokenizer.context_length - V - len(kind.words.start) - len(kind.words.end)
    prompts = TextPrompts(torch.zeros(1, V, 64), inserted={1: torch.ones(1, R, 64)})
    full = kind.engine.class_tokens(["cat " * room, "cat"], tail="")
    assert kind.engine.encode(prompts, full).isfinite().all()
    limit = kind.engine.context_length
    with pytest.raises(InputError, match=rf"class 'cat cat.*: {limit + 1} tokens .* reads {limit}"):
        kind.engine.encode(prompts, kind.engine.class_tokens(["cat " * (room + 1)], tail=""))


def test_slips_are_refused() -> None:
    engine = SmallText("ViT-B-32", {}).engine
    classes, ctx = engine.class_tokens(["cat", "dog"]), torch.zeros(1, V, 64)
    for inserted, told in (
        ({2: torch.zeros(1, R, 64)}, "name layer 2; the tower has layers 0 to 1"),
        ({0: torch.zeros(1, R, 64), 1: torch.zeros(1, 3, 64)}, "as many in every layer"),
        ({1: torch.zeros(3, 1, R, 64)}, "inserted text prompt of layer 1 has shape"),
    ):
        with pytest.raises(InputError, match=told):
            engine.encode(TextPrompts(ctx, inserted=inserted), classes)
