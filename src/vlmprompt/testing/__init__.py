"""For tests of plugins: checks of what they provide, as cases of pytest; fixtures are in `vlmprompt.testing.fixtures`.

    from vlmprompt.testing import check_method

    test_ensemble = check_method("ensemble")

Each rule is a case of its own, such as `test_ensemble[same_seed_same_bytes]`. `vlmprompt plugins check` tries the same
without pytest, which does not come with vlmprompt.
"""

from __future__ import annotations

from vlmprompt.backbones.openclip.miniature import tiny_backbone, tiny_clip
from vlmprompt.testing.checks import (
    check_backbone,
    check_dataset,
    check_method,
    check_provider,
    check_score,
    check_suite,
)

__all__ = [
    "check_backbone",
    "check_dataset",
    "check_method",
    "check_provider",
    "check_score",
    "check_suite",
    "tiny_backbone",
    "tiny_clip",
]
