"""What comes back while a request is worked on, and at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image

from ipa_app.messages import Message

Phase = Literal["queued", "loading", "encoding", "denoising", "decoding"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a request is.

    Attributes:
        phase: what is being done.
        step: how much of it is done. While denoising these are the steps of all pictures together.
        steps: out of how many; 0 when that is not known.
        message: a few words for people.
        preview: what is there so far: the pictures side by side, small, mode "RGB"; None where there is no news.
    """

    phase: Phase
    step: int = 0
    steps: int = 0
    message: Message | None = None
    preview: Image.Image | None = field(default=None, hash=False)


@dataclass(frozen=True, kw_only=True)
class GenerateResult:
    """The pictures of a request.

    Attributes:
        images: mode "RGB", as many as were asked for; "RGBA" where the picture that was changed is transparent.
        seeds: the seed of each.
        settings: every input as it was used, ready to be written as JSON. Its "withheld", where there is one, lists
            the seeds of pictures that the model's safety checker held back; a sign stands in for each.
        inputs: the pictures that were used, by the name under which a result's file keeps them.
        notes: sentences to be shown with the pictures, as in the request.
    """

    images: tuple[Image.Image, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    inputs: Mapping[str, Image.Image] = field(default_factory=dict)
    notes: tuple[Message, ...] = ()

    @property
    def withheld(self) -> tuple[int, ...]:
        """The seeds of the pictures that the safety checker held back."""
        return tuple(self.settings.get("withheld", ()))
