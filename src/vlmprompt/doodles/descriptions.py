"""Class descriptions from the drawings' parts: `python -m vlmprompt.doodles.descriptions FILE` writes them.

The repository's prompts_cache/doodles/parts--doodles--parts.jsonl is this file; a test compares them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from vlmprompt.doodles.parse import GROUPS, drawings
from vlmprompt.doodles.pictures import VERSION, members

TEMPLATE = "{phrase}"  # what is made of a part's phrase: nothing else


def description_file() -> str:
    """One line of JSON for each phrase of each class of `doodles`, in the order of classes and of parts."""
    return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in _lines())


def _lines() -> Iterator[dict[str, object]]:
    phrases = {name: drawing.phrases for group in GROUPS for name, drawing in drawings(group).items()}
    digest = hashlib.sha256(TEMPLATE.encode()).hexdigest()
    for index, name in enumerate(members("")):
        for phrase in phrases[name]:
            yield {
                "schema": 1,
                "dataset": "doodles",
                "class_index": index,
                "class": name,
                "text": TEMPLATE.format(phrase=phrase),
                "kind": "phrase",
                "provider": "parts",
                "model": "doodles",
                "template_sha256": digest,
                "sample": 0,
                "source": f"parts of the drawings of doodles, version {VERSION}",
            }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(description_file(), encoding="utf-8", newline="\n")
