"""Small previews made while a batch is denoised, at a bounded share of the time.

They have no effect on the pictures: nothing here writes to a tensor or draws a random number that the batch uses.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from PIL import Image

from ipa_app.engine.batch import BatchItem
from ipa_app.models.latents import decode

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderTiny
    from torch import Tensor

    from ipa_app.models.families import Family
    from ipa_app.models.loaded import LoadedModel

# At most this share of a job's time goes into previews, except for the first one, whose cost is not known yet.
TIME_SHARE = 0.1
# Most previews per picture; more would only flicker.
_LOOKS = 10
# Decoders up to this size (a toy model's, or a distilled one) are used themselves; Stable Diffusion's has 50 million.
_MOST_DECODER_WEIGHTS = 5_000_000
_LONGEST_LATENT_SIDE = 32


class TimeBudget:
    """Keeps the time spent on previews to a share of the time that has passed. For one thread."""

    def __init__(self, *, share: float = TIME_SHARE) -> None:
        """Start the clock."""
        self._share = share
        self._began = time.perf_counter()
        self._spent = self._last = 0.0

    def allows_one_more(self) -> bool:
        """Whether a preview that takes as long as the last one stays within the share."""
        return self._spent + self._last <= self._share * (time.perf_counter() - self._began)

    def spend(self, seconds: float) -> None:
        """Record the time that a preview took."""
        self._last = seconds
        self._spent += seconds


class Previewer:
    """Makes previews of one batch every few steps. Belongs to one call of `draw`."""

    def __init__(
        self, *, budget: TimeBudget, wanted: Callable[[], bool], show: Callable[[Sequence[Image.Image]], None]
    ) -> None:
        """Make a previewer.

        Args:
            budget: of the job.
            wanted: asked before each preview.
            show: called with a picture per item, mode "RGB".
        """
        self._budget = budget
        self._wanted = wanted
        self._show = show
        self._outcome: tuple[Tensor, ...] = ()
        self._scheduler: Any = None

    def follow(self, scheduler: Any) -> None:
        """Record what a scheduler's steps return. The scheduler must belong to this drawing alone.

        Pipelines pass on only the noisier latents; many schedulers also return, or keep, the clean ones they predict.
        """
        self._scheduler, step = scheduler, scheduler.step

        # Pipelines inspect the signature, which functools.wraps() keeps.
        @functools.wraps(step)
        def noted(*args: Any, **kwargs: Any) -> Any:
            outcome = step(*args, **kwargs)
            self._outcome = outcome if isinstance(outcome, tuple) else ()
            return outcome

        scheduler.step = noted

    def after_step(
        self, model: LoadedModel, items: Sequence[BatchItem], *, step: int, steps: int, latents: Tensor
    ) -> None:
        """Show a preview if it is time for one.

        Args:
            model: that draws.
            items: of the batch.
            step: denoising steps done; after the last one the picture itself is due.
            steps: denoising steps in all.
            latents: (batch, channels, height, width) after the step.
        """
        if step >= steps or step % max(1, steps // _LOOKS):
            return
        if not self._wanted() or not self._budget.allows_one_more():
            return
        latents = self._clean(latents)
        if not torch.isfinite(latents).all():  # also waits for the device, so that only the preview is timed
            return
        began = time.perf_counter()
        pictures = pictures_of(model.draft_vae, latents, family=model.family)
        if pictures:
            self._show([_in_its_place(picture, item) for picture, item in zip(pictures, items, strict=True)])
        self._budget.spend(time.perf_counter() - began)

    def _clean(self, latents: Tensor) -> Tensor:
        """Return the clean latents that the last step predicted; if they are not known, those after the step."""
        if len(self._outcome) > 1:
            return self._outcome[1]
        config = getattr(self._scheduler, "config", {})
        # Multistep solvers keep their conversion of the UNet's last output, which for these is the clean latents.
        keeps_clean = str(config.get("algorithm_type")).endswith("dpmsolver++") or config.get("predict_x0")
        outputs: list[Tensor | None] = getattr(self._scheduler, "model_outputs", None) or []
        last = outputs[-1] if keeps_clean and outputs else None
        return latents if last is None else last


def pictures_of(vae: AutoencoderKL | AutoencoderTiny, latents: Tensor, *, family: Family) -> list[Image.Image]:
    """Turn latents into small pictures, cheaply; none if only the model's own large decoder could.

    Args:
        vae: that they belong to.
        latents: (batch, channels, height, width), scaled as the UNet sees them.
        family: of the model, which may know rough colours for each latent channel.
    """
    longest = max(latents.shape[-2:])
    if longest > _LONGEST_LATENT_SIDE:
        size = [max(1, round(side * _LONGEST_LATENT_SIDE / longest)) for side in latents.shape[-2:]]
        small = F.interpolate(latents.float(), size=size, mode="area")
    else:
        small = latents.float()
    if sum(weight.numel() for weight in vae.decoder.parameters()) <= _MOST_DECODER_WEIGHTS:
        pixels = decode(vae, small)
    elif len(colours := family.rough_colours(vae.config)) == latents.shape[1]:
        pixels = torch.einsum("bchw,cr->brhw", small.cpu(), torch.tensor(colours))
    else:
        return []
    pixels = torch.nan_to_num(pixels.float().cpu()) / 2 + 0.5
    values = pixels.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return [Image.fromarray(each.numpy()) for each in values]


def _in_its_place(picture: Image.Image, item: BatchItem) -> Image.Image:
    """Show what is drawn inside the mask only, and the original around it, as in the result."""
    if item.image is None or item.mask is None:
        return picture
    around = item.image.convert("RGB").resize(picture.size, Image.Resampling.BILINEAR)
    return Image.composite(picture, around, item.mask.convert("L").resize(picture.size, Image.Resampling.BILINEAR))
