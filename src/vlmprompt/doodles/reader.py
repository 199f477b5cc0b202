"""`doodles`, `doodles-animals:night`, ...: the built-in world as data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from vlmprompt.api import Dataset, InputError, Record, UsageError, did_you_mean, read_names
from vlmprompt.doodles.domains import DOMAINS
from vlmprompt.doodles.ink import SIZE
from vlmprompt.doodles.parse import GROUPS
from vlmprompt.doodles.pictures import COUNTS, DEFAULT_DOMAIN, OUTLIERS, VERSION, members, picture
from vlmprompt.doodles.render import Rendered

# Pictures, 12 KB each: the test splits of all domains and outliers (14,496), training (4,096) and val (512) pictures.
_KEPT = 20_480


@dataclass(frozen=True, slots=True)
class Doodle:
    """A picture of the built-in world, drawn when it is read (an `ImageSource`).

    Attributes: see `pictures.picture`.
    """

    name: str
    index: int
    domain: str
    split: str
    kept: ClassVar[bool] = True

    @property
    def key(self) -> str:
        """All that the picture depends on, so that no two ever share it; the record's id, too."""
        return f"v{VERSION}/{self.domain}/{self.split}/{self.name}/{self.index}"

    def load(self) -> Image.Image:
        """The RGB image; recent ones are kept."""
        return Image.frombytes("RGB", (SIZE, SIZE), _pixels(self))

    def rendered(self) -> Rendered:
        """The picture with the mask and box of its object."""
        return picture(self.name, self.index, domain=self.domain, split=self.split)

    def mask(self) -> npt.NDArray[np.bool_]:
        """(64, 64), True where the object is seen."""
        return self.rendered().mask


@lru_cache(maxsize=_KEPT)
def _pixels(doodle: Doodle) -> bytes:
    return doodle.rendered().image.tobytes()


class DoodlesReader:
    """The built-in world: 64 drawn classes, 64 train, 8 val and 32 test pictures of each, 64 x 64 pixels.

    Nothing is read or downloaded: a picture is drawn when it is asked for, always the same one. A domain after
    the colon draws the same classes in another manner:

    - doodles, or doodles:paint: coloured, on patterns, with light and shadow;
    - doodles:sketch: strokes alone;
    - doodles:silhouette: filled with one colour;
    - doodles:crowded: small, among many other things;
    - doodles:night: dark, with a colour cast and noise;
    - doodles:v2: a fresh draw of paint, other backgrounds, more variation.

    doodles-animals, doodles-food, doodles-places and doodles-things have 16 of the classes each and the same
    domains, doodles-lookalikes ten that are hard to tell apart. doodles-unseen, doodles-textures and doodles-glyphs are
    sets of outliers, with test pictures alone.
    """

    collection = ""
    splits: Sequence[str] = tuple(COUNTS)
    domains: Sequence[str] = tuple(DOMAINS)

    def look(self, argument: str, *, root: Path | None) -> None:
        """See `vlmprompt.api.DatasetReader`."""
        self._check(argument)

    def load(self, argument: str, *, root: Path | None, class_names_file: Path | None, split_seed: int) -> Dataset:
        """The data set; no picture is drawn yet.

        Args:
            argument: a domain; empty for "paint".

        Raises:
            UsageError: unknown domain.
            InputError: the file of class names does not fit.
        """
        self._check(argument)
        domain = argument or DEFAULT_DOMAIN
        own = members(self.collection)
        names, origin = (own, None) if class_names_file is None else _given(class_names_file, root, own)
        splits = {split: _records(own, domain, split) for split in self.splits}
        notes: dict[str, object] = {"version": VERSION, "domain": domain}
        if origin is not None:
            notes["class_names"] = origin
        parts = ("doodles", self.collection, "" if domain == DEFAULT_DOMAIN else domain)
        companions = self._companions(domain, same_names=origin is None)
        name = "-".join(filter(None, parts))
        return Dataset(
            name,
            self._spec(argument),
            names,
            splits,
            notes=notes,
            companions=companions,
            described_by="doodles",
        )

    def _companions(self, domain: str, *, same_names: bool) -> dict[str, tuple[str, ...]]:
        """What a run on these classes is evaluated with; nothing for outliers, on which nothing is trained."""
        if self.collection in OUTLIERS:
            return {}
        others = [self._spec("" if d == DEFAULT_DOMAIN else d) for d in self.domains if d != domain]
        targets = [f"doodles-{group}" for group in GROUPS if group != self.collection]
        return {
            "domains": tuple(others) if same_names else (),  # classes are matched by name
            "targets": tuple(targets) if self.collection in GROUPS else ("doodles-unseen",),
            "ood": tuple(f"doodles-{name}" for name in (_near(domain), *OUTLIERS[1:])),
        }

    def _check(self, argument: str) -> None:
        if argument and argument not in self.domains:
            if not self.domains:
                raise UsageError(
                    f"{self._spec('')} has no domains, not even {argument!r}", hint=f"write {self._spec('')}"
                )
            raise UsageError(f"{self._spec('')} has no domain {argument!r}", hint=did_you_mean(argument, self.domains))

    def _spec(self, argument: str) -> str:
        scheme = f"doodles-{self.collection}" if self.collection else "doodles"
        return f"{scheme}:{argument}" if argument else scheme


def _near(domain: str) -> str:
    """Near outliers, drawn as the known classes are: nothing but the class is to tell them apart."""
    near = OUTLIERS[0]
    return near if domain == DEFAULT_DOMAIN else f"{near}:{domain}"


def _records(names: Sequence[str], domain: str, split: str) -> tuple[Record, ...]:
    pictures = (
        (label, Doodle(name, i, domain, split)) for label, name in enumerate(names) for i in range(COUNTS[split])
    )
    return tuple(Record(doodle.key, label, doodle) for label, doodle in pictures)


def _given(file: Path, root: Path | None, own: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    names, origin = read_names(file, root)
    if len(names) != len(own):
        raise InputError(
            f"{origin['file']} has {len(names)} class names, the data set has {len(own)} classes",
            hint=f"one name a line, in the order {', '.join(own[:3])}, ...",
        )
    return names, origin


class AnimalsReader(DoodlesReader):
    """16 animals of the built-in world: `doodles-animals`, `doodles-animals:sketch`; see doodles for the domains."""

    collection = "animals"


class FoodReader(DoodlesReader):
    """16 kinds of food of the built-in world: `doodles-food`, `doodles-food:sketch`; see doodles for the domains."""

    collection = "food"


class PlacesReader(DoodlesReader):
    """16 vehicles and buildings of the built-in world: `doodles-places`; see doodles for the domains."""

    collection = "places"


class ThingsReader(DoodlesReader):
    """16 things of the house of the built-in world: `doodles-things`; see doodles for the domains."""

    collection = "things"


class LookalikesReader(DoodlesReader):
    """10 of the classes of doodles: pairs that differ in a detail, such as frog and toad; in the domains of doodles."""

    collection = "lookalikes"


class UnseenReader(DoodlesReader):
    """Near outliers: 16 further drawn classes that no training has seen; a test split alone.

    In the domains of doodles, such as doodles-unseen:night.
    """

    collection = "unseen"
    splits = ("test",)


class TexturesReader(DoodlesReader):
    """Far outliers: 17 patterns in two colours, without an object; a test split alone, no domains."""

    collection = "textures"
    splits = ("test",)
    domains = ()


class GlyphsReader(DoodlesReader):
    """Far outliers: letters and digits in three stroke fonts on the backgrounds of doodles; a test split alone."""

    collection = "glyphs"
    splits = ("test",)
    domains = ()
