"""The parts of the check on a GPU; see `gpu`. Each records its results as soon as it has them."""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from bench import shape_exact
from bench.published import hub
from bench.shape_exact import PROMPT, SEED
from bench.timing import Row, measured
from ipa_app.engine.engine import Engine
from ipa_app.engine.references import Reference, RegionName
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.models.manager import ModelManager
from ipa_app.models.memory import default_dtype, free_bytes

if TYPE_CHECKING:
    from bench.published_diffusers import Diffusers

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the check.

    Attributes:
        what: description of what is checked.
        limit_s: time limit in seconds.
        run: carries it out.
    """

    what: str
    limit_s: int
    run: Callable[[Run], None]


class Run:
    """One run of a part.

    Attributes:
        folder: where models are built.
        device: a torch device.
        tiny: narrow models and small pictures.
        note: records results.
    """

    def __init__(self, folder: Path, *, device: str, tiny: bool, note: Callable[..., None]) -> None:
        """Create a run; nothing is built yet."""
        self.folder = folder
        self.device = device
        self.tiny = tiny
        self.note = note

    @property
    def side(self) -> int:
        """Side of SD 1.5's pictures in pixels."""
        return 64 if self.tiny else 512

    @property
    def steps(self) -> int:
        """Denoising steps of a timed picture."""
        return 2 if self.tiny else 20

    @property
    def batch(self) -> int:
        """Most pictures drawn together."""
        return 2 if self.tiny else 8

    @property
    def rounds(self) -> int:
        """Number of measurements per row."""
        return 1 if self.tiny else 4

    def built(self, family: str) -> argparse.Namespace:
        """Build a family if missing; return the options with which `shape_exact` draws with it."""
        side = 64 if self.tiny else {"sd15": 512, "sdxl": 1024}[family]
        told = [family, "--half", "--whole", "--device", self.device, "--size", str(side)]
        options = shape_exact.parse_options([*told, *(["--tiny"] if self.tiny else [])])
        since = time.monotonic()
        shape_exact.ensure(options, self.folder / family)
        self.note(built_s=round(time.monotonic() - since, 1))
        return options

    def manager(self, *, compile_backend: str | None = None) -> ModelManager:
        """Return a manager with SD 1.5, not loaded yet."""
        entry = shape_exact.published_entry("sd15", self.folder / "sd15", side=self.side)
        return ModelManager({entry.name: entry}, device=self.device, exact=False, compile_backend=compile_backend)

    def request(self, seed: int, **options: Any) -> GenerateRequest:
        """Return a request for one picture, by default from a reference."""
        picture, _, _ = shape_exact.inputs(self.side)
        usual = {"task": "variation", "references": (Reference(image=picture),), "steps": self.steps}
        return GenerateRequest(model="sd15", seed=seed, **usual | options)


def check_tests(run: Run) -> None:
    """Run the tests that draw on a GPU; each defines its own tolerance. Without a GPU all are skipped."""
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "DEVICES" in path.read_text("utf-8")]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr, flush=True)
    run.note(right=done.returncode == 0, pytest=done.stdout.strip().splitlines()[-1:])


def check_shapes(run: Run, *, family: str) -> None:
    """Draw with the app and plain diffusers in half precision, and with plain diffusers in single precision."""
    options = run.built(family)
    found = shape_exact.compare(options, run.folder / family)
    run.note(right=found.pop("agree"), **found)


def check_memory(run: Run) -> None:
    """Load SD 1.5 with all memory, then with too little for all parts at once, then with too little for any."""
    run.built("sd15")
    ways, first = [], None
    needed = 0
    for share in (None, 0.85, 0.4):
        left = None if share is None else int(needed * share)
        with _filled(run.device, left):
            found, picture = _drawn_once(run)
        if first is None:
            first, needed = picture, found["needed"]
        elif picture is not None:
            distance = np.abs(np.asarray(picture, int) - np.asarray(first, int))
            found["mean_difference"] = round(float(distance.mean()), 3)
        ways.append({"left": left, **found})
        run.note(ways=ways)
    run.note(right=all(way.get("taken", 0) <= way.get("needed", 0) for way in ways))


def _drawn_once(run: Run) -> tuple[dict[str, Any], Image.Image | None]:
    """Load SD 1.5 and draw one picture; return the cost, or the error message, and the picture."""
    manager, since = run.manager(), time.monotonic()
    before = _taken(run.device)
    engine = Engine(manager)
    try:
        use = manager.get("sd15").memory
        loaded = time.monotonic()
        picture = engine.submit(run.request(SEED)).result().images[0]
        found: dict[str, Any] = {"savings": use.savings, "needed": use.needed}
        found |= {"load_s": round(loaded - since, 2), "draw_s": round(time.monotonic() - loaded, 2)}
        if before is not None:
            found["taken"] = torch.cuda.max_memory_allocated(run.device) - before
        return found, picture
    except UserError as error:
        return {"refused": str(error)}, None
    finally:
        engine.close()
        manager.free("sd15")


def _taken(device: str) -> int | None:
    """Reset the peak memory statistics; return the memory in use, or None if unknown."""
    if not device.startswith("cuda"):
        return None
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


@contextmanager
def _filled(device: str, left: int | None) -> Iterator[None]:
    """Fill a GPU's memory until `left` bytes are free, as on a smaller GPU; do nothing on other devices."""
    gc.collect()
    ballast = None
    if left is not None and device.startswith("cuda"):
        torch.cuda.empty_cache()
        free = free_bytes(torch.device(device)) or 0
        ballast = torch.empty(max(0, free - left), dtype=torch.uint8, device=device)
    try:
        yield
    finally:
        del ballast


def measure_speed(run: Run) -> None:
    """Draw with the app and with plain diffusers in half precision, in turn."""
    run.built("sd15")
    plain, manager = _plain(run), run.manager()
    engine, together = Engine(manager, batch_limit=1), Engine(manager, batch_limit=run.batch)
    _measure(run, [*_rows(run, engine, plain), *_rows_of_the_app(run, engine, together)])
    for each in (engine, together):
        each.close()


def measure_compiled(run: Run) -> None:
    """Compile the UNet and measure again; count recompilations for other scales, references and masks."""
    run.built("sd15")
    manager = run.manager(compile_backend="inductor" if run.device.startswith("cuda") else "eager")
    engine, compiler, since = Engine(manager), manager.get("sd15").compiler, time.monotonic()
    if compiler is None:
        raise ValueError(f"The UNet has no room on {run.device}: parts of the model take turns, and are not compiled.")
    engine.submit(run.request(SEED)).result()
    first_picture_s = time.monotonic() - since
    compiler.wait()
    run.note(first_picture_s=round(first_picture_s, 1), compiled_s=round(time.monotonic() - since, 1), graphs=_graphs())
    _measure(run, _rows(run, engine, _plain(run))[:1])
    before = _graphs()
    for fields in list(_variety(run))[:: 10 if run.tiny else 1]:
        engine.submit(run.request(SEED, **fields)).result()
        compiler.wait()
        run.note(compiled_anew=_graphs() - before)
    engine.close()


def _variety(run: Run) -> Iterator[dict[str, Any]]:
    """Yield changes that must not cause a recompilation: scales, three references, both adapters, a mask."""
    yield from ({"scale": step / 10} for step in range(1, 11))
    picture, _, _ = shape_exact.inputs(run.side)
    kinds: tuple[tuple[RegionName, ...], ...] = (("everywhere", "everywhere", "everywhere"), ("left", "right", "right"))
    for regions in kinds:
        references = tuple(Reference(image=picture.rotate(90 * n), region=each) for n, each in enumerate(regions))
        yield from ({"references": references, "adapter": adapter} for adapter in ("base", "fine"))


def _graphs() -> int:
    """Return the number of graphs compiled in this process."""
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]


def _plain(run: Run) -> Diffusers:
    from bench.published_diffusers import Diffusers

    dtype = default_dtype(run.device, exact=False)
    return Diffusers("sd15", hub("sd15", run.folder / "sd15"), device=run.device, dtype=dtype)


def _measure(run: Run, rows: list[Row]) -> None:
    figures = []
    run.note(rounds=run.rounds)
    for row in rows:
        figures.append(asdict(measured(row, run.rounds)))
        run.note(rows=figures)


def _rows(run: Run, engine: Engine, plain: Diffusers) -> list[Row]:
    """List the rows compared with plain diffusers."""
    picture, _, skeleton = shape_exact.inputs(run.side)
    shared = {"ip_adapter_image": picture, "num_inference_steps": run.steps, "guidance_scale": 7.0}
    shared |= {"width": run.side, "height": run.side}
    kinds = {0: ("base", "base"), 1: ("fine", "plus")}

    def ours(seed: int, **options: Any) -> Image.Image:
        return engine.submit(run.request(seed, **options)).result().images[0]

    def theirs(seed: int, task: str = "text_to_image", adapter: str = "base", **options: Any) -> Image.Image:
        generator = torch.Generator().manual_seed(seed)
        return plain.draw(task, adapter, 1.0, generator=generator, **{"prompt": "", **shared, **options})

    beside = f"plain diffusers, {run.steps} steps"
    return [
        Row(name="a picture after a reference", ours=ours, other=theirs, beside=beside),
        Row(
            name="words and a reference, fine-grained",
            ours=partial(ours, task="mix", prompt=PROMPT, adapter="fine"),
            other=partial(theirs, adapter="plus", prompt=PROMPT),
            beside=beside,
        ),
        Row(
            name="a pose",
            ours=partial(ours, task="pose", pose=skeleton),
            other=partial(theirs, task="pose", image=skeleton),
            beside=beside,
        ),
        Row(
            name="another adapter than the time before",
            ours=lambda seed: ours(seed, adapter=kinds[seed % 2][0]),
            other=lambda seed: theirs(seed, adapter=kinds[seed % 2][1]),
            beside=beside,
        ),
    ]


def _rows_of_the_app(run: Run, engine: Engine, together: Engine) -> list[Row]:
    """List the rows that compare two ways of the app."""

    def several(by: Engine, seed: int) -> None:
        jobs = [by.submit(run.request(run.batch * seed + number)) for number in range(run.batch)]
        for job in jobs:
            job.result()

    return [
        Row(
            name=f"{run.batch} pictures in one batch",
            ours=partial(several, together),
            other=partial(several, engine),
            beside="one by one",
        )
    ]


PARTS: Mapping[str, Part] = MappingProxyType(
    {
        "tests": Part(what="the tests that are marked gpu", limit_s=120, run=check_tests),
        "sd15": Part(what="SD 1.5 beside plain diffusers", limit_s=180, run=partial(check_shapes, family="sd15")),
        "sdxl": Part(what="SDXL beside plain diffusers", limit_s=180, run=partial(check_shapes, family="sdxl")),
        "memory": Part(what="what a model needs, with less and less memory", limit_s=180, run=check_memory),
        "speed": Part(what="how fast it draws, beside plain diffusers", limit_s=180, run=measure_speed),
        "compiled": Part(what="the same with a compiled UNet", limit_s=180, run=measure_compiled),
    }
)
"""The parts by name, the most informative first."""
