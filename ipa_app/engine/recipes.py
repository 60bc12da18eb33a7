"""From a result's file back to the request it came from, whoever may have made the file.

The file holds what `settings_of` noted and the pictures that `input_pictures` names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from PIL import Image

from ipa_app.engine.plan import Plan
from ipa_app.engine.references import MOST_REFERENCES, Reference
from ipa_app.engine.requests import LARGEST_SIDE, GenerateRequest
from ipa_app.errors import UserError
from ipa_app.imaging.packing import LONGEST_SIDE, pack_picture
from ipa_app.imaging.png import read_record
from ipa_app.pose.sheet import PoseSheet

_REFERENCES = tuple(f"reference_{number}" for number in range(1, MOST_REFERENCES + 1))
_TASK_PICTURES = {"inpaint": ("image", "mask"), "pose": ("pose",)}
# Those that may be missing, of any task.
_OPTIONAL_PICTURES = {"negative_reference": "reference", "start_image": "image"}
_PICTURES = ("image", "mask", "pose", *_OPTIONAL_PICTURES)
INPUT_KINDS = {
    **dict.fromkeys(_REFERENCES, "reference"),
    **{name: name for task in _TASK_PICTURES.values() for name in task},
    **_OPTIONAL_PICTURES,
}
"""The names of all input pictures, and what kind each is."""

_REFERENCE_NOTES = tuple(field.name for field in fields(Reference) if field.name != "image")
_REQUEST_FIELDS = frozenset(field.name for field in fields(GenerateRequest))
# Noted beside the request: what follows from it, or what it was drawn with.
_NOTED_BESIDE = frozenset(("seeds", "scheduler", "versions", "withheld", "adapter_sha256"))


def input_pictures(plan: Plan) -> dict[str, Image.Image]:
    """Name the pictures that a plan draws from: those that its settings mention, and no others."""
    pictures = dict(zip(_REFERENCES, (each.image for each in plan.noted_references), strict=False))
    for name in _TASK_PICTURES.get(plan.request.task, ()):
        picture = getattr(plan.request, name)
        # The settings give keypoints whole; a picture that is only extended may have no mask.
        if isinstance(picture, Image.Image):
            pictures[name] = picture
    optional = {name: getattr(plan, name) for name in _OPTIONAL_PICTURES}
    return pictures | {name: picture for name, picture in optional.items() if picture is not None}


def pack_inputs(pictures: Mapping[str, Image.Image]) -> dict[str, str]:
    """Write input pictures as text for a result's file, at a size that keeps the file reasonable."""
    return {name: pack_picture(image, longest=LONGEST_SIDE[INPUT_KINDS[name]]) for name, image in pictures.items()}


def read_request(path: str | Path) -> GenerateRequest:
    """Read the request that a result's file was made from.

    Large pictures come back smaller (see `packing`), defaults as the numbers that were used, and a random seed as the
    one that was drawn: the seed is this very picture's.

    Args:
        path: of any file at all.

    Raises:
        UserError: it is no picture made here, damaged, or holds something that is not allowed.
    """
    settings, pictures = read_record(path, names=INPUT_KINDS)
    unknown = sorted(str(name)[:30] for name in settings if name not in _REQUEST_FIELDS | _NOTED_BESIDE)
    if unknown:
        raise UserError("recipe.unknown_settings", names=", ".join(unknown[:5]))
    noted = _REQUEST_FIELDS - {"references", "notes", *_PICTURES}
    values = {name: value for name, value in settings.items() if name in noted}
    task = values.get("task")
    wanted = _TASK_PICTURES.get(task, ()) if isinstance(task, str) else ()
    keypoints = settings.get("pose")
    for name in wanted:
        if name == "mask" and settings.get(name, "") is None:
            continue
        is_sheet = name == "pose" and isinstance(keypoints, dict)
        values[name] = PoseSheet.from_openpose(keypoints) if is_sheet else _existing(pictures, name)
    for name in _OPTIONAL_PICTURES:
        if settings.get(name) is not None:
            values[name] = _existing(pictures, name)
    values["references"] = _references(settings.get("references"), pictures)
    if task == "inpaint":
        values |= _asked_size(values)
    try:
        return GenerateRequest(**values)
    except TypeError:
        raise _incomplete() from None


def _references(notes: object, pictures: Mapping[str, Image.Image]) -> tuple[Reference, ...]:
    """Put pictures and what is noted of them together."""
    if notes is None:
        return ()
    if not isinstance(notes, list) or not all(isinstance(note, dict) and "weight" in note for note in notes):
        raise _incomplete()
    if len(notes) > MOST_REFERENCES:
        raise UserError("recipe.too_many_references", count=len(notes), most=MOST_REFERENCES)
    named = zip(_REFERENCES, notes, strict=False)
    return tuple(
        Reference(image=_existing(pictures, name), **{key: note[key] for key in _REFERENCE_NOTES if key in note})
        for name, note in named
    )


def _asked_size(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give the size to ask for: 0, the picture's own, unless another one was asked for.

    A picture that was too large to be kept whole comes back smaller; then its own size is as good as can be had.
    """
    asked = {}
    for side, own in zip(("width", "height"), values["image"].size, strict=True):
        value = values.get(side, 0)
        could_be_asked = isinstance(value, int) and value <= LARGEST_SIDE and value % 8 == 0
        asked[side] = value if could_be_asked and value != own else 0
    return asked


def _existing(pictures: Mapping[str, Image.Image], name: str) -> Image.Image:
    if name not in pictures:
        raise UserError("recipe.picture_missing")
    return pictures[name]


def _incomplete() -> UserError:
    return UserError("recipe.incomplete")
