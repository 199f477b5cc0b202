"""Which towers and methods can be exported, tried on small ones: the tables of docs/export.md.

`python -m tests.export.tables` writes them. Run it when a method or a kind of tower comes anew, or torch does.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from tests.backbones.serving import IMAGE_KINDS, NAMES, OPTIONS, image_backbone
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.errors import CapabilityError
from vlmprompt.export import graph
from vlmprompt.export.agreement import Difference, difference, largest
from vlmprompt.export.linear_head import read_head
from vlmprompt.export.trial import noise
from vlmprompt.methods.build import build_method, list_methods
from vlmprompt.methods.frozen import FrozenMethod

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
REASON = re.compile(r"(?:cannot be written as one graph|is no matrix of class embeddings): (.*)")


def frozen(name: str, backbone: Backbone) -> FrozenMethod:
    """A method on noise: as it begins, or fitted where it has no loop.

    Raises:
        CapabilityError: the backbone lacks what the method needs.
    """
    method = build_method(name, backbone, NAMES, OPTIONS.get(name), descriptions=[["a tail"], ["a mask"]])
    if {"closed_form", "fit_first"} & method.capabilities:
        images = torch.randn(4, 3, *backbone.preprocess.sides, generator=torch.Generator().manual_seed(2))
        views = [method.encode_images(images)] * method.fit_views
        method.fit(ImageFeatures.cat(views), torch.tensor([0, 1, 0, 1]).repeat(method.fit_views), None)
    return method.frozen()


def of_graph(subject: FrozenMethod, name: str, folder: Path, sizes: Sequence[int] = (1, 3)) -> Difference:
    """How far a graph's logits are from the method's, in batches of these sizes.

    Raises:
        CapabilityError: it is no graph.
    """
    file = folder / "graph.onnx"
    graph.save(graph.traced(subject, name, {}), file)
    session, found = graph.session(file, threads=1), Difference(0.0, 0.0)
    for size in sizes:
        pixels = noise(subject.method.backbone, size)
        found = largest(found, difference(graph.run(session, pixels), subject(pixels).logits))
    return found


def said(subject: FrozenMethod, name: str, folder: Path) -> tuple[str, str]:
    """Whether a method is a graph, and a matrix; or why not."""
    try:
        assert of_graph(subject, name, folder).relative <= 1e-4
        as_graph = "yes"
    except CapabilityError as error:
        as_graph = _reason(error)
    try:
        read_head(subject, name, noise(subject.method.backbone, 3))
        as_matrix = "yes"
    except CapabilityError as error:
        as_matrix = _reason(error)
    return as_graph, as_matrix


def towers(folder: Path) -> Iterable[str]:
    """A row for each kind of image tower: what is exported, and the largest difference of a logit."""
    for kind, about in IMAGE_KINDS.items():
        backbone, found = image_backbone(kind), {}
        for name in ("zeroshot", "gallop", "bloom"):
            try:
                found[name] = f"{of_graph(frozen(name, backbone), name, folder).absolute:.0e}"
            except CapabilityError as error:
                found[name] = REASON.search(error.message)[1] if REASON.search(error.message) else "-"
        yield f"| {about} | {' | '.join(found.values())} |"


def methods(folder: Path) -> Iterable[str]:
    """A row for each method."""
    backbone = image_backbone("vit")
    for name in list_methods():
        yield f"| `{name}` | {' | '.join(said(frozen(name, backbone), name, folder))} |"


def _reason(error: CapabilityError) -> str:
    found = REASON.search(error.message)
    assert found is not None, error.message
    return f"no: {found[1]}"


def main() -> None:
    """Write the tables."""
    warnings.simplefilter("ignore")
    page = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        for mark, rows in (("methods", methods(Path(folder))), ("towers", towers(Path(folder)))):
            lines = []
            for row in rows:
                print(row, flush=True)
                lines.append(row)
            page = replaced(page, mark, lines)
    PAGE.write_text(page, encoding="utf-8")


def replaced(page: str, mark: str, rows: Sequence[str]) -> str:
    """The page with other rows in a table, whose head stays."""
    table = re.compile(rf"(<!-- {mark} -->\n\n\|[^\n]*\n\|[^\n]*\n).*?(\n\n<!-- end -->)", re.DOTALL)
    assert table.search(page)
    return table.sub(lambda match: match[1] + "\n".join(rows) + match[2], page)


if __name__ == "__main__":
    main()
