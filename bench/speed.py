"""How fast the app draws with the bundled model, beside plain diffusers on the same machine in the same run.

    python -m bench.speed [--rounds 7] [--compiled] [--json bench/results/speed/NAME.json]
    python -m bench.speed --table bench/results/speed/NAME.json

Both work in this process, in turn, on as many threads as the app takes; plain diffusers in single precision, with 20
steps of DDIM where nothing else is said, as it would be used without this app. A row's figure is the median of the
ratios of its rounds, so that a machine that is busy now and then changes little in it; the seconds beside it are
medians, too. `--json` writes the figures with what the machine is; `--table` prints such a file as a table of Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image

from bench.quality import cases
from bench.timing import Row, measured, table, write_json
from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.models.catalog import BUNDLED, entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.models.memory import default_dtype
from ipa_app.runtime import thread_count
from toybox import world

ROUNDS = 7
PLAIN_STEPS = 20
PROMPT = "a blue bear on the beach"
MODEL = "toybox"


class PlainDiffusers:
    """Plain diffusers with an adapter, as its documentation has it used."""

    def __init__(self) -> None:
        """Load the bundled model in single precision, with its base adapter."""
        pipeline: Any = StableDiffusionPipeline.from_pretrained(BUNDLED, dtype=torch.float32, local_files_only=True)
        self._own = pipeline.scheduler
        self._ddim = DDIMScheduler.from_pretrained(BUNDLED / "scheduler")
        pipeline.load_ip_adapter(
            str(BUNDLED / "adapters"), subfolder="", weight_name="ip-adapter_toybox.safetensors", local_files_only=True
        )
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline = pipeline

    def draw(self, seed: int, *, reference: Image.Image | None, steps: int | None = None) -> Image.Image:
        """Draw one picture, with DDIM; where `steps` are given with the bundle's own sampler."""
        self._pipeline.scheduler = self._ddim if steps is None else self._own
        self._pipeline.set_ip_adapter_scale(1.0 if reference else 0.0)
        return self._pipeline(
            "" if reference else PROMPT,
            ip_adapter_image=reference or Image.new("RGB", (64, 64)),
            num_inference_steps=steps or PLAIN_STEPS,
            guidance_scale=3.0,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]


class Studio:
    """The app's engine, without its page."""

    def __init__(
        self, *, exact: bool = False, batch_limit: int | None = None, compile_backend: str | None = None
    ) -> None:
        """Load the bundled model.

        Args:
            exact: as with `IPA_EXACT=1`.
            batch_limit: most pictures in one batch; None for what the app takes by itself.
            compile_backend: what its UNet is compiled with, "inductor" with `IPA_COMPILE=1`.
        """
        manager = ModelManager(
            {MODEL: entry_from_folder(BUNDLED, name=MODEL)}, "cpu", exact=exact, compile_backend=compile_backend
        )
        self.engine = Engine(manager, batch_limit=batch_limit)
        self.steps: int = manager.get(MODEL).entry.steps
        self._compiler = manager.get(MODEL).compiler

    def request(self, seed: int, *, reference: Image.Image | None, **options: Any) -> GenerateRequest:
        """Return a request for one picture, by a reference or else by words, with everything else as by default."""
        shared = {"model": MODEL, "seed": seed, **options}
        if reference is None:
            return GenerateRequest(task="mix", prompt=PROMPT, **shared)
        return GenerateRequest(task="variation", references=(Reference(image=reference),), **shared)

    def draw(self, *requests: GenerateRequest, live: bool = False) -> list[Image.Image]:
        """Draw requests that wait together; live ones by the small decoder."""
        jobs = [self.engine.submit(request, live=live) for request in requests]
        return [job.result().images[0] for job in jobs]

    def compile(self) -> float:
        """Draw after a reference, as by default and guided in every step, and wait until that is compiled.

        Returns:
            The seconds that it took.
        """
        picture, since = reference(), time.monotonic()
        for options in ({}, {"guidance_end": 1}):  # one after the other, as a batch of both is compiled for itself
            self.draw(self.request(0, reference=picture, **options))
        if self._compiler is not None:
            self._compiler.wait()
        return time.monotonic() - since

    def close(self) -> None:
        """Stop drawing."""
        self.engine.close()


def reference() -> Image.Image:
    """Draw what all pictures take after, which the model has never seen."""
    return world.render(cases(1)[0].view, 256)


def rows(studio: Studio, exact: Studio, apart: Studio, plain: PlainDiffusers) -> Iterator[Row]:
    """List what is compared.

    Args:
        studio: as the app is by default.
        exact: in single precision.
        apart: with one picture a batch.
        plain: plain diffusers.
    """
    picture = reference()
    yield from rows_beside_diffusers(studio, exact, plain, picture)
    yield from rows_beside_itself(studio, apart, picture)
    yield from rows_of_regions(studio, picture)


def rows_beside_diffusers(studio: Studio, exact: Studio, plain: PlainDiffusers, picture: Image.Image) -> Iterator[Row]:
    """List what is compared with plain diffusers; see `rows`."""
    yield Row(
        name="a picture after a reference, at the defaults",
        ours=lambda seed: studio.draw(studio.request(seed, reference=picture)),
        other=lambda seed: plain.draw(seed, reference=picture),
        beside=f"plain diffusers, {PLAIN_STEPS} steps of DDIM",
    )
    yield Row(
        name="a picture after words, at the defaults",
        ours=lambda seed: studio.draw(studio.request(seed, reference=None)),
        other=lambda seed: plain.draw(seed, reference=None),
        beside=f"plain diffusers, {PLAIN_STEPS} steps of DDIM",
    )
    yield Row(
        name="a picture after a reference, drawn *Fast*",
        ours=lambda seed: studio.draw(studio.request(seed, reference=picture, speed="fast")),
        other=lambda seed: plain.draw(seed, reference=picture),
        beside=f"plain diffusers, {PLAIN_STEPS} steps of DDIM",
    )
    yield Row(
        name="a draft of it, as live mode shows *Fast*",
        ours=lambda seed: studio.draw(studio.request(seed, reference=picture, speed="fast"), live=True),
        other=lambda seed: plain.draw(seed, reference=picture),
        beside=f"plain diffusers, {PLAIN_STEPS} steps of DDIM",
    )
    yield row_of_the_same_work("the same work to the same pixels (`IPA_EXACT=1`)", exact, plain, picture)


def row_of_the_same_work(name: str, exact: Studio, plain: PlainDiffusers, picture: Image.Image) -> Row:
    """Compare with plain diffusers on the same steps, all of them guided, to the same pixels."""
    return Row(
        name=name,
        ours=lambda seed: exact.draw(exact.request(seed, reference=picture, guidance_end=1)),
        other=lambda seed: plain.draw(seed, reference=picture, steps=exact.steps),
        beside=f"plain diffusers, {exact.steps} steps of the model's own sampler",
    )


def rows_beside_itself(studio: Studio, apart: Studio, picture: Image.Image) -> Iterator[Row]:
    """List what the app does in two ways; see `rows`."""
    one = partial(studio.request, reference=picture)
    yield Row(
        name="another adapter than the time before",
        ours=lambda seed: studio.draw(one(seed, adapter="fine" if seed % 2 else "base")),
        other=lambda seed: studio.draw(one(seed, adapter="fine")),
        beside="the same adapter as the time before",
    )
    yield Row(
        name="five strengths on one seed",
        ours=lambda seed: studio.draw(*(one(seed, scale=step / 5) for step in range(1, 6))),
        other=lambda seed: studio.draw(one(seed)),
        beside="one picture",
    )
    yield Row(
        name="four pictures of one request",
        ours=lambda seed: studio.draw(one(seed, count=4)),
        other=lambda seed: apart.draw(one(seed, count=4)),
        beside="one by one (`IPA_BATCH=1`)",
    )
    yield Row(
        name="eight pictures of eight requests",
        ours=lambda seed: studio.draw(*(one(8 * seed + n) for n in range(8))),
        other=lambda seed: apart.draw(*(one(8 * seed + n) for n in range(8))),
        beside="one by one (`IPA_BATCH=1`)",
    )


def rows_of_regions(studio: Studio, picture: Image.Image) -> Iterator[Row]:
    """List what is drawn with four places beside what is drawn without; see `rows`."""
    quarters = [Image.new("L", (64, 64)) for _ in range(4)]
    for number, quarter in enumerate(quarters):
        left, upper = 32 * (number % 2), 32 * (number // 2)
        quarter.paste(255, (left, upper, left + 32, upper + 32))
    words = ("a red bear", "a blue frog", "a green cat", "a yellow dog")
    placed = tuple(
        Reference(image=picture, region_mask=mask, region_prompt=text)
        for mask, text in zip(quarters, words, strict=True)
    )
    everywhere = (Reference(image=picture),) * len(placed)

    def draw(seed: int, references: tuple[Reference, ...]) -> object:
        return studio.draw(
            GenerateRequest(task="mix", prompt=PROMPT, model=MODEL, seed=seed, scale=0.6, references=references)
        )

    yield Row(
        name="four references, each with a place and words for it",
        ours=lambda seed: draw(seed, placed),
        other=lambda seed: draw(seed, everywhere),
        beside="the four everywhere",
    )


def rows_compiled(studio: Studio, compiled: Studio, exact: Studio, plain: PlainDiffusers) -> Iterator[Row]:
    """List what a compiled UNet draws beside what draws without.

    Args:
        studio: as the app is by default.
        compiled: the same with a compiled UNet.
        exact: in single precision with a compiled UNet.
        plain: plain diffusers.
    """
    picture = reference()
    yield Row(
        name="a picture after a reference, compiled (`IPA_COMPILE=1`)",
        ours=lambda seed: compiled.draw(compiled.request(seed, reference=picture)),
        other=lambda seed: studio.draw(studio.request(seed, reference=picture)),
        beside="as it is by default",
    )
    name = "the same work to the same pixels, compiled (`IPA_EXACT=1 IPA_COMPILE=1`)"
    yield row_of_the_same_work(name, exact, plain, picture)


def check_equal(exact: Studio, plain: PlainDiffusers) -> int:
    """Return by how much a pixel of the exact mode differs at most from plain diffusers, of 255."""
    picture = reference()
    ours = exact.draw(exact.request(3, reference=picture, guidance_end=1))[0]
    other = plain.draw(3, reference=picture, steps=exact.steps)
    return int(np.abs(np.asarray(ours, int) - np.asarray(other, int)).max())


def machine() -> dict[str, Any]:
    """Return what measures."""
    told = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "processor": told.get("cpu_name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "precision": str(default_dtype("cpu", exact=False)).removeprefix("torch."),
        "versions": {name: version(name) for name in ("torch", "diffusers")},
    }


def main() -> None:
    """Measure, print and write; or print what was written."""
    parser = arguments_of("bench.speed", __doc__)
    parser.add_argument("--compiled", action="store_true", help="with a compiled UNet; this takes minutes at first")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text("utf-8"))["rows"]))
        return
    torch.set_num_threads(thread_count())  # as in the app
    backend = "inductor" if arguments.compiled else None
    studio, exact, plain = Studio(), Studio(exact=True, compile_backend=backend), PlainDiffusers()
    figures: dict[str, Any] = {"machine": machine()}
    if arguments.compiled:
        other = Studio(compile_backend=backend)
        compared = rows_compiled(studio, other, exact, plain)
        figures["compiled_s"] = [each.compile() for each in (other, exact)]
    else:
        other = Studio(batch_limit=1)
        compared = rows(studio, exact, other, plain)
    figures |= {"largest_difference": check_equal(exact, plain), "rows": []}
    for row in compared:
        figures["rows"].append(asdict(measured(row, arguments.rounds)))
        if arguments.json:
            write_json(arguments.json, figures)
    print(table(figures["rows"]))
    print(f"\nexact mode beside plain diffusers: pixels differ by at most {figures['largest_difference']} of 255")
    for each in (studio, exact, other):
        each.close()


def arguments_of(module: str, about: str | None) -> argparse.ArgumentParser:
    """Return a parser with what every command has that measures in rounds.

    Args:
        module: that is run, such as "bench.speed".
        about: its docstring.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each row is measured")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--table", type=Path, metavar="JSON", help="measure nothing, print what was written")
    return parser


if __name__ == "__main__":
    main()
