"""Counting what can be seen in a picture, and how sure the count is."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image

from bench.asks import Case, Measure, inpaint_inputs
from ipa_app.toybox import world
from ipa_app.toybox.probe import Probe, Reading, joints_right, right


def judge(probe: Probe, picture: Image.Image, case: Case, measure: Measure) -> float:
    """How far a picture is as it should be, 0 to 1."""
    view: world.View = getattr(case, measure.of)
    if measure.kind == "outside":
        return float(_untouched(picture, case))
    reading = read(probe, picture)
    if measure.kind == "joints":
        return float(joints_right(reading, torch.tensor([world.keypoints(view)])).float().mean())
    readings = right(reading, torch.tensor([list(world.labels(view).values())]))
    return sum(bool(readings[name]) for name in measure.attributes) / len(measure.attributes)


@torch.no_grad()
def read(probe: Probe, picture: Image.Image) -> Reading:
    """What the probe sees."""
    return probe(torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].float() / 127.5 - 1)


def interval(shares: list[float]) -> dict[str, float]:
    """Mean and half the width of its 95 % interval."""
    mean = sum(shares) / len(shares)
    variance = sum((share - mean) ** 2 for share in shares) / max(1, len(shares) - 1)
    return {"right": round(mean, 3), "plus_minus": round(1.96 * math.sqrt(variance / len(shares)), 3)}


def _untouched(picture: Image.Image, case: Case) -> bool:
    image, mask = inpaint_inputs(case, picture.width)
    outside = np.array(mask) == 0
    return bool((np.array(picture.convert("RGB"))[outside] == np.array(image)[outside]).all())
