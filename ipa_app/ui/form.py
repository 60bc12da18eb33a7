"""Building a validated request from the values of a form, for the page and the API alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ipa_app.engine.references import MOST_REFERENCES, Reference, slot_name
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.tasks import TASKS
from ipa_app.errors import UserError, blaming
from ipa_app.imaging.colour import without_traces
from ipa_app.imaging.mask_files import MaskFile, read_region_mask
from ipa_app.imaging.masks import editor_levels, join_masks
from ipa_app.imaging.opening import BLACK, CLIP_MEAN, Opened, check_visible, flatten, read_image
from ipa_app.messages import Message, english
from ipa_app.options import Option, check, options
from ipa_app.ui.tabs import tab_for
from ipa_app.ui.turns import opening_turn
from ipa_app.ui.uploads import file_path, painted_files

PAINTED = "region_painted"
"""A further input on the page, beside a reference's options: the painted region, as the painting area sends it."""

_BEHIND_TRANSPARENCY = {
    "reference": (CLIP_MEAN, "picture.transparent_reference"),
    "negative_reference": (CLIP_MEAN, "picture.transparent_reference"),
    "pose": (BLACK, "picture.transparent_pose"),
}
"""The background of transparent uploads, and the key of the note on it: for a reference CLIP's mean colour, which
carries no information, for a pose the black that skeletons are drawn on. Pictures to be edited keep their
transparency."""


def build_request(task: str, sent: Mapping[str, object]) -> GenerateRequest:
    """Build a request from the values of a form: open the uploaded pictures and check everything.

    Args:
        task: the request's task.
        sent: raw values by API name, pictures as uploads. The options of a further reference are named by `slot_name`.
            None means "not given". Inputs that only the page has are named and read by the tab.

    Raises:
        UserError: something that the user can put right; it names the field.
        TypeError: there is no such option, which is a bug: names from programs are checked before.
    """
    if unknown := sent.keys() - _names():
        raise TypeError(f"no option of a request is called {', '.join(sorted(unknown))}")
    with opening_turn(sent):
        return _build(task, sent)


def _build(task: str, sent: Mapping[str, object]) -> GenerateRequest:
    tab = tab_for(task)
    values, uploads = _split(options(GenerateRequest), sent, task=task)
    references, notes = read_references(sent, task=task)
    opened = {name: open_upload(upload, field=name) for name, upload in uploads.items() if name not in tab.opens}
    notes += [note for each in opened.values() for note in each.notes]
    own, told = tab.read(sent, values, opened) if tab.read else ({}, [])
    fields = {**values, **{name: each.image for name, each in opened.items()}, **own}
    return GenerateRequest(**{**fields, "task": task}, references=references, notes=tuple(dict.fromkeys(notes + told)))


def checked_values(task: str, sent: Mapping[str, object], *, names: Sequence[str]) -> dict[str, Any]:
    """Read some of a request's values, by field name, from what `build_request` takes.

    Raises:
        UserError: a value is not allowed.
    """
    declared = options(GenerateRequest)
    values, _ = _split(declared, sent, task=task)
    return {name: check(declared[name], values[name]) for name in names}


def _names() -> set[str]:
    """Return all names that a form may have."""
    of_references = {
        slot_name(each.api, number) for each in options(Reference).values() for number in range(1, MOST_REFERENCES + 1)
    }
    beside = {name for task in TASKS for name in tab_for(task).beside}
    beside |= {slot_name(PAINTED, number) for number in range(1, MOST_REFERENCES + 1)}
    return {each.api for each in options(GenerateRequest).values()} | of_references | beside


def _split(
    declared: Mapping[str, Option], sent: Mapping[str, object], *, task: str, number: int = 1
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of a task from what was sent: the values and the uploads, each by field name."""
    of = TASKS[task]
    found = {name: sent.get(slot_name(each.api, number)) for name, each in declared.items() if of.takes(each)}
    given = {name: of.default_of(declared[name]) if value is None else value for name, value in found.items()}
    values = {name: value for name, value in given.items() if not declared[name].is_picture}
    uploads = {name: value for name, value in found.items() if declared[name].is_picture and value is not None}
    return values, uploads


def read_references(sent: Mapping[str, object], *, task: str) -> tuple[tuple[Reference, ...], list[Message]]:
    """Open the references, and return them with notes on how. Options of a missing reference are checked all the same.

    Args:
        sent: as for `build_request`.
        task: the request's task.

    Raises:
        UserError: as `build_request` does.
    """
    with opening_turn(sent):
        return _read_references(sent, task=task)


def _read_references(sent: Mapping[str, object], *, task: str) -> tuple[tuple[Reference, ...], list[Message]]:
    declared = options(Reference)
    slots = [_slot(declared, sent, task=task, number=number) for number in range(1, MOST_REFERENCES + 1)]
    given = [slot for slot in slots if "image" in slot[1]]
    references: list[Reference] = []
    notes: list[Message] = []
    for number, (values, uploads) in enumerate(slots, start=1):
        with _of_slot(number):
            if "image" not in uploads:
                for option, value in values.items():
                    check(declared[option], value)
                if "region_mask" in uploads and slot_name(PAINTED, number) not in sent:
                    raise UserError("region.no_reference").blaming("region_mask")
                if values["region_prompt"].strip():
                    raise UserError("region.words_without_reference").blaming("region_prompt")
                continue
            name = _name_of(len(references) + 1, given)
            opened = open_upload(uploads["image"], field="reference", name=name)
            region = read_region(sent, uploads.get("region_mask"), region=values["region"], number=number)
            references.append(Reference(image=opened.image, region_mask=region and region.mask, **values))
        notes += [*opened.notes, *(region.notes if region else ())]
    return tuple(references), notes


def _slot(
    declared: Mapping[str, Option], sent: Mapping[str, object], *, task: str, number: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values and uploads of a reference. On the page, its region's words wait while it counts everywhere."""
    values, uploads = _split(declared, sent, task=task, number=number)
    if slot_name(PAINTED, number) in sent and values["region"] == "everywhere":
        values["region_prompt"] = declared["region_prompt"].default
    return values, uploads


@contextmanager
def _of_slot(number: int) -> Iterator[None]:
    """Make every error from the block name the parameter of the reference with this number."""
    try:
        yield
    except UserError as error:
        error.field = error.field and slot_name(error.field, number)
        raise


def read_region(sent: Mapping[str, object], upload: Any, *, region: str, number: int) -> MaskFile | None:
    """Read the mask of a reference's region: an uploaded file of any kind, what was painted on the page, or both.

    On the page, both are ignored while another region than "painted" is chosen.

    Args:
        sent: as for `build_request`.
        upload: the uploaded mask; None if there is none.
        region: the chosen region.
        number: the reference's number.

    Raises:
        UserError: as `build_request` does.
    """
    name = slot_name(PAINTED, number)
    if name in sent and region != "painted":
        return None
    with blaming("region_mask"):
        levels = editor_levels(painted_files(sent.get(name), field="region_mask"))
        if upload is None:
            return MaskFile(mask=levels) if levels else None
        read = read_region_mask(file_path(upload, field="region_mask"))
        return replace(read, mask=join_masks(read.mask, levels))


def open_upload(upload: Any, *, field: str, name: str | None = None) -> Opened:
    """Open an uploaded picture for use in a request.

    Args:
        upload: as for `file_path`.
        field: a field of a request or a `Reference`; a reference's picture is called "reference".
        name: the picture's name in its notes; by default after the field.

    Returns:
        Mode "RGB"; pictures to be edited may have the mode "RGBA".

    Raises:
        UserError: it is not a usable picture.
    """
    name = name or upload_name(field)
    with blaming(field), opening_turn(upload):
        opened = read_image(file_path(upload, field=field), name=name)
        check_visible(opened.image)
    if field not in _BEHIND_TRANSPARENCY:
        return opened
    image = without_traces(opened.image)
    if image.mode == "RGB":
        return replace(opened, image=image)
    ground, note = _BEHIND_TRANSPARENCY[field]
    flat = flatten(image, background=ground)
    return replace(opened, image=flat, notes=(*opened.notes, Message(note, name=name)))


def upload_name(field: str) -> Message:
    """Return the name of an input picture in sentences, by its field."""
    key = f"upload.{field}"
    return Message(key) if key in english().sentences else options(GenerateRequest)[field].called


def reference_name(number: int) -> Message:
    """Return the name of a reference in sentences where there are several."""
    return Message("upload.reference_number", number=number)


def _name_of(number: int, references: Sequence[Any]) -> Message:
    return reference_name(number) if len(references) > 1 else Message("upload.reference")
