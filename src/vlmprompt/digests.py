"""Keys of what was asked or measured: the SHA-256 of JSON types in one notation."""

from __future__ import annotations

import hashlib
import json


def digest_of(content: object) -> str:
    """SHA-256 of JSON types; the order of keys does not matter.

    Raises:
        ValueError: a number is too long to be written, or a text is not Unicode.
    """
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
