"""From the values of a form, page or API alike, to a validated request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from ipa_app.engine.requests import EXTENSIONS, GenerateRequest, Reference
from ipa_app.errors import blaming
from ipa_app.imaging.masks import open_mask
from ipa_app.imaging.opening import BLACK, CLIP_MEAN, WHITE, open_image
from ipa_app.pose.sheet import PoseSheet
from ipa_app.ui.uploads import file_path

_BEHIND_TRANSPARENCY = {
    "reference": CLIP_MEAN,
    "negative_reference": CLIP_MEAN,
    "image": WHITE,
    "start_image": WHITE,
    "pose": BLACK,
}
"""What shows through where an upload is transparent: for a reference the colour that says nothing to CLIP, for a
pose the ground that skeletons are drawn on."""


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
    for name in _BEHIND_TRANSPARENCY:
        if name in fields:
            fields[name] = _picture(fields[name], field=name)
    if skeleton and "pose" not in fields:
        fields["pose"] = PoseSheet.from_json(skeleton)
    if mask is not None and "image" in fields:
        extends = any(fields.get(side) for side in EXTENSIONS)
        with blaming("mask"):
            path = mask if isinstance(mask, str) else file_path(mask, field="mask")
            fields["mask"] = open_mask(path, fields["image"].size, may_be_empty=extends)
    opened = []
    for each in references:
        options = dict(each)
        if (upload := options.pop("image")) is not None:
            opened.append(_reference(open_reference(upload), options))
    return GenerateRequest(references=tuple(opened), **fields)


def open_reference(upload: Any) -> Image.Image:
    """Open an uploaded reference as it is used, mode "RGB".

    Raises:
        UserError: it is no picture that can be used.
    """
    return _picture(upload, field="reference")


def check_reference_options(**values: Any) -> None:
    """Check what is said of a reference that is not there: it must be right all the same.

    Raises:
        UserError: it is not.
    """
    _reference(Image.new("RGB", (1, 1)), values)


def _reference(image: Image.Image, values: Mapping[str, Any]) -> Reference:
    return Reference(image=image, **{name: value for name, value in values.items() if value is not None})


def _picture(payload: Any, *, field: str) -> Image.Image:
    with blaming(field):
        return open_image(file_path(payload, field=field), background=_BEHIND_TRANSPARENCY[field])
