"""Make doodle-clip from nothing: `python -m pretraining.run`. Interrupted, it goes on where it stopped."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from pretraining.bank import Bank, Plain, build_bank
from pretraining.captions import Mix, vocabulary
from pretraining.export import read_text, write_image_tower, write_provenance, write_text
from pretraining.measure import feature_probe, pixel_probe, zero_shot
from pretraining.model import Words, build
from pretraining.scenes import Scenes, Shares
from pretraining.train import Recipe, train
from vlmprompt.backbones.load import load_backbone
from vlmprompt.doodles.pictures import VERSION

SEED = 0
PER_CLASS, SCENES = 224, 6144
RECIPES = {
    "vit": Recipe(seed=SEED, steps=1300),
    "resnet": Recipe(seed=SEED, steps=600, keep=1.0, frozen_text=True),
}
NAMES = {"vit": "doodle-clip", "resnet": "doodle-clip-rn"}


def main() -> int:
    """Train what is asked for, write the package's files, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["vit", "resnet", "tables"], help="one of the steps (default: all)")
    parser.add_argument("--work", type=Path, default=Path("pretraining-out"), help="logs and states of the training")
    args = parser.parse_args()
    weights = Path(str(files("vlmprompt.doodles.clip")))
    wanted = [args.only] if args.only else ["vit", "resnet", "tables"]
    if wanted != ["tables"]:
        words = Words(vocabulary())
        bank = build_bank(SEED, PER_CLASS, SCENES, Plain(), workers=2)
        say("bank", layers=len(bank.layers), token_rows=len(words.ids))
        for image_tower in wanted:
            if image_tower in RECIPES:
                make(image_tower, bank, words, args.work, weights)
    if "tables" in wanted:
        tables(weights)
    return 0


def make(image_tower: str, bank: Bank, words: Words, work: Path, weights: Path) -> None:
    """Train one model and write its files; the ResNet learns against the text tower of the ViT."""
    model = build(image_tower, len(words.ids), SEED)
    if image_tower == "resnet":
        read_text(model, words.ids, weights)
    start = time.monotonic()
    train(model, words, Scenes(bank, Plain(), SEED), RECIPES[image_tower], work / image_tower)
    if image_tower == "vit":
        write_text(model, words.ids, weights)
    write_image_tower(model, image_tower, weights)
    say("trained", model=NAMES[image_tower], minutes=round((time.monotonic() - start) / 60, 1))
    write_provenance(about(), weights)


def about() -> dict[str, Any]:
    """How the weights were made."""
    packages = ("torch", "open_clip_torch", "pillow", "numpy")
    return {
        "made_by": "python -m nox -s doodle_clip",
        "seed": SEED,
        "pictures": VERSION,
        "layers": {"per_class": PER_CLASS, "scenes": SCENES},
        "style": asdict(Plain()),
        "shares": asdict(Shares()),
        "captions": asdict(Mix()),
        "recipes": {NAMES[name]: asdict(recipe) for name, recipe in RECIPES.items()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def tables(weights: Path) -> None:
    """Measure the models in the package, and add their digests to the provenance."""
    digests: dict[str, str] = {}
    for image_tower, name in NAMES.items():
        if not (weights / f"{image_tower}.safetensors").exists():
            continue
        backbone = load_backbone(name)
        digests[name] = backbone.digest
        for split in ("val", "test"):
            table = {where: round(value, 4) for where, value in zero_shot(backbone, split)}
            say("zero-shot", model=name, split=split, **table)
            say("probe", model=name, split=split, **_probes(backbone, split))
    for split in ("val", "test"):
        say("raw-pixel probe", split=split, top1=round(pixel_probe(split, None), 4))
    write_provenance({**about(), "digests": digests}, weights)


def _probes(backbone: Any, split: str) -> Mapping[str, float]:
    shots = {"16 shots": 16, "all 64 shots": None}
    return {label: round(feature_probe(backbone, split, count), 4) for label, count in shots.items()}


def say(event: str, **fields: Any) -> None:
    """A line of JSON on stdout."""
    print(json.dumps({"event": event, **fields}), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
