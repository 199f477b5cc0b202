"""The trackers of one run: made by name, told of everything, and left out once they fail."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vlmprompt.errors import Interrupted, PluginError, VlmPromptError, message_of
from vlmprompt.plugins import host
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.registry import one_line
from vlmprompt.training.trackers.contract import Ending, TrackedRun, Tracker

ALWAYS = ("csv",)


class Trackers:
    """The trackers of a run. One that fails is named in a warning and left out from then on; the run goes on.

    Args:
        trackers: by name.
        progress: where warnings go.
    """

    def __init__(self, trackers: Mapping[str, Tracker] | None = None, progress: Progress | None = None) -> None:
        self._working = dict(trackers or {})
        self._progress = progress or SilentProgress()
        self._started = False

    @property
    def files(self) -> list[str]:
        """Names of what they write into the run's folder."""
        return [name for tracker in self._working.values() for name in tracker.files]

    def start(self, run: TrackedRun) -> None:
        """See `Tracker.start`."""
        self._started = True
        self._tell(lambda tracker: tracker.start(run))

    def record(self, record: Mapping[str, Any]) -> None:
        """See `Tracker.record`; each gets a copy, so that none can change another's."""
        self._tell(lambda tracker: tracker.record(copy.deepcopy(dict(record))))

    def flush(self) -> None:
        """See `Tracker.flush`."""
        self._tell(lambda tracker: tracker.flush())

    @contextmanager
    def told_of_the_end(self) -> Iterator[None]:
        """Tell those that were started how the block has ended."""
        try:
            yield
        except BaseException as error:
            stopped = isinstance(error, Interrupted | KeyboardInterrupt)
            self._end("interrupted" if stopped else "failed", message_of(error) or type(error).__name__)
            raise
        self._end("finished", None)

    def _end(self, ending: Ending, error: str | None) -> None:
        if self._started:
            self._tell(lambda tracker: tracker.end(ending, error))

    def _tell(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._working.items()):
            try:
                act(tracker)
            except (Exception, SystemExit) as error:  # whatever a plugin does: the run is worth more
                del self._working[name]
                self._progress.warn(f"tracker {name!r} failed, the run goes on without it: {one_line(error)}")


def make_trackers(names: Iterable[str]) -> dict[str, Tracker]:
    """The trackers of these names, and those that every run has.

    Raises:
        UsageError: nobody provides a name.
        PluginError: the plugin that would, failed; or what it provides is no tracker.
        InputError: a tracker lacks something, such as a package.
    """
    return {name: _made(name) for name in dict.fromkeys((*ALWAYS, *names))}


def _made(name: str) -> Tracker:
    entry = host().trackers.get(name)
    target = entry.load()
    try:
        tracker = target()
    except VlmPromptError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"tracker {name!r} of {entry.source} cannot be made: {one_line(error)}") from error
    if not isinstance(tracker, Tracker):
        raise PluginError(
            f"tracker {name!r} of {entry.source} is a {type(tracker).__name__}",
            hint="derive it from vlmprompt.api.Tracker",
        )
    return tracker
