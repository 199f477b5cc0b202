"""All pictures of a call: said what they show, written down, put into folders; what cannot be read is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vlmprompt.data.records import Record
from vlmprompt.errors import IncompleteError, InputError, VlmPromptError
from vlmprompt.predict.inputs import Inputs
from vlmprompt.predict.prediction import Prediction
from vlmprompt.predict.predictor import Predictor
from vlmprompt.predict.rejection import KNOWN
from vlmprompt.predict.sorting import Sorter
from vlmprompt.predict.writers import Writer, rows_of
from vlmprompt.progress import Progress

NAMED = 100  # pictures that could not be read, of which the paths are kept


@dataclass
class Tally:
    """How it went.

    Attributes:
        classes: class -> pictures of which it is the likeliest; without rejected ones.
        unknown: pictures that were rejected.
        unread: pictures and folders that could not be read.
        reasons: why not, of the first of them: their path and the reason.
    """

    classes: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    unread: int = 0
    reasons: list[tuple[str, str]] = field(default_factory=list)

    @property
    def pictures(self) -> int:
        """Those of which something was said."""
        return self.classes.total() + self.unknown

    def count(self, said: Prediction) -> None:
        """Add a batch."""
        verdicts = said.verdicts or [KNOWN] * len(said)
        known = [name for name, verdict in zip(said.names, verdicts, strict=True) if verdict == KNOWN]
        self.classes.update(known)
        self.unknown += len(said) - len(known)

    def leave_out(self, path: str, error: VlmPromptError) -> None:
        """Add one that could not be read."""
        self.unread += 1
        if self.unread <= NAMED:
            self.reasons.append((path, error.message))

    @property
    def failure(self) -> IncompleteError | None:
        """The error of a call that left some out."""
        if not self.unread:
            return None
        return IncompleteError(
            f"{self.unread:,} of {self.pictures + self.unread:,} pictures could not be read, and are left out",
            hint="each is named above; replace or remove it",
        )


def predict_all(
    predictor: Predictor,
    inputs: Inputs,
    writer: Writer,
    progress: Progress,
    *,
    total: int | None,
    complain: Callable[[str, VlmPromptError], None],
    sorter: Sorter | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Tally:
    """Classify, write and sort, a batch at a time.

    Args:
        total: the number of pictures, where it is known.
        complain: told of what cannot be read.
        stop: asked after each batch whether nobody wants more.

    Raises:
        InputError: no picture could be read, or one cannot be put into its folder.
    """
    tally = Tally()

    def left_out(path: str, error: VlmPromptError) -> None:
        tally.leave_out(path, error)
        complain(path, error)
        task.advance()

    def records() -> Iterator[Record]:
        for path in inputs.pictures(left_out):
            yield Record(str(path), 0, path, predictor.upright)

    with progress.task("pictures", total, unit="img") as task:
        for said in predictor.batches(records(), left_out):
            places = None if sorter is None else _sorted(said, sorter)
            writer.add(rows_of(said, places))
            tally.count(said)
            task.advance(len(said))
            if stop():
                return tally
    if not tally.pictures:
        raise _nothing(tally)
    writer.close()
    return tally


def _sorted(said: Prediction, sorter: Sorter) -> list[Path]:
    verdicts = said.verdicts or [KNOWN] * len(said)
    pictures = zip(said.sources, said.labels_B.tolist(), verdicts, strict=True)
    return [sorter.put(Path(source), label, known=verdict == KNOWN) for source, label, verdict in pictures]


def _nothing(tally: Tally) -> InputError:
    if tally.unread:
        return InputError(f"none of {tally.unread:,} pictures could be read", hint="each is named above, with why")
    return InputError("standard input names no picture", hint="write a path a line")
