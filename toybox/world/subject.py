"""Who is in the picture: the attributes of a toy character, and which characters are held out."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from toybox.world.palette import CLOTHES_COLORS, FUR_COLORS

SPECIES: tuple[str, ...] = (
    "cat", "dog", "bear", "rabbit", "mouse", "frog", "pig", "panda", "penguin", "duck", "robot", "alien",
)  # fmt: skip
PATTERNS: tuple[str, ...] = ("plain", "striped", "dotted", "star", "heart")
ACCESSORIES: tuple[str, ...] = ("none", "top hat", "cap", "crown", "glasses", "scarf", "bow", "headphones")
EYES: tuple[str, ...] = ("round", "big", "sleepy")
MOUTHS: tuple[str, ...] = ("smile", "open", "flat")
NONE = "none"
HELD_OUT_SHARE = 0.05
# The pattern must stand out from the shirt at 128 pixels.
_TOO_CLOSE: tuple[frozenset[str], ...] = tuple(
    frozenset(pair)
    for pair in (("red", "orange"), ("orange", "yellow"), ("yellow", "white"), ("blue", "purple"), ("pink", "red"))
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A toy character; every field is a word of `ATTRIBUTES`.

    `pattern_color` is "none" for a plain shirt only, `accessory_color` only without an accessory.
    """

    species: str
    fur: str
    eyes: str
    mouth: str
    shirt: str
    pattern: str
    pattern_color: str
    trousers: str
    accessory: str
    accessory_color: str


SUBJECT_VALUES: dict[str, tuple[str, ...]] = {
    "species": SPECIES,
    "fur": FUR_COLORS,
    "eyes": EYES,
    "mouth": MOUTHS,
    "shirt": CLOTHES_COLORS,
    "pattern": PATTERNS,
    "pattern_color": (NONE, *CLOTHES_COLORS),
    "trousers": CLOTHES_COLORS,
    "accessory": ACCESSORIES,
    "accessory_color": (NONE, *CLOTHES_COLORS),
}
SUBJECT_ATTRIBUTES: tuple[str, ...] = tuple(SUBJECT_VALUES)


def is_held_out(subject: Subject) -> bool:
    """Whether the combination of species, fur and shirt colour is held out of training (the same on every machine).

    The hash selects 33 of 768, by chance without a bear or a purple shirt. Do not change it:
    reported figures are counted on them.
    """
    key = f"{subject.species}/{subject.fur}/{subject.shirt}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:4], "big") < HELD_OUT_SHARE * 2**32


def _other(rng: random.Random, *taken: str) -> str:
    return rng.choice([color for color in CLOTHES_COLORS if color not in taken])


def _on(rng: random.Random, shirt: str) -> str:
    return _other(rng, shirt, *(color for color in CLOTHES_COLORS if frozenset((shirt, color)) in _TOO_CLOSE))


def _draw(rng: random.Random) -> Subject:
    shirt = rng.choice(CLOTHES_COLORS)
    fur = rng.choice(FUR_COLORS)
    pattern = rng.choice(PATTERNS)
    pattern_color = NONE if pattern == "plain" else _on(rng, shirt)
    accessory = rng.choice(ACCESSORIES)
    return Subject(
        species=rng.choice(SPECIES),
        fur=fur,
        eyes=rng.choice(EYES),
        mouth=rng.choice(MOUTHS),
        shirt=shirt,
        pattern=pattern,
        pattern_color=pattern_color,
        trousers=_other(rng, shirt),
        accessory=accessory,
        accessory_color=NONE if accessory == NONE else _other(rng, shirt, fur, pattern_color),
    )


def sample_subject(rng: random.Random, *, held_out: bool = False) -> Subject:
    """Draw a character from the training combinations, or from the held-out ones."""
    while True:
        subject = _draw(rng)
        if is_held_out(subject) == held_out:
            return subject
