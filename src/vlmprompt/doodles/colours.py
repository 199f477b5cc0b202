"""Named colours; a palette entry is a name, so that captions can say what was drawn."""

from __future__ import annotations

from functools import lru_cache

from vlmprompt.doodles.draws import Draws

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (214, 48, 49),
    "crimson": (160, 25, 50),
    "coral": (245, 115, 92),
    "orange": (242, 140, 40),
    "amber": (250, 180, 50),
    "gold": (224, 172, 36),
    "yellow": (250, 218, 60),
    "cream": (250, 236, 200),
    "lime": (160, 208, 60),
    "green": (70, 160, 74),
    "dark green": (30, 100, 60),
    "olive": (134, 134, 50),
    "mint": (150, 220, 180),
    "teal": (20, 140, 140),
    "cyan": (60, 190, 215),
    "sky blue": (130, 195, 240),
    "blue": (50, 100, 205),
    "navy": (34, 48, 110),
    "violet": (120, 80, 190),
    "lavender": (185, 165, 230),
    "purple": (120, 42, 120),
    "magenta": (210, 60, 150),
    "pink": (248, 160, 185),
    "peach": (252, 196, 152),
    "tan": (212, 172, 120),
    "brown": (130, 82, 46),
    "dark brown": (80, 48, 32),
    "rust": (180, 82, 42),
    "white": (250, 250, 248),
    "silver": (196, 202, 210),
    "grey": (136, 142, 150),
    "charcoal": (66, 70, 80),
    "black": (28, 28, 34),
}


@lru_cache(maxsize=256)  # a figure has the same few shades many times
def shaded(colour: RGB, steps: int) -> RGB:
    """Lighter (positive steps) or darker (negative): a quarter of the way to white or black a step."""
    target, n = (255, steps) if steps > 0 else (0, -steps)
    r, g, b = colour
    for _ in range(n):
        r, g, b = (3 * r + target) // 4, (3 * g + target) // 4, (3 * b + target) // 4
    return r, g, b


def varied(colour: RGB, draws: Draws, spread: int) -> RGB:
    """The colour with its brightness and each channel moved a little."""
    light = draws.integer(-spread, spread)
    r, g, b = [c + light + draws.integer(-spread, spread) // 2 for c in colour]
    return _level(r), _level(g), _level(b)


def _level(value: int) -> int:
    return 0 if value < 0 else 255 if value > 255 else value


def distance(a: RGB, b: RGB) -> int:
    """A rough perceived difference, 0 to 765."""
    return (3 * abs(a[0] - b[0]) + 4 * abs(a[1] - b[1]) + 2 * abs(a[2] - b[2])) // 3
