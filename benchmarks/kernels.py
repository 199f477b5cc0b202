"""What a training step of GalLoP asks of torch at 1,000 classes: ATen calls, and those of them that are kernels.

Counted by torch's profiler on a CPU, on towers of the depth of a ViT-B and little width: on a card, each kernel costs
some microseconds before it computes anything, whatever its size.
"""

from __future__ import annotations

import open_clip
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.frame import Mark, Row
from benchmarks.names import SHORT, WORDS
from vlmprompt.api import Backbone, ImageFeatures, PromptMethod, build_method

CLASSES, IMAGES, LAYERS, WIDTH, PATCHES = 1000, 32, 12, 64, 196
# Calls that compute nothing: they make tensors, look at them in another way, or name the call that does the work.
IDLE = frozenset(
    """empty empty_like empty_strided new_empty new_empty_strided resize_ set_ detach detach_ alias lift_fresh view
    _unsafe_view reshape _reshape_alias as_strided expand expand_as permute transpose t movedim unsqueeze squeeze
    unflatten flatten select slice narrow split split_with_sizes unbind chunk diagonal mT numpy_T result_type
    promote_types item
    _local_scalar_dense is_nonzero resolve_conj resolve_neg contiguous to _to_copy""".split()  # noqa: SIM905 - one a line would be a page
)


def measure(repeats: int = 1) -> list[Row]:
    """Both numbers, forward and backward from cached features."""
    method, features, labels = material()
    step(method, features, labels)
    calls, kernels = count(method, features, labels)
    marks = (
        Mark("ATen calls", calls, 5000, at_least=False),
        Mark("kernels", kernels, 2000, at_least=False),
    )
    case = f"GalLoP, {LAYERS} layers, K={CLASSES}, B={IMAGES}, cached features"
    return [Row("kernels", case, {"ATen calls": calls, "kernels": kernels}, marks)]


def material() -> tuple[PromptMethod, ImageFeatures, Tensor]:
    """GalLoP on random towers, and a batch."""
    vision = {"image_size": 224, "layers": 1, "width": WIDTH, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": WIDTH, "heads": 2, "layers": LAYERS}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # noqa: TID251 - open_clip's initialisation knows no generator
        model = open_clip.model.CLIP(embed_dim=WIDTH, vision_cfg=vision, text_cfg=text, quick_gelu=True).eval()
    backbone = Backbone.from_model(model, open_clip.get_tokenizer("ViT-B-16"))
    generator = torch.Generator().manual_seed(0)
    names = [f"{word} {name}" for word in WORDS[:20] for name in SHORT][:CLASSES]
    method = build_method("gallop", backbone, names, generator=generator)
    global_Bd = torch.randn(IMAGES, WIDTH, generator=generator)
    local_BNc = torch.randn(IMAGES, PATCHES, WIDTH, generator=generator)
    labels = torch.randint(CLASSES, (IMAGES,), generator=generator)
    return method, ImageFeatures(global_Bd, local_BNc), labels


def step(method: PromptMethod, features: ImageFeatures, labels: Tensor) -> None:
    """Forward, backward and update."""
    optimizer = torch.optim.SGD(method.trainable_parameters(), lr=0.0, momentum=0.9)
    method.loss(method(features), labels).total.backward()
    optimizer.step()


def count(method: PromptMethod, features: ImageFeatures, labels: Tensor) -> tuple[int, int]:
    """ATen calls of a step, and those that compute something and call no other that does."""
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiled:
        step(method, features, labels)
    events = [event for event in profiled.events() if event.name.startswith("aten::")]
    kernels = [event for event in events if _computes(event) and not any(map(_computes, event.cpu_children))]
    return len(events), len(kernels)


def _computes(event: object) -> bool:
    name = str(getattr(event, "name", ""))
    return name.startswith("aten::") and name.removeprefix("aten::") not in IDLE
