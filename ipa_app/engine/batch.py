"""One picture to draw: everything that is its own and not its batch's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

    from ipa_app.adapter import ImagePrompt, RegionalPrompt


@dataclass(frozen=True, kw_only=True)
class BatchItem:
    """One picture of a batch.

    Attributes:
        prompt: what to draw.
        negative_prompt: what not to draw.
        seed: of its noise.
        chunks: of how many chunks what the UNet is told of the prompts comes to be; the same in the whole batch.
        image_prompts: pictures used as a prompt, with their scales; none for plain Stable Diffusion.
        regional_prompts: words for parts of the picture, which count there in place of the prompt.
        image: the picture to change or to start from, at the size that is drawn.
        mask: mode "L" of the same size, white where that picture changes.
        control_image: what a ControlNet sees, at the size that is drawn.
    """

    prompt: str
    negative_prompt: str
    seed: int
    chunks: int = 1
    image_prompts: tuple[ImagePrompt, ...] = ()
    regional_prompts: tuple[RegionalPrompt, ...] = ()
    image: Image.Image | None = None
    mask: Image.Image | None = None
    control_image: Image.Image | None = None
