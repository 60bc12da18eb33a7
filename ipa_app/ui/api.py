"""The public API: named, typed endpoints for other programs, over the same code path as the page.

The parameters of an endpoint are a promise to those programs. They follow from the options of a request: each becomes a
parameter, and a component that is never shown, which gives it its type, default and documentation.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import gradio as gr
from gradio.blocks import Block

from ipa_app.engine.references import MOST_REFERENCES, Reference, slot_name
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.engine.tasks import TASKS
from ipa_app.errors import UserError
from ipa_app.messages import Message, english
from ipa_app.options import Option, check, options
from ipa_app.ui.calls import Endpoint, Picture, awaited
from ipa_app.ui.failures import explained
from ipa_app.ui.form import build_request
from ipa_app.ui.studio import Studio, UnsavedError, save_pictures
from ipa_app.ui.tabs import tab_for
from ipa_app.ui.turns import opening_turn

Outcome = tuple[list[str], dict[str, Any]]
_Described = tuple[str, str, str]
"""A parameter's name, its documentation and its default."""

_PICTURES = "pictures"
_SETTINGS = "settings"
_MODELS = "models"
_DISK_FULL = (
    "The app's disk is full, so the pictures could not be saved: please make room there, "
    "and ask again with seed {seed}, which gives the same pictures."
)
_NO_EFFECT = "{names} had no effect, as there is no {picture}."
_NO_EFFECT_AWAY = (
    "negative_reference had no effect: it counts only with guidance, and with a reference whose scale is above 0."
)
_SET_BY = {
    "mask.large": "mask_invert",
    "inpaint.from_surroundings": "surroundings",
    "prompt.negative_without_guidance": "guidance",
}
"""The API parameters for what notes call by its name on the page, by the note's key."""
_CALLED = {
    "upload.reference_number": "reference",
    "region.reference": "reference",
    "region.words_of": "region_prompt",
}
"""The API parameters by the keys of the names that references and their options have on the page. There they have a
`number`, counted among the references that are given."""
_HOW_REFERENCES_COUNT = ("adapter", "scale", "start", "end", "part")
"""The options that apply to all references."""
_OF_FURTHER = ("reference", "weight", "region", "region_mask")
"""The options that programs can set for each reference after the first; all others keep their defaults."""
_OF_FURTHER_SINCE = (("reference_start", "reference_end"), ("region_prompt",))
"""The same for options that were added later and stand at the end, grouped by when they were added."""
_ORDER = (
    *("image", "mask", "pose", "reference", "prompt", "adapter", "scale", "control_scale", "negative_prompt", "count"),
    *("seed", "steps", "guidance", "width", "height", "model", "start", "end", "view", "centre_x", "centre_y"),
    *("negative_reference", "start_image", "strength", "mask_invert", "mask_grow", "mask_feather", "area"),
    *("mask_padding", "extend_left", "extend_right", "extend_up", "extend_down", "control_start", "control_end"),
    *("part", "region", "pose_hands", "pose_face", "pose_detector", "output_format"),
    *("region_mask", "region_softness", "weight"),
    *(slot_name(name, number) for number in range(2, MOST_REFERENCES + 1) for name in _OF_FURTHER),
    *("pose_fit", "style", "speed"),
    *(
        slot_name(name, number)
        for names in _OF_FURTHER_SINCE
        for number in range(1, MOST_REFERENCES + 1)
        for name in names
    ),
    *("guidance_start", "guidance_end", "surroundings"),
)
"""The parameter order that programs were promised; a tab may name others that come first. Required parameters come
before all others, and newer ones, which are not named here, at the end."""


def add_api(studio: Studio) -> None:
    """Add the public endpoints to the Blocks being built."""
    trigger = gr.Button(visible=False)
    outputs = [
        gr.File(file_count="multiple", label=_PICTURES, visible=False),
        gr.JSON(label=_SETTINGS, visible=False),
    ]
    shared: dict[_Described, Block] = {}
    for task in TASKS:
        trigger.click(
            endpoint_of(task, studio=studio),
            outputs=outputs,
            inputs_kwargs=hidden_inputs(task, shared=shared),
            api_name=task,
            preprocess=False,
            show_progress="hidden",
            # The queue is in the engine; here any number of calls may wait for it.
            concurrency_limit=None,
        )

    def models() -> dict[str, dict[str, Any]]:
        """List the models, what each can do, and whether it is loaded."""
        return studio.models()

    listed = gr.JSON(label=_MODELS, visible=False)
    trigger.click(models, None, listed, api_name="models", queue=False)


def parameters(task: str) -> dict[str, Option]:
    """Return the parameters of a task's endpoint by name, in the promised order."""
    declared = [*options(GenerateRequest).values(), *options(Reference).values()]
    offered = {each.api: each for each in declared if each.doc and TASKS[task].takes(each)}
    for number in range(2, MOST_REFERENCES + 1):
        named = {slot_name(name, number): offered[name] for name in (*_OF_FURTHER, *chain(*_OF_FURTHER_SINCE))}
        offered |= {
            name: replace(option, api=name, doc=_numbered(option.doc, number)) for name, option in named.items()
        }

    def place(name: str) -> tuple[bool, int]:
        known = (*tab_for(task).first, *_ORDER)
        return name not in TASKS[task].required, known.index(name) if name in known else len(known)

    return {name: offered[name] for name in sorted(offered, key=place)}


def _numbered(doc: str, number: int) -> str:
    """Return an option's documentation for a further reference, with the names of that reference's other options."""
    for name in (*_OF_FURTHER, *chain(*_OF_FURTHER_SINCE)):
        doc = doc.replace(f"{{{name}}}", slot_name(name, number))
    return doc


def endpoint_of(task: str, *, studio: Studio) -> Endpoint:
    """Make the endpoint of a task: a function whose signature lists its parameters."""

    def endpoint(*, progress: gr.Progress = gr.Progress(), **sent: object) -> Outcome:
        return _make(task, sent, studio=studio, progress=progress)

    taken = parameters(task)
    endpoint.__name__ = task
    # MCP clients get the parameters' documentation from this docstring.
    endpoint.__doc__ = "\n".join([tab_for(task).about, "", "Args:", *(each.documentation for each in taken.values())])
    endpoint.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [_parameter(name, option, task=task) for name, option in taken.items()]
    )
    return endpoint


def _parameter(name: str, option: Option, *, task: str) -> inspect.Parameter:
    is_required = name in TASKS[task].required and name not in TASKS[task].may_be_none
    kind: Any = (Picture if is_required else Picture | None) if option.is_picture else option.type
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if is_required else TASKS[task].default_of(option),
        annotation=kind,
    )


def hidden_inputs(task: str, *, shared: dict[_Described, Block]) -> dict[str, Block]:
    """Return the components behind an endpoint's parameters.

    Args:
        task: the endpoint's task.
        shared: the components of other endpoints. Identical ones are reused and new ones added, as every component is
            sent to every page that opens.
    """
    inputs = {}
    for name, option in parameters(task).items():
        value = TASKS[task].default_of(option) if _has_default(option, task=task) else None
        described = (name, option.documentation, repr(value))
        if described not in shared:
            shared[described] = _component(option, value=value)
        inputs[name] = shared[described]
    return inputs


def _has_default(option: Option, *, task: str) -> bool:
    return not option.is_picture and option.api not in TASKS[task].required


def _component(option: Option, *, value: Any) -> gr.components.Component:
    common: dict[str, Any] = {"label": option.documentation, "visible": False}
    if option.is_picture:
        return gr.File(file_count="single", type="filepath", **common)
    common["value"] = value
    if option.type is str:
        return gr.Textbox(**common)
    if option.type is bool:
        return gr.Checkbox(**common)
    if option.choices:
        return gr.Radio(choices=list(option.choices), **common)
    return gr.Number(precision=0 if option.type is int else None, **common)


def _make(task: str, sent: Mapping[str, object], *, studio: Studio, progress: gr.Progress) -> Outcome:
    """Run a request and wait for it."""
    with explained(to_program=True):
        with opening_turn(sent, engine=studio.engine):
            job_id = studio.submit(build_request(task, sent))
        for event in studio.follow(job_id, awaited=awaited()):
            if isinstance(event, GenerateResult):
                files, note = _saved(event, job_id=job_id), studio.note_on_keeping(job_id)
                notes = [*_told(event, sent), *_without_effect(task, sent, event), *([note] if note else [])]
                return files, {**_settings(event), "notes": notes}
            if isinstance(event, Progress):
                _report(progress, event)
        raise RuntimeError("a job ended without a result")


def _settings(result: GenerateResult) -> dict[str, Any]:
    """Return a result's settings by the engine's own names, and by the API names.

    Sent back, they give the same picture: a width or height that follows from an input picture, and could not be
    requested, is 0.
    """
    declared, settings = options(GenerateRequest), dict(result.settings)
    for side in ("width", "height"):
        try:
            check(declared[side], settings[side])
        except UserError:
            settings[side] = 0
    return settings | {option.api: settings[name] for name, option in declared.items() if name in settings}


def _told(result: GenerateResult, sent: Mapping[str, object]) -> list[str]:
    """Return a result's notes for programs, in terms of API parameters."""
    given = [number for number in range(1, MOST_REFERENCES + 1) if sent.get(slot_name("reference", number))]
    texts = ((note, str(_by_parameters(note, given))) for note in result.notes)
    return [f"{_SET_BY[note.key]}: {text}" if note.key in _SET_BY else text for note, text in texts]


def _by_parameters(value: object, given: Sequence[int]) -> object:
    """Return a note, or a part of one, with parameter names in place of the names on the page.

    Args:
        value: the note, or a part of it.
        given: the slot numbers of the references that were given.
    """
    if isinstance(value, tuple):
        return tuple(_by_parameters(each, given) for each in value)
    if not isinstance(value, Message):
        return value
    number = value.values.get("number")
    if value.key in _CALLED and isinstance(number, int) and number <= len(given):
        return slot_name(_CALLED[value.key], given[number - 1])
    if value.key not in english().sentences:  # declared elsewhere, or for programs alone
        return value
    return Message(value.key, **{name: _by_parameters(each, given) for name, each in value.values.items()})


def _without_effect(task: str, sent: Mapping[str, object], result: GenerateResult) -> list[str]:
    """Return notes on parameters that had no effect, as the picture that they apply to was not given."""
    found: dict[str, list[str]] = {}
    for number in range(1, MOST_REFERENCES + 1):
        of_slot = ((slot_name(each.api, number), each.default) for each in options(Reference).values())
        found[slot_name("reference", number)] = [name for name, usual in of_slot if sent.get(name) not in (None, usual)]
    if result.settings["scale"] == 0 and not any(sent.get(picture) for picture in found):
        # Only at scale 0: otherwise a task may have made a reference of its own, to which they apply.
        found["reference"] = [*_of_all_references(task, sent), *found["reference"]]
    for option in options(GenerateRequest).values():
        if option.beside and _is_given(option, task=task, sent=sent):
            found.setdefault(option.beside, []).append(option.api)
    missing = {picture: names for picture, names in found.items() if names and not sent.get(picture)}
    notes = [_NO_EFFECT.format(names=", ".join(names), picture=picture) for picture, names in missing.items()]
    was_told = any(note.key == "fast.had_no_effect" for note in result.notes)
    if sent.get("negative_reference") and "negative_reference" not in result.settings and not was_told:
        notes.append(_NO_EFFECT_AWAY)
    return notes


def _of_all_references(task: str, sent: Mapping[str, object]) -> list[str]:
    """Return the given parameters that apply to all references, without a scale of 0, which switches them off."""
    declared = options(GenerateRequest)
    given = (name for name in _HOW_REFERENCES_COUNT if _is_given(declared[name], task=task, sent=sent))
    return [name for name in given if name != "scale" or sent["scale"]]


def _is_given(option: Option, *, task: str, sent: Mapping[str, object]) -> bool:
    return sent.get(option.api) not in (None, TASKS[task].default_of(option))


def _report(progress: gr.Progress, event: Progress) -> None:
    progress((event.step, event.steps) if event.steps else None, desc=event.message or event.phase)


def _saved(result: GenerateResult, *, job_id: str) -> list[str]:
    try:
        return save_pictures(result, job_id=job_id)
    except UnsavedError as error:
        raise UserError.plain(_DISK_FULL.format(seed=result.seeds[0])) from error
