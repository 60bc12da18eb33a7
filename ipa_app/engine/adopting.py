"""From how a picture was made in another program to the nearest that can be asked for here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.tasks.mix import Mix
from ipa_app.imaging.other_programs import OtherSettings
from ipa_app.models.entry import ModelEntry
from ipa_app.options import options

_BESIDE = {
    "lora": "its LoRAs",
    "controlnet": "its ControlNet",
    "reference": "its pictures as prompts",
    "start": "the picture it started from",
    "enlarged": "its enlarging",
    "embedding": "its textual inversions",
    "refiner": "its second model",
    "style": "its styles",
}
_TEXTS = ("prompt", "negative_prompt")


@dataclass(frozen=True, kw_only=True)
class Told:
    """A sentence for people: what it says of a list of things, and those things."""

    of: str
    things: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.of} {', '.join(self.things)}." if self.things else self.of


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """What another program's settings come to: a request of words alone, and what is to be said of it."""

    request: GenerateRequest
    told: tuple[Told, ...]


def adopt(settings: OtherSettings, *, models: Iterable[ModelEntry], chosen: ModelEntry) -> Adopted:
    """Turn settings of another program into a request.

    Args:
        settings: as they were read.
        models: those there are.
        chosen: the one to draw with where the picture's own is not among them.

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
        "Not taken over:": _lost(settings, knows_model=own is not None),
        "Out of bounds here, so that the nearest is set:": _in_bounds(changed),
        "Not in the file, so that the usual is set:": tuple(_called(name) for name in now if name not in known),
    }
    told = (
        Told(of=f"Taken from notes as {settings.program} writes them: press Generate to make a picture like it here."),
        *_told_of_samplers(settings),
        *(Told(of=of, things=things) for of, things in lists.items() if things),
    )
    return Adopted(request=request, told=told)


def _told_of_samplers(settings: OtherSettings) -> list[Told]:
    if settings.samplers == 1:
        return []
    return [Told(of=f"It went through {settings.samplers} samplers; the settings are those of {settings.taken_from}.")]


def _lost(settings: OtherSettings, *, knows_model: bool) -> tuple[str, ...]:
    model = [f"the model {settings.model}"] if settings.model and not knows_model else []
    sampler = [f"the sampler {settings.sampler}"] if settings.sampler else []
    return (*model, *sampler, *(_BESIDE[name] for name in settings.beside))


def _in_bounds(changed: Mapping[str, tuple[Any, Any]]) -> tuple[str, ...]:
    """Name each number with the one it became; of a text its length is enough."""
    return tuple(
        f"{_called(name)} (cut to {len(now)} characters)" if name in _TEXTS else f"{_called(name)} {was} (now {now})"
        for name, (was, now) in changed.items()
    )


def _called(name: str) -> str:
    """Name a field of a request within a sentence."""
    title = options(GenerateRequest)[name].title
    return f"{title[0].lower()}{title[1:]}"


def _is_called(entry: ModelEntry, model: str | None) -> bool:
    """Whether a model's entry is meant by the name or the file that another program knows it by."""
    # Names of files come with folders of either kind of system, or without their ending.
    name = PurePath((model or "").replace("\\", "/")).name.casefold()
    stem = name.removesuffix(".safetensors").removesuffix(".ckpt")
    return bool(stem) and stem in {entry.name.casefold(), entry.title.casefold(), entry.location.stem.casefold()}


def _within(value: float | None, least: float, most: float) -> float | None:
    return None if value is None else min(max(value, least), most)


def _side(pixels: int | None, limits: tuple[int, int]) -> float | None:
    nearest = _within(pixels, *limits)
    return None if nearest is None else round(nearest / 8) * 8


def _text(name: str, text: str) -> str:
    # Half characters come from files that were cut.
    return text.encode("utf-8", "replace").decode()[: options(GenerateRequest)[name].longest]
