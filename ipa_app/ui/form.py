"""From the values of a form, page or API alike, to a validated request."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from PIL import Image

from ipa_app.engine.requests import EXTENSIONS, GenerateRequest, Reference
from ipa_app.imaging.masks import open_mask
from ipa_app.imaging.opening import BLACK, CLIP_MEAN, WHITE, open_image
from ipa_app.pose.sheet import PoseSheet
from ipa_app.ui.uploads import file_path

_BEHIND_TRANSPARENCY = {"reference": CLIP_MEAN, "image": WHITE, "pose": BLACK}
"""What shows through where an upload is transparent: for a reference the colour that says nothing to CLIP, for a
pose the ground that skeletons are drawn on."""


def build_request(
    *,
    references: Sequence[Any] = (),
    weights: Sequence[Any] = (),
    mask: Any = None,
    skeleton: Any = None,
    **values: Any,
) -> GenerateRequest:
    """Open the uploaded pictures and check everything.

    Args:
        references: uploads, any of them None.
        weights: how much each reference counts beside the others; 1 where there is none.
        mask: an upload, or the path of a mask that the page has saved.
        skeleton: the text of an OpenPose file, used as the pose where no picture of one is given.
        **values: the request's other fields by name; "image" and "pose" are uploads. None means "not given".

    Raises:
        UserError: something a person can put right, named.
    """
    fields = {name: value for name, value in values.items() if value is not None}
    for name in ("image", "pose"):
        if name in fields:
            fields[name] = _picture(fields[name], field=name)
    if skeleton and "pose" not in fields:
        fields["pose"] = PoseSheet.from_json(skeleton)
    if mask is not None and "image" in fields:
        path = mask if isinstance(mask, str) else file_path(mask, field="mask")
        extends = any(fields.get(side) for side in EXTENSIONS)
        fields["mask"] = open_mask(path, fields["image"].size, may_be_empty=extends)
    weighted = zip_longest(references, weights[: len(references)])
    opened = tuple(_reference(upload, weight=weight) for upload, weight in weighted if upload is not None)
    return GenerateRequest(references=opened, **fields)


def _reference(upload: Any, *, weight: Any) -> Reference:
    image = _picture(upload, field="reference")
    return Reference(image=image) if weight is None else Reference(image=image, weight=weight)


def _picture(payload: Any, *, field: str) -> Image.Image:
    return open_image(file_path(payload, field=field), background=_BEHIND_TRANSPARENCY[field])
