"""Read the generation settings that other programs write into their pictures.

The package sd-parsers parses the programs' notes, except ComfyUI's (see `comfyui`). Finding the notes in a file is done
here: sd-parsers looks in fewer places, and carries over what it found last to the next picture.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image
from sd_parsers.data import Generators, Prompt, PromptInfo, Sampler
from sd_parsers.exceptions import ParserError
from sd_parsers.parsers import AUTOMATIC1111Parser, FooocusParser, InvokeAIParser, NovelAIParser

from ipa_app.imaging.comfyui import Graph, GraphParser, size_of
from ipa_app.imaging.formats import check_parts

BESIDE = ("lora", "controlnet", "reference", "start", "enlarged", "embedding", "refiner", "style")
"""What a picture may have been made with besides text: LoRAs, ControlNets, image prompts, an initial picture,
upscaling, textual inversions, a refiner for the last steps, and ready-made styles."""

logger = logging.getLogger(__name__)

_FORMATS = ("PNG", "JPEG", "WEBP")
_LAST_LINE = "Steps: "  # of AUTOMATIC1111's notes
_NEGATIVE = r"Negative\sprompt:"
_HIDDEN_COLON = "\ufdd0"  # no character, so in no prompt: Unicode reserves it for use within a program
_LARGEST_FILE = 64 * 2**20
# Graphs may contain pictures. What sd-parsers searches with regular expressions of quadratic cost, blocking all other
# threads, is text and a line of settings; "Dream" and "Source" are one short line.
_LONGEST_NOTE = 4 * 2**20
_LONGEST_NOTES = {"parameters": 32 * 2**10, "Dream": 4 * 2**10, "Source": 2**10}
_LONGEST_NAME = 100
# No program has a seed of more than 64 bits.
_LARGEST_WHOLE = 2**64
# To read notes behind the pixels, the pixels are decoded too.
_MOST_PIXELS = 50_000_000
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, KeyError, RecursionError, Image.DecompressionBombError)
_KEYS = ("parameters", "prompt", "invokeai_metadata", "sd-metadata", "Dream", "Comment")
_GRAPH_TAGS = (ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model)
_PARSERS = (FooocusParser, AUTOMATIC1111Parser, GraphParser, InvokeAIParser, NovelAIParser)

# Signs of what was used besides text, by the names of `OtherSettings.beside`: in AUTOMATIC1111's last line, in the
# classes of ComfyUI's nodes, and the keys that the others use.
_IN_LINE = {
    "lora": r"Lora\shashes:",
    "controlnet": r"ControlNet\s\d+:",
    "start": r"Mask\sblur:|^(?!.*Hires\s).*Denoising\sstrength:",
    "enlarged": r"Hires\s(?:upscale|resize|steps):",
    "embedding": r"TI\shashes:",
    "refiner": "Refiner:",
}
_IN_GRAPH = {
    "lora": "lora",
    "controlnet": "controlnet",
    "reference": "ip-?adapter|unclip|stylemodel|revision",
    "start": "^loadimage",
    "enlarged": "upscale",
    "refiner": "refiner",
}
_UNDER_KEYS = {
    "lora": ("loras", "lora_combined_1"),
    "controlnet": ("controlnets", "t2iAdapters", "controlLayers"),
    "reference": ("ipAdapters",),
    "start": ("init_image",),
    "enlarged": ("hrf_enabled",),
    "refiner": ("refiner_model",),
    "style": ("styles", "positive_style_prompt"),
}
_NOTHING = (None, False, "", "None", "[]", [], {})


@dataclass(frozen=True, kw_only=True)
class OtherSettings:
    """How a picture was made elsewhere. Unknown values are None or empty.

    Attributes:
        program: the program that wrote it.
        prompt: the prompt.
        negative_prompt: the negative prompt.
        seed: of the noise; some programs allow larger seeds than this one.
        steps: denoising steps.
        guidance_scale: classifier-free guidance.
        size: (width, height) in pixels of the first pass.
        model: name of the checkpoint.
        sampler: name of the sampler, with its schedule.
        beside: what was used besides text, by the names of `BESIDE`.
        samplers: number of samplers the picture went through.
        taken_from: the sampler described here, if there are several.
    """

    program: str
    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    size: tuple[int, int] | None = None
    model: str | None = None
    sampler: str | None = None
    beside: tuple[str, ...] = ()
    samplers: int = 1
    taken_from: str = ""


def read_other(path: str | Path) -> OtherSettings | None:
    """Read how a picture was made by AUTOMATIC1111, Forge, ComfyUI, Fooocus or InvokeAI.

    Args:
        path: of any file.

    Returns:
        None for any other file.
    """
    try:
        notes = _notes(path)
    except _UNREADABLE:
        return None
    for parser in _PARSERS:
        try:
            reader = parser()
            info = reader.parse(dict(notes))
            return _settings(info, notes, reader.graph if isinstance(reader, GraphParser) else {})
        except ParserError:
            continue
        except Exception:  # noqa: BLE001 - the file is untrusted, and sd-parsers trusts it
            logger.info("%s could not be read by %s", path, parser.__name__, exc_info=True)
    return None


def _notes(path: str | Path) -> dict[str, Any]:
    """Read all of a file's notes, under the names that sd-parsers expects."""
    if Path(path).stat().st_size > _LARGEST_FILE:
        raise ValueError("far too large")
    with Path(path).open("rb") as file:
        check_parts(file)
        with Image.open(file, formats=_FORMATS) as image:
            is_silent = image.format == "PNG" and not any(key in image.info for key in _KEYS)
            if is_silent and image.width * image.height <= _MOST_PIXELS:
                image.load()  # a PNG's notes may stand behind its pixels
            notes = {str(key): value for key, value in image.info.items() if isinstance(value, str)}
            notes |= _from_exif(image)
    return _of_bearable_length(_named(_of_bearable_length(notes, {})), _LONGEST_NOTES)


def _of_bearable_length(notes: dict[str, Any], most: Mapping[str, int]) -> dict[str, Any]:
    """Drop notes that are longer than any program writes."""
    return {
        key: text
        for key, text in notes.items()
        if not isinstance(text, str) or len(text) <= most.get(key, _LONGEST_NOTE)
    }


def _from_exif(image: Image.Image) -> dict[str, str]:
    """Read the comment, and the tags in which ComfyUI stores its graphs as "prompt:{...}"."""
    try:
        exif = image.getexif()
        comments = [tags.get(ExifTags.Base.UserComment) for tags in (exif.get_ifd(ExifTags.IFD.Exif), exif)]
        described = [str(exif.get(tag, "")) for tag in _GRAPH_TAGS]
    except Exception:
        # Damaged EXIF data holds no information, and Pillow raises anything for it.
        return {}
    found = {}
    for each in described:
        name, colon, text = each.partition(":")
        if colon and name.lower() == "prompt":
            found["prompt"] = text.rstrip("\0")
    comment = next(filter(None, comments), None)
    if comment is not None:
        found["parameters"] = _comment_text(comment)
    return found


def _comment_text(comment: bytes | str) -> str:
    """Decode a comment, which starts with its encoding's name in eight bytes; not all programs write that."""
    # If declared as ASCII, Pillow decodes each byte as a character, though programs write UTF-8.
    data = comment if isinstance(comment, bytes) else comment.encode("latin-1", "ignore")
    if data.startswith(b"UNICODE\0"):
        text = data[8:]
        # Both byte orders are in use. In most languages the high byte is 0.
        little = text[1::2].count(0) > text[::2].count(0)
        return text.decode("utf-16-le" if little else "utf-16-be", "replace").rstrip("\0")
    return data[8 if data.startswith((b"ASCII\0\0\0", b"\0" * 8)) else 0 :].decode("utf-8", "replace").rstrip("\0")


def _named(notes: dict[str, Any]) -> dict[str, Any]:
    """Return a comment's content under the names that it has elsewhere."""
    text = notes.get("parameters", "")
    if text.lstrip().startswith("{"):
        data = json.loads(text)
        if isinstance(data, dict) and isinstance(data.get("prompt"), dict):
            return {**data, "prompt": json.dumps(data["prompt"])}
    invoke = notes.get("invokeai_metadata")
    if invoke is not None:
        # sd-parsers rejects notes without a sampler, which some models do not let users choose.
        notes = {**notes, "invokeai_metadata": json.dumps({"scheduler": "", **json.loads(invoke)})}
    return {**notes, "parameters": _without_traps(text)} if text else notes


def _without_traps(text: str) -> str:
    """Remove from AUTOMATIC1111's notes what confuses sd-parsers, and hide what must stay; see `_revealed`.

    It also splits at commas and colons in quotation marks, and at "Negative prompt:" anywhere.
    """
    first, *more = re.split(rf"^{_NEGATIVE}", text, flags=re.MULTILINE)
    negative = _hidden("".join(more)).lstrip(" ")
    text = _hidden(first) + (f"Negative prompt: {negative}" if more else "")
    lines = [_unquoted(line) if line.startswith(_LAST_LINE) else line for line in text.splitlines()]
    return "\n".join(lines)


def _hidden(text: str) -> str:
    return re.sub(_NEGATIVE, lambda words: f"{words[0][:-1]}{_HIDDEN_COLON}", text)


def _revealed(prompts: Sequence[Prompt]) -> str:
    """Join prompts, with the words in them that were hidden from sd-parsers."""
    return ", ".join(prompt.value for prompt in prompts).replace(_HIDDEN_COLON, ":")


def _unquoted(line: str) -> str:
    return re.sub(r'(?<=: )"(?:\\.|[^"\\])*"', lambda value: re.sub("[,:]", " ", value[0].strip('"')), line)


def _settings(info: PromptInfo, notes: Mapping[str, Any], graph: Graph) -> OtherSettings:
    if not info.samplers:
        raise ParserError("no sampler found")
    sampler = info.samplers[0]
    values = sampler.parameters
    several = len(info.samplers) > 1
    return OtherSettings(
        program=info.generator.value,
        prompt=_revealed(sampler.prompts),
        negative_prompt=_revealed(sampler.negative_prompts),
        seed=_whole(values.get("seed", values.get("noise_seed"))),
        steps=_whole(values.get("steps", info.metadata.get("steps"))),
        guidance_scale=_number(values.get("cfg_scale")),
        size=_pair(size_of(graph, str(sampler.sampler_id))) if graph else _size(info.metadata),
        model=_model(sampler, notes),
        sampler=_sampler_name(sampler),
        beside=_used_beside(info, notes, graph),
        samplers=len(info.samplers),
        taken_from=_name(f"{graph[str(sampler.sampler_id)]['class_type']} {sampler.sampler_id}")
        if several and graph
        else "",
    )


def _model(sampler: Sampler, notes: Mapping[str, Any]) -> str | None:
    if sampler.model is not None:
        return _name(sampler.model.name)
    invoke = json.loads(notes.get("invokeai_metadata", "{}")).get("model")
    return _name(invoke["name"]) if isinstance(invoke, dict) and "name" in invoke else None


def _sampler_name(sampler: Sampler) -> str | None:
    schedule = sampler.parameters.get("scheduler")
    if not sampler.name:
        return None
    return _name(f"{sampler.name} ({schedule})" if schedule else sampler.name)


def _name(value: Any) -> str:
    """Return a name as text, whatever its type, shortened to fit in a sentence."""
    text = str(value)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


def _used_beside(info: PromptInfo, notes: Mapping[str, Any], graph: Graph) -> tuple[str, ...]:
    if info.generator == Generators.AUTOMATIC1111:
        line = next((line for line in notes["parameters"].splitlines() if line.startswith(_LAST_LINE)), "")
        found = {name for name, sign in _IN_LINE.items() if re.search(sign, line, re.IGNORECASE)}
        before = (value.rpartition("ip-adapter")[0] for value in line.lower().split(","))
        if any(re.search(_IN_LINE["controlnet"], each, re.IGNORECASE) for each in before):
            found.add("reference")
    elif graph:
        classes = [node["class_type"].lower() for node in graph.values()]
        found = {name for name, sign in _IN_GRAPH.items() if any(re.search(sign, each) for each in classes)}
    else:
        kept = {name: [info.metadata.get(key) for key in keys] for name, keys in _UNDER_KEYS.items()}
        found = {name for name, values in kept.items() if any(value not in _NOTHING for value in values)}
    return tuple(name for name in BESIDE if name in found)


def _size(metadata: Mapping[Any, Any]) -> tuple[int, int] | None:
    """Read a size in any program's form: "512x512", "(512, 512)", or two numbers."""
    pair = f"{metadata.get('width')}x{metadata.get('height')}"
    found = re.fullmatch(r"\(?(\d+)\s*[x,]\s*(\d+)\)?", str(metadata.get("Size") or metadata.get("resolution") or pair))
    return _pair(found.groups() if found else None)


def _pair(sides: Sequence[Any] | None) -> tuple[int, int] | None:
    width, height = map(_whole, sides or (None, None))
    return (width, height) if width is not None and height is not None else None


def _whole(value: Any) -> int | None:
    try:
        whole = int(str(value))
    except ValueError:
        number = _number(value)
        if number is None or number % 1:
            return None
        whole = int(number)
    return whole if abs(whole) <= _LARGEST_WHOLE else None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
