"""Measure how fast the app draws with the bundled model, compared with plain diffusers in the same run.

    python -m bench.speed [--rounds 7] [--compiled] [--json bench/results/speed/NAME.json]
    python -m bench.speed --table bench/results/speed/NAME.json

Both run in this process, alternately, with the app's number of threads; plain diffusers in single precision, with 20
DDIM steps unless stated otherwise, as it would be used without this app. Each round has its own reference, which both
encode. A row's figure is the median of its rounds' ratios, which depends little on other load on the machine; the
seconds beside it are medians too. `--json` writes the figures with a description of the machine; `--table` prints such
a file as a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import lru_cache, partial
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
_CHARACTERS = 48

OfReference = Callable[[int, Image.Image], Any]
"""Called once per round with its seed and reference."""


class PlainDiffusers:
    """Plain diffusers used as documented: with an adapter, and without one for text alone."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        """Load the bundled model twice, once with its base adapter."""
        self._words, self._pipeline = (_pipeline(dtype) for _ in range(2))
        self._own = self._pipeline.scheduler
        self._ddim = DDIMScheduler.from_pretrained(BUNDLED / "scheduler")
        self._pipeline.load_ip_adapter(
            str(BUNDLED / "adapters"), subfolder="", weight_name="ip-adapter_toybox.safetensors", local_files_only=True
        )

    def draw(self, seed: int, *, reference: Image.Image | None, steps: int | None = None) -> Image.Image:
        """Draw one picture with DDIM, or with the bundle's own sampler if `steps` are given."""
        pipeline = self._words if reference is None else self._pipeline
        pipeline.scheduler = self._ddim if steps is None else self._own
        return pipeline(
            "" if reference else PROMPT,
            ip_adapter_image=reference,
            num_inference_steps=steps or PLAIN_STEPS,
            guidance_scale=3.0,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]


def _pipeline(dtype: torch.dtype) -> Any:
    pipeline: Any = StableDiffusionPipeline.from_pretrained(BUNDLED, dtype=dtype, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class Studio:
    """The app's engine, without its page."""

    def __init__(
        self, *, exact: bool = False, batch_limit: int | None = None, compile_backend: str | None = None
    ) -> None:
        """Load the bundled model.

        Args:
            exact: as with `IPA_EXACT=1`.
            batch_limit: most pictures per batch; None for the app's own limit.
            compile_backend: backend that compiles the UNet, "inductor" with `IPA_COMPILE=1`.
        """
        manager = ModelManager(
            {MODEL: entry_from_folder(BUNDLED, name=MODEL)}, "cpu", exact=exact, compile_backend=compile_backend
        )
        self.engine = Engine(manager, batch_limit=batch_limit)
        self.steps: int = manager.get(MODEL).entry.steps
        self._compiler = manager.get(MODEL).compiler

    def request(self, seed: int, *, reference: Image.Image | None, **options: Any) -> GenerateRequest:
        """Return a request for one picture, from a reference or else from text, with defaults otherwise."""
        shared = {"model": MODEL, "seed": seed, **options}
        if reference is None:
            return GenerateRequest(task="mix", prompt=PROMPT, **shared)
        return GenerateRequest(task="variation", references=(Reference(image=reference),), **shared)

    def draw(self, *requests: GenerateRequest, live: bool = False) -> list[Image.Image]:
        """Draw requests that wait together; live, fast ones with the small decoder."""
        jobs = [self.engine.submit(request, live=live) for request in requests]
        return [job.result().images[0] for job in jobs]

    def compile(self) -> float:
        """Draw from a reference, by default and guided in every step, until the UNet is compiled for both.

        Returns:
            The seconds it took.
        """
        picture, since = reference(), time.monotonic()
        for options in ({}, {"guidance_end": 1}):  # one by one, as a batch of both is compiled separately
            self.draw(self.request(0, reference=picture, **options))
        if self._compiler is not None:
            self._compiler.wait()
        return time.monotonic() - since

    def close(self) -> None:
        """Stop drawing."""
        self.engine.close()


@lru_cache(maxsize=64)
def reference(name: str = "") -> Image.Image:
    """Draw a reference, a different one for each name; the model has never seen any."""
    number = zlib.crc32(name.encode())
    drawn = world.render(cases(_CHARACTERS)[number % _CHARACTERS].view, 256)
    drawn.putpixel((0, 0), tuple(number.to_bytes(4, "big")[:3]))  # so that two of one character are encoded separately
    return drawn


def row_of_references(name: str, ours: OfReference, other: OfReference, beside: str) -> Row:
    """Compare work with a reference that is not encoded yet, a different one per round.

    Args:
        name: as in `Row`.
        ours: as in `Row`, called with the seed and the reference.
        other: the same for the other side.
        beside: as in `Row`.
    """

    def picture(seed: int) -> Image.Image:
        return reference(f"{name} {seed}")

    return Row(
        name=name,
        ours=lambda seed: ours(seed, picture(seed)),
        other=lambda seed: other(seed, picture(seed)),
        beside=beside,
        before_ours=picture,
    )


def rows(studio: Studio, exact: Studio, apart: Studio, plain: PlainDiffusers) -> Iterator[Row]:
    """Yield all comparisons.

    Args:
        studio: the app with defaults.
        exact: in single precision.
        apart: with one picture per batch.
        plain: plain diffusers.
    """
    yield from rows_beside_diffusers(studio, exact, plain)
    yield from rows_beside_itself(studio, apart)
    yield from rows_of_regions(studio)


def rows_beside_diffusers(studio: Studio, exact: Studio, plain: PlainDiffusers) -> Iterator[Row]:
    """Yield the comparisons with plain diffusers; see `rows`."""
    beside = f"plain diffusers, {PLAIN_STEPS} steps of DDIM"

    def after_reference(name: str, *, live: bool = False, **options: Any) -> Row:
        return row_of_references(
            name,
            lambda seed, picture: studio.draw(studio.request(seed, reference=picture, **options), live=live),
            lambda seed, picture: plain.draw(seed, reference=picture),
            beside,
        )

    yield after_reference("a picture after a reference, at the defaults")
    yield Row(
        name="a picture after words, at the defaults",
        ours=lambda seed: studio.draw(studio.request(seed, reference=None)),
        other=lambda seed: plain.draw(seed, reference=None),
        beside=beside,
    )
    yield after_reference("a picture after a reference, drawn *Fast*", speed="fast")
    yield after_reference("a draft of it, as live mode shows *Fast*", speed="fast", live=True)
    if (dtype := default_dtype("cpu", exact=False)) != torch.float32:
        name = f"the same steps, guidance and precision ({str(dtype).removeprefix('torch.')})"
        yield row_of_the_same_work(name, studio, PlainDiffusers(dtype))
    yield row_of_the_same_work("the same work to the same pixels (`IPA_EXACT=1`)", exact, plain)


def row_of_the_same_work(name: str, studio: Studio, plain: PlainDiffusers) -> Row:
    """Compare with plain diffusers at the same steps, all guided, in the same precision."""
    return row_of_references(
        name,
        lambda seed, picture: studio.draw(studio.request(seed, reference=picture, guidance_end=1)),
        lambda seed, picture: plain.draw(seed, reference=picture, steps=studio.steps),
        f"plain diffusers, {studio.steps} steps of the model's own sampler",
    )


def rows_beside_itself(studio: Studio, apart: Studio) -> Iterator[Row]:
    """Yield the comparisons of two ways of the app; see `rows`."""
    one = partial(studio.request, reference=reference())
    yield Row(
        name="another adapter than the time before",
        ours=lambda seed: studio.draw(one(seed, adapter="fine")),
        other=lambda seed: studio.draw(one(seed, adapter="fine")),
        beside="the same adapter as the time before",
        before_ours=lambda seed: studio.draw(one(seed, adapter="base")),
        before_other=lambda seed: studio.draw(one(seed, adapter="fine")),
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


def rows_of_regions(studio: Studio) -> Iterator[Row]:
    """Yield the comparisons of drawing with and without four regions; see `rows`."""
    picture = reference()
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
    """Yield the comparisons with a compiled UNet.

    Args:
        studio: the app with defaults.
        compiled: the same with a compiled UNet.
        exact: in single precision with a compiled UNet.
        plain: plain diffusers.
    """
    yield row_of_references(
        "a picture after a reference, compiled (`IPA_COMPILE=1`)",
        lambda seed, picture: compiled.draw(compiled.request(seed, reference=picture)),
        lambda seed, picture: studio.draw(studio.request(seed, reference=picture)),
        "as it is by default",
    )
    yield row_of_the_same_work("the same work to the same pixels, compiled (`IPA_EXACT=1 IPA_COMPILE=1`)", exact, plain)


def check_equal(exact: Studio, plain: PlainDiffusers) -> int:
    """Return the largest pixel difference of the exact mode from plain diffusers, of 255."""
    picture = reference()
    ours = exact.draw(exact.request(3, reference=picture, guidance_end=1))[0]
    other = plain.draw(3, reference=picture, steps=exact.steps)
    return int(np.abs(np.asarray(ours, int) - np.asarray(other, int)).max())


def machine() -> dict[str, Any]:
    """Return a description of the machine that measures."""
    told = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "processor": told.get("cpu_name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "precision": str(default_dtype("cpu", exact=False)).removeprefix("torch."),
        "versions": {name: version(name) for name in ("torch", "diffusers")},
    }


def main() -> None:
    """Measure, print and write figures, or print a written file."""
    parser = arguments_of("bench.speed", __doc__)
    parser.add_argument("--compiled", action="store_true", help="compile the UNet, which takes minutes at first")
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
    """Return a parser with the options shared by all commands that measure in rounds.

    Args:
        module: the module to run, such as "bench.speed".
        about: its docstring.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each row is measured")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--table", type=Path, metavar="JSON", help="measure nothing, print the results in this file")
    return parser


if __name__ == "__main__":
    main()
