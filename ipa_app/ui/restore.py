"""Restoring every control from a picture made here, or as closely as possible from one made elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import gradio as gr
from PIL import Image

from ipa_app.engine.adopting import Adopted, adopt
from ipa_app.engine.metadata import (
    REFERENCE_NAMES,
    REGION_NAMES,
    STYLED,
    may_have_been_cut,
    pictures_not_as_noted,
    read_request,
    without_style,
)
from ipa_app.engine.plan import Plan
from ipa_app.engine.recipes import read_code
from ipa_app.engine.references import Reference, words_of_region
from ipa_app.engine.requests import RANDOM_SEED, GenerateRequest
from ipa_app.engine.tasks import TASKS
from ipa_app.errors import UserError
from ipa_app.imaging.opening import open_image
from ipa_app.imaging.other_programs import read_other
from ipa_app.imaging.result_files import NotMadeHereError, read_settings
from ipa_app.messages import Message
from ipa_app.models.entry import ModelEntry
from ipa_app.models.hashing import file_hash, picture_hash
from ipa_app.models.state import ModelState
from ipa_app.options import options
from ipa_app.ui.about import unknown_words_note
from ipa_app.ui.adapters import name_to_ask
from ipa_app.ui.controls import LATEST, Update, dropped_into, offer_styles, style_title
from ipa_app.ui.examples import Example
from ipa_app.ui.failures import explained
from ipa_app.ui.form import reference_name, upload_name
from ipa_app.ui.language.markup import said_in_toast, status_note
from ipa_app.ui.parts import Parts
from ipa_app.ui.pictures import check_there, keep_picture
from ipa_app.ui.references import Filling, Replaced
from ipa_app.ui.studio import Studio
from ipa_app.ui.uploads import file_path

_LONGEST_NAME = 60
"""Characters of names that a file gives, which may come from anybody."""


def connect_restore(parts: Parts, *, restorer: Restorer) -> None:
    """Connect the drop box to setting the controls."""
    press, payload = dropped_into(parts.restore.file)
    parts.panel.references.let_fill(
        press,
        restorer.from_upload,
        {"payload": payload, "own": parts.panel.adapters.own, "model": parts.settings.model},
        outputs=restorer.outputs,
        **LATEST,
    )


class Restorer:
    """Turns a result's file into updates of the page: of every control, or of none, with a sentence that says why."""

    def __init__(self, parts: Parts, *, studio: Studio, examples: Sequence[Example] = ()) -> None:
        """Take the parts of the page, and the examples, whose pictures need not be in a link."""
        self._parts = parts
        self._studio = studio
        self._examples = examples

    @property
    def outputs(self) -> list[Any]:
        """Every component that an update may name."""
        parts = self._parts
        components: list[Any] = [
            parts.tasks,
            parts.restore.file,
            parts.restore.note,
            parts.panel.suited_scale,
            parts.results.new_seed,
            *parts.panel.references.outputs,
            *parts.panel.folds.values(),
        ]
        for tab in parts.tabs:
            components += [*parts.inputs_of(tab).values(), *tab.folds.values()]
        return list(dict.fromkeys(components))

    def from_upload(
        self, payload: Any, own: Sequence[str] = (), model: str = "", *, over: Replaced | None = None
    ) -> Update:
        """Set everything as it was for the dropped picture, and empty the drop box.

        Args:
            payload: the upload.
            own: the keys of the adapters that the visitor has uploaded.
            model: the chosen model, which stays for a picture that was made by a model that is not here.
            over: the current references, as for `References.fill`.
        """
        parts = self._parts
        with explained():
            try:
                path = file_path(payload, field=Message("upload.image"))
                updates = self._set(self._read(path, own, model=model), over)
            except UserError as error:
                updates = {parts.restore.note: status_note(error.message)}
        return {**updates, parts.restore.file: None}

    def from_result(self, path: str, own: Sequence[str] = (), *, over: Replaced | None = None) -> Update:
        """Set everything as it was for a result on the page; `own` and `over` are as for `from_upload`."""
        with explained():
            adopted = self._read(check_there(path), own, model="")
            updates = self._set(adopted, over)
        # In toasts, as the note for dropped files is in a closed accordion.
        _say(adopted.told)
        return updates

    def from_link(self, code: str, own: Sequence[str] = ()) -> Update:
        """Set everything from a link, except pictures that are not here; `own` is as for `from_upload`."""
        with explained():
            recipe = read_code(code, known=self._known_pictures)
            adopted = self._as_it_was(recipe.request, recipe.settings, own, told=Message("restored.link"))
        missing = [_picture_name(name) for name in recipe.missing]
        told = [*adopted.told, *([Message("restored.add_pictures", pictures=missing)] if missing else [])]
        _say(told)
        return {**self._controls(adopted.request, missing=recipe.missing), self._parts.restore.note: status_note(*told)}

    @cached_property
    def _known_pictures(self) -> Mapping[str, Image.Image]:
        files = {file for each in self._examples for file in (each.file, each.image) if file}
        return {picture_hash(image): image for image in map(open_image, files)}

    def _read(self, path: str, own: Sequence[str], *, model: str) -> Adopted:
        try:
            return self._made_here(path, own)
        except NotMadeHereError:
            other = read_other(path)
            if other is None:
                raise
            adopted = adopt(other, models=self._studio.catalog.values(), chosen=self._studio.entry(model))
            self._studio.plan(adopted.request)
            return adopted

    def _set(self, adopted: Adopted, over: Replaced | None) -> Update:
        updates = self._controls(adopted.request, over=over)
        return {**updates, self._parts.restore.note: status_note(*adopted.told)}

    def _made_here(self, path: str, own: Sequence[str]) -> Adopted:
        """Read the request of a picture made here, with sentences on which pictures or adapter have changed, if any."""
        request, settings = read_request(path), read_settings(path) or {}
        changed = [_picture_name(name) for name in pictures_not_as_noted(request, settings)]
        told = Message("restored.nearly", pictures=changed) if changed else Message("restored.all")
        return self._as_it_was(request, settings, own, told=told)

    def _as_it_was(
        self, request: GenerateRequest, settings: Mapping[str, Any], own: Sequence[str], *, told: Message
    ) -> Adopted:
        entry = self._studio.entry(request.model)
        request, style = _with_style(request, settings, entry=entry)
        request = replace(request, adapter=name_to_ask(entry, request.adapter, own))
        plan, state = self._studio.plan(request), self._studio.manager.state(request.model)
        noted = settings.get("adapter_sha256")
        sentences = [told]
        if noted is not None and noted != file_hash(entry.adapter(request.adapter).file):
            sentences = [Message("restored.other_adapter", name=entry.adapter(request.adapter).title)]
        if style:
            sentences.append(Message("restored.other_style", name=style_title(style)))
        sentences += _drawn_otherwise(plan, settings, state)
        if may_have_been_cut(settings):
            sentences.append(Message("restored.longer_prompt", title=entry.title))
        return Adopted(request=request, told=tuple(sentences))

    def _controls(
        self,
        request: GenerateRequest,
        *,
        missing: Sequence[str] = (),
        over: Replaced | None = None,
    ) -> Update:
        """Return the updates that set a request; the boxes of missing pictures are emptied."""
        parts, tab = self._parts, self._parts.tab_of(request.task)
        entry = self._studio.entry(request.model)
        request = _without_usual_size(_without_the_ways_own(request, entry=entry), entry=entry)
        names = zip(request.references, REFERENCE_NAMES, REGION_NAMES, strict=False)
        references = [_filling(each, picture not in missing, mask not in missing) for each, picture, mask in names]
        updates: Update = {
            parts.tasks: gr.update(selected=request.task),
            # Set together with the tab, so that selecting the tab does not change the restored strength.
            parts.panel.suited_scale: tab.default_scale,
            # The seed's own box is in a closed accordion.
            parts.results.new_seed: gr.update(visible=request.seed != RANDOM_SEED),
            **parts.panel.references.fill(references, over=over),
            **self._unknown_words(request),
        }
        declared = options(GenerateRequest)
        values = {each.api: None if name in missing else getattr(request, name) for name, each in declared.items()}
        for name, component in parts.inputs_of(tab).items():
            if name in values:
                value = values[name]
                updates[component] = keep_picture(value) if isinstance(value, Image.Image) else value
        updates[tab.style] = offer_styles(entry, chosen=request.style)
        if tab.from_request:
            updates |= tab.from_request(request)
        return updates | _opened({**parts.panel.folds, **tab.folds}, values=values)

    def _unknown_words(self, request: GenerateRequest) -> Update:
        """Note unknown words of regions here, as a box in a closed accordion sends no change event."""
        entry = self._studio.entry(request.model)
        slots = zip(self._parts.panel.references.slots, request.references, strict=False)
        return {
            slot.region.unknown: unknown_words_note(each.region_prompt, entry=entry, called=words_of_region(number))
            for number, (slot, each) in enumerate(slots, start=1)
        }


def _say(sentences: Sequence[Message]) -> None:
    for sentence in sentences:
        gr.Info(said_in_toast(sentence))


def _with_style(
    request: GenerateRequest, settings: Mapping[str, Any], *, entry: ModelEntry
) -> tuple[GenerateRequest, str]:
    """Return a request as its picture was made, and the name of its style if that differs now, else "".

    Such a style is already contained in the returned prompts.
    """
    name = request.style
    style = entry.styles.get(name)
    texts = request.prompt, request.negative_prompt
    if not name or (style and list(style.styled(*texts)) == [settings.get(each) for each in STYLED]):
        return request, ""
    return without_style(request, settings), name


def _drawn_otherwise(plan: Plan, settings: Mapping[str, Any], state: ModelState) -> list[Message]:
    """Return notes on a scheduler or precision that differs from the picture's, as far as the model is loaded."""
    now = {"scheduler": plan.fast.scheduler if plan.fast else state.scheduler, "precision": state.precision}
    then = {name: noted for name in now if isinstance(noted := settings.get(name), str)}
    return [
        Message(f"restored.other_{name}", then=noted[:_LONGEST_NAME], now=now[name])
        for name, noted in then.items()
        if now[name] and noted != now[name]
    ]


def _without_the_ways_own(request: GenerateRequest, *, entry: ModelEntry) -> GenerateRequest:
    """Return a fast request without the fast way's own steps and guidance, so that switching to Best uses its own."""
    if request.speed != "fast":
        return request
    steps = 0 if request.steps == entry.fast_way().steps else request.steps
    return replace(request, steps=steps, guidance_scale=0)


def _without_usual_size(request: GenerateRequest, *, entry: ModelEntry) -> GenerateRequest:
    """Return a request without a width or height that is the default anyway: other tabs have other defaults."""
    usual = TASKS[request.task].result_size(replace(request, width=0, height=0), entry)
    sides = zip(("width", "height"), usual, strict=True)
    return replace(request, **{side: 0 for side, pixels in sides if getattr(request, side) == pixels})


def _filling(reference: Reference, has_picture: bool, has_mask: bool) -> Filling:
    """Return the content of a slot; a painted region becomes "everywhere" if its mask is missing."""
    said = vars(reference) if has_mask else {**vars(reference), "region": "everywhere", "region_mask": None}
    return Filling(path=keep_picture(reference.image) if has_picture else None, said=said)


def _picture_name(name: str) -> str:
    """Return the name in sentences of an input picture that a result's file names."""
    if name in REFERENCE_NAMES:
        return reference_name(REFERENCE_NAMES.index(name) + 1)
    return upload_name("region_mask" if name in REGION_NAMES else name)


def _opened(folds: Mapping[str, gr.Accordion], *, values: Mapping[str, Any]) -> Update:
    """Open the accordions in which a value differs from its default, and close the others."""
    usual = {each.api: each.default for each in options(GenerateRequest).values()}
    unusual: dict[gr.Accordion, bool] = {}
    for name, fold in folds.items():
        unusual[fold] = unusual.get(fold, False) or values[name] != usual[name]
    return {fold: gr.update(open=is_unusual) for fold, is_unusual in unusual.items()}
