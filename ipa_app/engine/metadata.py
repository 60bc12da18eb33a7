"""What a result's file says of how it was made, and back from there to the request, whoever may have made the file.

The file holds what `metadata_of` notes and the pictures that `input_pictures` names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from ipa_app.engine.plan import Plan
from ipa_app.engine.references import LONGEST_PROMPT, MOST_REFERENCES, Reference
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.tasks import TASKS
from ipa_app.engine.tasks.task import picture_in_file
from ipa_app.engine.wording import readable
from ipa_app.errors import UserError
from ipa_app.imaging.packing import LONGEST_SIDE, pack_picture
from ipa_app.imaging.result_files import read_record
from ipa_app.models.hashing import picture_hash
from ipa_app.models.prompt_weights import escaped, without_weights
from ipa_app.options import Option, options

REFERENCE_NAMES = tuple(f"reference_{number}" for number in range(1, MOST_REFERENCES + 1))
REGION_NAMES = tuple(f"region_mask_{number}" for number in range(1, MOST_REFERENCES + 1))
INPUT_KINDS = {
    **dict.fromkeys(REFERENCE_NAMES, "reference"),
    **dict.fromkeys(REGION_NAMES, "mask"),
    **{name: option.kind for name, option in options(GenerateRequest).items() if option.is_picture},
}
"""The names of all input pictures, and what kind each is."""

STYLED = ("styled_prompt", "styled_negative_prompt")
"""What is noted of a style: the prompts as they are with it, since a file of styles may change."""
STYLED_REGIONS = "styled_region_prompts"
"""The same of the words of each reference's region, where any has some."""
_TEXTS = ("prompt", "negative_prompt")
_PIECES = re.compile(r"\w+|[^\w\s]")
_REFERENCE_NOTES = tuple(name for name, option in options(Reference).items() if not option.is_picture)
_REQUEST_FIELDS = frozenset(field.name for field in fields(GenerateRequest))
_NOT_AS_THEY_ARE = {"references", "notes", *INPUT_KINDS}
# Noted beside the request: what follows from it, or what it was drawn with.
_NOTED_BESIDE = frozenset(
    (*STYLED, STYLED_REGIONS, "seeds", "scheduler", "precision", "prompt_syntax", "versions", "withheld")
    + ("adapter_sha256",)
)
_DECIDED = ("negative_prompt", "steps", "guidance_scale", "guidance_start", "guidance_end", "width", "height")
"""What a plan decides where a request leaves it to the model."""
_BEFORE: dict[str, Any] = {"guidance_end": 1.0}
"""How was drawn what files do not say, because there was no choice when they were made."""
_SYNTAX = "weights"
"""How prompts are read. In files that do not say so they were read letter by letter, and cut after one chunk."""
_SURELY_ONE_CHUNK = 30  # pieces of a text, each of which takes a token or more

_version = cache(version)  # read from a file of the package, which stays what it is


def metadata_of(plan: Plan, *, scheduler: str, precision: str, adapter_sha256: str | None = None) -> dict[str, Any]:
    """Return every input as it was used, for JSON.

    Pictures are named by the SHA-256 of their pixels; what a task has in place of one is given whole. Without a
    reference, or with its scale at 0, the picture is plain Stable Diffusion's either way, and both are written down as
    the same: no references, scale 0. Only a request that must have references keeps them.

    Args:
        plan: what was drawn.
        scheduler: class name of the sampler.
        precision: of the weights, by torch's name.
        adapter_sha256: of the file of the adapter, where one was used.
    """
    request = plan.request
    metadata: dict[str, Any] = {name: getattr(request, name) for name in _noted_options(plan)}
    metadata |= {name: getattr(plan, name) for name in _DECIDED}
    metadata |= {
        "adapter": _noted_adapter(plan),
        "references": [noted_reference(each) for each in plan.noted_references],
        "seed": plan.seeds[0],
        "seeds": list(plan.seeds),
        "scheduler": scheduler,
        "precision": precision,
        "prompt_syntax": _SYNTAX,
        "versions": {name: _version(name) for name in ("diffusers", "torch", "transformers")},
    }
    if not plan.uses_references:
        declared = options(GenerateRequest)
        metadata |= {name: declared[name].default for name in ("start", "end", "part")} | {"scale": 0.0}
    if request.style:
        metadata |= _noted_style(plan)
    if adapter_sha256 is not None:
        metadata["adapter_sha256"] = adapter_sha256
    if plan.negative_reference is not None:
        metadata["negative_reference"] = picture_hash(plan.negative_reference)
    return metadata | {name: plan.task.noted(picture) for name, picture in plan.task.pictures(plan).items()}


def input_pictures(plan: Plan) -> dict[str, Image.Image]:
    """Name the pictures that a plan draws from: those that its metadata mentions, and no others."""
    pictures = reference_pictures(plan.noted_references)
    # Keypoints are noted whole; a picture that is only extended may have no mask.
    own = {name: picture for name, picture in plan.task.pictures(plan).items() if isinstance(picture, Image.Image)}
    away = {} if plan.negative_reference is None else {"negative_reference": plan.negative_reference}
    return pictures | own | away


def pack_inputs(pictures: Mapping[str, Image.Image]) -> dict[str, str]:
    """Write input pictures as text for a result's file, at a size that keeps the file reasonable."""
    return {name: pack_picture(image, longest=LONGEST_SIDE[INPUT_KINDS[name]]) for name, image in pictures.items()}


def reference_pictures(references: Sequence[Reference]) -> dict[str, Image.Image]:
    """Name the pictures of references, and the masks of their places, as files have them."""
    pictures = dict(zip(REFERENCE_NAMES, (each.image for each in references), strict=False))
    masks = zip(REGION_NAMES, (each.region_mask for each in references), strict=False)
    return pictures | {name: mask for name, mask in masks if mask is not None}


def read_request(path: str | Path) -> GenerateRequest:
    """Read the request that a result's file was made from.

    Large pictures come back smaller (see `packing`), defaults as the numbers that were used, and a random seed as the
    one that was drawn: the seed is this very picture's. Brackets that were read as letters come back as such.

    Args:
        path: of any file at all.

    Raises:
        UserError: it is no picture made here, damaged, or holds something that is not allowed.
    """
    return request_from(*read_record(path, names=INPUT_KINDS))


def request_from(settings: Mapping[str, Any], pictures: Mapping[str, Image.Image]) -> GenerateRequest:
    """Return the request that settings and input pictures, of any content, are of; see `read_request`.

    Raises:
        UserError: they hold something that is not allowed, or lack something.
    """
    unknown = sorted(str(name)[:30] for name in settings if name not in _REQUEST_FIELDS | _NOTED_BESIDE)
    if unknown:
        raise UserError("recipe.unknown_settings", names=", ".join(unknown[:5]))
    values = _BEFORE | {name: value for name, value in settings.items() if name in _REQUEST_FIELDS - _NOT_AS_THEY_ARE}
    if _read_by_letters(settings):
        values |= {name: escaped(values[name]) for name in _TEXTS if _has_weights(values.get(name))}
    task = TASKS.get(named) if isinstance(named := settings.get("task"), str) else None
    own = task.picture_fields(GenerateRequest) if task else ()
    beside = (*REFERENCE_NAMES, *REGION_NAMES, *own)
    noted = [name for name in INPUT_KINDS if name not in beside and settings.get(name) is not None]
    values |= {name: picture_in_file(pictures, name) for name in noted}
    if task is not None:
        values |= task.restored(settings, pictures, of=GenerateRequest)
    values["references"] = restored_references(settings.get("references"), pictures)
    try:
        return GenerateRequest(**values)
    except TypeError:
        raise _incomplete() from None


def pictures_not_as_noted(request: GenerateRequest, settings: Mapping[str, Any]) -> list[str]:
    """Name the pictures of a restored request that are no longer to the pixel what it was drawn from (see `packing`).

    Args:
        request: as it was read.
        settings: of its result, with the hashes of the pictures that it was drawn from.
    """
    noted = dict(settings)
    for picture, mask, note in zip(REFERENCE_NAMES, REGION_NAMES, settings.get("references") or (), strict=False):
        noted |= {picture: note.get("sha256"), mask: note.get("region_mask")}
    own = {name: getattr(request, name) for name in INPUT_KINDS if name in _REQUEST_FIELDS}
    pictures = {**reference_pictures(request.references), **own}
    return [
        name
        for name, picture in pictures.items()
        if isinstance(picture, Image.Image) and isinstance(sha256 := noted.get(name), str)
        # Masks were grey, and what is nowhere transparent comes back without its opacity.
        if sha256 not in {picture_hash(picture.convert(mode)) for mode in (picture.mode, "L", "RGBA")}
    ]


def without_style(request: GenerateRequest, settings: Mapping[str, Any]) -> GenerateRequest:
    """Return a restored request whose words have those of its style in them, as they were, and that names none.

    Args:
        request: as it was read.
        settings: of its result.

    Raises:
        UserError: it is not noted what the style said, or is more than a prompt may have.
    """
    styled = [settings.get(name) for name in STYLED]
    if not all(isinstance(text, str) for text in styled):
        raise _incomplete()
    references, regions = request.references, settings.get(STYLED_REGIONS)
    if any(each.has_words for each in references):
        if not isinstance(regions, list) or len(regions) != len(references):
            raise _incomplete()
        references = [replace(each, region_prompt=text) for each, text in zip(references, regions, strict=True)]
    return replace(request, style="", references=references, **dict(zip(_TEXTS, styled, strict=True)))


def may_have_been_cut(settings: Mapping[str, Any]) -> bool:
    """Return whether a result was made when the end of a long prompt was not read, and may have had such a prompt."""
    texts = [text for text in map(settings.get, _TEXTS) if isinstance(text, str)]
    return _read_by_letters(settings) and any(len(_PIECES.findall(text)) > _SURELY_ONE_CHUNK for text in texts)


def _read_by_letters(settings: Mapping[str, Any]) -> bool:
    return "prompt_syntax" not in settings


def _has_weights(text: object) -> bool:
    if not isinstance(text, str) or len(text) > LONGEST_PROMPT:
        return False  # a longer one is refused, whatever is in it
    return without_weights(readable(text)) != readable(text)


def restored_references(notes: object, pictures: Mapping[str, Image.Image]) -> tuple[Reference, ...]:
    """Put pictures and what is noted of them together, both of any content.

    Raises:
        UserError: they do not belong together, or hold something that is not allowed.
    """
    if notes is None:
        return ()
    if not isinstance(notes, list) or not all(isinstance(note, dict) and "weight" in note for note in notes):
        raise _incomplete()
    if len(notes) > MOST_REFERENCES:
        raise UserError("recipe.too_many_references", count=len(notes), most=MOST_REFERENCES)
    named = zip(REFERENCE_NAMES, REGION_NAMES, notes, strict=False)
    return tuple(
        Reference(
            image=picture_in_file(pictures, name),
            region_mask=None if note.get("region_mask") is None else picture_in_file(pictures, mask),
            **{key: note[key] for key in _REFERENCE_NOTES if key in note},
        )
        for name, mask, note in named
    )


def _noted_options(plan: Plan) -> list[str]:
    """Name the options that are written down as they were asked for: those that count for the request's task."""
    task, request = plan.task, plan.request
    return [
        name
        for name, option in options(type(request)).items()
        if task.takes(option) and not option.is_picture and _counts(option, request) and task.is_noted(option, plan)
    ]


def _counts(option: Option, instance: GenerateRequest | Reference) -> bool:
    """Whether an option says anything: what it says something of is there, and what is rare is other than usual."""
    if option.is_rare and getattr(instance, option.name) == option.default:
        return False
    return not option.beside or isinstance(getattr(instance, option.beside), Image.Image)


def noted_reference(reference: Reference) -> dict[str, Any]:
    """Return what is noted of a reference, for JSON; pictures by the hashes of their pixels."""
    declared = options(Reference).items()
    values = {
        name: getattr(reference, name)
        for name, option in declared
        if not option.is_picture and _counts(option, reference)
    }
    if reference.region_mask is not None:
        values["region_mask"] = picture_hash(reference.region_mask)
    return {"sha256": picture_hash(reference.image), **values}


def _noted_style(plan: Plan) -> dict[str, Any]:
    """Return all words as they are in the style that is asked for."""
    regions = {STYLED_REGIONS: list(plan.region_prompts)} if any(plan.region_prompts) else {}
    return {**dict(zip(STYLED, plan.prompts, strict=True)), **regions}


def _noted_adapter(plan: Plan) -> str:
    """The name of the adapter; what a visitor's own is asked for by is nobody else's business."""
    asked = plan.request.adapter
    adapter = plan.adapter or plan.entry.adapters.get(asked)
    return adapter.name if adapter else asked


def _incomplete() -> UserError:
    return UserError("recipe.incomplete")
