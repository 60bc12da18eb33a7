"""From the values of a form, page or API alike, to a validated request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from ipa_app.engine.requests import EXTENSIONS, GenerateRequest, Reference
from ipa_app.errors import blaming
from ipa_app.imaging.mask_files import read_mask
from ipa_app.imaging.masks import fit_mask
from ipa_app.imaging.opening import BLACK, CLIP_MEAN, Opened, check_visible, flatten, open_image, read_image
from ipa_app.pose.sheet import PoseSheet
from ipa_app.ui import texts
from ipa_app.ui.uploads import file_path

_BEHIND_TRANSPARENCY = {
    "reference": (CLIP_MEAN, texts.TRANSPARENT_REFERENCE),
    "negative_reference": (CLIP_MEAN, texts.TRANSPARENT_REFERENCE),
    "pose": (BLACK, texts.TRANSPARENT_POSE),
}
"""What shows through where an upload is transparent, and how that is said: for a reference the colour that says nothing
to CLIP, for a pose the ground that skeletons are drawn on. Pictures that are to be changed keep their transparency."""

_PICTURES = ("image", "start_image", "negative_reference", "pose")
_LARGE_SHARE = 0.5


def build_request(
    *,
    references: Sequence[Mapping[str, Any]] = (),
    mask: Any = None,
    skeleton: Any = None,
    **values: Any,
) -> GenerateRequest:
    """Open the uploaded pictures and check everything.

    Args:
        references: of each the upload as "image", perhaps None, and a `Reference`'s other fields by name.
        mask: an upload, or the path of a mask that the page has saved.
        skeleton: the text of an OpenPose file, used as the pose where no picture of one is given.
        **values: the request's other fields by name, pictures as uploads. None means "not given".

    Raises:
        UserError: something a person can put right, named.
    """
    fields = {name: value for name, value in values.items() if value is not None}
    given = [each for each in references if each["image"] is not None]
    shown = [open_upload(each["image"], field="reference", name=_name_of(i, given)) for i, each in enumerate(given, 1)]
    opened = {name: open_upload(fields[name], field=name) for name in _PICTURES if name in fields}
    notes = [note for each in (*shown, *opened.values()) for note in each.notes]
    if skeleton and "pose" not in fields:
        fields["pose"] = PoseSheet.from_json(skeleton)
    if mask is not None and "image" in opened:
        with blaming("mask"):
            fields["mask"], told = _open_mask(mask, opened["image"], fields)
        notes += told
    return GenerateRequest(
        references=tuple(_reference(one.image, **each) for one, each in zip(shown, given, strict=True)),
        notes=tuple(dict.fromkeys(notes)),
        **{**fields, **{name: each.image for name, each in opened.items()}},
    )


def open_upload(upload: Any, *, field: str, name: str | None = None) -> Opened:
    """Open an uploaded picture as it is used.

    Args:
        upload: as for `file_path`.
        field: of a request or a `Reference`; a reference's picture is called "reference".
        name: what the picture is called in its notes; by default after the field.

    Returns:
        Mode "RGB"; pictures that are to be changed may have the mode "RGBA".

    Raises:
        UserError: it is no picture that can be used.
    """
    name = name or texts.UPLOAD_NAMES[field]
    with blaming(field):
        opened = read_image(file_path(upload, field=field), name=name)
        check_visible(opened.image)
    if field not in _BEHIND_TRANSPARENCY or opened.image.mode == "RGB":
        return opened
    ground, note = _BEHIND_TRANSPARENCY[field]
    flat = flatten(opened.image, background=ground)
    return replace(opened, image=flat, notes=(*opened.notes, note.format(field=name)))


def _name_of(number: int, references: Sequence[Any]) -> str:
    return texts.UPLOAD_NAMES["reference"] if len(references) == 1 else texts.MORE_REFERENCE_LABEL.format(number=number)


def check_reference_options(**values: Any) -> None:
    """Check what is said of a reference that is not there: it must be right all the same.

    Raises:
        UserError: it is not.
    """
    _reference(Image.new("RGB", (1, 1)), **values)


def _reference(picture: Image.Image, **values: Any) -> Reference:
    return Reference(**{name: value for name, value in {**values, "image": picture}.items() if value is not None})


def _open_mask(mask: Any, picture: Opened, fields: Mapping[str, Any]) -> tuple[Image.Image, list[str]]:
    """Open what was painted on the page, which means what it shows, or a file, which may be anything."""
    may_be_empty = any(fields.get(side) for side in EXTENSIONS)
    if isinstance(mask, str):
        return fit_mask(open_image(mask, min_side=1), picture.image.size, may_be_empty=may_be_empty), []
    read = read_mask(file_path(mask, field="mask"), picture, may_be_empty=may_be_empty)
    # Who swaps a mask has seen how much of the picture it marks.
    return read.mask, [*read.notes, *([] if fields.get("mask_invert") else _note_of_size(read.mask))]


def _note_of_size(mask: Image.Image) -> list[str]:
    """Say how much is marked where that is most of the picture, as it is where a mask was meant the other way round."""
    share = mask.histogram()[255] / (mask.width * mask.height)
    if share <= _LARGE_SHARE:
        return []
    return [texts.MASK_ALL if share == 1 else texts.MASK_LARGE.format(number=round(100 * share))]
