"""Captions: views described in words as people would, and the vocabulary of the captions."""

from __future__ import annotations

import random
import re

from toybox.world.palette import PALETTE
from toybox.world.scene import BACKGROUNDS, POSES, Scene, View
from toybox.world.subject import ACCESSORIES, EYES, MOUTHS, NONE, SPECIES, Subject

MAX_WORDS = 32
# The first wording is the canonical one of `full_caption`.
_SPECIES: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in SPECIES},
    "cat": ("cat", "cat", "kitten", "kitty"),
    "dog": ("dog", "dog", "puppy"),
    "bear": ("bear", "bear", "teddy bear"),
    "rabbit": ("rabbit", "rabbit", "bunny"),
    "pig": ("pig", "pig", "piglet"),
    "panda": ("panda", "panda", "panda bear"),
    "duck": ("duck", "duck", "duckling"),
}
_COLORS: dict[str, tuple[str, ...]] = {**{name: (name,) for name in PALETTE}, "gray": ("gray", "grey")}
_EYES: dict[str, tuple[str, ...]] = {
    "round": ("round eyes", "small round eyes", "black eyes"),
    "big": ("big eyes", "large eyes", "wide eyes"),
    "sleepy": ("sleepy eyes", "closed eyes"),
}
_MOUTHS: dict[str, tuple[str, ...]] = {
    "smile": ("a smile", "a happy smile", "a smiling mouth"),
    "open": ("an open mouth", "a laughing mouth"),
    "flat": ("a flat mouth", "a straight mouth", "a serious mouth"),
}
_SHIRTS = ("shirt", "shirt", "t-shirt", "sweater", "jumper", "top")
_TROUSERS = ("trousers", "trousers", "pants")
_PATTERNS: dict[str, tuple[str, ...]] = {
    "plain": ("a {shirt} {top}", "a plain {shirt} {top}"),
    "striped": ("a {shirt} {top} with {color} stripes", "a {shirt} and {color} striped {top}"),
    "dotted": ("a {shirt} {top} with {color} dots", "a {shirt} {top} with {color} spots"),
    "star": ("a {shirt} {top} with a {color} star",),
    "heart": ("a {shirt} {top} with a {color} heart",),
}
_ACCESSORIES: dict[str, tuple[str, ...]] = {
    "top hat": ("a {} top hat", "a {} hat"),
    "cap": ("a {} cap", "a {} baseball cap"),
    "crown": ("a {} crown",),
    "glasses": ("{} glasses",),
    "scarf": ("a {} scarf",),
    "bow": ("a {} bow", "a {} hair bow"),
    "headphones": ("{} headphones",),
}
_POSES: dict[str, tuple[str, ...]] = {
    "standing": ("standing", "standing still"),
    "waving": ("waving", "waving hello", "waving a hand"),
    "arms up": ("with arms up", "with both arms raised", "with hands up", "cheering"),
    "arms out": ("with arms out", "with arms spread wide"),
    "sitting": ("sitting", "sitting down", "sitting on the ground"),
    "jumping": ("jumping", "jumping high"),
    "running": ("running", "running fast"),
    "kicking": ("kicking", "kicking with one leg"),
    "hands on hips": ("hands on hips", "with hands on hips", "standing with hands on hips"),
    "pointing": ("pointing", "pointing to the side"),
}
_BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "wall": ("by a {} wall", "in front of a {} wall", "on a {} background"),
    "meadow": ("in a meadow", "on the grass", "on a green meadow"),
    "beach": ("on the beach", "at the beach", "by the sea"),
    "snow": ("in the snow", "in winter"),
    "night": ("at night", "under the stars", "under the night sky"),
    "city": ("in the city", "on a city street", "in town"),
    "room": ("in a room", "at home", "inside a room"),
    "desert": ("in the desert", "in the desert sand"),
    "forest": ("in the forest", "in the woods", "among the trees"),
}
_OPENINGS = ("", "", "", "a picture of ", "a drawing of ", "a toy picture of ", "a cute picture of ")
_GLUE = ("a", "an", "and", "with", "wearing", "in", "dressed", "of", "picture", "drawing", "toy", "cute", "fur", "the")


def _articles(text: str) -> str:
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


def _join(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


class _Wording:
    """Choose wordings and which attributes to mention; without a generator, all of them in the canonical wording."""

    def __init__(self, rng: random.Random | None) -> None:
        self._rng = rng
        self._all = rng is None or rng.random() < 0.5

    def pick(self, options: tuple[str, ...]) -> str:
        return options[0] if self._rng is None else self._rng.choice(options)

    def color(self, name: str) -> str:
        return self.pick(_COLORS[name])

    def says(self, chance: float) -> bool:
        return self._all or (self._rng is not None and self._rng.random() < chance)

    def order(self, items: list[str]) -> list[str]:
        if self._rng is not None:
            self._rng.shuffle(items)
        return items

    def coin(self, chance: float) -> bool:
        return self._rng is not None and self._rng.random() < chance


def _who(subject: Subject, say: _Wording) -> str:
    species = say.pick(_SPECIES[subject.species])
    fur = say.color(subject.fur) + " " if say.says(0.85) else ""
    face = [say.pick(_EYES[subject.eyes])] if say.says(0.35) else []
    face += [say.pick(_MOUTHS[subject.mouth])] if say.says(0.35) else []
    return f"a {fur}{species}" + (f" with {_join(say.order(face))}" if face else "")


def _clothes(subject: Subject, say: _Wording) -> str:
    items: list[str] = []
    if say.says(0.75):
        pattern = _PATTERNS["plain"][:1] if not say.says(0.7) else _PATTERNS[subject.pattern]
        color = NONE if subject.pattern_color == NONE else say.color(subject.pattern_color)
        items.append(say.pick(pattern).format(shirt=say.color(subject.shirt), top=say.pick(_SHIRTS), color=color))
    if say.says(0.6):
        items.append(f"{say.color(subject.trousers)} {say.pick(_TROUSERS)}")
    if subject.accessory != NONE and say.says(0.7):
        items.append(say.pick(_ACCESSORIES[subject.accessory]).format(say.color(subject.accessory_color)))
    if not items:
        return ""
    verb = say.pick(("wearing", "wearing", "in", "dressed in"))
    return f"{verb} {_join(say.order(items))}"


def _where(view: View, say: _Wording) -> str:
    if not say.says(0.65):
        return ""
    color = view.scene.background_color
    return say.pick(_BACKGROUNDS[view.scene.background]).format("" if color == NONE else say.color(color))


def _compose(view: View, say: _Wording) -> str:
    opening = say.pick(_OPENINGS)
    who, clothes = _who(view.subject, say), _clothes(view.subject, say)
    pose = say.pick(_POSES[view.scene.pose]) if not view.scene.is_free and say.says(0.6) else ""
    where = _where(view, say)
    if where and say.coin(0.12):
        pieces, where = [f"{where},", opening + who], ""
    else:
        pieces = [opening + who]
    doing = " ".join(piece for piece in (pose, where) if piece)
    late = f"{clothes}, {doing}" if clothes and doing else clothes or doing
    early = f"{doing}, {clothes}" if clothes and doing else late
    pieces.append(early if say.coin(0.35) else late)
    return _articles(" ".join(piece for piece in pieces if piece))


def caption(view: View, rng: random.Random) -> str:
    """Return a caption in varied wording: half of the captions name every attribute, the others omit some."""
    while True:
        text = _compose(view, _Wording(rng))
        if len(text.split()) <= MAX_WORDS:
            return text


def full_caption(view: View) -> str:
    """Return the canonical caption, which names every attribute."""
    return _compose(view, _Wording(None))


def _split(*wordings: tuple[str, ...]) -> list[str]:
    text = " ".join(wording for group in wordings for wording in group)
    return list(dict.fromkeys(re.findall(r"[a-z]+(?:-[a-z]+)*", re.sub(r"\{\w*\}", " ", text))))


def scene_caption(view: View, rng: random.Random) -> str:
    """Return a caption of the pose and background only, as one would write beside a reference picture."""
    say = _Wording(rng)
    doing, where = say.pick(_POSES[view.scene.pose]), say.pick(_BACKGROUNDS[view.scene.background])
    color = view.scene.background_color
    place = where.format("" if color == NONE else say.color(color))
    chances = ((doing, 0.0 if view.scene.is_free else 0.8), (place, 0.8))
    pieces = [piece for piece, chance in chances if rng.random() < chance]
    return _articles(" ".join((say.pick(_OPENINGS) + "a toy", *pieces)))


def says(text: str, attribute: str, word: str) -> bool:
    """Whether a caption names a pose or a mouth in any of its wordings; `attribute` is `pose` or `mouth`."""
    wordings = {"pose": _POSES, "mouth": _MOUTHS}[attribute][word]
    return any(wording in text for wording in wordings)


def scene_text(scene: Scene) -> str:
    """Return the canonical words for a pose and a background; the subject is just "a toy"."""
    color = "" if scene.background_color == NONE else scene.background_color
    place = _BACKGROUNDS[scene.background][0].format(color)
    return _articles(f"a toy {_POSES[scene.pose][0]} {place}")


def words() -> dict[str, list[str]]:
    """Return every word that captions may use, by group; a word may be in several groups."""
    return {
        "species": _split(*(_SPECIES[name] for name in SPECIES)),
        "colors": _split(*_COLORS.values()),
        "face": _split(*(_EYES[name] for name in EYES), *(_MOUTHS[name] for name in MOUTHS)),
        "clothes": _split(_SHIRTS, _TROUSERS, *_PATTERNS.values()),
        "accessories": _split(*(_ACCESSORIES[name] for name in ACCESSORIES if name != NONE)),
        "poses": _split(*(_POSES[name] for name in POSES)),
        "places": _split(*(_BACKGROUNDS[name] for name in BACKGROUNDS)),
        "glue": list(_GLUE),
        "punctuation": [","],
    }
