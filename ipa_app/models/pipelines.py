"""The pipelines of a model: one per task, all sharing the same parts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, ControlNetModel, DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ipa_app.models.caches import Posteriors
from ipa_app.models.families import CONTROLNET_TASKS, Family, PipelineTask
from ipa_app.models.latents import Generators, encode


class StartsFromPictures:
    """Mixin for image-to-image pipelines: encodes the picture to start from with `encode`."""

    family: Family
    posteriors: Posteriors
    vae: AutoencoderKL
    scheduler: Any

    def prepare_latents(
        self,
        image: Tensor,
        timestep: Tensor,
        batch_size: int,
        num_images_per_prompt: int,
        dtype: torch.dtype,
        device: torch.device,
        generator: Generators = None,
        add_noise: bool = True,
    ) -> Tensor:
        """Encode pixels (batch, 3, height, width), one picture per prompt, and add the noise of a timestep."""
        del batch_size, num_images_per_prompt
        pixels = image.to(device=device, dtype=dtype)
        upcast = self.family.needs_upcast(self.vae)
        latents = encode(self.vae, pixels, posteriors=self.posteriors, generator=generator, upcast=upcast)
        if not add_noise:
            return latents
        noise = randn_tensor(latents.shape, generator=generator, device=device, dtype=dtype)
        return self.scheduler.add_noise(latents, noise, timestep)


class PaintsIntoPictures:
    """Mixin for inpainting pipelines: encodes the picture to change with `encode`, and only once."""

    family: Family
    posteriors: Posteriors
    vae: AutoencoderKL
    vae_scale_factor: int

    def prepare_mask_latents(
        self,
        mask: Tensor,
        masked_image: Tensor,
        batch_size: int,
        height: int,
        width: int,
        dtype: torch.dtype,
        device: torch.device,
        generator: Generators,
        *others: Any,
    ) -> tuple[Tensor, Tensor]:
        """Resize the mask to the latents' size.

        diffusers encodes the surroundings of the mask for any UNet. UNets with inputs for them are not supported here,
        and others ignore them: random numbers, as many as the sampling would take from each generator, stand in.
        """
        size = (height // self.vae_scale_factor, width // self.vae_scale_factor)
        shape = (len(masked_image), self.vae.config.latent_channels, *size)
        sampled = torch.float32 if self.family.needs_upcast(self.vae) else dtype
        unseen = randn_tensor(shape, generator=generator, device=device, dtype=sampled).to(dtype)
        return super().prepare_mask_latents(  # pyright: ignore[reportAttributeAccessIssue] - of the class beside this one
            mask, unseen, batch_size, height, width, dtype, device, generator, *others
        )

    def _encode_vae_image(self, image: Tensor, generator: Generators) -> Tensor:
        if image.shape[1] == self.vae.config.latent_channels:
            return image  # the stand-in latents made above
        upcast = self.family.needs_upcast(self.vae)
        return encode(self.vae, image, posteriors=self.posteriors, generator=generator, upcast=upcast)


_STARTS: Mapping[PipelineTask, type] = MappingProxyType(
    {
        "image_to_image": StartsFromPictures,
        "inpaint": PaintsIntoPictures,
        "controlnet_inpaint": PaintsIntoPictures,
    }
)


def build_pipelines(
    family: Family, parts: Mapping[str, Any], *, index: Mapping[str, Any], posteriors: Posteriors
) -> Mapping[PipelineTask, DiffusionPipeline]:
    """Build a pipeline per task, all sharing the same parts, except for those that need a ControlNet.

    Args:
        family: of the model.
        parts: by their names, including the image encoder and its processor.
        index: the model's model_index.json.
        posteriors: cache of the VAE's distributions, for all of its pipelines.
    """
    pipelines: dict[PipelineTask, DiffusionPipeline] = {}
    for task in family.pipelines:
        if task not in CONTROLNET_TASKS:
            pipelines[task] = _build(task, family, parts, index=index, posteriors=posteriors)
    return MappingProxyType(pipelines)


def build_controlnet_pipeline(
    family: Family,
    parts: Mapping[str, Any],
    controlnet: ControlNetModel,
    task: PipelineTask,
    *,
    index: Mapping[str, Any],
    posteriors: Posteriors,
) -> DiffusionPipeline:
    """Build a pipeline that is guided by a ControlNet and shares the same parts; see `build_pipelines`."""
    return _build(task, family, {**parts, "controlnet": controlnet}, index=index, posteriors=posteriors)


def _build(
    task: PipelineTask,
    family: Family,
    parts: Mapping[str, Any],
    *,
    index: Mapping[str, Any],
    posteriors: Posteriors,
) -> DiffusionPipeline:
    """Build a pipeline by its constructor: from_pipe() casts the shared weights to float32 unless told otherwise."""
    options = {**family.options, **{name: index[name] for name in family.noted if name in index}}
    name = family.pipelines[task]
    kind = getattr(diffusers, name)
    if task in _STARTS:
        kind = type(name, (_STARTS[task], kind), {"family": family, "posteriors": posteriors})
    pipeline = kind(**parts, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
