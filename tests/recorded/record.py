"""Requests of each task to the bundled model, a dozen each, and their results: `python -m tests.recorded.record`.

The record guards changes of the code: the same request, seed and weights must draw the same picture. It is renewed when
the weights or a default change, and never to make a change of the code pass.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from gradio_client import Client, handle_file
from PIL import Image

HERE = Path(__file__).parent
ASSETS = HERE.parents[1] / "assets"
BUNDLE = ASSETS / "toybox"
FILE_PARAMETERS = ("reference", "image", "mask", "pose", "start_image", "negative_reference")
CHANGING_NOTES = ("versions",)
STEPS = 4
THUMBNAIL_SIDE = 64

_FROG, _MOUSE, _RABBIT, _DOG = (f"examples/{name}.png" for name in ("frog", "mouse", "pink-rabbit", "dog"))
_DOG_MASK = "examples/dog-mask.png"
_ADAPTERS: tuple[dict[str, Any], ...] = (
    {},
    {"adapter": "fine"},
    {"scale": 0.4},
    {"adapter": "fine", "scale": 0.7, "start": 0.25, "end": 0.8},
    {"view": "pad", "negative_prompt": "a hat"},
    {"view": "tiles", "adapter": "fine"},
    {"region": "left"},
    {"negative_reference": _DOG},
    {"guidance": 1},
    {"guidance": 6, "steps": 6},
    {"count": 2},
)
_OWN: dict[str, tuple[dict[str, Any], tuple[dict[str, Any], ...]]] = {
    "variation": ({"reference": _FROG}, ({"width": 192, "height": 256},)),
    "mix": ({"prompt": "standing on the beach", "reference": _RABBIT}, ({"start_image": _MOUSE, "strength": 0.6},)),
    "inpaint": ({"image": _DOG, "mask": _DOG_MASK, "reference": _MOUSE}, ({"extend_left": 25, "mask": None},)),
    "pose": ({"pose": "poses/waving.png", "reference": _MOUSE}, ({"control_scale": 0.5, "control_end": 0.6},)),
}


def cases() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield every case: its name, the endpoint and the arguments, with files as paths below assets/."""
    for endpoint, (given, own) in _OWN.items():
        for number, changed in enumerate([*_ADAPTERS, *own]):
            yield f"{endpoint}-{number:02}", endpoint, {"steps": STEPS, "seed": 40 + number, **given, **changed}


def call(client: Client, endpoint: str, values: dict[str, Any]) -> tuple[list[Path], dict[str, Any]]:
    """Call an endpoint; return the files and the settings, without those that depend on the installed libraries."""
    sent = {
        name: handle_file(str(ASSETS / value)) if name in FILE_PARAMETERS and value else value
        for name, value in values.items()
    }
    files, settings = client.predict(**sent, api_name=f"/{endpoint}")
    return [Path(file) for file in files], {key: value for key, value in settings.items() if key not in CHANGING_NOTES}


def thumbnail_file(name: str, index: int) -> Path:
    """Return where the thumbnail of a case's picture is kept."""
    return HERE / "thumbnails" / f"{name}-{index}.webp"


def thumbnail(picture: Image.Image) -> Image.Image:
    """Return the thumbnail, whose pixels are means of the picture's."""
    return picture.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)


def digest(picture: Image.Image) -> str:
    """Return a hash of a picture's pixels."""
    return hashlib.sha256(picture.tobytes()).hexdigest()[:16]


def arithmetic() -> str:
    """Identify what the last bit of a result depends on: the processor, PyTorch and the number of threads."""
    processor = Path("/proc/cpuinfo")
    lines = processor.read_text(encoding="utf-8").splitlines() if processor.is_file() else []
    kind = "\n".join(next((line for line in lines if line.startswith(key)), "") for key in ("model name", "flags"))
    threads = torch.get_num_threads()
    return f"{hashlib.sha256(kind.encode()).hexdigest()[:16]}, torch {torch.__version__}, {threads} threads"


def main() -> None:
    """Draw all cases; save hashes and thumbnails of the pictures, the settings, and one PNG file of each task."""
    from tests.ui.serving import served

    noted: dict[str, Any] = {}
    with TemporaryDirectory() as folder, served(BUNDLE, temporary=Path(folder)) as url:
        client = Client(url, verbose=False, download_files=folder)
        for name, endpoint, values in cases():
            files, settings = call(client, endpoint, values)
            noted[name] = {"settings": settings, "digests": []}
            for index, file in enumerate(files):
                thumbnail_file(name, index).parent.mkdir(exist_ok=True)
                with Image.open(file) as image:
                    picture = image.convert("RGB")
                thumbnail(picture).save(thumbnail_file(name, index), lossless=True, method=6)
                noted[name]["digests"].append(digest(picture))
            if name.endswith("-00"):
                (HERE / "files").mkdir(exist_ok=True)
                (HERE / "files" / f"{endpoint}.png").write_bytes(files[0].read_bytes())
    record = {"arithmetic": arithmetic(), "cases": noted}
    (HERE / "record.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
