"""How well the bundled model does what it was asked, counted by a classifier on subjects it has never seen.

    python -m bench.quality --probe WORK/probe.pt [--subjects 48]

The probe is made by the recipe (``python -m ipa_app.toybox --work WORK probe``) from renders alone. Every
picture is drawn through the app's own engine, on fixed seeds. Printed is the share of attributes that the probe
reads in the pictures as they were asked for, with a 95 % interval; the last line is what it reads in the drawings
themselves, which no model can beat.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.models.catalog import catalog
from ipa_app.models.manager import ModelManager
from ipa_app.toybox import world
from ipa_app.toybox.probe import AttributeProbe, right

RENDER_SIDE = 256
Ask = Callable[[world.View, world.View, int], GenerateRequest]


@dataclass(frozen=True)
class Row:
    """One way of asking.

    Attributes:
        name: as printed.
        ask: the request for a subject's reference view, its other view and a seed.
        asked: the attributes that the request tells, by the probe's names; others are the model's own choice.
    """

    name: str
    ask: Ask
    asked: tuple[str, ...]


def rows() -> Iterator[Row]:
    """Everything that is measured, in the order of the table."""
    yield Row("text only", _text_only, tuple(world.ATTRIBUTES))
    for adapter in ("base", "fine"):
        for scale in (0.25, 0.5, 0.75, 1.0):
            yield Row(f"variation, {adapter}, scale {scale}", _variation(adapter, scale), world.SUBJECT_ATTRIBUTES)
    for adapter in ("base", "fine"):
        yield Row(f"mix, {adapter}, scale 0.6: subject", _mix(adapter), world.SUBJECT_ATTRIBUTES)
        yield Row(f"mix, {adapter}, scale 0.6: pose and place", _mix(adapter), ("pose", "background"))


def _text_only(view: world.View, _other: world.View, seed: int) -> GenerateRequest:
    return GenerateRequest(task="mix", prompt=world.full_caption(view), seed=seed)


def _variation(adapter: str, scale: float) -> Ask:
    def ask(view: world.View, _other: world.View, seed: int) -> GenerateRequest:
        return GenerateRequest(
            task="variation", references=(_reference(view),), adapter=adapter, scale=scale, seed=seed
        )

    return ask


def _mix(adapter: str) -> Ask:
    def ask(view: world.View, other: world.View, seed: int) -> GenerateRequest:
        prompt = world.scene_text(other.scene)
        return GenerateRequest(
            task="mix", prompt=prompt, references=(_reference(view),), adapter=adapter, scale=0.6, seed=seed
        )

    return ask


def _reference(view: world.View) -> Reference:
    return Reference(image=world.render(view, RENDER_SIDE))


def measure(engine: Engine, probe: AttributeProbe, row: Row, views: list[tuple[world.View, world.View]]) -> dict:
    """Draw one picture per subject and read it."""
    hits: list[float] = []
    started = time.monotonic()
    for seed, (view, other) in enumerate(views):
        picture = engine.submit(row.ask(view, other, seed)).result().images[0]
        wanted = other if row.asked == ("pose", "background") else view
        hits.append(score(probe, picture, wanted, row.asked))
    seconds = (time.monotonic() - started) / len(views)
    return {"row": row.name, **_interval(hits), "seconds_per_picture": round(seconds, 2)}


def score(probe: AttributeProbe, picture: Image.Image, view: world.View, asked: tuple[str, ...]) -> float:
    """Share of the asked attributes that the probe reads in a picture."""
    batch = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].float() / 127.5 - 1
    readings = right(probe, batch, torch.tensor([list(world.labels(view).values())]))
    return sum(bool(readings[name]) for name in asked) / len(asked)


def _interval(hits: list[float]) -> dict[str, float]:
    mean = sum(hits) / len(hits)
    deviation = math.sqrt(sum((hit - mean) ** 2 for hit in hits) / max(1, len(hits) - 1))
    return {"right": round(mean, 3), "plus_minus": round(1.96 * deviation / math.sqrt(len(hits)), 3)}


def main() -> None:
    """Print the table, and the same as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probe", type=Path, required=True, help="probe.pt of the recipe")
    parser.add_argument("--subjects", type=int, default=48, help="held-out subjects, one picture each per row")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    probe = AttributeProbe()
    probe.load_state_dict(torch.load(arguments.probe, weights_only=True, map_location="cpu"))
    rng = random.Random("bench")
    firsts = [world.sample_view(rng, held_out=True) for _ in range(arguments.subjects)]
    views = [(view, world.View(view.subject, world.sample_scene(rng))) for view in firsts]
    engine = Engine(ModelManager(catalog()))
    figures = []
    for row in rows():
        figures.append(measure(engine, probe.eval(), row, views))
        print("{row:42} {right:6.1%} ± {plus_minus:.1%}  ({seconds_per_picture} s a picture)".format(**figures[-1]))
    side = engine.manager.entry("toybox").width
    drawn = [score(probe, world.render(view, side), view, tuple(world.ATTRIBUTES)) for view, _ in views]
    figures.append({"row": "the drawings themselves", **_interval(drawn)})
    print("{row:42} {right:6.1%} ± {plus_minus:.1%}".format(**figures[-1]))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    engine.close()


if __name__ == "__main__":
    main()
