"""The judge: what it sees in a picture, how sure a count is, whether it may be believed, and sheets for people.

    python -m bench.judging [--judge FOLDER] [--drawings 2000]

Counts what a judge reads in drawings of characters that it has never seen: as they are, soft, noisy and after JPEG.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from bench.asks import MARGIN, Case, Measure, inpaint_inputs
from bench.holes import make_hole
from ipa_app.errors import UserError
from toybox import world
from toybox.judge import Judge, Reading, joints_right, load_judge, right
from toybox.recipe.augmentation import as_jpeg, noisy, soft

JUDGE = Path(__file__).parent / "judge"
"""The one that is part of the project; its README.md says how it was made."""
LEAST_READ = 0.98
"""Share of every attribute that a judge must read right in drawings, which no model can beat."""
TRIED_DRAWINGS = 240
"""Drawings it is tried on before it counts anything, besides those that pictures are compared with."""
JOINTS = "joints"
WEARS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "as drawn": lambda batch: batch,
    "soft (1 px)": lambda batch: soft(batch, 1.0),
    "noisy (8 of 255)": lambda batch: noisy(batch, 16 / 255, torch.Generator().manual_seed(0)),
    "JPEG (quality 60)": lambda batch: as_jpeg(batch, 60),
}
"""What drawings go through before they are read, for the card."""
LABEL_WIDTH, GAP = 290, 4


@dataclass(frozen=True, kw_only=True)
class Look:
    """A picture that was drawn for a case, and what the judge sees in it."""

    picture: Image.Image
    case: Case
    reading: Reading


def look(judge: Judge, picture: Image.Image, case: Case) -> Look:
    """Let the judge see a picture."""
    return Look(picture=picture, case=case, reading=read(judge, [picture]))


@torch.no_grad()
def read(
    judge: Judge, pictures: Sequence[Image.Image], wear: Callable[[torch.Tensor], torch.Tensor] = WEARS["as drawn"]
) -> Reading:
    """What the judge reads in pictures, at the size of those that it knows."""
    return judge(wear(judge_pixels(judge, pictures)))


def judge_pixels(judge: Judge, pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Pictures as the judge takes them, (B, 3, side, side) in [-1, 1]."""
    size = (judge.side, judge.side)
    seen = [np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BOX)) for picture in pictures]
    return torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2).float() / 127.5 - 1


def held_out_views(count: int, *, are_free: bool = False) -> list[world.View]:
    """Views of characters that no training sees, the same in every run; `are_free` frees the limbs from the poses."""
    rng = random.Random("drawings")
    views = [world.sample_view(rng, held_out=True) for _ in range(count)]
    return [replace(view, scene=replace(view.scene, is_free=are_free)) for view in views]


def drawings_read(
    judge: Judge,
    views: Iterable[world.View],
    wear: Callable[[torch.Tensor], torch.Tensor] = WEARS["as drawn"],
) -> dict[str, float]:
    """Share of the drawings of views whose attributes the judge reads right, by attribute, and of their joints."""
    found: dict[str, list[torch.Tensor]] = {}
    for view in views:
        reading = read(judge, [world.render(view, judge.side)], wear)
        hits = right(reading, torch.tensor([list(world.labels(view).values())]))
        hits[JOINTS] = joints_right(reading, torch.tensor([world.keypoints(view)]))
        for name, each in hits.items():
            found.setdefault(name, []).append(each.float().mean())
    return {name: float(torch.stack(each).mean()) for name, each in found.items()}


def check_judge(judge: Judge, views: Sequence[world.View]) -> None:
    """Make sure that a judge reads drawings, so that what it reads in pictures is worth printing.

    Args:
        judge: to be tried.
        views: whose drawings it is tried on, besides `TRIED_DRAWINGS` others.

    Raises:
        UserError: it does not.
    """
    shares = drawings_read(judge, [*views, *held_out_views(TRIED_DRAWINGS)])
    weak = {name: share for name, share in shares.items() if share < LEAST_READ}
    if weak:
        listed = ", ".join(f"{share:.1%} of {name.replace('_', ' ')}" for name, share in weak.items())
        raise UserError.plain(
            f"The judge reads {listed} correctly in drawings but must read {LEAST_READ:.0%}; below that, what it reads "
            "in pictures means nothing: please use the one in bench/judge, or train one fully."
        )


def score(seen: Look, measure: Measure) -> float:
    """What a measure says of a picture, in the measure's unit."""
    if measure.kind == "attributes":
        return sum(attributes_right(seen, measure).values()) / len(measure.attributes)
    if measure.kind == "joints":
        joints = torch.tensor([world.keypoints(_meant(seen, measure))])
        return float(joints_right(seen.reading, joints).float().mean())
    if measure.kind == "outside":
        return float(_untouched(seen.picture, seen.case))
    if measure.hole is None:
        image, mask = inpaint_inputs(seen.case, seen.picture.width)
        return join_errors(seen.picture, image, mask)[measure.kind]
    hole = make_hole(seen.case, measure.hole, seen.picture.width)
    return join_errors(seen.picture, hole.drawing, hole.mask)[measure.kind]


def attributes_right(seen: Look, measure: Measure) -> dict[str, bool]:
    """Which of a measure's attributes are as they should be."""
    readings = right(seen.reading, torch.tensor([list(world.labels(_meant(seen, measure)).values())]))
    return {name: bool(readings[name]) for name in measure.attributes}


def _meant(seen: Look, measure: Measure) -> world.View:
    return getattr(seen.case, measure.of)


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and half the width of its 95 % interval."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    return {"mean": round(mean, 3), "plus_minus": round(1.96 * math.sqrt(variance / len(values)), 3)}


def _untouched(picture: Image.Image, case: Case) -> bool:
    image, mask = inpaint_inputs(case, picture.width)
    outside = np.array(mask) == 0
    return bool((np.array(picture.convert("RGB"))[outside] == np.array(image)[outside]).all())


def join_errors(picture: Image.Image, drawing: Image.Image, mask: Image.Image) -> dict[str, float]:
    """How well an inpainting joins on to what is around it: just inside the mask's edge the picture showed its place.

    Args:
        picture: what was drawn.
        drawing: what was there, or should have been.
        mask: what was redrawn, by `MARGIN` more than was to change.

    Returns:
        "rim colours": mean distance from the colours that were there; "rim edges": of the differences between
        neighbouring pixels from those that were there, which a seam or a limb that is cut off adds to. In levels, of
        255. "hole colours" and "hole edges" are the same of all that is masked.
    """
    hole = np.asarray(mask) > 0
    rim = hole & (np.asarray(mask.filter(ImageFilter.MinFilter(2 * MARGIN + 1))) == 0)
    error = np.asarray(picture.convert("RGB"), np.float32) - np.asarray(drawing, np.float32)
    errors: dict[str, float] = {}
    for name, where in {"rim": rim, "hole": hole}.items():
        across, down = where[:, 1:] | where[:, :-1], where[1:] | where[:-1]
        edges = np.concatenate([np.diff(error, axis=1)[across], np.diff(error, axis=0)[down]])
        errors |= {f"{name} colours": float(np.abs(error[where]).mean()), f"{name} edges": float(np.abs(edges).mean())}
    return errors


def contact_sheet(rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    """One row per name, its pictures to the right of it, all of one size.

    Args:
        rows: names and as many pictures for each.
    """
    side = rows[0][1][0].width
    width = LABEL_WIDTH + len(rows[0][1]) * (side + GAP)
    sheet = Image.new("RGB", (width, len(rows) * (side + GAP) - GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (name, pictures) in enumerate(rows):
        top = number * (side + GAP)
        draw.text((6, top + side // 2), name, fill="black", font=font, anchor="lm")
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (LABEL_WIDTH + column * (side + GAP), top))
    return sheet


def main() -> None:
    """Print a table for the judge's card: attributes down, what the drawings went through across."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", type=Path, default=JUDGE, help="folder of the judge")
    parser.add_argument(
        "--drawings", type=int, default=2000, help="number of drawings of characters that no training sees"
    )
    parser.add_argument(
        "--free-limbs", action="store_true", help="draw limbs that point anywhere, as no training shows them"
    )
    arguments = parser.parse_args()
    judge, views = load_judge(arguments.judge), held_out_views(arguments.drawings, are_free=arguments.free_limbs)
    columns = {name: drawings_read(judge, views, wear) for name, wear in WEARS.items()}
    print("| |", " | ".join(columns), "|")
    print("|---" * (1 + len(columns)) + "|")
    for name in next(iter(columns.values())):
        shares = (f"{column[name]:.2%}" for column in columns.values())
        print("|", name.replace("_", " "), "|", " | ".join(shares), "|")


if __name__ == "__main__":
    main()
