"""How well the bundled model does what it was asked, counted by a network on subjects it has never seen.

    python -m bench.quality --probe WORK/probe.pt [--quick] [--subjects 48] [--json FILE] [--sheet FILE]
    python -m bench.quality --probe WORK/probe.pt --steps 10 20 30 --guidance 4 7 [--samplers DDIMScheduler ...]

The probe is made by the recipe (``python -m ipa_app.toybox --work WORK probe``) from renders alone. Every
picture is drawn through the app's own engine, on fixed seeds. Printed is the share of attributes, or of joints, that
the probe reads in the pictures as they were asked for, with a 95 % interval; the last lines are what it reads in the
drawings themselves, which no model can beat, and what it would read in a drawing of somebody else.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

from bench.asks import ALL_ATTRIBUTES, SUBJECT, Case, Measure, Row, rows, sweep_rows
from bench.contact_sheet import contact_sheet
from bench.judging import Look, attributes_right, interval, judge, look
from bench.samplers import sampled_by
from ipa_app.engine.engine import Engine
from ipa_app.models.adapters import usual_adapter
from ipa_app.models.catalog import BUNDLED, entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.processor import thread_count
from ipa_app.toybox import world
from ipa_app.toybox.probe import Probe, load_probe

QUICK_SUBJECTS = 6
SHEET_COLUMNS = 6


def cases(count: int) -> list[Case]:
    """Held-out characters, the same in every run."""
    rng = random.Random("bench")
    views = [world.sample_view(rng, held_out=True) for _ in range(count)]
    others = [world.View(view.subject, world.sample_scene(rng)) for view in views]
    return [
        Case(view=view, other=other, stranger=views[(seed + 1) % count], seed=seed)
        for seed, (view, other) in enumerate(zip(views, others, strict=True))
    ]


def pictures_of(engine: Engine, row: Row, tried: Sequence[Case]) -> tuple[list[Image.Image], float]:
    """One picture per case, and the seconds that each took."""
    started = time.monotonic()
    pictures = [engine.submit(row.ask(case)).result().images[0] for case in tried]
    return pictures, (time.monotonic() - started) / len(tried)


def figures_of(name: str, looks: Sequence[Look], measure: Measure) -> dict:
    """One line of the table, with the share of every single attribute."""
    figures = {"row": name, "measure": measure.name, **interval([judge(seen, measure) for seen in looks])}
    if measure.attributes:
        single = [attributes_right(seen, measure) for seen in looks]
        figures["attributes"] = {key: round(sum(one[key] for one in single) / len(single), 3) for key in single[0]}
    return figures


def limits(probe: Probe, tried: Sequence[Case], side: int) -> list[dict]:
    """What the probe reads in renders: of the very view, and of another character in the same scene."""
    drawn = [world.render(case.view, side) for case in tried]
    others = [world.render(world.View(case.stranger.subject, case.view.scene), side) for case in tried]
    looks = looks_at(probe, drawn, tried)
    return [
        figures_of("the drawings themselves", looks, Measure(name="everything", attributes=ALL_ATTRIBUTES)),
        figures_of("the drawings themselves", looks, Measure(name="joints in place", kind="joints")),
        figures_of("another character", looks_at(probe, others, tried), SUBJECT),
    ]


def looks_at(probe: Probe, pictures: Sequence[Image.Image], tried: Sequence[Case]) -> list[Look]:
    """What the probe sees in a picture of every case."""
    return [look(probe, picture, case) for picture, case in zip(pictures, tried, strict=True)]


def show(figures: dict) -> None:
    """Print one line."""
    seconds = f"  ({figures['seconds_per_picture']} s a picture)" if "seconds_per_picture" in figures else ""
    print("{row:42} {measure:18} {right:6.1%} ± {plus_minus:5.1%}".format(**figures) + seconds, flush=True)


def main() -> None:
    """Print the table; write it and the contact sheet where asked."""
    arguments = _arguments()
    torch.set_num_threads(thread_count())  # as in the app
    probe = load_probe(arguments.probe)
    with TemporaryDirectory() as folder:
        entries = {"toybox": entry_from_folder(arguments.model, name="toybox")}
        entries |= sampled_by(arguments.model, arguments.samplers, Path(folder))
        if arguments.base_adapter:
            changed = {"base": usual_adapter("base", arguments.base_adapter)}
            entries = {name: replace(each, adapters={**each.adapters, **changed}) for name, each in entries.items()}
        engine = Engine(ModelManager(entries, device="cpu", max_resident=len(entries)))
        try:
            answer(engine, probe, arguments)
        finally:
            engine.close()


def answer(engine: Engine, probe: Probe, arguments: argparse.Namespace) -> None:
    """Ask what the command line wants asked, and print, write and draw what comes of it."""
    side = engine.manager.entry("toybox").width
    tried = cases(QUICK_SUBJECTS if arguments.quick else arguments.subjects)
    sweep = {"steps": arguments.steps, "guidance_scales": arguments.guidance, "models": arguments.samplers}
    asked = sweep_rows(**sweep) if any(sweep.values()) else rows(side=side)
    table: list[dict] = []
    sheet = [("reference", [world.render(case.view, side) for case in tried[:SHEET_COLUMNS]])]
    for row in asked:
        if not row.name.startswith(tuple(arguments.only)):
            continue
        pictures, seconds = pictures_of(engine, row, tried)
        sheet.append((row.name, pictures[:SHEET_COLUMNS]))
        looks = looks_at(probe, pictures, tried)
        for measure in row.measures:
            table.append(figures_of(row.name, looks, measure))
            table[-1]["seconds_per_picture"] = round(seconds, 2)
            show(table[-1])
    for figures in limits(probe, tried, side):
        table.append(figures)
        show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    if arguments.sheet:
        contact_sheet(sheet).save(arguments.sheet)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probe", type=Path, required=True, help="probe.pt of the recipe")
    parser.add_argument("--subjects", type=int, default=48, help="held-out subjects, one picture each per row")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SUBJECTS} subjects, for a first impression")
    parser.add_argument("--steps", type=int, nargs="+", default=(), help="instead: at these numbers of steps")
    parser.add_argument("--guidance", type=float, nargs="+", default=(), help="instead: at these guidance scales")
    parser.add_argument("--samplers", nargs="+", default=(), help="instead: with these schedulers of diffusers")
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="the rows whose names begin like this")
    parser.add_argument("--model", type=Path, default=BUNDLED, help="another bundle of the recipe")
    parser.add_argument("--base-adapter", type=Path, help="in place of the model's own")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the first subjects here (PNG)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
