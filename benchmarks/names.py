"""Class names with known token counts in CLIP's vocabulary."""

from __future__ import annotations


def _split(text: str) -> tuple[str, ...]:
    return tuple(" ".join(name.split()) for name in text.split(","))


# Every ten: three names of one token, four of two, three of three. Mean 2, so 3 with the end-of-text token.
SHORT = _split(
    """rose, tulip, orchid, golden retriever, great dane, water lily, apple pie, bird of paradise, lily of valley,
    hot air balloon, iris, daisy, poppy, maine coon, russian blue, fire lily, garlic bread, mac and cheese,
    fish and chips, tree of heaven, lotus, bulldog, beagle, passion flower, moon orchid, french toast, hot dog,
    love in mist, great white shark, red velvet cake, boxer, pug, collie, globe thistle, corn poppy, fried rice,
    ice cream, hard boiled egg, french onion soup, lords and ladies, castle, otter, tiger, sweet pea, caesar salad,
    miso soup, grand piano, american pit bull, yellow iris daisy, egyptian mau cat"""
)

# One token each.
WORDS = _split(
    """rose, tulip, orchid, lily, iris, daisy, poppy, lotus, magnolia, hibiscus, bulldog, beagle, boxer, pug,
    collie, bicycle, dolphin, castle, otter, tiger, lighthouse, lobster, trumpet, sunflower, skateboard, accordion,
    helicopter, barrel, apple, orange, banana, cherry, peach, carrot, potato, tomato, bread, cheese, butter, coffee,
    camera, guitar, violin, piano, hammer, bottle, basket, candle, mirror, lantern"""
)

# Five tokens each, so 6 with the end-of-text token.
LONG = tuple(f"{word} on a wooden table" for word in WORDS)
