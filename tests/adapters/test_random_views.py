"""Random views of a picture: crops and flips, AugMix, and that they hang on the seed alone."""

from __future__ import annotations

import pickle

import pytest
import torch
from PIL import Image

from vlmprompt_adapters.views import OPERATIONS, RandomView

SIDES, MEAN, STD = (24, 24), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def picture() -> Image.Image:
    """Red grows to the right, green downwards."""
    image = Image.new("RGB", (64, 48))
    image.putdata([(4 * x, 5 * y, 90) for y in range(48) for x in range(64)])
    return image


def view(augmix: bool, seed: int) -> torch.Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        made: torch.Tensor = RandomView(SIDES, MEAN, STD, augmix)(picture())
    return made


def shown(normalised: torch.Tensor) -> torch.Tensor:
    return normalised * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]


@pytest.mark.parametrize("augmix", [False, True])
def test_a_view_hangs_on_the_seed(augmix: bool) -> None:
    first, again, other = view(augmix, 1), view(augmix, 1), view(augmix, 2)
    assert first.shape == (3, 24, 24)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_plain_views_are_crops_and_flips() -> None:
    """Of a picture whose red grows to the right, every crop has rising red, or falling where it is flipped."""
    rising = [bool((shown(view(False, seed))[0].mean(dim=0).diff() > 0).all()) for seed in range(12)]
    falling = [bool((shown(view(False, seed))[0].mean(dim=0).diff() < 0).all()) for seed in range(12)]
    assert all(up != down for up, down in zip(rising, falling, strict=True))
    assert any(rising) and any(falling)
    assert all(torch.allclose(shown(view(False, seed))[2], torch.tensor(90 / 255), atol=0.01) for seed in range(3))


def test_augmix_mixes_within_the_range_of_pixels() -> None:
    for seed in range(6):
        mixed = shown(view(True, seed))
        assert mixed.min() > -1e-5 and mixed.max() < 1 + 1e-5
        assert not torch.allclose(mixed, shown(view(False, seed)), atol=1e-3)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_keep_size_and_mode(operation: object) -> None:
    assert callable(operation)
    for strength in (0.1, 0.999):
        made = operation(picture(), strength)
        assert made.size == (64, 48) and made.mode == "RGB"


def test_workers_that_are_spawned_can_have_it() -> None:
    made = pickle.loads(pickle.dumps(RandomView(SIDES, MEAN, STD, True)))
    assert made == RandomView(SIDES, MEAN, STD, True)
