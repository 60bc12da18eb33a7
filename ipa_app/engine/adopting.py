"""Turning the settings of a picture made by another program into the nearest request possible here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.tasks.mix import Mix
from ipa_app.engine.wording import readable
from ipa_app.imaging.other_programs import OtherSettings
from ipa_app.messages import Message
from ipa_app.models.entry import ModelEntry
from ipa_app.models.prompt_weights import LEAST_WEIGHT, MOST_WEIGHT, weights_problem, within_bounds
from ipa_app.options import options

_BESIDE = {
    "lora": Message("adopted.loras"),
    "controlnet": Message("adopted.controlnet"),
    "reference": Message("adopted.pictures_as_prompts"),
    "start": Message("adopted.start_picture"),
    "enlarged": Message("adopted.enlarging"),
    "embedding": Message("adopted.textual_inversions"),
    "refiner": Message("adopted.second_model"),
    "style": Message("adopted.styles"),
}
_TEXTS = ("prompt", "negative_prompt")


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """What another program's settings become: a request of words alone, and messages on what was done to them."""

    request: GenerateRequest
    told: tuple[Message, ...]


def adopt(settings: OtherSettings, *, models: Iterable[ModelEntry], chosen: ModelEntry) -> Adopted:
    """Turn settings of another program into a request.

    Args:
        settings: as read from the file.
        models: the available ones.
        chosen: the model to use if the picture's own is not among them.

    Raises:
        UserError: there is nothing in them to draw from.
    """
    own = next((entry for entry in models if _is_called(entry, settings.model)), None)
    limits = (own or chosen).side_limits
    width, height = settings.size or (None, None)
    was = {
        "prompt": settings.prompt,
        "negative_prompt": settings.negative_prompt,
        "seed": settings.seed,
        "steps": settings.steps,
        "guidance_scale": settings.guidance_scale,
        "width": width,
        "height": height,
    }
    declared = options(GenerateRequest)
    guidance = declared["guidance_scale"]
    now: dict[str, Any] = {
        "prompt": _text("prompt", settings.prompt),
        "negative_prompt": _text("negative_prompt", settings.negative_prompt),
        "seed": _within(settings.seed, 0, declared["seed"].most),
        "steps": _within(settings.steps, 1, declared["steps"].most),
        "guidance_scale": _within(settings.guidance_scale, guidance.least, guidance.most),
        "width": _side(width, limits),
        "height": _side(height, limits),
    }
    known = {name: value for name, value in now.items() if value is not None}
    request = GenerateRequest(task=Mix.name, model=(own or chosen).name, **known)
    changed = {name: (was[name], value) for name, value in known.items() if value != was[name]}
    lists = {
        "adopted.not_taken": _lost(settings, knows_model=own is not None),
        "adopted.out_of_bounds": _in_bounds(changed),
        "adopted.not_in_file": tuple(_called(name) for name in now if name not in known),
    }
    told = (
        Message("adopted.taken", program=settings.program),
        *_told_of_samplers(settings),
        *(Message(key, things=things) for key, things in lists.items() if things),
    )
    return Adopted(request=request, told=told)


def _told_of_samplers(settings: OtherSettings) -> list[Message]:
    if settings.samplers == 1:
        return []
    return [Message("adopted.samplers", count=settings.samplers, name=settings.taken_from)]


def _lost(settings: OtherSettings, *, knows_model: bool) -> tuple[Message, ...]:
    model = [Message("adopted.model", name=settings.model)] if settings.model and not knows_model else []
    sampler = [Message("adopted.sampler", name=settings.sampler)] if settings.sampler else []
    return (*model, *sampler, *(_BESIDE[name] for name in settings.beside))


def _in_bounds(changed: Mapping[str, tuple[Any, Any]]) -> tuple[Message, ...]:
    """Return messages on each changed number, with its old and new value, and on what was done to texts."""
    return tuple(
        message
        for name, (was, now) in changed.items()
        for message in (
            _told_of_text(name, was, now)
            if name in _TEXTS
            else [Message("adopted.changed", option=_called(name), was=was, now=now)]
        )
    )


def _told_of_text(name: str, was: str, now: str) -> list[Message]:
    cut = _cut(name, was)
    weighed = _weighed(cut)
    told = []
    if weighed != cut:
        bounds = {"least": f"{LEAST_WEIGHT:g}", "most": f"{MOST_WEIGHT:g}"}
        told.append(Message("adopted.weights", option=_called(name), **bounds))
    if not told or len(was) > len(cut) or len(weighed) > len(now):
        told.append(Message("adopted.cut", option=_called(name), length=len(now)))
    return told


def _called(name: str) -> Message:
    """Return the name of a request's field for use within a sentence."""
    return Message(f"adopted.option.{options(GenerateRequest)[name].api}")


def _is_called(entry: ModelEntry, model: str | None) -> bool:
    """Whether another program's name or file name for a model means this entry."""
    # File names may come with folders, in Windows or Unix form, or without their ending.
    name = PurePath((model or "").replace("\\", "/")).name.casefold()
    stem = name.removesuffix(".safetensors").removesuffix(".ckpt")
    return bool(stem) and stem in {entry.name.casefold(), entry.title.casefold(), entry.location.stem.casefold()}


def _within(value: float | None, least: float, most: float) -> float | None:
    return None if value is None else min(max(value, least), most)


def _side(pixels: int | None, limits: tuple[int, int]) -> float | None:
    nearest = _within(pixels, *limits)
    return None if nearest is None else round(nearest / 8) * 8


def _text(name: str, text: str) -> str:
    # Cut once more, as rewritten weights may be longer.
    return _cut(name, _weighed(_cut(name, text)))


def _weighed(text: str) -> str:
    """Clamp the weights of a prompt to those allowed here; other programs allow any."""
    has_others = weights_problem(readable(text), prompt="") is not None
    return within_bounds(readable(text)) if has_others else text


def _cut(name: str, text: str) -> str:
    # Truncated files may end in half a character.
    return text.encode("utf-8", "replace").decode()[: options(GenerateRequest)[name].longest]
