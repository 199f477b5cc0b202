"""`describe-classes` and `cache` as users see them: what is asked for, what is said, which code is left."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.describe.material import NAMES, line, work_in, write_descriptions
from tests.describe.server import ChatServer, always_good, fails, good, phrases, says, serving
from vlmprompt.cli.main import main
from vlmprompt.describe.cache import DescriptionCache, cache_folder
from vlmprompt.describe.upkeep import answers

ROOT = Path(__file__).parents[2]
FILE = "prompts_cache/pets/openai--gpt-5-mini--features.jsonl"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a list of classes, and a key."""
    folder = work_in(tmp_path, monkeypatch)
    (folder / "pets.txt").write_text("red fox\ngreen frog\n")
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, document and stderr of a command under --json."""
    code = main([*arguments, "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out), captured.err


def ask(server: ChatServer, *more: str) -> list[str]:
    return ["describe-classes", "--classes", "pets.txt", "--base-url", server.url, *more]


def test_the_document(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda name, nth: says("", refusal="no") if name == "red fox" else good(name)) as server:
        code, document, _ = run(capsys, *ask(server))
        assert (code, document["ok"], document["error"]["code"]) == (5, False, 5)
        message = "1 of 2 classes lack descriptions, or some; the first: 'red fox': refused: no"
        assert document["error"]["message"] == message
        assert document["data"] == {
            "classes": 2,
            "described": 1,
            "failed": [{"class_index": 0, "class": "red fox", "reason": "refused: no"}],
            "cached": 0,
            "requests": 3,
            "tokens": {"prompt": 60, "completion": 30},
            "flagged": [],
            "notes": [],
            "file": FILE,
        }
        server.script = always_good
        code, document, _ = run(capsys, *ask(server))
    assert code == 0
    data = document["data"]
    assert (data["described"], data["cached"], data["requests"], data["failed"]) == (2, 1, 1, [])
    rows = [json.loads(row) for row in Path(FILE).read_text().splitlines()]
    assert [(row["class_index"], row["class"], row["text"]) for row in rows] == [
        (i, name, text) for i, name in enumerate(("red fox", "green frog")) for text in phrases(name)
    ]


def test_the_page(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda name, nth: says("") if name == "red fox" else good(name)) as server:
        assert main(ask(server)) == 5
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "classes   1 of 2 described, 0 of them without a request",
        "texts     2, 2.0 a class",
        "asked     3 requests, 90 tokens",
        f"file      {FILE}",
        "",
        "class  name     why it has none",
        "0      red fox  empty answer",
    ]
    assert "describing pets: 2/2 answer  requests 3  tokens 90" in err
    assert "the same command asks for what is missing" in err


def test_with_nothing_given(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The built-in classes and their shipped descriptions, key or not; nobody is asked."""
    code, document, _ = run(capsys, "describe-classes")
    data = document["data"]
    assert code == 0
    assert (data["classes"], data["described"], data["cached"], data["requests"]) == (64, 64, 64, 0)
    assert Path(data["file"]).name == "parts--doodles--parts.jsonl"
    assert main(["describe-classes"]) == 0
    out = capsys.readouterr().out
    assert "64 of the 64 of doodles are described by parts doodles; nobody was asked" in out
    assert "--provider openai" in out


def test_without_a_key_what_is_there_counts(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    code, document, _err = run(capsys, "describe-classes", "--classes", "pets.txt")
    assert code == 3
    assert "OPENAI_API_KEY is not set" in document["error"]["message"]
    assert "--provider file" in document["error"]["hint"] and "--provider parts" in document["error"]["hint"]
    write_descriptions(Path("prompts_cache/pets/a--b--c.jsonl"), NAMES[:2])
    code, document, _err = run(capsys, "describe-classes", "--classes", "pets.txt")
    assert (code, document["data"]["described"]) == (0, 2)
    code, document, _err = run(capsys, "describe-classes", "--classes", "pets.txt", "--provider", "openai")
    assert code == 3


def test_a_data_set_of_ones_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("red_fox", "green_frog"):
        (here / "photos/train" / name).mkdir(parents=True)
        (here / "photos/train" / name / "0.png").write_bytes(b"never opened")
    with serving(always_good) as server:
        assert main(["describe-classes", "--data", "folder:photos", "--base-url", server.url, "--model", "a/b:c"]) == 0
    out = capsys.readouterr().out
    assert "prompts_cache/photos/openai--a_b_c--features.jsonl" in out
    assert "vlmprompt train --method descriptions --data folder:photos" in out
    assert server.requests[0].body["model"] == "a/b:c"


def test_classes_are_described_under_the_names_that_a_run_gives_them(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("aliases.txt").write_text("red fox = fox | vixen\n")
    with serving(always_good) as server:
        code, document, _ = run(capsys, *ask(server, "--aliases", "aliases.txt"))
    lines = [json.loads(line) for line in Path(document["data"]["file"]).read_text().splitlines()]
    assert code == 0 and {line["class"] for line in lines} == {"fox | vixen", "green frog"}


def test_a_dry_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(always_good) as server:
        code, document, _ = run(capsys, *ask(server, "--dry-run", "--samples", "2"))
        assert main(ask(server, "--dry-run")) == 0
    assert (code, document["data"]["dry_run"]["to_fetch"]) == (0, 4)
    assert "at most 16 requests; nothing was asked" in capsys.readouterr().out
    assert server.requests == [] and not Path("prompts_cache").exists()


def test_options_reach_the_provider(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(always_good) as server:
        assert main(ask(server, "--set", "temperature=none", "-s", "max_tokens=99", "--limit", "1")) == 0
    (request,) = server.requests
    assert "temperature" not in request.body and request.body["max_tokens"] == 99


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--set", "temprature=1"], 2, "has no option 'temprature'"),
        (["--set", "temperature=hot"], 2, "option temperature = 'hot'"),
        (["--set", "temperature"], 2, "is not key=value"),
        (["--provider", "opnai"], 2, "unknown llm provider 'opnai'"),
        (["--from", "x.json"], 2, "provider 'file' has no option 'base_url'"),
        (["--data", "doodles"], 2, "--classes and --data both name classes"),
        (["--template", "empty.txt"], 3, "does not say where the class name stands"),
        (["--template", "none"], 2, "there is no template 'none'"),
        (["--base-url", "localhost:1"], 3, "'localhost:1' is not the address of a server"),
        (["--base-url", "http://127.0.0.1:9/v1"], 3, "cannot reach http://127.0.0.1:9/v1"),
        (["--classes", "gap.txt"], 3, "gap.txt, line 2 has no class name"),
        (["--classes", "none.txt"], 3, "there is no none.txt"),
        (["--concurrency", "0"], 2, "concurrency"),
    ],
)
def test_bad_input(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    (here / "empty.txt").write_text("what is it?")
    (here / "gap.txt").write_text("red fox\n\ngreen frog\n")
    with serving(always_good) as server:
        found, document, err = run(capsys, *ask(server), *arguments)
    assert (found, document["ok"]) == (code, False)
    assert message in document["error"]["message"]
    assert "Traceback" not in err
    assert server.requests == [] and not Path("prompts_cache").exists()


def test_an_address_that_is_no_api(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(always_good) as server:
        code, document, _ = run(capsys, *ask(server), "--base-url", server.url.replace("/v1", "/api"))
        assert code == 0  # any path that leads to chat completions will do
        server.script = lambda name, nth: fails(404)
        code, document, _ = run(capsys, *ask(server), "--out", "b", "--base-url", server.url, "--model", "other")
    assert code == 3
    assert "no model 'other': 404" in document["error"]["message"]
    assert "--base-url" in document["error"]["hint"]


def test_a_damaged_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(FILE).parent.mkdir(parents=True)
    for content, message in (
        (line(0, "red fox", "a tail")[:30], "line 1 is torn"),
        (line(0, "red fox", "a tail", schema=7), "has schema 7"),
        (line(0, "red fox", "a") + "\n" + line(0, "green frog", "b"), "claims class index 0 twice"),
    ):
        Path(FILE).write_text(content)
        code, document, _ = run(capsys, "describe-classes", "--classes", "pets.txt", "--model", "gpt-5-mini")
        assert code == 3
        assert message in document["error"]["message"]
        assert Path(FILE).read_text() == content


def test_descriptions_are_cut_to_what_clip_reads(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "a very long and winding tail " * 20
    with serving(lambda name, nth: says(f"- {long}\n- two ears")) as server:
        _code, document, _err = run(capsys, *ask(server, "--limit", "1"))
    from vlmprompt.backbones.openclip.tokens import count_tokens

    first, second = (json.loads(row)["text"] for row in Path(FILE).read_text().splitlines())
    assert second == "two ears"
    assert long.startswith(first)
    more = first + long[len(first) :].split(" ")[1].join((" ", ""))
    assert count_tokens(f"red fox, which has {first}") <= 77 < count_tokens(f"red fox, which has {more}")
    assert document["warnings"] == ["descriptions cut to the 77 tokens that CLIP reads: 1"]


# -- the cache --------------------------------------------------------------------------------------
@pytest.fixture
def filled(here: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder of a cache with answers of two models."""
    with serving(always_good) as server:
        for more in ([], ["--model", "m-2", "--samples", "2"]):
            assert main(ask(server, *more)) == 0
    capsys.readouterr()
    return cache_folder()


def test_cache_list(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document, _ = run(capsys, "cache", "list")
    groups = document["data"]["groups"]
    assert code == 0
    assert document["data"]["folder"] == str(filled)
    assert [(g["dataset"], g["model"], g["template"], g["answers"], g["texts"], g["tokens"]) for g in groups] == [
        ("pets", "gpt-5-mini", "features", 2, 4, 60),
        ("pets", "m-2", "features", 4, 8, 120),
    ]
    assert main(["cache", "list"]) == 0
    assert "m-2" in capsys.readouterr().out


def test_cache_export(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The files come back as they were; what is there is left alone."""
    before = {path: path.read_bytes() for path in Path("prompts_cache").rglob("*.jsonl")}
    code, document, _ = run(capsys, "cache", "export", "--out", "again")
    assert (code, len(document["data"]["written"])) == (0, 2)
    assert {path: (Path("again") / path.relative_to("prompts_cache")).read_bytes() for path in before} == before
    Path(FILE).write_text("reviewed")
    code, document, _ = run(capsys, "cache", "export", "--model", "gpt-5-mini")
    assert document["data"] == {"written": [], "left": [FILE]}
    assert Path(FILE).read_text() == "reviewed"
    assert main(["cache", "export", "--model", "gpt-5-mini", "--force"]) == 0
    assert Path(FILE).read_bytes() == before[Path(FILE)]


def test_cache_verify_and_prune(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "cache", "verify")[:1] == (0,)
    with closing(DescriptionCache(filled)) as cache:
        cache.put("0" * 64, '{"not": "an answer"}')
        cache.claim("1" * 64, seconds=-1)
    code, document, _ = run(capsys, "cache", "verify")
    assert (code, document["ok"], document["data"]["answers"]) == (3, False, 6)
    assert "1 answers are damaged" in document["data"]["problems"][0]
    assert "cache prune" in document["error"]["hint"]
    code, document, _ = run(capsys, "cache", "prune")
    assert (code, document["data"]) == (0, {"foreign": 1, "damaged": 1, "answers": 0})
    assert run(capsys, "cache", "verify")[0] == 0
    code, document, _ = run(capsys, "cache", "prune", "--older-than", "1")
    assert document["data"]["answers"] == 0
    code, document, _ = run(capsys, "cache", "prune", "--model", "m-2")
    assert document["data"]["answers"] == 4
    with closing(DescriptionCache(filled)) as cache:
        assert {str(answer.asked["parameters"]["model"]) for answer in answers(cache)} == {"gpt-5-mini"}
    assert main(["cache", "prune", "--all", "--model", "x"]) == 2
    assert main(["cache", "prune", "--all"]) == 0
    assert "deleted 2 answers" in capsys.readouterr().out


def test_providers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    _code, document, _ = run(capsys, "providers", "list")
    assert [entry["name"] for entry in document["data"]["providers"]] == ["file", "openai", "parts"]
    assert main(["providers", "show", "openai"]) == 0
    assert "--set NAME=VALUE" in capsys.readouterr().out


# -- values that nothing can be done with -------------------------------------------------------------
DIGITS = "9" * 400


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--base-url", "http://[::1/v1"], 3, "'http://[::1/v1' is not the address of a server"),
        (["--base-url", "http://127.0.0.1:abc/v1"], 3, "'http://127.0.0.1:abc/v1' is not the address of a server"),
        (["--base-url", "http://127.0.0.1:99999/v1"], 3, "'http://127.0.0.1:99999/v1' is not the address"),
        (["--base-url", "http://127.0.0.1:9/\x1b[31m"], 3, r"'http://127.0.0.1:9/\x1b[31m' is not the address"),
        (["--base-url", "ftp://user:pa/ss@word@host"], 3, "'ftp://host' is not the address of a server"),
        (["--model", "a\x1b[31m"], 2, r"option model = 'a\x1b[31m'"),
        (["--model", "a\nb"], 2, r"option model = 'a\nb'"),
        (["--model", "a\udc80"], 2, "is no UTF-8"),
        (["--model", "m" * 501], 2, "option model = 'mmmm"),
        (["--set", f"max_tokens={DIGITS}"], 2, "option max_tokens = 999999999999999999...9999999999999999999 of"),
        (["--set", f"max_tokens={'9' * 6000}"], 2, "option max_tokens = '9999"),
        (["--set", f"seed=-{DIGITS}"], 2, "option seed = -9999"),
        (["--set", "seed=" + "[" * 3000], 2, "option seed = '[[[["),
        (["--set", "max_tokens=-1"], 2, "option max_tokens = -1"),
        (["--set", "temperature=1e400"], 2, "temperature = inf (--set) is not a finite number"),
        (["--set", "temperature=1e300"], 2, "option temperature = 1e+300"),
        *((["--timeout", value], 2, "--timeout") for value in ("nan", "inf", "-1", "0", "1e400", DIGITS, "1e308")),
        *((["--samples", value], 2, "--samples") for value in ("nan", "-1", "0", DIGITS, "9" * 6000)),
        *((["--concurrency", value], 2, "--concurrency") for value in ("nan", "-1", DIGITS)),
        *((["--max-retries", value], 2, "--max-retries") for value in ("nan", "-1", DIGITS)),
        *((["--min-phrases", value], 2, "--min-phrases") for value in ("nan", "-1", DIGITS)),
        (["--template", "t" * 300], 2, "there is no template 'tttt"),
        (["--template", "~nobody-at-all/x"], 2, "there is no template '~nobody-at-all/x'"),
        (["--template", "deep.toml"], 3, "template deep.toml is not TOML"),
        (["--out", "o" * 300], 3, "File name too long"),
        (["--classes", "long.txt"], 3, "class 1 of 'long', 'yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy'..., has a name"),
        (["--classes", "unseen.txt"], 3, r"class 0 of 'unseen', '\x01\u202e', has a name with nothing in it to read"),
    ],
)
def test_what_nothing_can_be_done_with(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    """One line that names it; nobody is asked, and nothing is written."""
    (here / "long.txt").write_text("red fox\n" + "y" * 3_000_000)
    (here / "unseen.txt").write_text("\x01\u202e", encoding="utf-8")
    (here / "deep.toml").write_text("text = " + "[" * 5000)
    with serving(always_good) as server:
        found, document, err = run(capsys, *ask(server), *arguments)
    assert (found, document["ok"]) == (code, False)
    assert message in document["error"]["message"] and "\n" not in document["error"]["message"]
    assert len(document["error"]["message"]) < 1000
    assert "Traceback" not in err and "this is a bug" not in err
    assert server.requests == [] and not Path("prompts_cache").exists()


def test_controls_in_class_names(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A question holds none; the file holds them escaped, so that nothing that shows it obeys them."""
    names = ["red\x1b[31m fox", "gr\u202eeen\x7f frog", "caf\u00e9 \U0001f98a"]
    (here / "odd\x1b.txt").write_text("\n".join(names), encoding="utf-8")
    with serving(always_good) as server:
        assert main([*ask(server), "--classes", "odd\x1b.txt"]) == 0
        assert main([*ask(server), "--classes", "odd\x1b.txt"]) == 0  # the file is read again
    assert sorted(request.name for request in server.requests) == ["caf\u00e9 \U0001f98a", "green frog", "red[31m fox"]
    (path,) = Path("prompts_cache").rglob("*.jsonl")
    assert path.parent.name == "odd_"
    text = path.read_text(encoding="utf-8")
    assert text.replace("\n", "").isprintable() and "caf\u00e9 \U0001f98a" in text
    assert list(dict.fromkeys(json.loads(row)["class"] for row in text.splitlines())) == names


def test_names_of_files_hold_to_what_file_systems_take(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However long a model's name, and whatever a data set is called; two long names are two files."""
    (here / "...txt").write_text("fox")
    with serving(always_good) as server:
        for model in ("m" * 400, "m" * 399 + "n"):
            assert run(capsys, *ask(server, "--classes", "...txt", "--model", model))[0] == 0
    names = [path.name for path in Path("prompts_cache/__").iterdir()]
    assert len(names) == 2 and all(len(name) < 240 for name in names)


def test_a_cache_that_fails_on_the_way(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was answered is in the file; nothing more is asked, as it could not be kept."""
    from vlmprompt.errors import InputError

    def locked(cache: DescriptionCache, key: str, text: str) -> None:
        raise InputError("the cache is locked", hint="wait until that has ended")

    monkeypatch.setattr(DescriptionCache, "put", locked)
    with serving(always_good) as server:
        code, document, err = run(capsys, *ask(server, "--concurrency", "1"))
    assert (code, len(server.requests)) == (5, 1)
    assert "asking ended early: the cache is locked" in document["error"]["message"]
    described = {json.loads(row)["class"] for row in Path(FILE).read_text().splitlines()}
    assert {"red fox", "green frog"} - described == {failed["class"] for failed in document["data"]["failed"]}
    assert "Traceback" not in err
    with serving(always_good) as server:
        code, document, _ = run(capsys, *ask(server))
    assert (code, document["warnings"]) == (0, ["the cache is locked; what was answered is in the file alone"])


@pytest.mark.parametrize("command", ["list", "verify", "export", "prune"])
def test_an_empty_cache_file_is_named(filled: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    (filled / "cache.db").write_bytes(b"")
    code, document, err = run(capsys, "cache", command)
    assert code == 3 and "Traceback" not in err
    assert document["error"]["message"] == (
        f"the cache {filled / 'cache.db'} is empty (0 bytes): the answers that were in it are lost"
    )
    assert "asked for, and paid, again" in document["error"]["hint"]
    with serving(always_good) as server:
        assert run(capsys, *ask(server, "--out", "again"))[0] == 3
    assert server.requests == [] and (filled / "cache.db").read_bytes() == b""


def test_verify_tells_of_damage(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A page of answers is overwritten; the rest of the file is as it was."""
    file = filled / "cache.db"
    content = file.read_bytes()
    file.write_bytes(content[:-4096] + bytes(4096))
    code, document, err = run(capsys, "cache", "verify")
    assert code == 3 and "Traceback" not in err
    assert (document["data"]["answers"], document["ok"]) == (0, False)
    assert "the database is damaged" in document["error"]["message"]
    assert "copy" in document["error"]["hint"]


ROWS: list[dict[str, Any]] = [
    {"asked": {"parameters": 5}},
    {"asked": {"sample": "x"}},
    {"asked": {"sample": -1}},
    {"class_index": -1},
    {"class_name": ""},
    {"items": [""]},
    {"prompt_tokens": 10**100},
    {"dataset": "../../elsewhere"},
    {"dataset": ".."},
    {"dataset": ""},
    {"dataset": "d" * 1000, "template": "t" * 1000},
    {"items": ["a\x1b[31m\u202e tail"]},
    {"created": "0001-01-01T00:00:00+23:59"},
    {"created": "9999-12-31T23:59:59-23:59"},
]


@pytest.mark.parametrize("row", ROWS, ids=map(str, range(len(ROWS))))
def test_no_row_ends_a_command_in_a_traceback(
    here: Path, capsys: pytest.CaptureFixture[str], row: dict[str, Any]
) -> None:
    """Whoever writes rows that look like answers gets none of them out of the folder named."""
    answer = {"version": 1, "asked": {"parameters": {"model": "m"}}, "dataset": "d", "class_index": 0}
    answer |= {"class_name": "n", "template": "t", "kind": "phrase", "items": ["a"], "text": "x"} | row
    with closing(DescriptionCache(cache_folder())) as cache:
        cache.put("k", json.dumps(answer))
    for arguments in (["list"], ["verify"], ["export", "--out", "there"], ["prune", "--older-than", "1"]):
        code, _document, err = run(capsys, "cache", *arguments)
        assert code in (0, 3) and "Traceback" not in err
    written = list(here.parent.rglob("*.jsonl"))
    assert all(path.parents[1] == here / "there" for path in written)
    assert all(path.read_text().replace("\n", "").isprintable() for path in written)


@pytest.mark.parametrize("days", ["nan", "inf", "-1", "1e400", DIGITS])
def test_days_that_are_none(capsys: pytest.CaptureFixture[str], days: str) -> None:
    code, document, _ = run(capsys, "cache", "prune", "--older-than", days)
    assert code == 2 and "--older-than" in document["error"]["message"]
