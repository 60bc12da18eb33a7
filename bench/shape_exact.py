"""Check that models of the published shapes load and draw here, at what cost, and draw as plain diffusers does.

    python -m bench.shape_exact sd15 [--folder DIR] [--size 256]
    python -m bench.shape_exact sdxl [--folder DIR] [--size 256]
    python -m bench.shape_exact sdxl --whole --device cuda --half

Builds the family with random weights in half precision, in the Hub's file layout (see `published`; about 5 GB), unless
the folder already contains it. Then two processes, one after the other, draw the same pictures in single precision: the
app through its ordinary ModelManager and Engine, and plain diffusers. Inpainting is timed but not compared, as the app
draws only the hole and its surroundings, enlarged, and pastes them back. SD 1.5 is built whole and needs 12 GB of
memory; SDXL has narrower blocks but all layers, and its adapters are also built at full size, to check that they load.

With `--half` both draw in half precision, as on a GPU, and plain diffusers also in single precision: the app must be as
close to that as plain diffusers in half precision is. SDXL with `--whole` takes 13 GB of disk and 20 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from ipa_app.models.entry import ModelEntry

STEPS, GUIDANCE, SEED = 2, 7.0, 5
TASKS = ("variation", "mix", "inpaint", "pose")
COMPARED = ("variation", "mix", "pose")
MOST_LEVELS = 2
"""Largest difference allowed for a pixel in single precision, of 255."""
PROMPT = "a toy on the beach"
_MARKER = "FIGURES "
_BOTH = ("app", "diffusers")


def main(arguments: Sequence[str] | None = None) -> None:
    """Build, draw with both, and print the cost of each; exit with an error if the pictures differ."""
    options = parse_options(arguments)
    if options.draw:
        figures = draw_with_app(options) if options.draw == "app" else draw_with_diffusers(options)
        print(_MARKER + json.dumps(figures))
        return
    if options.folder is not None:
        agree = compare(options, options.folder)["agree"]
    else:
        with tempfile.TemporaryDirectory(prefix="shape-exact-") as folder:
            agree = compare(options, Path(folder))["agree"]
    if not agree:
        raise SystemExit("The pictures differ from those of plain diffusers.")


def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Build the family if missing, draw with both, and print the table.

    Returns:
        "figures": cost of each, by program; "differences": by task, see `difference`; "agree": whether they agree.
    """
    ensure(options, folder)
    figures = {who: _run(options, folder, who) for who in (("app", "diffusers", "single") if options.half else _BOTH)}
    print(table(figures))
    if not options.half:
        differences = {task: difference(folder, task) for task in COMPARED}
        print(f"largest difference of a pixel, of 255: {_listed(differences)}")
        return {"figures": figures, "differences": differences, "agree": max(differences.values()) <= MOST_LEVELS}
    ours, theirs = (
        {task: mean_difference(folder, task, who, "single") for task in COMPARED} for who in ("app", "diffusers")
    )
    print(f"mean difference from single precision, of 255: the app's {_listed(ours)}")
    print(f"mean difference from single precision, of 255: plain diffusers' {_listed(theirs)}")
    agree = all(is_as_close(ours[task], theirs[task]) for task in COMPARED)
    return {"figures": figures, "differences": {"app": ours, "diffusers": theirs}, "agree": agree}


def is_as_close(ours: float, theirs: float) -> bool:
    """Whether the app in half precision is as close to single precision as plain diffusers in half precision.

    Different orders of the same sums round differently, so a quarter more, plus a twentieth of a level, is tolerated.
    """
    return ours <= 1.25 * theirs + 0.05


def ensure(options: argparse.Namespace, folder: Path) -> None:
    """Build the family if missing."""
    from bench.published import hub

    if not (hub(options.family, folder).model / "model_index.json").is_file():
        started = time.monotonic()
        build(options, folder)
        print(f"built in {time.monotonic() - started:.0f} s: {_size(folder) / 1e9:.1f} GB", flush=True)


def build(options: argparse.Namespace, folder: Path) -> None:
    """Write the family; for SDXL also check its adapters at full size, which the narrower model cannot use."""
    from bench.published import PUBLISHED, PUBLISHED_PARAMETERS, SIZES, write

    def say(line: str) -> None:
        name, _, parameters = line.partition(": ")
        print(f"  {line}", flush=True)
        is_whole = options.family == "sd15" and not options.tiny
        if is_whole and name in PUBLISHED_PARAMETERS and parameters != f"{PUBLISHED_PARAMETERS[name]:,} parameters":
            raise SystemExit(f"The published {name} has {PUBLISHED_PARAMETERS[name]:,} parameters.")

    widths = PUBLISHED[options.family] if options.whole and not options.tiny else SIZES[options.family, options.tiny]
    write(options.family, folder, widths=widths, device=options.device, say=say)
    if options.family == "sdxl" and not (options.tiny or options.whole):
        check_full_adapters(folder)


def check_full_adapters(folder: Path) -> None:
    """Write SDXL's adapters at full size, read them, and check them against the full UNet and ViT-H."""
    import torch
    from diffusers import UNet2DConditionModel
    from transformers import CLIPVisionConfig

    from bench.published import PUBLISHED, hub, unet_config, write_adapters
    from ipa_app.adapter import attention_layers, check_base, check_encoder, read_adapter

    full = PUBLISHED["sdxl"]
    config = unet_config("sdxl", full)
    places = hub("sdxl", folder / "full-size")
    vision = CLIPVisionConfig.from_pretrained(hub("sdxl", folder).image_encoder)
    write_adapters(places, config, vision, resampler_heads=full.resampler_heads)
    with torch.device("meta"):
        layers = attention_layers(UNet2DConditionModel(**config))
    for name in (places.base, places.plus):
        path = places.adapters / name
        file = read_adapter(path)
        check_base(file, layers)
        check_encoder(file, vision)
        parameters = sum(tensor.numel() for tensor in file.tensors.values())
        print(
            f"  {path.name} at full size: {parameters:,} parameters, {path.stat().st_size / 1e6:.1f} MB, fits",
            flush=True,
        )
        del file
        path.unlink()


def published_entry(family: str, folder: Path, *, side: int) -> ModelEntry:
    """Return the catalogue entry of a built family, for pictures of `side` pixels."""
    from bench.published import hub
    from ipa_app.models.adapters import usual_adapter
    from ipa_app.models.catalog import ModelEntry
    from ipa_app.models.controlnets import usual_controlnet

    places = hub(family, folder)
    return ModelEntry(
        name=family,
        title=family,
        location=places.model,
        adapters={
            "base": usual_adapter("base", places.adapters / places.base),
            "fine": usual_adapter("plus", places.adapters / places.plus),
        },
        image_encoder=places.image_encoder,
        controlnets={"pose": usual_controlnet("pose", places.controlnet)},
        width=side,
        height=side,
    )


def draw_with_app(options: argparse.Namespace) -> dict[str, float]:
    """Draw every task with the app."""
    import torch  # noqa: F401 - imports do not count as loading time

    import ipa_app.engine.prepared
    import ipa_app.models.loading  # noqa: F401
    from ipa_app.engine.engine import Engine
    from ipa_app.engine.requests import GenerateRequest, Reference
    from ipa_app.models.manager import ModelManager
    from ipa_app.ui.about import memory_text

    side = options.size
    entry = published_entry(options.family, options.folder, side=side)
    manager = ModelManager({entry.name: entry}, device=options.device, exact=not options.half)
    engine = Engine(manager)
    started = time.monotonic()
    manager.get(entry.name)
    figures = {"load": time.monotonic() - started}
    picture, mask, skeleton = inputs(side)
    shared = {"model": entry.name, "seed": SEED, "steps": STEPS, "guidance_scale": GUIDANCE}
    own: dict[str, dict[str, Any]] = {
        "variation": {},
        "mix": {"prompt": PROMPT, "adapter": "fine", "scale": 0.6},
        "inpaint": {"image": picture, "mask": mask},
        "pose": {"pose": skeleton},
    }
    for task in TASKS:
        request = GenerateRequest(task=task, references=(Reference(image=picture),), **shared, **own[task])
        _timed(figures, task, options.folder, "app", lambda request=request: engine.submit(request).result().images[0])
    print(memory_text(manager.get(entry.name).memory))
    engine.close()
    return figures | {"peak_gb": _peak(options) / 1e9}


def draw_with_diffusers(options: argparse.Namespace) -> dict[str, float]:
    """Draw the same with plain diffusers, including its way of switching tasks and adapters."""
    import torch

    from bench.published import hub
    from bench.published_diffusers import Diffusers
    from ipa_app.models.memory import default_dtype

    places, side = hub(options.family, options.folder), options.size
    is_half = options.half and options.draw != "single"
    dtype = default_dtype(options.device, exact=False) if is_half else torch.float32
    torch.backends.cudnn.allow_tf32 = False  # it has fewer digits than single precision
    started = time.monotonic()
    plain = Diffusers(options.family, places, device=options.device, dtype=dtype)
    figures = {"load": time.monotonic() - started}
    picture, mask, skeleton = inputs(side)
    noise = torch.randn((1, 4, side // 8, side // 8), generator=torch.Generator().manual_seed(SEED)).to(dtype)
    shared = {"ip_adapter_image": picture, "num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "latents": noise}
    shared |= {"width": side, "height": side}
    own: dict[str, Callable[[], Image.Image]] = {
        "variation": lambda: plain.draw("text_to_image", "base", 1.0, prompt="", **shared),
        "mix": lambda: plain.draw("text_to_image", "plus", 0.6, prompt=PROMPT, **shared),
        "inpaint": lambda: plain.draw(
            "inpaint", "base", 1.0, prompt="", image=picture, mask_image=mask, strength=1.0, **shared
        ),
        "pose": lambda: plain.draw("pose", "base", 1.0, prompt="", image=skeleton, **shared),
    }
    for task in TASKS:
        _timed(figures, task, options.folder, options.draw or "diffusers", own[task])
    return figures | {"peak_gb": _peak(options) / 1e9}


def inputs(side: int) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Return a square picture, a mask and a skeleton, the same every time."""
    from ipa_app.pose.draw import draw_skeleton
    from ipa_app.pose.presets import presets

    ramp = np.linspace(0, 255, side, dtype=np.uint8)
    picture = np.stack(
        [np.tile(ramp, (side, 1)), np.tile(ramp[:, None], (1, side)), np.full((side, side), 90)], axis=-1
    )
    mask = Image.new("L", (side, side))
    mask.paste(255, (side // 4, side // 4, side * 3 // 4, side * 3 // 4))
    skeleton = draw_skeleton(next(iter(presets().values())), (side, side))
    return Image.fromarray(picture.astype(np.uint8)), mask, skeleton


def difference(folder: Path, task: str) -> int:
    """Return the largest pixel difference between the app's picture and that of plain diffusers."""
    return int(_distance(folder, task, "app", "diffusers").max())


def mean_difference(folder: Path, task: str, one: str, other: str) -> float:
    """Return the mean pixel difference of a task's pictures by two programs."""
    return round(float(_distance(folder, task, one, other).mean()), 3)


def _distance(folder: Path, task: str, one: str, other: str) -> np.ndarray:
    first, second = (np.asarray(Image.open(folder / f"{who}-{task}.png"), int) for who in (one, other))
    return np.abs(first - second)


def _listed(differences: dict[str, Any]) -> str:
    return ", ".join(f"{task} {value}" for task, value in differences.items())


def table(figures: dict[str, dict[str, float]]) -> str:
    """Format the cost of each in seconds and GB."""
    rows = ("load", *TASKS, "peak_gb")
    lines = [f"{'':14}" + "".join(f"{who:>12}" for who in figures)]
    for row in rows:
        name = "peak memory" if row == "peak_gb" else row
        unit = "GB" if row == "peak_gb" else "s"
        lines.append(f"{name:14}" + "".join(f"{values[row]:>9.1f} {unit:2}" for values in figures.values()))
    return "\n".join(lines)


def _run(options: argparse.Namespace, folder: Path, who: str) -> dict[str, float]:
    """Draw with one program in its own process, so that its peak memory is separate."""
    command = [sys.executable, "-m", "bench.shape_exact", options.family, "--folder", str(folder)]
    command += ["--size", str(options.size), "--device", options.device, "--draw", who]
    command += ["--half"] if options.half else []
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment, check=False)
    told = [line for line in done.stdout.splitlines() if not line.startswith(_MARKER)]
    print("\n".join(f"{who}: {line}" for line in told), flush=True)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stderr[-4000:]}")
    line = next(line for line in done.stdout.splitlines() if line.startswith(_MARKER))
    return json.loads(line.removeprefix(_MARKER))


def _peak(options: argparse.Namespace) -> int:
    """Return the peak memory in bytes: of the GPU, or else of the process."""
    import torch

    from ipa_app.models.memory import peak_of_process

    return torch.cuda.max_memory_allocated() if options.device.startswith("cuda") else peak_of_process()


def _timed(figures: dict[str, float], task: str, folder: Path, who: str, draw: Callable[[], Image.Image]) -> None:
    started = time.monotonic()
    image = draw()
    figures[task] = time.monotonic() - started
    image.save(folder / f"{who}-{task}.png")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=["sd15", "sdxl"])
    parser.add_argument(
        "--folder", type=Path, help="where to build models and keep them; by default a temporary folder"
    )
    parser.add_argument("--size", type=int, default=256, help="side of the pictures in pixels")
    parser.add_argument("--tiny", action="store_true", help="narrow models: seconds instead of minutes")
    parser.add_argument("--whole", action="store_true", help="SDXL at its published size, too")
    parser.add_argument("--device", default="cpu", help="torch device on which everything is made and drawn")
    parser.add_argument("--half", action="store_true", help="also in half precision, not only in single precision")
    parser.add_argument("--draw", choices=["app", "diffusers", "single"], help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
