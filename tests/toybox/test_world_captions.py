from __future__ import annotations

import random

from toybox import world

RNG_SEED = 11


def pairs(count: int) -> list[tuple[world.View, str]]:
    rng = random.Random(RNG_SEED)
    drawn = [world.sample_view(rng) for _ in range(count)]
    return [(view, world.caption(view, rng)) for view in drawn]


def test_captions_use_listed_words_only() -> None:
    known = {word for group in world.words().values() for word in group}
    for view, text in pairs(1500):
        for caption in (text, world.full_caption(view)):
            assert set(caption.replace(",", " ,").split()) <= known


def test_captions_are_short_lower_case_and_varied() -> None:
    texts = [text for _, text in pairs(500)]
    assert all(text == text.lower() and len(text.split()) <= 32 for text in texts)
    assert len(set(texts)) > 480
    assert sum(len(text.split()) < 6 for text in texts) < 25


def test_articles_are_right() -> None:
    for _, text in pairs(1000):
        tokens = text.replace(",", "").split()
        for article, word in zip(tokens, tokens[1:], strict=False):
            if article in ("a", "an"):
                assert (article == "an") == (word[0] in "aeiou"), text


def test_the_full_caption_names_every_attribute() -> None:
    subject = world.Subject(
        species="frog", fur="orange", eyes="big", mouth="open", shirt="red", pattern="striped",
        pattern_color="white", trousers="blue", accessory="top hat", accessory_color="purple",
    )  # fmt: skip
    scene = world.Scene(pose="arms up", background="wall", background_color="pink")
    assert world.full_caption(world.View(subject, scene)) == (
        "an orange frog with big eyes and an open mouth wearing a red shirt with white stripes, "
        "blue trousers and a purple top hat, with arms up by a pink wall"
    )


def test_the_full_caption_tells_views_apart() -> None:
    rng = random.Random(3)
    drawn = {tuple(world.labels(view).values()): view for view in (world.sample_view(rng) for _ in range(500))}
    assert len({world.full_caption(view) for view in drawn.values()}) == len(drawn)


def test_about_half_of_the_captions_name_everything() -> None:
    named = []
    for view, text in pairs(800):
        accessory = view.subject.accessory.split()[-1]
        parts = (("eyes",), ("mouth", "smile"), ("trousers", "pants"), (accessory,) if accessory != "none" else ("",))
        named.append(all(any(word in text for word in options) for options in parts))
    assert 0.4 < sum(named) / len(named) < 0.7
