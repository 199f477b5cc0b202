"""Bounds of numbers that options and models share; beyond them is a typing error, not an experiment."""

from __future__ import annotations

MOST_SEED = 2**63 - 1  # what every generator takes
MOST_WORKERS = 1024
WORKERS = 2  # where nobody says how many, and no GPU waits for images
MOST_SHOTS = 10**9
MOST_IMAGES = 10**6  # a step
MOST_EPOCHS = 10**6
MOST_STEPS = 10**9
MOST_VIEWS = 10**4
MOST_SIZE = 10**6  # of whole-number options of methods that state no bound of their own
MOST_SIDE = 10**5  # pixels of an input image
