"""What a character does and where: pose, background, position and size."""

from __future__ import annotations

import random
from dataclasses import dataclass

from toybox.world.palette import CLOTHES_COLORS
from toybox.world.subject import NONE, SUBJECT_VALUES, Subject, sample_subject

POSES: tuple[str, ...] = (
    "standing", "waving", "arms up", "arms out", "sitting",
    "jumping", "running", "kicking", "hands on hips", "pointing",
)  # fmt: skip
BACKGROUNDS: tuple[str, ...] = ("wall", "meadow", "beach", "snow", "night", "city", "room", "desert", "forest")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A pose in front of a background; by default centred and without jitter.

    Attributes:
        background_color: the wall's colour; "none" for every other background.
        mirrored: whether the pose is flipped left to right.
        x: shift to the right, in picture widths.
        size: 1.0 is a figure of about 85 % of the picture's height.
        seed: fixes the jitter of the joints and the small details of the background; 0 leaves the joints as posed.
        is_free: whether the limbs point in random directions, fixed by the seed; only the trunk, and the legs if nobody
            stands on them, keep the pose.
    """

    pose: str
    background: str
    background_color: str = NONE
    mirrored: bool = False
    x: float = 0.0
    size: float = 1.0
    seed: int = 0
    is_free: bool = False


@dataclass(frozen=True)
class View:
    """One picture: a subject in a scene."""

    subject: Subject
    scene: Scene


SCENE_VALUES: dict[str, tuple[str, ...]] = {
    "pose": POSES,
    "background": BACKGROUNDS,
    "background_color": (NONE, *CLOTHES_COLORS),
}
SCENE_ATTRIBUTES: tuple[str, ...] = tuple(SCENE_VALUES)
ATTRIBUTES: dict[str, tuple[str, ...]] = {**SUBJECT_VALUES, **SCENE_VALUES}


def sample_scene(rng: random.Random, *, pose: str | None = None, is_free: bool = False) -> Scene:
    """Sample a scene; `pose` fixes the pose, `is_free` lets the limbs depart from it."""
    background = rng.choice(BACKGROUNDS)
    return Scene(
        pose=pose or rng.choice(POSES),
        background=background,
        background_color=rng.choice(CLOTHES_COLORS) if background == "wall" else NONE,
        mirrored=rng.random() < 0.5,
        x=rng.uniform(-0.05, 0.05),
        size=rng.uniform(0.93, 1.01),
        seed=rng.randrange(1, 2**31),
        is_free=is_free,
    )


def sample_view(rng: random.Random, *, held_out: bool = False) -> View:
    """Sample a subject and a scene."""
    return View(sample_subject(rng, held_out=held_out), sample_scene(rng))


def labels(view: View) -> dict[str, int]:
    """Return the view as class indices: attribute -> index into `ATTRIBUTES[attribute]`."""
    sources = {**vars(view.subject), **vars(view.scene)}
    return {name: values.index(sources[name]) for name, values in ATTRIBUTES.items()}
