"""What a run imports before its first step: torch, and nothing that takes as long again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Whoever imports one of these waits for seconds; none is needed by the built-in towers.
HEAVY = ["torch._dynamo", "torchvision", "open_clip", "timm", "transformers"]
CODE = """
import sys
from vlmprompt.cli.main import main
line = [*sys.argv[1:], "--device", "cpu", "--out", "run"]
assert main(["train", "--method", "coop", "--data", "doodles-animals", "--shots", "1", *line]) == 0
print(*[name for name in {heavy!r} if name in sys.modules], sep=", ", file=sys.stderr)
"""


def test_a_run_on_the_built_in_towers_imports_no_compiler_and_no_other_towers(tmp_path: Path) -> None:
    code = CODE.format(heavy=HEAVY)
    run = subprocess.run(
        [sys.executable, "-c", code, "--set", "max_steps=1"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run.stderr.splitlines()[-1] == ""
    assert (tmp_path / "run" / "run.json").exists()
