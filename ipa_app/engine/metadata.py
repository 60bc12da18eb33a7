"""The record in a result's file of how it was made, and restoring the request from it. Files are not trusted.

The file holds what `metadata_of` returns and the pictures that `input_pictures` returns.
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
"""What is recorded of a style: the styled prompts, since a file of styles may change."""
STYLED_REGIONS = "styled_region_prompts"
"""The same for the words of each reference's region, if any has some."""
_TEXTS = ("prompt", "negative_prompt")
_PIECES = re.compile(r"\w+|[^\w\s]")
_REFERENCE_NOTES = tuple(name for name, option in options(Reference).items() if not option.is_picture)
_REQUEST_FIELDS = frozenset(field.name for field in fields(GenerateRequest))
_NOT_AS_THEY_ARE = {"references", "notes", *INPUT_KINDS}
# Recorded beside the request: what follows from it, or what it was drawn with.
_NOTED_BESIDE = frozenset(
    (*STYLED, STYLED_REGIONS, "seeds", "scheduler", "precision", "prompt_syntax", "versions", "withheld")
    + ("adapter_sha256",)
)
_DECIDED = ("negative_prompt", "steps", "guidance_scale", "guidance_start", "guidance_end", "width", "height")
"""What the plan decides where a request leaves it to the model."""
_BEFORE: dict[str, Any] = {"guidance_end": 1.0}
"""Values for what older files do not record, because there was no choice when they were made."""
_SYNTAX = "weights"
"""How prompts are read. Where a file does not record it, they were read literally and cut after one chunk."""
_SURELY_ONE_CHUNK = 30  # pieces of a text, each of which takes a token or more

_version = cache(version)  # read from a file of the package, which does not change


def metadata_of(plan: Plan, *, scheduler: str, precision: str, adapter_sha256: str | None = None) -> dict[str, Any]:
    """Return every input as it was used, for JSON.

    Pictures are identified by the SHA-256 of their pixels; what a task has in place of one is recorded whole. Without a
    reference, or at scale 0, the picture is plain Stable Diffusion's either way, and both are recorded alike: no
    references, scale 0. Only a request that must have references keeps them.

    Args:
        plan: what was drawn.
        scheduler: class name of the scheduler.
        precision: of the weights, by PyTorch's name.
        adapter_sha256: of the adapter's file, if one was used.
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
    """Return, by name, the pictures that a plan draws from: exactly those that its metadata mentions."""
    pictures = reference_pictures(plan.noted_references)
    # Keypoints are recorded whole; a picture that is only extended may have no mask.
    own = {name: picture for name, picture in plan.task.pictures(plan).items() if isinstance(picture, Image.Image)}
    away = {} if plan.negative_reference is None else {"negative_reference": plan.negative_reference}
    return pictures | own | away


def pack_inputs(pictures: Mapping[str, Image.Image]) -> dict[str, str]:
    """Encode input pictures as text for a result's file, reduced so that the file stays reasonably small."""
    return {name: pack_picture(image, longest=LONGEST_SIDE[INPUT_KINDS[name]]) for name, image in pictures.items()}


def reference_pictures(references: Sequence[Reference]) -> dict[str, Image.Image]:
    """Return the pictures of references and their region masks, by the names that files use."""
    pictures = dict(zip(REFERENCE_NAMES, (each.image for each in references), strict=False))
    masks = zip(REGION_NAMES, (each.region_mask for each in references), strict=False)
    return pictures | {name: mask for name, mask in masks if mask is not None}


def read_request(path: str | Path) -> GenerateRequest:
    """Read the request that a result's file was made from.

    Large pictures come back smaller (see `packing`), defaults as the numbers that were used, and the seed as that of
    this very picture. Brackets that were read literally come back escaped.

    Args:
        path: of any file at all.

    Raises:
        UserError: it is not a picture made here, is damaged, or holds something that is not allowed.
    """
    return request_from(*read_record(path, names=INPUT_KINDS))


def request_from(settings: Mapping[str, Any], pictures: Mapping[str, Image.Image]) -> GenerateRequest:
    """Restore the request from settings and input pictures, neither of them trusted; see `read_request`.

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
    """Name the pictures of a restored request that are not pixel-identical to those it was drawn from (see `packing`).

    Args:
        request: the restored request.
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
        # Masks were greyscale, and a picture that is opaque everywhere comes back without an alpha channel.
        if sha256 not in {picture_hash(picture.convert(mode)) for mode in (picture.mode, "L", "RGBA")}
    ]


def without_style(request: GenerateRequest, settings: Mapping[str, Any]) -> GenerateRequest:
    """Return a restored request with the recorded words of its style written into its prompts, and no style.

    Args:
        request: the restored request.
        settings: of its result.

    Raises:
        UserError: the styled prompts are not recorded, or are longer than a prompt may be.
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
    """Whether a result was made when the end of a long prompt was not read, and may have had such a prompt."""
    texts = [text for text in map(settings.get, _TEXTS) if isinstance(text, str)]
    return _read_by_letters(settings) and any(len(_PIECES.findall(text)) > _SURELY_ONE_CHUNK for text in texts)


def _read_by_letters(settings: Mapping[str, Any]) -> bool:
    return "prompt_syntax" not in settings


def _has_weights(text: object) -> bool:
    if not isinstance(text, str) or len(text) > LONGEST_PROMPT:
        return False  # a longer one is refused, whatever is in it
    return without_weights(readable(text)) != readable(text)


def restored_references(notes: object, pictures: Mapping[str, Image.Image]) -> tuple[Reference, ...]:
    """Restore references from their records and pictures, neither of them trusted.

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
    """Name the options that are recorded as requested: those that count for the request's task."""
    task, request = plan.task, plan.request
    return [
        name
        for name, option in options(type(request)).items()
        if task.takes(option) and not option.is_picture and _counts(option, request) and task.is_noted(option, plan)
    ]


def _counts(option: Option, instance: GenerateRequest | Reference) -> bool:
    """Whether an option is worth recording: its picture, if any, is there, and it is not rare and at its default."""
    if option.is_rare and getattr(instance, option.name) == option.default:
        return False
    return not option.beside or isinstance(getattr(instance, option.beside), Image.Image)


def noted_reference(reference: Reference) -> dict[str, Any]:
    """Return the record of a reference, for JSON; pictures are given by the hashes of their pixels."""
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
    """Return all prompts in the requested style."""
    regions = {STYLED_REGIONS: list(plan.region_prompts)} if any(plan.region_prompts) else {}
    return {**dict(zip(STYLED, plan.prompts, strict=True)), **regions}


def _noted_adapter(plan: Plan) -> str:
    """Return the name of the adapter; the key that requests a visitor's own adapter is nobody else's business."""
    asked = plan.request.adapter
    adapter = plan.adapter or plan.entry.adapters.get(asked)
    return adapter.name if adapter else asked


def _incomplete() -> UserError:
    return UserError("recipe.incomplete")
