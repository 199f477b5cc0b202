"""How long `vlmprompt --help` takes with all plugins installed, and that it leaves torch alone."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.frame import Mark, Row, side_by_side

COUNT_TORCH = """
import sys
from vlmprompt.cli.main import main
assert main(["--help"]) == 0
print(sum(name.split(".")[0] == "torch" for name in sys.modules), file=sys.stderr)
"""


def measure(repeats: int = 15) -> list[Row]:
    """Medians of whole processes, the file cache warm."""
    script = Path(sys.executable).parent / "vlmprompt"
    run = partial(subprocess.run, capture_output=True, text=True, check=True)
    counted = run([sys.executable, "-c", COUNT_TORCH])  # this also warms the file cache
    help_s, bare_s = side_by_side(
        {partial(run, [script, "--help"]): repeats, partial(run, [sys.executable, "-c", "pass"]): repeats}
    )
    marks = (
        Mark("seconds", help_s, 0.30, at_least=False),
        Mark("torch modules", int(counted.stderr.split()[-1]), 0, at_least=False),
    )
    figures = {"vlmprompt --help s": help_s, "python -c pass s": bare_s}
    return [Row("startup", "vlmprompt --help", figures, marks)]
