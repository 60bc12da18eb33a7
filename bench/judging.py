"""The judge: what it reads in a picture, how certain a score is, whether it is reliable, and contact sheets.

    python -m bench.judging [--judge FOLDER] [--drawings 2000]

Measures what a judge reads in drawings of unseen characters: unchanged, blurred, noisy and after JPEG.
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
"""The project's own judge; its README.md says how it was made."""
LEAST_READ = 0.98
"""Share of every attribute that a judge must read correctly in drawings, the upper limit for any model."""
TRIED_DRAWINGS = 240
"""Drawings on which it is tested before use, besides those that pictures are compared with."""
JOINTS = "joints"
WEARS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "as drawn": lambda batch: batch,
    "soft (1 px)": lambda batch: soft(batch, 1.0),
    "noisy (8 of 255)": lambda batch: noisy(batch, 16 / 255, torch.Generator().manual_seed(0)),
    "JPEG (quality 60)": lambda batch: as_jpeg(batch, 60),
}
"""Degradations of drawings before they are read, for the card."""
LABEL_WIDTH, GAP = 290, 4


@dataclass(frozen=True, kw_only=True)
class Look:
    """A picture that was drawn for a case, and what the judge reads in it."""

    picture: Image.Image
    case: Case
    reading: Reading


def look(judge: Judge, picture: Image.Image, case: Case) -> Look:
    """Have the judge read a picture."""
    return Look(picture=picture, case=case, reading=read(judge, [picture]))


@torch.no_grad()
def read(
    judge: Judge, pictures: Sequence[Image.Image], wear: Callable[[torch.Tensor], torch.Tensor] = WEARS["as drawn"]
) -> Reading:
    """Return what the judge reads in pictures, scaled to the size it was trained on."""
    return judge(wear(judge_pixels(judge, pictures)))


def judge_pixels(judge: Judge, pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Convert pictures to the judge's input, (B, 3, side, side) in [-1, 1]."""
    size = (judge.side, judge.side)
    seen = [np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BOX)) for picture in pictures]
    return torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2).float() / 127.5 - 1


def held_out_views(count: int, *, are_free: bool = False) -> list[world.View]:
    """Return views of held-out characters, the same in every run; `are_free` draws limbs freely, not from the poses."""
    rng = random.Random("drawings")
    views = [world.sample_view(rng, held_out=True) for _ in range(count)]
    return [replace(view, scene=replace(view.scene, is_free=are_free)) for view in views]


def drawings_read(
    judge: Judge,
    views: Iterable[world.View],
    wear: Callable[[torch.Tensor], torch.Tensor] = WEARS["as drawn"],
) -> dict[str, float]:
    """Return the share of views' drawings that the judge reads correctly, by attribute, and that of their joints."""
    found: dict[str, list[torch.Tensor]] = {}
    for view in views:
        reading = read(judge, [world.render(view, judge.side)], wear)
        hits = right(reading, torch.tensor([list(world.labels(view).values())]))
        hits[JOINTS] = joints_right(reading, torch.tensor([world.keypoints(view)]))
        for name, each in hits.items():
            found.setdefault(name, []).append(each.float().mean())
    return {name: float(torch.stack(each).mean()) for name, each in found.items()}


def check_judge(judge: Judge, views: Sequence[world.View]) -> None:
    """Check that a judge reads drawings well enough for its readings of pictures to be meaningful.

    Args:
        judge: the judge to test.
        views: test drawings of these, besides `TRIED_DRAWINGS` others.

    Raises:
        UserError: it does not read them well enough.
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
    """Return a measure's score of a picture, in the measure's unit."""
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
    """Return which of a measure's attributes are correct."""
    readings = right(seen.reading, torch.tensor([list(world.labels(_meant(seen, measure)).values())]))
    return {name: bool(readings[name]) for name in measure.attributes}


def _meant(seen: Look, measure: Measure) -> world.View:
    return getattr(seen.case, measure.of)


def interval(values: Sequence[float]) -> dict[str, float]:
    """Return the mean and half the width of its 95 % interval."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    return {"mean": round(mean, 3), "plus_minus": round(1.96 * math.sqrt(variance / len(values)), 3)}


def _untouched(picture: Image.Image, case: Case) -> bool:
    image, mask = inpaint_inputs(case, picture.width)
    outside = np.array(mask) == 0
    return bool((np.array(picture.convert("RGB"))[outside] == np.array(image)[outside]).all())


def join_errors(picture: Image.Image, drawing: Image.Image, mask: Image.Image) -> dict[str, float]:
    """Measure how well an inpainting joins its surroundings; just inside the mask's edge, the original is known.

    Args:
        picture: the inpainted picture.
        drawing: the original, or the target.
        mask: the redrawn area, `MARGIN` larger than what had to change.

    Returns:
        "rim colours": mean distance from the original colours; "rim edges": mean distance of the differences between
        neighbouring pixels from the original ones, which a seam or a cut-off limb increases. In levels, of 255. "hole
        colours" and "hole edges" are the same for the whole masked area.
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
    """Draw a sheet with one row per name, its pictures to the right of it, all of one size.

    Args:
        rows: names, each with the same number of pictures.
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
    """Print a table for the judge's card: attributes down, degradations across."""
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
