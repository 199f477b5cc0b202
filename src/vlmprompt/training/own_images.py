"""The images of a run's own data set that it was not trained on."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

from vlmprompt.config.models import Runtime
from vlmprompt.data.records import Dataset

if TYPE_CHECKING:
    from vlmprompt.training.runs import Run


def own_images(run: Run, runtime: Runtime) -> Dataset:
    """The run's data set over the classes that it was trained on, its "val" and "test" splits alone.

    "val" are the images that training drew for it (of the val split, or of train images that were not trained on);
    where it drew none, the data set's own val split. A split without images is left out. Images that were drawn and are
    gone are warned of.

    Raises:
        InputError: see `Run.load_dataset`.
    """
    dataset = run.load_dataset(runtime).restrict(run.info.data.labels, suffix="")
    val = dataset.splits.get("val", ())
    if run.info.data.val_ids:
        drawn = set(run.info.data.val_ids)
        val = tuple(record for split in dataset.splits.values() for record in split if record.id in drawn)
        if (gone := len(drawn) - len(val)) > 0:
            warnings.warn(
                f"{gone:,} of {len(drawn):,} validation images of run {run.name} are not among its data any more",
                stacklevel=2,
            )
    splits = {"val": val, "test": dataset.splits.get("test", ())}
    return replace(dataset, splits={name: records for name, records in splits.items() if records})
