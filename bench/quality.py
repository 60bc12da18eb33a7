"""Measure how well the bundled model follows requests, with a judge network, on subjects it has never seen.

    python -m bench.quality [--quick] [--subjects 48] [--json FILE] [--sheet FILE]
    python -m bench.quality --steps 4 10 20 --guidance 2 3 [--samplers UniPCMultistepScheduler ...]
    python -m bench.quality --guided 0 1 --guided 0 0.7
    python -m bench.quality --fast [--live]
    python -m bench.quality --lora FILE --steps 4 --guidance 1
    python -m bench.quality --amounts
    python -m bench.quality --looks
    python -m bench.quality --beside FILE FILE ...

The judge comes with the project (`bench/judge`) and is first tested on drawings: one that cannot read those is not
used. Every picture is drawn by the app's own engine with fixed seeds. The table has the share of attributes, or of
joints, that the judge reads as requested, with a 95 % interval, and beside it that of the mouths alone, the hardest.
The last lines are its readings of the drawings themselves, the upper limit for any model, and of drawings of other
characters. `--looks` instead draws many pictures from text and prints their distance from drawings, whatever they
show. `--beside` draws nothing: it prints the differences between runs written by `--json`, picture by picture; for a
single run, those between holes filled without and with their surroundings, or between its amounts.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image

from bench.asks import (
    ALL_ATTRIBUTES,
    RIM_MEASURES,
    SUBJECT,
    Case,
    Measure,
    Row,
    inpaint_inputs,
    mix_row,
    rows,
    short_rows,
    sweep_rows,
    text_row,
    variation_row,
    with_settings,
)
from bench.holes import hole_rows
from bench.judging import (
    JUDGE,
    Look,
    attributes_right,
    check_judge,
    contact_sheet,
    held_out_views,
    interval,
    look,
    score,
)
from bench.looks import Drawings
from bench.paired import beside, read_runs, within
from bench.timing import write_json
from bench.variants import sampled_by, with_lora
from ipa_app.adapter.kinds import USUAL_NAMES
from ipa_app.engine.batch import USUAL_BATCH_LIMIT
from ipa_app.engine.engine import Engine
from ipa_app.errors import UserError
from ipa_app.models.adapters import usual_adapter
from ipa_app.models.catalog import BUNDLED, entry_from_folder
from ipa_app.models.entry import ModelEntry
from ipa_app.models.manager import ModelManager
from ipa_app.runtime import thread_count
from ipa_app.ui.amounts import amounts_of
from toybox import world
from toybox.judge import Judge, load_judge

SUBJECTS, QUICK_SUBJECTS = 48, 6
LOOKS_SUBJECTS = 500
SHEET_COLUMNS = 6
MOUTH = "mouth"

Figures = dict[str, Any]
"""One line of the table."""


def cases(count: int) -> list[Case]:
    """Return held-out characters, the same in every run; see docs/toybox.md for their distribution."""
    rng = random.Random("bench")
    views = [world.sample_view(rng, held_out=True) for _ in range(count)]
    others = [world.View(view.subject, world.sample_scene(rng)) for view in views]
    return [
        Case(view=view, other=other, stranger=views[(seed + 1) % count], seed=seed)
        for seed, (view, other) in enumerate(zip(views, others, strict=True))
    ]


def pictures_of(engine: Engine, row: Row, tried: Sequence[Case], *, is_live: bool) -> tuple[list[Image.Image], float]:
    """Draw one picture per case, as results or as live mode shows them; also return the seconds per picture."""
    started = time.monotonic()
    pictures: list[Image.Image] = []
    for first in range(0, len(tried), USUAL_BATCH_LIMIT):
        asked = [row.ask(case) for case in tried[first : first + USUAL_BATCH_LIMIT]]
        jobs = [engine.submit(request, live=is_live) for request in asked]
        pictures += [job.result().images[0] for job in jobs]
    return pictures, (time.monotonic() - started) / len(tried)


def figures_of(name: str, looks: Sequence[Look], measure: Measure) -> Figures:
    """Return one line of the table, with the share of every attribute."""
    scores = [score(seen, measure) for seen in looks]
    figures = {"row": name, "measure": measure.name, "unit": measure.unit, **interval(scores)}
    figures["scores"] = [round(each, 4) for each in scores]
    if measure.attributes:
        single = [attributes_right(seen, measure) for seen in looks]
        figures["attributes"] = {key: round(sum(one[key] for one in single) / len(single), 3) for key in single[0]}
    return figures


def limits(judge: Judge, tried: Sequence[Case], side: int) -> Iterator[Figures]:
    """Yield the judge's readings of drawings: of the target view, of another character in it, and of one put there."""
    drawn = looks_at(judge, [world.render(case.view, side) for case in tried], tried)
    yield figures_of("the drawings themselves", drawn, Measure(name="everything", attributes=ALL_ATTRIBUTES))
    yield figures_of("the drawings themselves", drawn, Measure(name="joints in place", kind="joints"))
    others = [world.render(world.View(case.stranger.subject, case.view.scene), side) for case in tried]
    yield figures_of("another character", looks_at(judge, others, tried), SUBJECT)
    put = looks_at(judge, [_put_in_place(case, side) for case in tried], tried)
    for measure in RIM_MEASURES:
        yield figures_of("a drawing put in place", put, measure)


def _put_in_place(case: Case, side: int) -> Image.Image:
    """Draw the reference's character in the pose of the stranger that it replaces, inside the mask."""
    image, mask = inpaint_inputs(case, side)
    return Image.composite(world.render(world.View(case.view.subject, case.stranger.scene), side), image, mask)


def looks_at(judge: Judge, pictures: Sequence[Image.Image], tried: Sequence[Case]) -> list[Look]:
    """Return the judge's reading of one picture per case."""
    return [look(judge, picture, case) for picture, case in zip(pictures, tried, strict=True)]


def show(figures: Figures) -> None:
    """Print one line."""
    number, spread = ("{:6.1%}", " ± {:5.1%}") if figures["unit"] == "share" else ("{:6.2f}", " ± {:5.2f}")
    counted = number.format(figures["mean"]) + (spread.format(figures["plus_minus"]) if "plus_minus" in figures else "")
    mouth = f"{figures['attributes'][MOUTH]:.0%}" if MOUTH in figures.get("attributes", {}) else ""
    seconds = f"  ({figures['seconds_per_picture']} s a picture)" if "seconds_per_picture" in figures else ""
    print(f"{figures['row']:46} {figures['measure']:18} {counted:15} {mouth:>6}{seconds}", flush=True)


class Table:
    """The lines so far, printed and written as they come, so that an interrupted run keeps them."""

    def __init__(self, path: Path | None) -> None:
        """Start a table; `path` is a JSON file to write, or None."""
        self._path, self._lines = path, []
        print(f"{'':46} {'':18} {'right':>15} {'mouth':>6}", flush=True)

    def add(self, figures: Figures) -> None:
        """Print a line, and write all lines."""
        self._lines.append(figures)
        show(figures)
        if self._path:
            write_json(self._path, self._lines)


def main() -> None:
    """Print the table; write it and the contact sheet if asked."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.beside:
        runs = read_runs(arguments.beside)
        print(beside(runs) if len(runs) > 1 else within(*runs.values()))
        return
    torch.set_num_threads(thread_count())  # as in the app
    judge = load_judge(arguments.judge)
    try:
        check_judge(judge, [case.view for case in cases(SUBJECTS)])
    except UserError as error:
        parser.exit(1, f"{error}\n")
    with TemporaryDirectory() as folder:
        entries = _entries(arguments, Path(folder))
        engine = Engine(ModelManager(entries, device="cpu", max_resident=len(entries), exact=arguments.exact))
        try:
            (count_looks if arguments.looks else count)(engine, judge, arguments)
        finally:
            engine.close()


def count(engine: Engine, judge: Judge, arguments: argparse.Namespace) -> None:
    """Run the requested rows; print and write the table, and draw the contact sheet."""
    side = engine.manager.entry("toybox").width
    tried = cases(QUICK_SUBJECTS if arguments.quick else arguments.subjects)
    table = Table(arguments.json)
    sheet = [("reference", [world.render(case.view, side) for case in tried[:SHEET_COLUMNS]])]
    for row in _asked(arguments, side):
        pictures, seconds = pictures_of(engine, row, tried, is_live=arguments.live)
        sheet.append((row.name, pictures[:SHEET_COLUMNS]))
        looks = looks_at(judge, pictures, tried)
        for measure in row.measures:
            table.add({**figures_of(row.name, looks, measure), "seconds_per_picture": round(seconds, 2)})
    for figures in limits(judge, tried, side):
        table.add(figures)
    if arguments.sheet:
        contact_sheet(sheet).save(arguments.sheet)


def count_looks(engine: Engine, judge: Judge, arguments: argparse.Namespace) -> None:
    """Draw many pictures from text, and print their distance from drawings."""
    side = engine.manager.entry("toybox").width
    views = held_out_views(3 * LOOKS_SUBJECTS)
    first, second, asked = (views[start::3] for start in range(3))
    drawings = Drawings(judge, [world.render(view, side) for view in first])
    tried = [Case(view=view, other=view, stranger=view, seed=seed) for seed, view in enumerate(asked)]
    table = Table(arguments.json)
    for row in _asked(arguments, side):
        pictures, seconds = pictures_of(engine, row, tried, is_live=arguments.live)
        table.add({**looks_figures(row.name, drawings, pictures), "seconds_per_picture": round(seconds, 2)})
    table.add(looks_figures("other drawings", drawings, [world.render(view, side) for view in second]))


def looks_figures(name: str, drawings: Drawings, pictures: Sequence[Image.Image]) -> Figures:
    """One line of the table."""
    return {"row": name, "measure": "looks", "unit": "distance", "mean": round(drawings.distance(pictures), 2)}


def _asked(arguments: argparse.Namespace, side: int) -> Iterator[Row]:
    """Yield the rows that the command line asks for."""
    sweep = {"steps": arguments.steps, "guidance_scales": arguments.guidance, "models": arguments.samplers}
    sweep["intervals"] = [(start, end) for start, end in arguments.guided or ()]
    sweep["speeds"] = ["fast"] if arguments.fast else []
    if arguments.amounts:
        asked = _amount_rows()
    elif any(sweep.values()):
        asked = sweep_rows([text_row()] if arguments.looks else short_rows(side=side), **sweep)
    else:
        asked = [text_row()] if arguments.looks else (*rows(side=side), *hole_rows(side=side))
    return (row for row in asked if row.name.startswith(tuple(arguments.only)))


def _amount_rows() -> Iterator[Row]:
    """Yield rows with a reference at the page's named amounts, alone and with a text prompt for another scene."""
    for adapter in USUAL_NAMES:
        for task, row in {"variation": variation_row(adapter, 1.0), "mix": mix_row(adapter)}.items():
            for name, amount in amounts_of(task).items():
                yield with_settings(row, f"{task}, {adapter}, {name}", **asdict(amount))


def _entries(arguments: argparse.Namespace, folder: Path) -> dict[str, ModelEntry]:
    """Return the model, and a copy per sampler, with the LoRA and the adapter that the command line asks for."""
    model = with_lora(arguments.model, arguments.lora, folder / "lora") if arguments.lora else arguments.model
    entries = {"toybox": entry_from_folder(model, name="toybox")}
    entries |= sampled_by(model, arguments.samplers, folder)
    if not arguments.base_adapter:
        return entries
    changed = {"base": usual_adapter("base", arguments.base_adapter)}
    return {name: replace(each, adapters={**each.adapters, **changed}) for name, each in entries.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, default=SUBJECTS, help="held-out subjects, one picture each per row")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SUBJECTS} subjects, for a first impression")
    parser.add_argument("--amounts", action="store_true", help="measure instead the page's named amounts")
    parser.add_argument(
        "--looks", action="store_true", help=f"measure instead how {LOOKS_SUBJECTS} pictures look overall"
    )
    parser.add_argument("--steps", type=int, nargs="+", default=(), help="fewer rows, at these numbers of steps")
    parser.add_argument("--guidance", type=float, nargs="+", default=(), help="fewer rows, at these guidance scales")
    interval = {"type": float, "nargs": 2, "metavar": ("FROM", "TO"), "action": "append"}
    parser.add_argument("--guided", **interval, help="fewer rows, with guidance in this share of the steps; repeatable")
    parser.add_argument("--samplers", nargs="+", default=(), help="fewer rows, with these schedulers of diffusers")
    parser.add_argument("--fast", action="store_true", help="fewer rows, drawn with speed Fast")
    parser.add_argument(
        "--live", action="store_true", help="decode fast pictures with the model's small decoder, as live mode does"
    )
    parser.add_argument(
        "--exact", action="store_true", help="draw in single precision, as the app does with IPA_EXACT=1"
    )
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="only rows whose names begin like this")
    parser.add_argument("--model", type=Path, default=BUNDLED, help="another bundle of the recipe")
    parser.add_argument("--lora", type=Path, help="change the UNet by this file of the recipe's stage student")
    parser.add_argument("--base-adapter", type=Path, help="adapter file to use instead of the model's own")
    parser.add_argument("--judge", type=Path, default=JUDGE, help="folder of another judge")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument(
        "--beside", type=Path, nargs="+", metavar="JSON", help="count nothing, compare the results in these files"
    )
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the first subjects here (PNG)")
    return parser


if __name__ == "__main__":
    main()
