"""Further frozen towers that a method learns from: loaded once a process, and known again by their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakValueDictionary

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.load import load_backbone
from vlmprompt.errors import InputError, VlmPromptError

PREFIX = "teacher "  # of a teacher among the digests of a checkpoint

_LOADED: WeakValueDictionary[str, Backbone] = WeakValueDictionary()
_STAND_IN: ContextVar[Backbone | None] = ContextVar("stand_in", default=None)


class Teachers:
    """The teachers of one method, by spec and options.

    Args:
        student: the method's own towers, whose device and precision hold for all.
    """

    def __init__(self, student: Backbone) -> None:
        self._student = student
        self._mine: dict[str, Backbone] = {}
        self._expected: dict[str, str] = {}

    def get(self, spec: str, options: Mapping[str, Any]) -> Backbone:
        """A teacher; see `PromptMethod.teacher`."""
        name = " ".join([spec, *(f"{key}={value}" for key, value in sorted(options.items()))])
        if (stand_in := _STAND_IN.get()) is not None:
            return stand_in
        if name not in self._mine:
            found = _load(name, spec, options, self._student)
            self._require_same(name, found)
            self._mine[name] = found
        return self._mine[name]

    @property
    def digests(self) -> dict[str, str]:
        """Of the weights of those that were used so far, and of those that a checkpoint was made with."""
        return {PREFIX + name: digest for name, digest in self._expected.items()} | {
            PREFIX + name: teacher.digest for name, teacher in self._mine.items()
        }

    def expect(self, digests: Mapping[str, str]) -> None:
        """Hold teachers, those to come included, against the digests of a checkpoint.

        Raises:
            InputError: one has other weights.
        """
        named = {key.removeprefix(PREFIX): digest for key, digest in digests.items() if key.startswith(PREFIX)}
        self._expected.update(named)
        for name, teacher in self._mine.items():
            self._require_same(name, teacher)

    def _require_same(self, name: str, teacher: Backbone) -> None:
        if self._expected.get(name, teacher.digest) != teacher.digest:
            raise InputError(
                f"teacher {name!r} has other weights than the one that the run was trained with",
                hint="restore them, or train again with --force",
            )


def require_width(teacher: Backbone, backbone: Backbone) -> None:
    """Refuse a teacher whose features cannot be compared with the method's own.

    Raises:
        InputError: names both widths of the joint space.
    """
    theirs, ours = teacher.vision.joint_dim, backbone.vision.joint_dim
    if theirs != ours:
        raise InputError(
            f"teacher {teacher.spec!r} has features of width {theirs}, and backbone {backbone.spec!r} of width {ours}",
            hint="take a teacher of the same width, or a method that maps one to the other",
        )


@contextmanager
def standing_in(backbone: Backbone) -> Iterator[None]:
    """Within, these towers are every method's teacher: for trials, which load no weights."""
    token = _STAND_IN.set(backbone)
    try:
        yield
    finally:
        _STAND_IN.reset(token)


def _load(name: str, spec: str, options: Mapping[str, Any], student: Backbone) -> Backbone:
    device, precision = str(student.device), student.identity.precision
    key = f"{name} {device} {precision}"
    teacher = _LOADED.get(key)
    if teacher is None:
        try:
            teacher = load_backbone(spec, device=device, precision=precision, **options)
        except VlmPromptError as error:
            raise type(error)(f"teacher {spec!r} cannot be loaded: {error.message}", hint=error.hint) from error
        _LOADED[key] = teacher
    return teacher
