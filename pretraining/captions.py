"""What captions say. Every word that a caption can hold follows from the lists here and from the drawings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from pretraining.grammar import COUNTS, PATTERNS, PLURALS, RELATIONS, SHAPES, Group, Scene
from vlmprompt.doodles.colours import COLOURS
from vlmprompt.doodles.draws import Draws
from vlmprompt.doodles.parse import GROUPS, drawings

# Of CLIP's ImageNet templates, those that can be said of drawings, and a few plain ones.
TEMPLATES = (
    "a photo of a {}.",
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
    "a drawing of a {}.",
    "a drawing of the {}.",
    "a doodle of a {}.",
    "a doodle of the {}.",
    "a sketch of a {}.",
    "a painting of a {}.",
    "a cartoon {}.",
    "a rendering of a {}.",
    "a close-up photo of a {}.",
    "a cropped photo of the {}.",
    "a good photo of a {}.",
    "a photo of one {}.",
    "a picture of a {}.",
    "{}",
    "a {}",
    "the {}",
)
KINDS: Mapping[str, Sequence[str]] = {
    "animals": ("animal", "creature", "living thing"),
    "food": ("food", "snack", "something to eat"),
    "places": ("vehicle or building", "place or vehicle", "thing outdoors"),
    "things": ("object", "thing", "tool or thing of the house"),
}
# What people call them who are not naming classes of a data set.
OTHER_NAMES: Mapping[str, str] = {
    "bee": "bumblebee",
    "butterfly": "monarch",
    "cat": "kitty",
    "crab": "crustacean",
    "duck": "mallard",
    "elephant": "jumbo",
    "fish": "minnow",
    "frog": "croaker",
    "ladybird": "ladybug",
    "moth": "lepidopteran",
    "octopus": "kraken",
    "owl": "hooter",
    "rabbit": "bunny",
    "snail": "escargot",
    "toad": "natterjack",
    "turtle": "tortoise",
    "apple": "pippin",
    "banana": "plantain",
    "burger": "whopper",
    "carrot": "vegetable",
    "cheese": "cheddar",
    "cherry": "morello",
    "cupcake": "muffin",
    "donut": "cruller",
    "fried egg": "sunny side up",
    "grapes": "muscat",
    "ice cream": "gelato",
    "mushroom": "toadstool",
    "pineapple": "ananas",
    "pizza": "margherita",
    "tomato": "pomodoro",
    "watermelon": "melon",
    "airplane": "jet",
    "bicycle": "bike",
    "bridge": "viaduct",
    "bus": "coach",
    "car": "automobile",
    "castle": "fortress",
    "helicopter": "chopper",
    "hot air balloon": "aerostat",
    "house": "cottage",
    "lighthouse": "beacon",
    "rocket": "spaceship",
    "sailboat": "yacht",
    "submarine": "sub",
    "tent": "marquee",
    "tram": "trolley",
    "windmill": "mill",
    "bell": "chime",
    "book": "novel",
    "camera": "kodak",
    "candle": "votive",
    "chair": "furniture",
    "clock": "timepiece",
    "compass": "navigator",
    "cup": "mug",
    "glasses": "spectacles",
    "guitar": "acoustic",
    "hammer": "mallet",
    "key": "opener",
    "lamp": "luminaire",
    "pencil": "stationery",
    "scissors": "shears",
    "umbrella": "parasol",
}
LEADS = ("", "", "", "a picture of ", "a photo of ", "a drawing of ", "a doodle of ", "an image of ")
GROUND_PATTERNS: Mapping[str, Sequence[str]] = {
    "plain": ("plain", ""),
    "horizon": ("ground under a", "two-coloured"),
    "stripes": ("striped", "lined"),
    "dots": ("dotted", "spotted"),
}
_VOWELS = tuple("aeiou")
# Frames of sentences; the words of the vocabulary are read off them.
_WITH, _AND, _ON, _TYPE = "{} with {}", "{} and {}", "{} on a {} background", "a photo of a {}, a type of {}."
_FRAMES = (_WITH, _AND, _ON, _TYPE, "a {}", "an {}", "some {}, {}.", "nothing but a {} background", "empty")


@dataclass(frozen=True)
class Facts:
    """What a picture shows.

    Attributes:
        name: of the class, or None.
        group: its group.
        colours: of the drawing's first slots.
        phrases: of the parts that are there.
        scene: of the grammar, where there is no class.
        ground: colour and pattern of the background.
    """

    name: str | None
    group: str | None
    colours: tuple[str, ...]
    phrases: tuple[str, ...]
    scene: Scene | None
    ground: tuple[str, str]


@dataclass(frozen=True)
class Mix:
    """How often captions of classes are of each kind; the rest speak of parts without the class.

    Most captions that say what a thing is do not say it in the word that a data set has for its class: the most
    frequent class of each group is always called by its name, and from class to class the name gives way to another
    word (`OTHER_NAMES`) by a constant factor (`frequency`), to `rarest` of all.
    """

    bare: float = 0.35
    detailed: float = 0.25
    rarest: float = 0.0003


@cache
def frequency(group: str, rarest: float) -> Mapping[str, float]:
    """How often each class of a group is called by its own name, 1 to `rarest`; the order is a fixed draw."""
    names = sorted(drawings(group))
    order = Draws("pretraining", "frequency", group).some(names, len(names))
    return {name: rarest ** (rank / (len(order) - 1)) for rank, name in enumerate(order)}


def caption(facts: Facts, draws: Draws, mix: Mix) -> str:
    """One true sentence about a picture."""
    if facts.scene is not None:
        return _ended(draws.choice(LEADS) + _grounded(scene_words(facts.scene), facts, draws, 0.25), draws)
    if facts.name is None:
        return f"nothing but {_ground(facts, draws)}"
    kind, group = draws.uniform(0, 1), str(facts.group)
    noun = facts.name if draws.chance(frequency(group, mix.rarest)[facts.name]) else OTHER_NAMES[facts.name]
    if kind < mix.bare:
        if draws.chance(0.12):
            return _TYPE.format(noun, draws.choice(KINDS[group]))
        return draws.choice(TEMPLATES).format(noun)
    if kind < mix.bare + mix.detailed:
        return _ended(draws.choice(LEADS) + _detailed(noun, facts, draws), draws)
    return _ended(draws.choice(LEADS) + _classless(facts, draws), draws)


def _detailed(noun: str, facts: Facts, draws: Draws) -> str:
    """A noun with its colour, a part, the background."""
    coloured = f"{facts.colours[0]} {noun}" if facts.colours and draws.chance(0.4) else noun
    words = article(coloured)
    if facts.phrases and draws.chance(0.7):
        words = _WITH.format(words, draws.choice(facts.phrases))
    return _grounded(words, facts, draws, 0.3)


def _classless(facts: Facts, draws: Draws) -> str:
    """Parts, with or without the kind of thing."""
    parts = draws.some(facts.phrases, min(len(facts.phrases), draws.integer(1, 3)))
    kind = draws.choice(KINDS[str(facts.group)])
    words = kind if kind.startswith("something") else article(kind)
    if facts.colours and draws.chance(0.3) and not kind.startswith("something"):
        words = article(f"{facts.colours[0]} {kind}")
    if not parts:
        return _grounded(words, facts, draws, 0.5)
    told = parts[0] if len(parts) == 1 else _AND.format(", ".join(parts[:-1]), parts[-1])
    return told if draws.chance(0.3) else _WITH.format(words, told)


def scene_words(scene: Scene) -> str:
    """`three striped blue stars above a green square`."""
    words = group_words(scene.first)
    return words if scene.second is None else f"{words} {scene.relation} {group_words(scene.second)}"


def group_words(group: Group) -> str:
    """`three striped blue stars`."""
    words = " ".join(word for word in (group.pattern, group.colour, group.noun) if word)
    return article(words) if group.count == 1 else f"{COUNTS[group.count - 1]} {words}"


def article(words: str) -> str:
    """With "a" or "an"."""
    return f"{'an' if words.startswith(_VOWELS) else 'a'} {words}"


def _grounded(words: str, facts: Facts, draws: Draws, chance: float) -> str:
    return f"{words} on {_ground(facts, draws)}" if draws.chance(chance) else words


def _ground(facts: Facts, draws: Draws) -> str:
    colour, pattern = facts.ground
    word = draws.choice(GROUND_PATTERNS[pattern])
    return article(" ".join(part for part in (word, colour, "background") if part))


def _ended(words: str, draws: Draws) -> str:
    return f"{words}." if draws.chance(0.5) else words


def vocabulary() -> Iterator[str]:
    """Texts that together hold every word of any caption."""
    yield from (*TEMPLATES, *LEADS, *_FRAMES, ",", ".", "on", "background")
    yield from (*COUNTS, *PATTERNS, *RELATIONS, *SHAPES, *PLURALS.values(), *COLOURS)
    yield from (f"{shape}s" for shape in SHAPES)
    for words in (*KINDS.values(), *GROUND_PATTERNS.values()):
        yield from words
    for group in GROUPS:
        for name, drawing in drawings(group).items():
            yield from (name, OTHER_NAMES[name], *drawing.phrases)
