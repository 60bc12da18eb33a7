"""Pictures with the metadata other programs write, made here after those programs' source code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from ipa_app.imaging.other_programs import OtherSettings, read_other

PICTURE = Image.new("RGB", (16, 16), (200, 120, 60))

INFO = (
    "Steps: 24, Sampler: Euler a, Schedule type: Karras, CFG scale: 6.5, Seed: 4242, Size: 512x384, "
    "Model hash: 0123456789, Model: mymodel, Version: v1.10.1"
)
INFOTEXT = f"a fox in a blue coat\nNegative prompt: blurry\n{INFO}"

FOOOCUS = {
    "base_model": "mymodelXL",
    "base_model_hash": "0123456789",
    "full_negative_prompt": ["blurry"],
    "full_prompt": ["a fox in a blue coat"],
    "guidance_scale": 4,
    "loras": [],
    "metadata_scheme": "fooocus",
    "negative_prompt": "blurry",
    "performance": "Speed",
    "prompt": "a fox in a blue coat",
    "refiner_model": "None",
    "resolution": "(512, 384)",
    "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras",
    "seed": "4242",
    "sharpness": 2,
    "steps": 30,
    "styles": "[]",
    "version": "Fooocus v2.5.5",
}

INVOKE = {
    "app_version": "5.0.0",
    "generation_mode": "txt2img",
    "positive_prompt": "a fox in a blue coat",
    "negative_prompt": "blurry",
    "width": 512,
    "height": 384,
    "seed": 4242,
    "cfg_scale": 7.5,
    "steps": 30,
    "scheduler": "euler",
    "model": {"key": "k", "hash": "h", "name": "mymodel", "base": "sd-1", "type": "main"},
}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


COMFY = {
    "3": node(
        "KSampler",
        seed=4242,
        steps=20,
        cfg=7.5,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
        model=["4", 0],
        positive=["6", 0],
        negative=["7", 0],
        latent_image=["5", 0],
    ),
    "4": node("CheckpointLoaderSimple", ckpt_name="models/mymodel.safetensors"),
    "5": node("EmptyLatentImage", width=512, height=384, batch_size=1),
    "6": node("CLIPTextEncode", text="a fox in a blue coat", clip=["4", 1]),
    "7": node("CLIPTextEncode", text="blurry", clip=["4", 1]),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", filename_prefix="x", images=["8", 0]),
}

# The settings read from them.
FOX = {"prompt": "a fox in a blue coat", "negative_prompt": "blurry", "seed": 4242, "size": (512, 384)}
OF_COMFY = {
    **FOX,
    "steps": 20,
    "guidance_scale": 7.5,
    "model": "models/mymodel.safetensors",
    "sampler": "euler (normal)",
}


def comfy(**changes: Any) -> dict[str, Any]:
    """Return the simple graph with nodes changed: None removes a node, a name like "3__seed" changes one input."""
    graph = json.loads(json.dumps(COMFY))
    for name, value in changes.items():
        key, _, field = name.lstrip("_").partition("__")
        if field:
            graph[key]["inputs"][field] = value
        else:
            graph[key] = value
    return {key: value for key, value in graph.items() if value is not None}


def png(path: Path, *, behind: bool = False, **notes: Any) -> Path:
    """Write a PNG with text notes, values other than text as JSON; `behind` puts the notes after the pixels."""
    info = PngInfo()
    for key, value in notes.items():
        info.add_itxt(key.replace("_metadata_", "-"), value if isinstance(value, str) else json.dumps(value))
    PICTURE.save(path, pnginfo=info)
    if behind:
        chunks = _chunks(path.read_bytes())
        chunks.sort(key=lambda chunk: (chunk[4:8] == b"IEND", chunk[4:8] in (b"tEXt", b"iTXt")))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


def exif(path: Path, comment: bytes | str | None = None, *, whole: bool = True, **tags: str) -> Path:
    """Write a JPEG or WebP with tags and a comment, in the Exif IFD as cameras do or (not `whole`) in the first IFD."""
    written = Image.Exif()
    place: Any = written.get_ifd(ExifTags.IFD.Exif) if whole else written
    if comment is not None:
        place[ExifTags.Base.UserComment] = comment
    for name, text in tags.items():
        written[ExifTags.Base[name]] = text
    PICTURE.save(path, exif=written)
    return path


def unicode_comment(text: str, encoding: str = "utf-16-be") -> bytes:
    return b"UNICODE\0" + text.encode(encoding)


def _chunks(data: bytes) -> list[bytes]:
    place, chunks = 8, []
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big") + 12
        chunks.append(data[place : place + length])
        place += length
    return chunks


def without(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def read(path: Path) -> OtherSettings:
    settings = read_other(path)
    assert settings is not None
    return settings


def compare(settings: OtherSettings, program: str, expected: dict[str, Any]) -> None:
    assert settings == OtherSettings(program=program, **expected)
