"""What the page says about a model: what it draws, which words it knows, and which words of a prompt it does not."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipa_app.engine.references import LONGEST_PROMPT, words_of_region
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.wording import has_special_letters, readable, signs_in, without_invisible, without_signs
from ipa_app.messages import Message, english, without_folders
from ipa_app.models.catalog import ModelEntry
from ipa_app.models.offered import Models
from ipa_app.models.prompt_weights import weights_problem, without_weights
from ipa_app.models.state import MemoryUse, ModelState
from ipa_app.models.units import size_text
from ipa_app.options import options
from ipa_app.ui.language.markup import known, said, spoken

BUNDLED_MODEL = "toybox"

_PROMPT, _NEGATIVE = (options(GenerateRequest)[name].called for name in ("prompt", "negative_prompt"))

# Groups that the model knows but the page does not list.
_SILENT_GROUPS = ("glue", "small words")
_LITTLE_WORDS = frozenset(
    ("a", "among", "an", "and", "at", "both", "by", "for", "from", "in", "of", "on", "one", "out", "the", "to")
    + ("under", "up", "with")
)


def model_note(entry: ModelEntry) -> str:
    """Return the line under the header; for the bundled model it says plainly that it only draws toys."""
    text = Message("page.toybox_note") if entry.name == BUNDLED_MODEL else entry.about
    note = said(text, tag="p", css_class="ipa-model-note") if text else ""
    return f"{note}{known([words_heading(entry)])}"


def memory_text(use: MemoryUse) -> tuple[Message, ...]:
    """Return sentences on where a loaded model runs, how much memory it takes, and what was done to save memory."""
    runs = Message(f"memory.runs.{use.device}.{use.precision}", size=size_text(use.needed))
    if not use.savings:
        return (runs,)
    saved = f"memory.saved.{'_'.join(use.savings)}"
    return runs, Message(saved, free=size_text(use.free), wanted=size_text(use.wanted))


def memory_note(use: MemoryUse | None) -> str:
    """Return the line under the choice of models; empty until the model is ready."""
    return "" if use is None else said(*memory_text(use), tag="p", css_class="ipa-help")


def described(entry: ModelEntry, state: ModelState, *, downloaded: bool) -> dict[str, Any]:
    """Describe a model and its state, for programs.

    Args:
        entry: the model's catalogue entry.
        state: its state.
        downloaded: whether its files are there.
    """
    way = entry.fast
    fast = way and {"steps": way.steps, "guidance": way.guidance_scale, "licence": way.licence or entry.licence}
    return {
        "title": entry.title,
        "about": entry.about,
        "licence": entry.licence,
        "adapters": list(entry.listed_adapters),
        "adapters_left_out": list(map(without_folders, entry.left_out)),
        "pose": "pose" in entry.controlnets,
        "controlnets": {name: {"kind": each.kind, "title": each.title} for name, each in entry.controlnets.items()},
        "controlnets_left_out": list(map(without_folders, entry.controlnets_left_out.values())),
        "parts": ["all", *entry.presets],
        "width": entry.width,
        "height": entry.height,
        "least_side": entry.side_limits[0],
        "most_side": entry.side_limits[1],
        "steps": entry.steps,
        "guidance": entry.guidance_scale,
        "guidance_start": entry.guidance_start,
        "guidance_end": entry.guidance_end,
        "fast": fast,
        "fast_left_out": without_folders(entry.fast_left_out) or "",
        "styles": list(entry.styles),
        "words": {group: list(words) for group, words in entry.words.items()},
        "downloaded": downloaded,
        "download_bytes": entry.download_bytes,
        "state": state.phase,
        "message": without_folders(state.message) or "",
        "progress": state.progress,
    }


def all_described(manager: Models) -> dict[str, dict[str, Any]]:
    """Describe every model and its state, for programs; those left out are "failed", and their message says why."""
    catalog = manager.catalog
    there = {
        name: described(manager.entry(name), manager.state(name), downloaded=not manager.needs_download(name))
        for name in catalog
    }
    left_out = {
        name: described(
            ModelEntry(name=name, title=name, location=Path(name)),
            ModelState(phase="failed", message=sentence),
            downloaded=False,
        )
        for name, sentence in catalog.left_out.items()
    }
    return there | left_out


def left_out_note(left_out: Mapping[str, Message]) -> str:
    """Return the lines under the choice of models that list the models left out, and why."""
    lines = [f"<li><b>{html.escape(name)}</b> {said(text)}</li>" for name, text in left_out.items()]
    return f'<div class="ipa-help">{said(Message("catalog.left_out"), tag="p")}<ul>{"".join(lines)}</ul></div>'


def words_heading(entry: ModelEntry) -> Message:
    """Return the title of the list of words."""
    return Message("words.heading", title=entry.title)


def words_html(entry: ModelEntry) -> str:
    """Return the words the model knows, grouped; empty when it knows ordinary English.

    In a language that the model has a dictionary for, the words are those of the dictionary.
    """
    groups = "".join(_group(name, words, entry) for name, words in entry.words.items())
    return f"{said(Message('words.help'), tag='p', css_class='ipa-help')}{groups}" if groups else ""


def unknown_words_note(prompt: str | None, *, entry: ModelEntry, called: Message = _PROMPT) -> str:
    """Return notes on the parts of a prompt that the model does not know, ignores or refuses; often empty.

    Text beyond the longest allowed prompt is not looked at: a request with it is refused anyway.
    """
    text = readable((prompt or "")[:LONGEST_PROMPT])
    problem = weights_problem(text, prompt=called)
    notes = [*([problem] if problem else []), *_unknown_words([text], entry), *_signs(called, text, entry)]
    return "".join(said(note, tag="p", css_class="ipa-note") for note in notes)


def word_notes(request: GenerateRequest, *, entry: ModelEntry) -> tuple[Message, ...]:
    """Return notes on how the words of a request were read, where that may not be what was meant."""
    typed = {_PROMPT: request.prompt, _NEGATIVE: request.negative_prompt}
    typed |= {words_of_region(number): each.region_prompt for number, each in enumerate(request.references, start=1)}
    notes = _unknown_words([readable(text) for text in typed.values()], entry)
    for field, text in typed.items():
        visible = without_invisible(text)
        if visible != text:
            notes.append(Message("prompt.invisible", prompt=field))
        if has_special_letters(visible):
            notes.append(Message("prompt.forms", prompt=field, words=readable(text)))
        notes += _signs(field, text, entry)
    return tuple(notes)


def _unknown_words(typed: Sequence[str], entry: ModelEntry) -> list[Message]:
    # What is told of as a sign is not named once more, in pieces. With a sign a prompt may lose a bracket: see both.
    plain, beside = (
        entry.unknown_words("\n".join(map(without_weights, texts))) for texts in (typed, map(without_signs, typed))
    )
    unknown = [word for word in plain if word in beside]
    if not unknown:
        return []
    return [Message("prompt.unknown_words", count=len(unknown), title=entry.title, words=", ".join(unknown))]


def _signs(field: str, text: str, entry: ModelEntry) -> list[Message]:
    """Return a note on signs without a meaning: commands of other programs, or punctuation and the like alone."""
    if signs := signs_in(text):
        return [Message("prompt.signs", prompt=field, words=", ".join(signs))]
    plain = without_weights(text)
    has_words = any(map(str.isalnum, plain + entry.in_own_words(plain)))
    # A model without a list of its words may make something of any sign.
    if has_words or not entry.words or not text.strip():
        return []
    return [Message("prompt.no_words", prompt=field, title=entry.title)]


def _group(name: str, words: Sequence[str], entry: ModelEntry) -> str:
    told = [word for word in words if word not in _LITTLE_WORDS and any(map(str.isalpha, word))]
    if name in _SILENT_GROUPS or not told:
        return ""
    others = {tag: each.shown(name) for tag, each in entry.dictionaries.items() if each.shown(name)}
    lists = _chips(told, spoken(besides=tuple(others)))
    lists += "".join(_chips(shown, spoken(only=tag)) for tag, shown in others.items())
    return f'<section class="ipa-words">{_group_heading(name)}{lists}</section>'


def _chips(words: Sequence[str], attributes: str) -> str:
    chips = "".join(f"<li>{html.escape(word)}</li>" for word in words)
    return f"<ul{attributes}>{chips}</ul>"


def _group_heading(name: str) -> str:
    """Return the heading of a group of words; a group without a sentence is named as in the model's file."""
    key = f"words.group.{name}"
    return said(Message(key) if key in english().sentences else name.replace("_", " "), tag="h3")
