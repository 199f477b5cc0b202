"""How much describing classes costs beside the requests themselves, and how fast cached answers are.

A server in a process of its own answers every question after 100 ms and notes when the first came and the last
left. The bare client asks the same questions under the same bound, and does nothing with the answers.

Answers that are long or odd are read by themselves, at one length and at four times that: what is linear takes four
times as long, what is quadratic sixteen.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from benchmarks.frame import Mark, Row, side_by_side, timed
from vlmprompt.describe.asking import Limits
from vlmprompt.describe.cache import DescriptionCache
from vlmprompt.describe.fitting import shortened
from vlmprompt.describe.order import Order
from vlmprompt.describe.provider import KEY_VARIABLE, AnswerError, Reply
from vlmprompt.describe.reading import read_reply
from vlmprompt.describe.secrets import Secrets
from vlmprompt.describe.service import describe_classes
from vlmprompt.describe.templates import load_template
from vlmprompt.describe.work import ClassList

CLASSES, CONCURRENCY, DELAY_S = 200, 16, 0.1
NAMES = tuple(f"made-up animal {i}" for i in range(CLASSES))
LENGTH = 250_000  # characters; an answer may have four times as many
# What a long answer repeats.
LONG = {
    "words": "word ",
    "one word": "w",
    "thoughts without end": "<think>",
    "bullets": "- ",
    "torn JSON": '["a\n',
    "marks": "**`__",
    "escapes": "\\u0041",
}


def measure(repeats: int = 5) -> list[Row]:
    """Medians of whole rounds, taken in turns."""
    os.environ.setdefault(KEY_VARIABLE, "none")
    bare, ours, cached, in_file = [], [], [], []
    with serving() as url:
        asyncio.run(ask_barely(url))  # imports and connections
        span(url)
        for _ in range(repeats):
            asyncio.run(ask_barely(url))
            bare.append(span(url))
            with tempfile.TemporaryDirectory() as folder:
                describe(url, Path(folder))
                ours.append(span(url))
                next(Path(folder).rglob("*.jsonl")).unlink()
                cached.append(timed(lambda folder=folder: describe(url, Path(folder))))  # type: ignore[misc]
                in_file.append(timed(lambda folder=folder: describe(url, Path(folder))))  # type: ignore[misc]
    ratio = statistics.median(ours) / statistics.median(bare)
    rate = CLASSES / statistics.median(cached)
    figures = {
        "bare client s": statistics.median(bare),
        "describe s": statistics.median(ours),
        "from the file classes/s": CLASSES / statistics.median(in_file),
    }
    marks = (Mark("times the bare client", ratio, 1.2, at_least=False), Mark("cached classes/s", rate, 2000))
    case = f"{CLASSES} classes, {DELAY_S * 1000:g} ms an answer, {CONCURRENCY} at once"
    return [Row("describe", case, figures, marks), *map(long_answer, LONG)]


def long_answer(name: str) -> Row:
    """From what came to what is written: keys hidden, descriptions found, and cut to what CLIP reads."""
    from vlmprompt.backbones.openclip.tokens import count_tokens  # not by the server

    secrets = Secrets("sk-0123456789-abcdefghijklmnop")

    def read(length: int) -> Callable[[], object]:
        content = LONG[name] * (length // len(LONG[name])) + "\n- a long tail"

        def run() -> None:
            with suppress(AnswerError):
                take()

        def take() -> None:
            for item in read_reply(Reply(secrets.hide(content)), "phrase"):
                shortened(item, lambda part: count_tokens(part) <= 77)

        return run

    short, long = read(LENGTH), read(4 * LENGTH)
    short()
    long()
    seconds = side_by_side({short: 5, long: 5})
    figures = {f"{LENGTH:,} characters s": seconds[0], f"{4 * LENGTH:,} characters s": seconds[1]}
    marks = (Mark("times for four times the length", seconds[1] / seconds[0], 8, at_least=False),)
    return Row("describe", f"a long answer of {name}", figures, marks)


def describe(url: str, folder: Path) -> None:
    """All classes, with a cache and a file of its own."""
    order = Order(
        ClassList("animals", NAMES),
        "openai",
        {"base_url": url},
        limits=Limits(concurrency=CONCURRENCY),
        out=folder / "out",
    )
    with closing(DescriptionCache(folder / "cache")) as cache:
        summary = describe_classes(order, cache=cache)
    assert summary.described == CLASSES, summary.failed[:3]


async def ask_barely(url: str) -> None:
    """The client alone."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(api_key="none", base_url=url, max_retries=0)
    free, template = asyncio.Semaphore(CONCURRENCY), load_template("features")

    async def ask(name: str) -> None:
        async with free:
            await client.chat.completions.create(
                model="gpt-5-mini", messages=[{"role": "user", "content": template.ask(name)}], temperature=0.7
            )

    await asyncio.gather(*map(ask, NAMES))
    await client.close()


def span(url: str) -> float:
    """Seconds from the first question to the last answer since this was last asked."""
    with urllib.request.urlopen(f"{url}/span") as answer:
        return float(answer.read())


@contextmanager
def serving() -> Iterator[str]:
    """The server's address, while it runs."""
    command = [sys.executable, "-m", "benchmarks.describe"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


async def serve() -> None:
    """Answer until killed."""
    message = {"role": "assistant", "content": "- a long tail\n- two round ears\n- soft grey fur"}
    usage = {"prompt_tokens": 40, "completion_tokens": 20, "total_tokens": 60}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    times: list[float] = []

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            times.append(time.perf_counter())
            content = json.dumps(answer).encode()
            if head.startswith(b"GET"):
                times.pop()
                content = str(max(times) - min(times)).encode()
                times.clear()
            else:
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
                await asyncio.sleep(DELAY_S)
                times.append(time.perf_counter())
            kind = b"content-type: application/json\r\n"
            writer.write(b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n" % (kind, len(content)) + content)
            await writer.drain()

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await connection(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(quietly, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
