"""A frozen method as one ONNX graph: pixels in, logits out.

Shapes: B images, K classes, H x W pixels.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vlmprompt import __version__
from vlmprompt.errors import CapabilityError
from vlmprompt.methods.frozen import FrozenMethod

OPSET = 18
INPUT, OUTPUT, BATCH = "pixels", "logits", "batch"
EXAMPLES = 2  # a batch of one would be taken for a fixed size
# Bytes of weights up to which they lie in the file itself; a file of ONNX ends at 2 GiB.
MOST_INSIDE = 1_900_000_000
_TALKERS = ("torch.onnx", "torch.export", "torch._dynamo", "onnxscript", "onnx_ir")
IN_PYTHON = "classify with it in Python: load_run(RUN).classifier()"


class _Graph(nn.Module):
    """What is traced: the method with its towers, which it keeps outside its own modules."""

    def __init__(self, frozen: FrozenMethod) -> None:
        super().__init__()
        self.towers = frozen.method.backbone.model
        self.method = frozen.method
        self._text = frozen.text

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B,K) of images (B,3,H,W)."""
        logits: Tensor = self.method(pixels, text=self._text).logits.float()
        return logits


def traced(frozen: FrozenMethod, name: str, said: Mapping[str, str]) -> Any:
    """The graph of a method, in float32, for any number of images.

    Args:
        name: of the method.
        said: what the file says of itself, by key.

    Returns:
        torch's ONNX program; what is not needed for the logits is not in it, nor are paths of this machine.

    Raises:
        CapabilityError: the method, or a tower, cannot be written as a fixed graph; says why.
    """
    example = torch.zeros(EXAMPLES, 3, *frozen.method.backbone.preprocess.sides)
    try:
        with torch.inference_mode(False), torch.no_grad(), _quiet():
            program = torch.onnx.export(
                _Graph(frozen).eval(),
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes={INPUT: {0: BATCH}},
                opset_version=OPSET,
                verbose=False,
            )
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch, onnxscript and their passes raise what they like
        raise _refused(name, frozen, error) from error
    assert program is not None
    _describe(program.model, said)
    return program


def save(program: Any, path: Path) -> bool:
    """Write a program.

    Returns:
        Whether its weights lie in a file beside it, as they are too large for one.
    """
    inside = sum(value.const_value.nbytes for value in program.model.graph.initializers.values())
    beside = inside > MOST_INSIDE
    with _quiet():
        program.save(path, external_data=beside)
    return beside


def session(path: Path, threads: int | None = None) -> Any:
    """onnxruntime's session of a file, on the CPU.

    Args:
        threads: None: as many as onnxruntime takes.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if threads is not None:
        options.intra_op_num_threads = options.inter_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(session: Any, pixels_B3HW: Tensor) -> Tensor:
    """Logits (B,K) of a session."""
    (logits_BK,) = session.run([OUTPUT], {INPUT: pixels_B3HW.numpy()})
    return torch.from_numpy(logits_BK)


def _describe(model: Any, said: Mapping[str, str]) -> None:
    """Put what the file says of itself in place of what the tracer noted, which holds paths of this machine."""
    model.metadata_props.clear()
    model.metadata_props.update(said)
    model.producer_name, model.producer_version = "vlmprompt", __version__
    graphs = [model.graph, *model.functions.values()]
    for graph in graphs:
        graph.metadata_props.clear()
        graph.doc_string = None
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
        for value in (*graph.inputs, *graph.outputs, *getattr(graph, "initializers", {}).values()):
            value.metadata_props.clear()


def _refused(name: str, frozen: FrozenMethod, error: Exception) -> CapabilityError:
    causes = list(_causes(error))
    what = f"method {name} on {frozen.method.backbone.vision.kind}"
    if any("DataDependent" in type(cause).__name__ for cause in causes):
        return CapabilityError(
            f"{what} cannot be written as one graph: how long it computes depends on the image", hint=IN_PYTHON
        )
    reason = (str(causes[-1]).strip() or type(causes[-1]).__name__).splitlines()[0]
    return CapabilityError(f"{what} cannot be written as one graph: {reason}", hint=IN_PYTHON)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the lines that torch and onnxscript write about their own work; what fails is raised."""
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for name in _TALKERS:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)
        yield
