"""Development sessions: `python -m nox -l` lists them, `python -m nox -s <session> -- <arguments>` runs one.

All sessions share one environment, `.venv` beside this file: torch alone is gigabytes, and one copy of it
is enough. It is made with the Python that runs nox, and brought up to date when this file or a pyproject
file changes. To start afresh, delete the folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.sessions = ["tests", "lint", "types", "imports"]

ROOT = Path(__file__).parent.resolve()
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
STAMP = VENV / ".installed"  # digest of what was installed from
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
APART = {"ray"}  # plugins that the environment has without what they need, which is tried in one of its own
GROUPS = ("test", "lint", "types", "imports")
LITELLM = "litellm[proxy]==1.100.4"  # later ones ask for packages of their own that are not published


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the test suite, in two processes; arguments go to pytest (`-- -n 0 tests/cli` for one process)."""
    python(session, "-m", "pytest", "-n", "2", "--dist", "loadfile", *session.posargs)


@nox.session(venv_backend="none")
def long(session: nox.Session) -> None:
    """Run the tests that the suite leaves out, each over five seconds: pages as written, built packages, kills."""
    python(session, "-m", "pytest", "-n", "2", "-m", "long", *session.posargs)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check style and formatting (`-- --fix` repairs what can be repaired)."""
    fix = "--fix" in session.posargs
    python(session, "-m", "ruff", "check", *(["--fix"] if fix else []))
    python(session, "-m", "ruff", "format", *([] if fix else ["--check"]))


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Check types with mypy --strict: the core, the plugins, the benchmarks, the pretraining, the faults."""
    python(session, "-m", "mypy", *session.posargs)


@nox.session(venv_backend="none")
def imports(session: nox.Session) -> None:
    """Check who may import whom (the contracts in pyproject.toml)."""
    environment(session)
    session.run(str(BIN / "lint-imports"), *session.posargs, external=True)


@nox.session(venv_backend="none")
def towers(session: nox.Session) -> None:
    """Hold the text tower of every architecture of open_clip, built small, against open_clip's own module."""
    python(session, "-m", "tests.backbones.every_tower", *session.posargs)


@nox.session(venv_backend="none")
def image_towers(session: nox.Session) -> None:
    """Hold the image tower of every architecture of open_clip, built shallow, against open_clip's own module."""
    python(session, "-m", "tests.backbones.every_image_tower", *session.posargs)


@nox.session(venv_backend="none")
def serving(session: nox.Session) -> None:
    """Run a step of every method on every kind of tower; write the tables of docs/backbones.md and of the CLI."""
    python(session, "-m", "tests.backbones.serving", *session.posargs)


@nox.session(venv_backend="none")
def exports(session: nox.Session) -> None:
    """Export every method and every kind of image tower, small; write the tables of docs/export.md."""
    python(session, "-m", "tests.export.tables", *session.posargs)


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Run the benchmarks, all or those named; a table and JSON go to bench-out/."""
    python(session, "-m", "benchmarks.run", *session.posargs)


@nox.session(venv_backend="none")
def gpu(session: nox.Session) -> None:
    """Measure one CUDA card in eight minutes: numbers, steps, reading; to gpu-out/ (`-- --device cpu`: in small)."""
    python(session, "-m", "benchmarks.on_device", *session.posargs)


@nox.session(venv_backend="none")
def scale(session: nox.Session) -> None:
    """Measure what grows with many images and classes, and what two processes share of it; to bench-out/."""
    python(session, "-m", "benchmarks.run", "large_data", "many_classes", "class_shares", *session.posargs)


@nox.session(venv_backend="none")
def faults(session: nox.Session) -> None:
    """Kill, fill disks, run four at once: prints what was tried and what was lost (20 minutes; root for the disks)."""
    python(session, "-m", "faults.run", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(venv_backend="none")
def example(session: nox.Session) -> None:
    """Build the wheel of examples/sot_glp, install it apart from this checkout, check its types, train and measure."""
    source, place = ROOT / "examples" / "sot_glp", Path(session.create_tmp()).resolve()
    packages, runs = place / "packages", place / "runs"
    for folder in (packages, runs):
        shutil.rmtree(folder, ignore_errors=True)
    python(session, "-m", "pip", "install", "--no-deps", "--target", str(packages), str(source))
    session.chdir(place)
    env = {"PYTHONPATH": str(packages)}
    session.run(str(PYTHON), "-m", "mypy", "--strict", str(packages / "vlmprompt_sot_glp"), env=env, external=True)
    short = ["--data", "doodles:crowded", "--shots", "4", "--set", "max_steps=20", "--runs-dir", str(runs)]
    for arguments in (
        ["methods", "show", "sot_glp"],
        ["train", "--method", "sot_glp", *short],
        ["evaluate", "--runs-dir", str(runs), "--suite", "accuracy", "--suite", "ood", "--no-reference"],
    ):
        session.run(str(PYTHON), "-m", "vlmprompt", *arguments, env=env, external=True)


@nox.session(venv_backend="none")
def page(session: nox.Session) -> None:
    """Open the page of tiny runs in Chromium, wide, narrow, dark, light and printed; pictures go to page-out/."""
    python(session, "-m", "tests.report.every_page", *session.posargs)


@nox.session(venv_backend="none")
def demo(session: nox.Session) -> None:
    """Train CoOp, GalLoP, DUAL-PT and Bloom on the built-in data; one table, beside zero-shot and a linear probe."""
    python(session, "-m", "vlmprompt", "reproduce", "demo", "--out", "demo-out", *session.posargs)


@nox.session(venv_backend="none")
def reproduce(session: nox.Session) -> None:
    """Run a recipe, by default doodles-short: half an hour on two cores; goes on where it stopped."""
    python(session, "-m", "vlmprompt", "reproduce", *(session.posargs or ["doodles-short"]))


@nox.session(venv_backend="none")
def doodle_clip(session: nox.Session) -> None:
    """Train the built-in models from nothing; logs and states go to pretraining-out/ (an hour or two on 2 cores)."""
    python(session, "-m", "pretraining.run", *session.posargs)


@nox.session(venv_backend="none")
def published_lists(session: nox.Session) -> None:
    """Compare few-shot samples with published lists, element by element: `-- DIR` of lists."""
    if len(session.posargs) != 1:
        session.error("name the folder of the lists: python -m nox -s published_lists -- DIR")
    python(session, "tests/published_lists.py", *session.posargs)


@nox.session
def gateway(session: nox.Session) -> None:
    """Ask LiteLLM's proxy, in an environment of its own, for class descriptions: answers and refusals (minutes)."""
    session.install(LITELLM)
    python(session, "-m", "tests.describe.gateway", str(Path(session.bin) / "litellm"), env={"OMP_NUM_THREADS": "1"})


@nox.session
def ray(session: nox.Session) -> None:
    """Run a sweep on a Ray of two nodes, in an environment of its own, and kill one in the middle (minutes)."""
    session.install("-e", ".", "-e", "plugins/ray", "pytest>=8.2")
    session.run("python", "-m", "tests.ray_cluster.cluster", env={"OMP_NUM_THREADS": "1"})


@nox.session
def release_check(session: nox.Session) -> None:
    """Build all, install it without the checkout, use it, un-install it (`-- --quick`: torch is not downloaded)."""
    environment(session)
    session.install("build", "packaging", "setuptools>=77", "twine")
    session.run("python", "-m", "release.check", "--python", str(PYTHON), *session.posargs)


def python(session: nox.Session, *arguments: str, env: dict[str, str] | None = None) -> None:
    """Run the shared environment's Python from the repository root."""
    environment(session)
    session.chdir(ROOT)
    session.run(str(PYTHON), *arguments, env=env, external=True)


def environment(session: nox.Session) -> None:
    """Create or repair `.venv`, and install into it what the pyproject files say, where that has changed."""
    session.chdir(ROOT)
    if not usable():
        # virtualenv came with nox, so this also works where Python lacks ensurepip (Debian without python3-venv).
        session.run_install(sys.executable, "-m", "virtualenv", "--clear", "--quiet", str(VENV), external=True)
    digest = requirements_digest()
    if STAMP.exists() and STAMP.read_text(encoding="utf-8") == digest:
        return
    # One command, so that the plugins' requirement "vlmprompt" is met by this checkout.
    packages = [part for folder in (ROOT, *PLUGINS) if folder.name not in APART for part in ("-e", str(folder))]
    groups = nox.project.dependency_groups(nox.project.load_toml(ROOT / "pyproject.toml"), *GROUPS)
    installed = session.run_install(str(PYTHON), "-m", "pip", "install", *packages, *groups, external=True)
    apart = [part for folder in PLUGINS if folder.name in APART for part in ("-e", str(folder))]
    session.run_install(str(PYTHON), "-m", "pip", "install", "--no-deps", *apart, external=True)
    if installed is not None:  # None: skipped, by nox --no-install
        STAMP.write_text(digest, encoding="utf-8")


def usable() -> bool:
    """Whether `.venv` holds a working Python with pip, of the version that runs nox."""
    version = "import sys, pip; print(*sys.version_info[:2])"
    try:
        found = subprocess.run([PYTHON, "-c", version], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return found.stdout.split() == [str(part) for part in sys.version_info[:2]]


def requirements_digest() -> str:
    """Digest of everything that decides what is installed."""
    digest = hashlib.sha256()
    for path in (Path(__file__), ROOT / "pyproject.toml", *(folder / "pyproject.toml" for folder in PLUGINS)):
        digest.update(f"{path.parent.name}/{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()
