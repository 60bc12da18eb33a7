"""Counting what can be seen in a picture, and how sure the count is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from bench.asks import Case, Measure, inpaint_inputs
from ipa_app.toybox import world
from ipa_app.toybox.probe import Probe, Reading, joints_right, right


@dataclass(frozen=True, kw_only=True)
class Look:
    """A picture that was drawn for a case, and what the probe sees in it."""

    picture: Image.Image
    case: Case
    reading: Reading


@torch.no_grad()
def look(probe: Probe, picture: Image.Image, case: Case) -> Look:
    """Let the probe see a picture, at the size of those that it knows."""
    side = int(probe.side)
    seen = picture.convert("RGB").resize((side, side), Image.Resampling.BOX)
    pixels = torch.from_numpy(np.array(seen)).permute(2, 0, 1)[None].float() / 127.5 - 1
    return Look(picture=picture, case=case, reading=probe(pixels))


def judge(seen: Look, measure: Measure) -> float:
    """How far a picture is as it should be, 0 to 1."""
    if measure.kind == "outside":
        return float(_untouched(seen.picture, seen.case))
    if measure.kind == "joints":
        joints = torch.tensor([world.keypoints(_meant(seen, measure))])
        return float(joints_right(seen.reading, joints).float().mean())
    return sum(attributes_right(seen, measure).values()) / len(measure.attributes)


def attributes_right(seen: Look, measure: Measure) -> dict[str, bool]:
    """Which of a measure's attributes are as they should be."""
    readings = right(seen.reading, torch.tensor([list(world.labels(_meant(seen, measure)).values())]))
    return {name: bool(readings[name]) for name in measure.attributes}


def _meant(seen: Look, measure: Measure) -> world.View:
    return getattr(seen.case, measure.of)


def interval(shares: list[float]) -> dict[str, float]:
    """Mean and half the width of its 95 % interval."""
    mean = sum(shares) / len(shares)
    variance = sum((share - mean) ** 2 for share in shares) / max(1, len(shares) - 1)
    return {"right": round(mean, 3), "plus_minus": round(1.96 * math.sqrt(variance / len(shares)), 3)}


def _untouched(picture: Image.Image, case: Case) -> bool:
    image, mask = inpaint_inputs(case, picture.width)
    outside = np.array(mask) == 0
    return bool((np.array(picture.convert("RGB"))[outside] == np.array(image)[outside]).all())
