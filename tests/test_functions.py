"""Functions stay short, and are not handed long lists of things."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINES = 40  # of a body, its docstring left out
PARAMETERS = 10
# Those with more. The parameters of a command (in cli/) are its options, and are not counted.
KNOWN = {
    "evaluation/runner.py: evaluate": 19,  # promised, as the next two
    "training/entry.py: train": 12,
    "methods/transport.py: transport_plan": 12,
    "evaluation/sweep.py: sweep": 15,
    "training/batches.py: ImageBatches.__init__": 11,
    "data/loader.py: ImageLoader.__init__": 11,
    "predict/predictor.py: Predictor.__init__": 11,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(block: ast.Module | Function | ast.ClassDef, inside: str = "") -> Iterator[tuple[str, Function]]:
    """The functions of a block, their own functions and those of its classes, with their qualified names."""
    for node in block.body:
        if isinstance(node, Function):
            yield f"{inside}{node.name}", node
        if isinstance(node, Function | ast.ClassDef):
            yield from functions(node, f"{inside}{node.name}.")


def lines_of(function: Function) -> int:
    """From the first statement behind the docstring to the last line."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return 0 if not body else (function.end_lineno or 0) - body[0].lineno + 1


def parameters_of(function: Function) -> int:
    """Named ones; `self` counts."""
    own = function.args
    return len(own.posonlyargs) + len(own.args) + len(own.kwonlyargs)


@cache
def measured() -> list[tuple[str, int, int]]:
    """File and name of each function of the core and the plugins, its lines and its parameters."""
    found = []
    for source in (ROOT / "src/vlmprompt", *ROOT.glob("plugins/*/src/*")):
        for file in sorted(source.rglob("*.py")):
            for name, function in functions(ast.parse(file.read_text(encoding="utf-8"))):
                found.append((f"{file.relative_to(source)}: {name}", lines_of(function), parameters_of(function)))
    return found


def test_the_rule_counts_lines_and_parameters() -> None:
    text = 'class A:\n    def b(self, c, *, d):\n        """One.\n\n        Two."""\n        e = c\n\n        return\n'
    ((name, function),) = functions(ast.parse(text))
    assert (name, lines_of(function), parameters_of(function)) == ("A.b", 3, 3)


def test_bodies_are_short() -> None:
    assert {where: lines for where, lines, _ in measured() if lines > LINES} == {}


def test_lists_of_parameters_are_short() -> None:
    found = {where: count for where, _, count in measured() if count > PARAMETERS and not where.startswith("cli/")}
    assert found == KNOWN
