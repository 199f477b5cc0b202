"""Whole orders: what is asked, kept, written and asked again, at the scale of real data sets."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.describe.material import KEY, line, order
from tests.describe.server import (
    Behaviour,
    ChatServer,
    always_good,
    drops,
    fails,
    good,
    html,
    phrases,
    says,
    serving,
    torn,
)
from tests.processes import Process
from vlmprompt.cli.main import main
from vlmprompt.describe.cache import DescriptionCache, cache_folder
from vlmprompt.describe.providers.openai import OpenAIProvider
from vlmprompt.describe.service import Service, describe_classes
from vlmprompt.describe.upkeep import Which, answers, export, problems
from vlmprompt.errors import InputError, Interrupted
from vlmprompt.progress import SilentProgress, Task

K = 500
NAMES = tuple(f"class number {i}" for i in range(K))
PASSING = (fails(500), fails(429, headers={"retry-after-ms": "1"}), drops, says(""), says("{"), html(), torn)


def number(name: str) -> int:
    return int(name.rsplit(" ", 1)[1])


def texts_by_class(path: Path) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for row in path.read_text().splitlines():
        content = json.loads(row)
        found.setdefault(content["class_index"], []).append(content["text"])
    return found


def command(here: Path, *arguments: str) -> Process:
    """`vlmprompt describe-classes` in a process of its own."""
    return Process(
        main, ["describe-classes", *arguments], env=os.environ | {"VLMPROMPT_DISABLE_PLUGINS": "*"}, cwd=here
    )


def write_classes(here: Path, count: int) -> list[str]:
    """Names in a file, and the flags that ask about them."""
    (here / "pets.txt").write_text("".join(f"class number {i}\n" for i in range(count)))
    return ["--classes", "pets.txt", "--provider", "openai", "--model", "m-1"]


def test_500_classes_with_a_fifth_of_faults(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults that pass cost requests, faults that stay cost exactly their classes."""
    lost = {7, 77, 277, 477}
    broken: list[Exception] = []  # connections, as the client sees it
    fault = OpenAIProvider._connection_fault
    monkeypatch.setattr(OpenAIProvider, "_connection_fault", lambda self, e: broken.append(e) or fault(self, e))

    def script(name: str, nth: int) -> Behaviour:
        i = number(name)
        if i in lost:
            return says("", refusal="no") if i % 2 == 0 else fails(503)
        return PASSING[i // 5 % len(PASSING)] if i % 5 == 0 and nth == 0 else good(name)

    with serving(script) as server:
        summary = describe_classes(order(server.url, NAMES, max_retries=2))
        assert [failure.class_index for failure in summary.failed] == sorted(lost)
        assert (summary.described, summary.cached) == (K - len(lost), 0)
        assert texts_by_class(summary.path) == {i: phrases(name) for i, name in enumerate(NAMES) if i not in lost}
        assert max(server.count(name) for name in NAMES) <= 1 + 2 + 1
        assert server.most_at_once <= 16
        # Each request counts. One may meet a connection that the server is just closing, and is never seen there.
        breaking = sum(PASSING[i // 5 % len(PASSING)] is drops for i in range(0, K, 5))
        assert summary.spent.requests == len(server.requests) + len(broken) - breaking
        before = len(server.requests)
        server.script = always_good
        again = describe_classes(order(server.url, NAMES, max_retries=2))
    assert {number(request.name) for request in server.requests[before:]} == lost
    assert (again.described, again.cached, again.failed) == (K, K - len(lost), ())
    assert texts_by_class(again.path) == {i: phrases(name) for i, name in enumerate(NAMES)}


def test_the_cache_alone_is_enough(here: Path) -> None:
    """Whoever lost the file gets it back without a request, byte for byte."""
    with serving(always_good) as server:
        first = describe_classes(order(server.url, NAMES[:40]))
        content = first.path.read_bytes()
        first.path.unlink()
        again = describe_classes(order(server.url, NAMES[:40]))
    assert len(server.requests) == 40
    assert again.path.read_bytes() == content
    assert (again.cached, again.spent.requests) == (40, 0)


def test_the_file_alone_is_enough(here: Path) -> None:
    """Whoever cloned it asks nobody, and what a reviewer changed stays."""
    with serving(always_good) as server:
        path = describe_classes(order(server.url, NAMES[:3])).path
        with closing(DescriptionCache(cache_folder())) as cache:
            cache.discard([answer.key for answer in answers(cache)])
        rows = path.read_text().splitlines()
        rows[0] = rows[0].replace("the tail of", "the bushy tail of")
        del rows[3]
        rows.append(line(2, NAMES[2], "added by hand", provider="", model=""))
        path.write_text("\n".join(rows) + "\n")
        again = describe_classes(order(server.url, NAMES[:3]))
    assert len(server.requests) == 3
    found = texts_by_class(path)
    assert found[0][0] == f"the bushy tail of item {NAMES[0]}"
    assert len(found[1]) == 1
    assert found[2] == [*phrases(NAMES[2]), "added by hand"]
    assert (again.described, again.cached) == (3, 3)


def test_samples_top_up(here: Path) -> None:
    script: Callable[[str, int], Behaviour] = lambda name, nth: says(f"- tail {nth}\n- ears")  # noqa: E731
    with serving(script) as server:
        describe_classes(order(server.url, NAMES[:4]))
        assert len(server.requests) == 4
        summary = describe_classes(order(server.url, NAMES[:4], samples=3, concurrency=1))
        assert len(server.requests) == 12
        assert describe_classes(order(server.url, NAMES[:4], samples=2)).spent.requests == 0
    # Each text once, in the order of samples.
    assert texts_by_class(summary.path)[2] == ["tail 0", "ears", "tail 1", "tail 2"]
    assert [row["sample"] for row in map(json.loads, summary.path.read_text().splitlines())][:4] == [0, 0, 1, 2]


def test_classes_of_one_name_are_kept_apart(here: Path) -> None:
    names = ("crane", "heron", "crane", "Crane")
    with serving(lambda name, nth: says(f"- beak {nth}\n- legs")) as server:
        summary = describe_classes(order(server.url, names, concurrency=1))
        assert describe_classes(order(server.url, names)).spent.requests == 0
    assert [server.count(name) for name in ("crane", "heron", "Crane")] == [2, 1, 1]
    found = texts_by_class(summary.path)
    assert (found[0], found[2]) == (["beak 0", "legs"], ["beak 1", "legs"])


def test_other_questions_are_other_answers(here: Path) -> None:
    """Model, sampling and the template's words are all in the key."""
    (here / "own.txt").write_text("What is useful for distinguishing a {class} in a photo?")
    with serving(always_good) as server:
        plain = order(server.url, NAMES[:2])
        for changed in (
            plain,
            replace(plain, options={**plain.options, "temperature": 0.1}, out=Path("b")),
            replace(plain, options={**plain.options, "seed": 3}, out=Path("c")),
            replace(plain, options={**plain.options, "model": "m-2"}, out=Path("d")),
            replace(plain, template="own.txt", out=Path("e")),
        ):
            before = len(server.requests)
            assert describe_classes(changed).described == 2
            assert len(server.requests) == before + 2
    names = [path.name for path in sorted(here.rglob("*.jsonl"))]
    assert names.count("openai--m-1--own.jsonl") == names.count("openai--m-2--features.jsonl") == 1


def test_a_new_wording_replaces_the_old(here: Path) -> None:
    question = here / "own.txt"
    question.write_text("Q: distinguishing a {class} in a photo?")
    with serving(lambda name, nth: says(f"- tail {nth}")) as server:
        describe_classes(order(server.url, NAMES[:2], template="own.txt"))
        question.write_text("Which features help distinguishing a {class} in a photo?")
        summary = describe_classes(order(server.url, NAMES[:2], template="own.txt"))
    assert texts_by_class(summary.path) == {0: ["tail 1"], 1: ["tail 1"]}


def test_force_asks_again(here: Path) -> None:
    with serving(lambda name, nth: says(f"- tail {nth}")) as server:
        describe_classes(order(server.url, NAMES[:3]))
        summary = describe_classes(order(server.url, NAMES[:3], force=True))
        assert len(server.requests) == 6
        server.script = lambda name, nth: fails(500)
        with pytest.raises(InputError):
            describe_classes(order(server.url, NAMES[:3] * 20, force=True, max_retries=0, out=Path("b")))
    assert texts_by_class(summary.path) == {i: ["tail 1"] for i in range(3)}


def test_a_limit_asks_for_the_first_classes(here: Path) -> None:
    with serving(always_good) as server:
        few = describe_classes(order(server.url, NAMES[:9], limit=4))
        assert (few.described, len(server.requests)) == (4, 4)
        all_ = describe_classes(order(server.url, NAMES[:9]))
    assert (all_.described, all_.cached, len(server.requests)) == (9, 4, 9)


def test_a_plan_asks_nothing(here: Path) -> None:
    with serving(always_good) as server:
        describe_classes(order(server.url, NAMES[:4]))
        (here / "prompts_cache/pets/openai--m-1--features.jsonl").unlink()
        describe_classes(order(server.url, NAMES[:2]))
        with closing(Service(order(server.url, NAMES[:6], samples=2))) as service:
            plan = service.plan()
    assert len(server.requests) == 4
    counted = {key: plan[key] for key in ("classes", "answers", "in_file", "in_cache", "to_fetch", "most_requests")}
    assert counted == {"classes": 6, "answers": 12, "in_file": 2, "in_cache": 2, "to_fetch": 8, "most_requests": 64}
    # 150 characters and a class name, four to a token, eight around; 10 completion tokens each so far.
    each = 8 + -(-len(service.origin.template.ask(NAMES[0])) // 4)
    assert plan["estimated_tokens"] == {"prompt": 8 * each, "completion": 80}


def test_a_thought_that_was_stored_is_shown_and_asked_for_again(here: Path) -> None:
    """An earlier version took it for descriptions; what it cost is spent, and it is no description."""
    with serving(lambda name, nth: says("<think>Hm.</think>- a tail\n- ears<|im_end|>")) as server:
        path = describe_classes(order(server.url, NAMES[:3])).path
        path.unlink()
        with closing(DescriptionCache(cache_folder())) as cache:
            (key,) = (answer.key for answer in answers(cache) if answer.class_index == 1)
            stored = json.loads(str(cache.get(key)))
            cache.put(key, json.dumps(stored | {"text": "<think>Hm.\n- a nose", "items": ["<think>Hm.", "a nose"]}))
        with closing(Service(order(server.url, NAMES[:3]))) as service:
            plan = service.plan()
        written, _ = exported(here / "again")
        assert len(server.requests) == 3
        summary = describe_classes(order(server.url, NAMES[:3]))
    assert (plan["in_cache"], plan["to_fetch"], plan["unusable"]) == (2, 1, 1)
    assert plan["question"] == service.origin.template.ask(NAMES[1])
    refused, read, _ = plan["samples"]
    assert (refused["class"], refused["refused"]) == (NAMES[1], "unclear answer: its thoughts have no end")
    assert (refused["answered"], refused["descriptions"]) == ("<think>Hm. - a nose", [])
    assert (read["descriptions"], read["left_out"]) == (["a tail", "ears"], ["thoughts", "marks of a chat format"])
    assert texts_by_class(written[0]) == {0: ["a tail", "ears"], 2: ["a tail", "ears"]}
    assert (summary.described, summary.cached, summary.spent.requests) == (3, 2, 1)


def test_what_a_reviewer_should_look_at(here: Path) -> None:
    names = ("fox", "fox terrier", "arctic_wolf", "owl")
    said = {
        "fox": ["eyes like an owl", "bowls of fur", "a foxy smile"],
        "fox terrier": ["the nose of a fox", "wolf-like ears", "Owls' eyes"],
        "arctic wolf": ["paws like Fox Terriers", "arctic wolf fur", "a howl\x07 at night"],
        "owl": ["", "big\u202e eyes", "BIG eyes"],
    }
    with serving(lambda name, nth: says(json.dumps(said[name]))) as server:
        summary = describe_classes(
            order(server.url, names), shorten=lambda text, name, sentence: " ".join(text.split()[:4])
        )
    rows = [json.loads(row) for row in summary.path.read_text().splitlines()]
    assert [(row["class_index"], row["text"], row.get("flag")) for row in rows] == [
        (0, "eyes like an owl", "names the class 'owl'"),
        (0, "bowls of fur", None),
        (0, "a foxy smile", None),
        (1, "the nose of a", None),
        (1, "wolf-like ears", None),
        (1, "Owls' eyes", "names the class 'owl'"),
        (2, "paws like Fox Terriers", "names the class 'fox terrier'"),
        (2, "arctic wolf fur", None),
        (2, "a howl at night", None),
        (3, "big eyes", None),
    ]
    assert summary.cut == 1


def test_a_file_for_other_classes_is_not_touched(here: Path) -> None:
    with serving(always_good) as server:
        path = describe_classes(order(server.url, ("fox", "frog"))).path
        content = path.read_bytes()
        with pytest.raises(InputError, match="written for other classes: class 1 is 'frog' in it, now it is 'owl'"):
            describe_classes(order(server.url, ("fox", "owl")))
        with pytest.raises(InputError, match="class 1 is 'frog' in it, which is not there now"):
            describe_classes(order(server.url, ("fox",)))
        path.write_bytes(content[:-9])
        with pytest.raises(InputError, match="is torn") as caught:
            describe_classes(order(server.url, ("fox", "frog")))
    assert "remove it" in str(caught.value.hint)
    assert len(server.requests) == 2


def test_a_planted_row_costs_one_request(here: Path) -> None:
    with serving(always_good) as server:
        path = describe_classes(order(server.url, NAMES[:3])).path
        with closing(DescriptionCache(cache_folder())) as cache:
            keys = {answer.class_index: answer.key for answer in answers(cache)}
            cache.put(keys[1], '{"version": 1, "text": "not an answer"}')
            cache.put(keys[2], next(text for key, text in cache.items() if key == keys[0]))  # of another key
            assert len(problems(cache)) == 1
        path.unlink()
        summary = describe_classes(order(server.url, NAMES[:3]))
    assert (summary.cached, summary.spent.requests) == (1, 2)
    assert texts_by_class(path) == {i: phrases(name) for i, name in enumerate(NAMES[:3])}


class Interrupting(SilentProgress):
    """Presses Ctrl-C when so many answers are there."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def task(self, description: str, total: int | None, *, unit: str = "it") -> Interrupting:  # type: ignore[override]
        return self

    def __enter__(self) -> Task:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def advance(self, amount: int = 1, **fields: float | str) -> None:
        self.left -= amount
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_keeps_what_was_answered(here: Path) -> None:
    with serving(always_good) as server:
        wanted = order(server.url, NAMES[:60], concurrency=4)
        with pytest.raises(Interrupted, match="answers are stored"):
            describe_classes(wanted, progress=Interrupting(10))
        written = texts_by_class(here / "prompts_cache/pets/openai--m-1--features.jsonl")
        assert 10 <= len(written) <= 14
        asked = len(server.requests)
        summary = describe_classes(wanted)
        assert summary.described == 60
        assert len(server.requests) <= 60 + asked - len(written)


def test_kill_9_in_the_middle(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most as many answers as were under way are asked for twice."""
    victim: Future[Process] = Future()

    def kill_at_50(name: str, nth: int) -> Behaviour:
        if len(server.requests) >= 50:
            victim.result().kill()
        return good(name)

    with serving(kill_at_50) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        arguments = [*write_classes(here, 200), "--concurrency", "4"]
        victim.set_result(first := command(here, *arguments))
        errors = first.communicate()[1]
        assert first.returncode == -signal.SIGKILL, errors
        server.script = always_good
        second = command(here, *arguments, "--json")
        out, err = second.communicate()
        assert second.returncode == 0, err
    data = json.loads(out)["data"]
    assert data["described"] == 200 and data["cached"] >= 46
    assert len(server.requests) <= 200 + 4
    assert max(server.count(name) for name in NAMES[:200]) <= 2
    assert texts_by_class(here / data["file"]) == {i: phrases(name) for i, name in enumerate(NAMES[:200])}


def test_two_processes_share_the_work(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(always_good, together=5) as server:  # so that both have begun before either ends
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        arguments = [*write_classes(here, 120), "--concurrency", "4", "--json"]
        both = [command(here, *arguments, "--out", out) for out in ("a", "b")]
        done = [json.loads(process.communicate()[0])["data"] for process in both]
    assert len(server.requests) == 120  # the bound is 120 + 2 x 4: a claim leaves nothing to chance
    assert [data["described"] for data in done] == [120, 120]
    assert sum(data["requests"] for data in done) == 120
    assert (here / done[0]["file"]).read_bytes() == (here / done[1]["file"]).read_bytes()


def exported(out: Path) -> tuple[list[Path], list[Path]]:
    with closing(DescriptionCache(cache_folder())) as cache:
        return export(cache, out, Which(), force=False)


def all_bytes(*folders: Path) -> bytes:
    return b"".join(path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file())


def test_the_key_is_nowhere(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in files, not in output, even where the server echoes it."""

    def script(name: str, nth: int) -> Behaviour:
        echo = {0: fails(400, f"bad request by {KEY}"), 1: says(f"- a tail {KEY}\n- ears"), 2: fails(500, KEY)}
        return echo.get(number(name), good(name))

    with serving(script) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        arguments = [*write_classes(here, 5), "--json", "--max-retries", "0"]
        outputs = [command(here, *arguments, *more).communicate() for more in ([], ["--debug"])]
        assert all(KEY in request.headers["authorization"] for request in server.requests)
    said = json.loads(outputs[0][0])
    assert [failed["class_index"] for failed in said["data"]["failed"]] == [0, 2]
    assert said["data"]["failed"][0]["reason"] == "127.0.0.1 answers 400 (bad request by [key])"
    assert b"a tail [key]" in all_bytes(here)
    assert KEY.encode() not in all_bytes(here.parent)
    assert KEY not in "".join(text for pair in outputs for text in pair)


def test_requests_hold_to_the_concurrency(here: Path) -> None:
    server: ChatServer
    with serving(always_good, together=3) as server:
        describe_classes(order(server.url, NAMES[:30], concurrency=3))
    assert server.most_at_once == 3
