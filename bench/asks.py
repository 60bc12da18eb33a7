"""The requests made to the bundled model, and what must be seen in its pictures."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageFilter

from ipa_app.adapter.kinds import USUAL_NAMES
from ipa_app.engine.requests import GenerateRequest, Reference, Speed
from ipa_app.imaging.masks import fit_mask
from ipa_app.pose.draw import draw_skeleton
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.sheet import PoseSheet
from ipa_app.pose.skeleton import Skeleton
from toybox import world
from toybox.recipe.denoiser import skeleton_of

REFERENCE_SIDE = 256
SCALES = (0.25, 0.5, 0.75, 1.0)
MIX_SCALE = 0.6
PLACE = ("pose", "background")
MARGIN = 4
"""Pixels by which an inpainting mask extends beyond the figure, into what must stay unchanged."""
RIM: tuple[Literal["rim colours", "rim edges"], ...] = ("rim colours", "rim edges")
HOLE: tuple[Literal["hole colours", "hole edges"], ...] = ("hole colours", "hole edges")

HoleKind = Literal["beside", "part", "whole"]

Unit = Literal["share", "levels"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One held-out character and its tests.

    Attributes:
        view: shown by the reference.
        other: the same character in another scene.
        stranger: another character, to be replaced by inpainting.
        seed: of the pictures.
    """

    view: world.View
    other: world.View
    stranger: world.View
    seed: int


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One property to measure in a picture.

    Attributes:
        name: as printed.
        kind: attributes read by the judge, joints in the right places, pixels outside the mask unchanged, or how far
            the mask's rim, or the whole masked area, is from the original.
        of: the view of the case that is the target.
        hole: the hole to fill in the drawing of the case's view; None if a stranger was replaced.
        attributes: by the judge's names.
    """

    name: str
    kind: Literal["attributes", "joints", "outside", "rim colours", "rim edges", "hole colours", "hole edges"] = (
        "attributes"
    )
    of: Literal["view", "other", "stranger"] = "view"
    hole: HoleKind | None = None
    attributes: tuple[str, ...] = ()

    @property
    def unit(self) -> Unit:
        """Unit of the score: a share of 1, where more is better, or levels of 255, where less is better."""
        return "levels" if self.kind in (*RIM, *HOLE) else "share"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of request."""

    name: str
    ask: Callable[[Case], GenerateRequest]
    measures: tuple[Measure, ...]


SUBJECT = Measure(name="subject", attributes=world.SUBJECT_ATTRIBUTES)
ALL_ATTRIBUTES = tuple(world.ATTRIBUTES)
RIM_MEASURES = tuple(Measure(name=kind, kind=kind, of="stranger") for kind in RIM)


def rows(*, side: int) -> Iterator[Row]:
    """Yield everything that is measured, in the order of the table.

    Args:
        side: side of the model's pictures in pixels.
    """
    yield text_row()
    yield variation_row("base", 0.0)
    for adapter in USUAL_NAMES:
        for scale in SCALES:
            yield variation_row(adapter, scale)
    for adapter in USUAL_NAMES:
        yield mix_row(adapter)
    for adapter in USUAL_NAMES:
        yield pose_row(adapter, side)
    for adapter in USUAL_NAMES:
        yield person_row(adapter)
    for adapter in USUAL_NAMES:
        yield inpaint_row(adapter, side)


def short_rows(*, side: int) -> tuple[Row, ...]:
    """Return one row of each kind, for tables with many settings."""
    references = (variation_row(adapter, 1.0) for adapter in USUAL_NAMES)
    return (text_row(), *references, mix_row("base"), pose_row("base", side), inpaint_row("base", side))


def sweep_rows(
    plain: Sequence[Row],
    *,
    steps: Sequence[int] = (),
    guidance_scales: Sequence[float] = (),
    models: Sequence[str] = (),
    intervals: Sequence[tuple[float, float]] = (),
    speeds: Sequence[Speed] = (),
) -> Iterator[Row]:
    """Yield every row with every combination of models, steps, guidance scales, guided shares of the steps, and speeds.

    If none are given, the model's own are used.
    """
    tried: Any = (models, steps, guidance_scales, intervals, speeds)
    for model, number, scale, interval, speed in product(*(values or [None] for values in tried)):
        start, end = interval or (None, None)
        settings: dict[str, Any] = {"model": model, "steps": number, "guidance_scale": scale}
        settings |= {"guidance_start": start, "guidance_end": end, "speed": speed}
        settings = {name: value for name, value in settings.items() if value is not None}
        guided = interval and f"guided {start:g} to {end:g}"
        said = [model, number and f"{number} steps", scale and f"guidance {scale:g}", guided, speed]
        for row in plain:
            yield with_settings(row, ", ".join([row.name, *filter(None, said)]), **settings)


def with_settings(row: Row, name: str, **settings: float | str) -> Row:
    """Return a row with other settings and another name."""

    def ask(case: Case) -> GenerateRequest:
        return replace(row.ask(case), **settings)

    return replace(row, name=name, ask=ask)


def text_row() -> Row:
    """Return a row with a text prompt alone that names everything."""

    def ask(case: Case) -> GenerateRequest:
        return GenerateRequest(task="mix", prompt=world.full_caption(case.view), seed=case.seed)

    measures = (SUBJECT, Measure(name="pose and place", attributes=PLACE))
    return Row(name="text only", ask=ask, measures=measures)


def variation_row(adapter: str, scale: float) -> Row:
    """Return a row with a reference alone."""

    def ask(case: Case) -> GenerateRequest:
        return GenerateRequest(
            task="variation", references=_reference(case), adapter=adapter, scale=scale, seed=case.seed
        )

    return Row(name=f"variation, {adapter}, scale {scale:g}", ask=ask, measures=(SUBJECT,))


def mix_row(adapter: str) -> Row:
    """Return a row with a reference, and a text prompt for another scene."""

    def ask(case: Case) -> GenerateRequest:
        prompt = world.scene_text(case.other.scene)
        return GenerateRequest(
            task="mix", prompt=prompt, references=_reference(case), adapter=adapter, scale=MIX_SCALE, seed=case.seed
        )

    measures = (SUBJECT, Measure(name="pose and place", of="other", attributes=PLACE))
    return Row(name=f"mix, {adapter}, scale {MIX_SCALE:g}", ask=ask, measures=measures)


def pose_row(adapter: str, side: int) -> Row:
    """Return a row with a reference, and the skeleton of another scene."""

    def ask(case: Case) -> GenerateRequest:
        pose = draw_skeleton(skeleton_of(np.asarray(world.keypoints(case.other))), (side, side))
        return GenerateRequest(
            task="pose", pose=pose, references=_reference(case), adapter=adapter, scale=1.0, seed=case.seed
        )

    measures = (SUBJECT, Measure(name="joints in place", kind="joints", of="other"))
    return Row(name=f"pose, {adapter}", ask=ask, measures=measures)


def person_row(adapter: str) -> Row:
    """Return a row with a reference, and a human skeleton, whose proportions do not occur in the drawn world."""

    def ask(case: Case) -> GenerateRequest:
        return GenerateRequest(
            task="pose", pose=person_pose(case), references=_reference(case), adapter=adapter, scale=1.0, seed=case.seed
        )

    return Row(name=f"pose of a person, {adapter}", ask=ask, measures=(SUBJECT,))


def person_pose(case: Case) -> PoseSheet:
    """Return a standing person, 7.5 heads tall, with limbs posed by the case's seed, on a square canvas."""
    rng = random.Random(case.seed)
    points = {1: (0.5, 0.33), 2: (0.42, 0.344), 5: (0.58, 0.344), 8: (0.455, 0.544), 11: (0.545, 0.544)}
    points |= {0: (0.5, 0.27), 14: (0.486, 0.258), 15: (0.514, 0.258), 16: (0.468, 0.266), 17: (0.532, 0.266)}
    for side, arm, leg in ((-1, 2, 8), (1, 5, 11)):
        raised, apart = rng.uniform(5, 150), rng.uniform(0, 35)
        arms, legs = (raised, raised + rng.uniform(-10, 60)), (apart, apart + rng.uniform(-30, 0))
        for root, angles, length in ((arm, arms, 0.12), (leg, legs, 0.168)):
            for joint, angle in enumerate(angles, start=root):
                (x, y), way = points[joint], math.radians(angle)
                points[joint + 1] = x + side * length * math.sin(way), y + length * math.cos(way)
    return PoseSheet(Skeleton((tuple(Keypoint(*points[joint]) for joint in range(18)),)), 512, 512)


def inpaint_row(adapter: str, side: int) -> Row:
    """Return a row that replaces another character in a picture by the one in a reference."""

    def ask(case: Case) -> GenerateRequest:
        image, mask = inpaint_inputs(case, side)
        return GenerateRequest(
            task="inpaint", image=image, mask=mask, references=_reference(case), adapter=adapter, seed=case.seed
        )

    measures = (SUBJECT, Measure(name="outside untouched", kind="outside", of="stranger"), *RIM_MEASURES)
    return Row(name=f"inpaint, {adapter}", ask=ask, measures=measures)


def inpaint_inputs(case: Case, side: int) -> tuple[Image.Image, Image.Image]:
    """Return the stranger's picture, and a mask over the whole stranger with a margin."""
    return world.render(case.stranger, side), with_margin(world.render_mask(case.stranger, side))


def with_margin(mask: Image.Image) -> Image.Image:
    """Return a mask extended by `MARGIN` pixels, 0 or 255."""
    return fit_mask(mask.filter(ImageFilter.MaxFilter(2 * MARGIN + 1)), mask.size)


def _reference(case: Case) -> tuple[Reference, ...]:
    return (Reference(image=world.render(case.view, REFERENCE_SIDE)),)
