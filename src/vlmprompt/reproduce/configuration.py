"""What the runs of a recipe are configured as; nothing heavy is imported, so that slips are found at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

from vlmprompt.backbones.names import require_backbone
from vlmprompt.config.keys import show_value
from vlmprompt.config.resolve import Resolved, resolve
from vlmprompt.data.load import require_there
from vlmprompt.errors import InputError
from vlmprompt.methods.score_config import require_options
from vlmprompt.reproduce.recipe import GridSpec, Recipe


def configuration(spec: GridSpec, flags: dict[str, Any]) -> Resolved:
    """The configuration of one run; the user's environment plays no part in it."""
    given = {"backbone": spec.backbone, "setting": spec.setting, "protocol": spec.protocol, "preset": spec.preset}
    sets = [f"{key}={show_value(key, value)}" for key, value in spec.settings.items()]
    return resolve(given | flags, sets=sets, env={})


def require_known(recipe: Recipe, root: Path | None, seeds: Sequence[int] = ()) -> None:
    """Find misspelt names, settings and options of scores in a recipe; data that are merely not there are no slip.

    Raises:
        UsageError: a name that nobody provides, or a configuration that is not allowed.
        PluginError: a plugin that failed would provide it.
    """
    for spec in recipe.grid:
        for method, data, shots in product(spec.methods, spec.data, spec.shots):
            seed = recipe.seeds_of(spec, seeds)[0]
            run = configuration(spec, {"method": method, "data": data, "shots": shots, "seed": seed}).run
            require_backbone(run.backbone, random_weights=run.random_weights)
        require_options(spec.scores)
        for data in spec.data:
            with suppress(InputError):
                require_there(data, root=root)
