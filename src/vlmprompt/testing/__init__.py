"""For the tests of plugins: checks of what they provide, as cases of pytest, and fixtures (`vlmprompt.testing.fixtures`).

    from vlmprompt.testing import check_method

    test_ensemble = check_method("ensemble")

Each rule is a case of its own, `test_ensemble[same_seed_same_bytes]` and so on; `vlmprompt plugins check` tries the same.
pytest is not installed with vlmprompt.
"""

from __future__ import annotations

from vlmprompt.backbones.openclip.miniature import tiny_backbone, tiny_clip
from vlmprompt.testing.checks import check_backbone, check_dataset, check_method, check_provider, check_suite

__all__ = [
    "check_backbone",
    "check_dataset",
    "check_method",
    "check_provider",
    "check_suite",
    "tiny_backbone",
    "tiny_clip",
]
