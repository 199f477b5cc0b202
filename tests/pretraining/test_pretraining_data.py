"""Scenes and captions of the pretraining."""

from __future__ import annotations

import re

import pytest
import torch

from pretraining.bank import Bank, Plain, build_bank
from pretraining.captions import OTHER_NAMES, Facts, Mix, caption, frequency, group_words, scene_words, vocabulary
from pretraining.grammar import COUNTS, PATTERNS, RELATIONS, SHAPES, Group, Scene, draw_group, draw_scene, scene_drawing
from pretraining.model import Words
from pretraining.scenes import Scenes
from vlmprompt.doodles.colours import COLOURS
from vlmprompt.doodles.draws import Draws
from vlmprompt.doodles.figure import figure
from vlmprompt.doodles.parse import GROUPS, drawings


@pytest.fixture(scope="module")
def bank() -> Bank:
    return build_bank(0, 1, 40, Plain())


@pytest.fixture(scope="module")
def words() -> Words:
    return Words(vocabulary())


def test_the_grammar_has_hundreds_of_concepts() -> None:
    drawn = {draw_group(Draws("test", i)) for i in range(2000)}
    assert len(drawn) > 250
    assert {group.shape for group in drawn} == set(SHAPES)
    assert {group.colour for group in drawn} == set(COLOURS)
    assert {group.pattern for group in drawn} == set(PATTERNS)
    assert {group.count for group in drawn} == set(range(1, len(COUNTS) + 1))


def test_words_of_scenes() -> None:
    stars = Group(3, "blue", "striped", "star")
    assert group_words(stars) == "three striped blue stars"
    assert scene_words(Scene(stars, "above", Group(1, "olive", "", "square"))) == (
        "three striped blue stars above an olive square"
    )
    assert group_words(Group(2, "red", "", "cross")) == "two red crosses"


@pytest.mark.parametrize("relation", RELATIONS)
def test_relations_hold_in_the_picture(relation: str) -> None:
    scene = Scene(Group(2, "red", "", "circle"), relation, Group(1, "blue", "", "square"))
    parts = scene_drawing(scene, Draws("test", relation)).parts
    boxes = []
    for part in parts:
        points = [point for copy in part.copies for shape in copy for ring in shape.rings for point in ring]
        xs, ys = [x for x, _ in points], [y for _, y in points]
        boxes.append((min(xs), min(ys), max(xs), max(ys)))
    (bx0, by0, bx1, by1), (ax0, ay0, ax1, ay1) = boxes  # the second group of the scene lies behind
    holds = {
        "above": ay1 <= by0,
        "below": ay0 >= by1,
        "to the left of": ax1 <= bx0,
        "to the right of": ax0 >= bx1,
        "next to": ax1 <= bx0 or ax0 >= bx1,
        "inside": ax0 > bx0 and ay0 > by0 and ax1 < bx1 and ay1 < by1,
    }
    assert holds[relation]


def test_a_scene_has_as_many_shapes_as_it_says() -> None:
    for i in range(30):
        scene = draw_scene(Draws("test", i))
        fig = figure(scene_drawing(scene, Draws("test", i, "layout")), Draws("test", i, "figure"))
        groups = [scene.first] if scene.second is None else [scene.first, scene.second]
        assert len({mark.group for mark in fig.marks}) == sum(group.count for group in groups)


def test_every_caption_is_of_known_words(bank: Bank, words: Words) -> None:
    scenes = Scenes(bank, Plain(), 0)
    for i in range(6):
        for text in scenes.batch(i, 128).captions:
            rows = words.rows(text)
            assert rows[0] == len(words.ids) - 2
            assert rows[-1] == len(words.ids) - 1
            assert 3 <= len(rows) <= 77


def test_words_of_unseen_classes_are_no_captions() -> None:
    texts = " ".join(vocabulary()).split()
    for name in drawings("unseen"):
        assert name.split()[-1] not in texts or name in ("hot dog",), name


def test_captions_of_a_class(bank: Bank) -> None:
    facts = Facts("frog", "animals", ("green",), ("long hind legs",), None, ("pink", "plain"))
    mix = Mix(rarest=1.0)
    drawn = [caption(facts, Draws("test", i), mix) for i in range(400)]
    named = sum("frog" in text for text in drawn) / len(drawn)
    assert abs(named - (mix.bare + mix.detailed)) < 0.08
    assert any("animal" in text and "frog" not in text for text in drawn)
    assert any("pink background" in text for text in drawn)


@pytest.mark.parametrize("group", GROUPS)
def test_names_are_as_frequent_as_the_mix_says(group: str) -> None:
    mix = Mix()
    shares = frequency(group, mix.rarest)
    assert set(shares) == set(drawings(group))
    falling = sorted(shares.values(), reverse=True)
    assert falling == pytest.approx([mix.rarest ** (rank / 15) for rank in range(16)])
    for name in (min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)):
        facts = Facts(name, group, (), ("a tail",), None, ("pink", "plain"))
        drawn = [caption(facts, Draws("test", i), mix) for i in range(1000)]
        nouns = (re.compile(rf"\b{noun}\b") for noun in (name, OTHER_NAMES[name]))
        own, other = (sum(bool(noun.search(text)) for text in drawn) / 1000 for noun in nouns)
        assert abs(other - (1 - shares[name]) * (mix.bare + mix.detailed)) < 0.04
        assert abs(own - shares[name] * (mix.bare + mix.detailed)) < 0.04


def test_every_class_has_another_name_of_its_own() -> None:
    names = {name for group in GROUPS for name in drawings(group)}
    assert set(OTHER_NAMES) == names
    assert len(set(OTHER_NAMES.values()) - names) == len(names)
    assert not set(OTHER_NAMES.values()) & {name for group in ("unseen", "clutter") for name in drawings(group)}


def test_lines_have_no_words_of_colour() -> None:
    drawn = build_bank(0, 2, 1, Plain(lines=1.0)).layers[:-1]
    assert not any(layer.colours for layer in drawn)
    assert not any(word in COLOURS for layer in drawn for phrase in layer.phrases for word in phrase.split())
    assert any(layer.phrases for layer in drawn)


def test_batches_are_reproducible_and_show_all_kinds(bank: Bank) -> None:
    one, again, other = (Scenes(bank, Plain(), 0).batch(i, 64) for i in (3, 3, 4))
    assert torch.equal(one.images, again.images)
    assert one.captions == again.captions
    assert not torch.equal(one.images, other.images)
    assert one.images.shape == (64, 3, 64, 64)
    assert 0 <= one.images.min() < one.images.max() <= 1
    every = {name for group in GROUPS for name in drawings(group)}
    assert {name for name in one.names if name} <= every
    assert None in one.names


def test_the_bank_does_not_depend_on_the_workers(bank: Bank) -> None:
    other = build_bank(0, 1, 40, Plain(), workers=2)
    assert torch.equal(bank.rgba, other.rgba)
    assert torch.equal(bank.clutter, other.clutter)
