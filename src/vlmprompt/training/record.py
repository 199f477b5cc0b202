"""What a run says of itself: in its checkpoints, and in run.json from its beginning to its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from vlmprompt.atomic import write_atomic
from vlmprompt.claims.claim import BusyError
from vlmprompt.errors import InputError, Interrupted
from vlmprompt.training.checkpoint import Header, Position, file_digest
from vlmprompt.training.folder import RunFolder
from vlmprompt.training.model_card import model_card
from vlmprompt.training.provenance import backbone_info, data_info, descriptions_info, now, versions
from vlmprompt.training.rescue import VanishedError
from vlmprompt.training.run_info import KeptInfo, RunInfo
from vlmprompt.training.setup import Setup


def make_header(setup: Setup) -> Header:
    """What its checkpoints say of themselves."""
    data = setup.data
    digests = {
        "dataset": data.digests.learned,
        "few-shot sample": data.split.digest,
        "backbone": setup.backbone.digest,
    }
    if data.description_file is not None:
        digests["descriptions"] = data.description_file.digest
    names, found = data.class_names, versions(setup.config.method)
    return Header(config=setup.config, class_names=names, digests=digests, versions=found)


def make_info(setup: Setup, folder: RunFolder, sources: dict[str, str], trackers_files: Sequence[str] = ()) -> RunInfo:
    """What run.json says of a run that begins.

    Args:
        trackers_files: names of what its trackers write, where it has a log.
    """
    return RunInfo(
        name=folder.path.resolve().name,
        status="running",
        config=setup.config,
        sources=sources,
        class_names=setup.data.class_names,
        data=data_info(setup.data),
        descriptions=descriptions_info(setup.data),
        backbone=backbone_info(setup.backbone),
        versions=versions(setup.config.method),
        device=str(setup.device),
        features=setup.features,
        trainable_parameters=sum(p.numel() for p in setup.method.trainable_parameters()),
        started=now(),
        files=_files(setup, folder, trackers_files),
    )


def continued(info: RunInfo, before: RunInfo) -> RunInfo:
    """What run.json says of a run that goes on: when it was begun, what it fitted and the files it wrote before."""
    files = tuple(dict.fromkeys((*info.files, *before.files)))
    return info.model_copy(update={"started": before.started, "files": files, "fit": before.fit})


def kept_info(setup: Setup, position: Position) -> KeptInfo:
    """Which state a loop has ended with."""
    train, plan = setup.config.train, setup.plan
    assert plan is not None
    best = train.keep == "best"
    return KeptInfo(
        state=train.keep,
        epoch=position.best_epoch if best and position.best_epoch is not None else position.epoch,
        epochs=position.epoch,
        planned=plan.epochs,
        val_accuracy=position.best_accuracy if best else position.val_accuracy,
        val_images=0 if train.validate_every is None else len(setup.data.split.val),
    )


def _files(setup: Setup, folder: RunFolder, trackers_files: Sequence[str]) -> tuple[str, ...]:
    """What the run will write beside run.json."""
    log = [] if setup.plan is None else [folder.log.name, *trackers_files]
    descriptions = [] if setup.data.description_file is None else [folder.descriptions.name]
    return (folder.checkpoint.name, *log, *descriptions, folder.card.name)


class Record:
    """The run.json of a run that goes on, true at every moment.

    Attributes:
        info: what it says.
    """

    def __init__(self, folder: RunFolder, info: RunInfo) -> None:
        self.info, self._folder = info, folder

    def add(self, **found: Any) -> None:
        """Write down what is known now.

        Raises:
            InputError: it cannot be written.
        """
        self.info = self.info.model_copy(update=found)
        self.info.write(self._folder.path)


@contextmanager
def recorded(folder: RunFolder, info: RunInfo) -> Iterator[Record]:
    """Keep run.json true: running, and if it ends early, why."""
    folder.create()
    record = Record(folder, info)
    record.add()
    try:
        yield record
    except BusyError:  # it is somebody else's now
        raise
    except BaseException as error:
        status = "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
        place = error.folder.path if isinstance(error, VanishedError) else folder.path
        why = {"name": place.resolve().name, "status": status, "error": str(error) or type(error).__name__}
        with suppress(InputError):  # the error under way is the one to see
            record.info.model_copy(update=why).write(place)
        raise


def finish(folder: RunFolder, info: RunInfo, outcome: Mapping[str, Any]) -> RunInfo:
    """Write what is written last, run.json at the very end; gives its content."""
    done = {"status": "finished", "finished": now(), "checkpoint": file_digest(folder.checkpoint)}
    info = info.model_copy(update=done | dict(outcome))
    write_atomic(folder.card, model_card(info).encode(), make_folder=False)
    info.write(folder.path)
    return info
