"""`python -m release.check`: everything that is released is built, installed, used and un-installed.

`--quick` borrows torch and all else from an environment that is there, so that nothing is downloaded; without it, an
environment is made with the lowest versions of the dependencies and one with the newest, of some gigabytes each.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

from release.build import Built, build_all, build_one
from release.commands import ReleaseError, run
from release.environments import Environment, borrow, lowest, made, requirements

ROOT = Path(__file__).parents[1]
EXAMPLE, PACKAGE = "ensemble", "vlmprompt-ensemble"
LIMITS = ["--shots", "1", "--max-steps", "2", "--workers", "0", "--device", "cpu"]
MEASURE = ["--suite", "accuracy", "--no-reference", "--workers", "0", "--device", "cpu"]
TESTS = [
    "tests/host/test_compatibility.py",
    "tests/host/test_registry.py",
    "tests/config",
    "tests/data/test_fewshot.py",
]


def main() -> int:
    """Run all of it; 1 where something is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="borrow the dependencies of --python")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="of an environment with everything")
    parser.add_argument("--versions", choices=["lowest", "newest", "both"], default="both", help="without --quick")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="release-") as place:
        try:
            check(Path(place), given)
        except ReleaseError as error:
            print(f"\nnot fit to be released: {error}", file=sys.stderr)
            return 1
    print("\nfit to be released, as far as this can tell")
    return 0


def check(place: Path, given: argparse.Namespace) -> None:
    """Build everything, then try it in each environment."""
    built = build_all(ROOT, place, isolated=not given.quick)
    wanted = ["lowest", "newest"] if given.versions == "both" else [given.versions]
    for versions in ["borrowed"] if given.quick else wanted:
        print(f"\n== dependencies: {versions}", flush=True)
        environment = made(place / versions, given.python)
        install(environment, built, versions, given.python)
        work = place / f"work-{versions}"
        work.mkdir()
        require_installed(environment, work)
        use(environment, work)
        use_plugin(environment, work, isolated=not given.quick)
        test_source(environment, built, work)
        shutil.rmtree(environment.folder)  # the disk is not large enough for all of them


def install(environment: Environment, built: Built, versions: str, python: Path) -> None:
    """Install the wheels, and what they and the checks need."""
    if versions == "borrowed":
        borrow(environment, python, [wheel.name.partition("-")[0] for wheel in built.wheels])
        environment.pip("install", "--no-deps", "--no-index", *built.wheels)
        return
    pyprojects = [built.source / "pyproject.toml", *built.source.glob("plugins/*/pyproject.toml")]
    constraints = environment.folder / "constraints.txt"
    held = lowest(requirements(pyprojects)) if versions == "lowest" else []
    constraints.write_text("\n".join(held), encoding="utf-8")
    environment.pip("install", "--constraint", constraints, *built.wheels)
    run([sys.executable, "-m", "pip", "--python", environment.python, "check"], cwd=environment.folder)
    groups = tomllib.loads(pyprojects[0].read_text(encoding="utf-8"))["dependency-groups"]
    environment.pip("install", "--constraint", constraints, *groups["test"], *groups["types"])


def require_installed(environment: Environment, work: Path) -> None:
    """What is imported is what was installed, all plugins load, and nothing is wrong with any method."""
    where = "import vlmprompt; print(vlmprompt.__file__)"
    file = Path(run([environment.python, "-c", where], cwd=work).stdout.strip())
    if not file.is_relative_to(environment.folder):
        raise ReleaseError(f"vlmprompt is imported from {file}")
    run([environment.vlmprompt, "doctor"], cwd=work, env={"VLMPROMPT_STRICT_PLUGINS": "1"})


def use(environment: Environment, work: Path) -> None:
    """Train and measure on the built-in world."""
    train(environment, work, "coop")
    shown = run([environment.vlmprompt, "evaluate", "coop", *MEASURE, "--json"], cwd=work).stdout
    rows = json.loads(shown)["data"]["rows"]
    if not any(row["metric"] == "top1" and 0 <= row["value"] <= 1 for row in rows):
        raise ReleaseError(f"evaluate gives no accuracy: {rows}")


def use_plugin(environment: Environment, work: Path, *, isolated: bool) -> None:
    """A new plugin is built, installed, checked, used and un-installed, and its run says then what is missing."""
    run([environment.vlmprompt, "plugins", "new", EXAMPLE], cwd=work)
    build_one(work / PACKAGE, work / "dist", isolated=isolated)
    environment.pip("install", "--no-deps", "--no-index", *(work / "dist").glob("*.whl"))
    run([environment.vlmprompt, "plugins", "check", EXAMPLE], cwd=work)
    run([environment.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", work / PACKAGE], cwd=work)
    run([environment.python, "-m", "mypy", "--strict", work / PACKAGE / "src"], cwd=work)
    train(environment, work, EXAMPLE)
    run([environment.vlmprompt, "evaluate", EXAMPLE, *MEASURE], cwd=work)
    environment.pip("uninstall", "--yes", PACKAGE)
    gone = run([environment.vlmprompt, "evaluate", EXAMPLE, *MEASURE, "--force"], cwd=work, code=3).stderr
    if f"of {PACKAGE} 0.1, which is not installed" not in gone or f"pip install '{PACKAGE}==0.1'" not in gone:
        raise ReleaseError(f"a run whose plugin is gone says something else:\n{gone}")


def train(environment: Environment, work: Path, method: str) -> None:
    """A run of two steps, in a folder of the method's name."""
    what = ["--method", method, "--data", "doodles-animals", "--backbone", "doodle-clip", "--out", method]
    run([environment.vlmprompt, "train", *what, *LIMITS], cwd=work)


def test_source(environment: Environment, built: Built, work: Path) -> None:
    """Some tests, from the source distribution and against the installed packages."""
    with tarfile.open(built.core_sdist) as archive:
        archive.extractall(work / "sdist", filter="data")
    (source,) = (work / "sdist").iterdir()
    shutil.rmtree(source / "src")  # so that nothing but the wheel can be imported
    run([environment.python, "-m", "pytest", "-q", "-n", "0", *TESTS], cwd=source, env={"OMP_NUM_THREADS": threads()})


def threads() -> str:
    """As many as there are processors for this process."""
    return str(len(os.sched_getaffinity(0)))


if __name__ == "__main__":
    sys.exit(main())
