"""A page of tiny runs in Chromium: `python -m tests.report.every_page [FOLDER]`, by default page-out.

Runs are trained, measured and explained on the built-in data. Their page is served on the loopback and opened on a wide
and on a narrow screen, dark and light, and printed; pictures of it go to the folder. It is an error if the page asks
for anything but itself, if the console says anything, if a section is missing, an image does not show, or the page is
wider than the screen.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.report.browser import Browser, browser, program
from vlmprompt.cli.main import main
from vlmprompt.report.page import SECTIONS

PAGE = "page.html"
WIDTHS = (1280, 400)
SCHEMES = ("light", "dark")
HEIGHT = 900
RUN = "sweep/runs/coop-doodles-animals-doodle-clip-4shot-seed1"
TRAINED = [
    *("--data", "doodles-animals", "--max-steps", "12", "--batch-size", "8", "--validate-every", "1", "--workers", "0"),
    *("--seed", "1"),
]
SUITES = ("accuracy", "few-shot", "ood", "domain-generalization")
COMMANDS: tuple[list[str], ...] = (
    [
        *("sweep", "--method", "coop", "--shots", "1", "--shots", "4", *TRAINED, "--out", "sweep"),
        *(word for suite in SUITES for word in ("--suite", suite)),
    ],
    ["train", "--method", "coop", "--shots", "4", "--setting", "base-to-new", *TRAINED, "--out", "halves"],
    ["evaluate", "halves", "--suite", "base-to-new", "--workers", "0"],
    ["calibrate", RUN, "--workers", "0"],
    ["explain", RUN, "--n", "2"],
    ["report", "sweep", "halves", "--html", PAGE],
)
ALL = "[...document.querySelectorAll('{}')]"
# What is wrong with elements of a page -> JavaScript for those that have it.
FAULTY = {
    "images that do not show": f"{ALL.format('img')}.filter(i => !i.complete || !i.naturalWidth)",
    "images without a text for them": f"{ALL.format('img')}.filter(i => !i.alt)",
    "figures without an svg": f"{ALL.format('.figures figure')}.filter(f => !f.querySelector('svg'))",
    "ids that are there twice": f"{ALL.format('[id]')}.map(e => e.id).filter((id, i, all) => all.indexOf(id) < i)",
    "links to nowhere": f"{ALL.format('a')}.filter(a => !document.getElementById(a.hash.slice(1)))",
}


def make(folder: Path) -> Path:
    """The page of tiny runs, in a folder.

    Raises:
        RuntimeError: a command has failed.
    """
    with chdir(folder):
        for words in COMMANDS:
            print("vlmprompt", *words, flush=True)
            if main(words) != 0:
                raise RuntimeError(f"vlmprompt {words[0]} has failed")
    return folder / PAGE


class _Counting(SimpleHTTPRequestHandler):
    """Remembers what was asked for."""

    def __init__(self, asked: list[str], *args: object, **more: object) -> None:
        self._asked = asked
        super().__init__(*args, **more)  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:
        self._asked.append(self.path)


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a folder on the loopback, and the paths that are asked for."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Counting, asked, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def faults(page: Browser, width: int) -> list[str]:
    """What is wrong with the page as it is shown."""
    found = list(page.problems)
    wide = page.ask("document.documentElement.scrollWidth")
    if wide > width:
        found.append(f"the page is {wide} pixels wide on a screen of {width}")
    for what, elements in FAULTY.items():
        if count := page.ask(f"{elements}.length"):
            found.append(f"{count} {what}")
    return found


def look(command: str, folder: Path, out: Path, sections: int) -> list[str]:
    """Open the page in all ways, keep pictures of it, and give what is wrong."""
    found: list[str] = []
    with served(folder) as (address, asked), browser(command) as page:
        for width in WIDTHS:
            for scheme in SCHEMES:
                page.emulate(width, HEIGHT, scheme)
                page.open(f"{address}/{PAGE}")
                found += [f"{width} {scheme}: {fault}" for fault in faults(page, width)]
                (out / f"{width}-{scheme}.png").write_bytes(page.picture())
        (out / "page.pdf").write_bytes(page.printed())
        there = page.ask("[...document.querySelectorAll('main h2')].map(h => h.id)")
        found += [] if len(there) == sections else [f"{sections} sections could be there, and there are: {there}"]
        requests = {request for request in page.requests if not request.startswith("data:")}
        found += [f"asked for {one}" for one in sorted(requests | {f"{address}{path}" for path in asked})]
        found.remove(f"asked for {address}/{PAGE}")
    return found


def run(out: Path) -> int:
    """Make the page and look at it; the exit code."""
    command = program()
    if command is None:
        print("skipped: there is no Chromium here (Debian: apt-get install chromium)")
        return 0
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page = make(Path(folder))
        (out / PAGE).write_bytes(page.read_bytes())
        found = look(command, page.parent, out, len(SECTIONS))
    print(*found, f"{len(found)} faults; the page, pictures of it and a print are in {out}", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1] if len(sys.argv) > 1 else "page-out")))
