"""Pixels to latents and back: the one place, for drawing, previews, inpainting, training and its samples.

A VAE encodes to, and decodes from, `z`; its UNet sees `(z - offset) * factor`. Both come from the VAE's config.json:
`scaling_factor`, and if present `shift_factor`, or `latents_mean` and `latents_std` of each channel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import retrieve_latents
from torch import Tensor, nn

from ipa_app.models.caches import Posteriors
from ipa_app.models.memory import TILE_SIDE

Generators = torch.Generator | Sequence[torch.Generator] | None


def scaled(latents: Tensor, config: Mapping[str, Any]) -> Tensor:
    """Scale a VAE's latents to the range that its UNet sees.

    Args:
        latents: (batch, channels, height, width), as encoded.
        config: of the VAE.
    """
    statistics = _statistics(latents, config)
    if statistics is None:
        return (latents - _shift(config)) * config["scaling_factor"]
    mean, deviation = statistics
    return (latents - mean) * config["scaling_factor"] / deviation


def unscaled(latents: Tensor, config: Mapping[str, Any]) -> Tensor:
    """Scale a UNet's latents back to the range that its VAE decodes; the inverse of `scaled`."""
    statistics = _statistics(latents, config)
    if statistics is None:
        return latents / config["scaling_factor"] + _shift(config)
    mean, deviation = statistics
    return latents * deviation / config["scaling_factor"] + mean


def scaled_deviation(deviation: Tensor, config: Mapping[str, Any]) -> Tensor:
    """Scale the standard deviation of encoded latents to the range that the UNet sees; a deviation is not shifted."""
    statistics = _statistics(deviation, config)
    return deviation * config["scaling_factor"] / (1 if statistics is None else statistics[1])


def encode(
    vae: AutoencoderKL,
    pixels: Tensor,
    *,
    posteriors: Posteriors,
    generator: Generators = None,
    upcast: bool = False,
) -> Tensor:
    """Encode pixels to latents in the range that the UNet sees; with a generator per picture, one at a time.

    Args:
        vae: whose latents they will be.
        pixels: (batch, 3, height, width), -1 to 1.
        posteriors: cache of the distributions that this VAE returned before.
        generator: for sampling from the VAE's distribution; one for all, or one per picture.
        upcast: encode in single precision, where half precision runs out of range.

    Returns:
        (batch, channels, height / factor, width / factor), in the precision of the pixels.
    """
    if isinstance(generator, Sequence):
        rows = zip(pixels.split(1), generator, strict=True)
        given = ((_posterior(vae, row, posteriors, upcast=upcast), each) for row, each in rows)
        latents = torch.cat([retrieve_latents(posterior, generator=each) for posterior, each in given])
    else:
        latents = retrieve_latents(_posterior(vae, pixels, posteriors, upcast=upcast), generator=generator)
    return scaled(latents.to(pixels.dtype), vae.config)


def _posterior(vae: AutoencoderKL, pixels: Tensor, posteriors: Posteriors, *, upcast: bool) -> AutoencoderKLOutput:
    key = _key(vae, pixels, upcast=upcast)
    posterior = posteriors.get(key)
    if posterior is None:
        with in_float32([vae] if upcast else []):
            posterior = cast(AutoencoderKLOutput, vae.encode(pixels.float() if upcast else pixels))
        posteriors.put(key, posterior)
    return posterior


def _key(vae: AutoencoderKL, pixels: Tensor, *, upcast: bool) -> Hashable:
    """Return the cache key of a VAE's distribution for pixels: their hash, and the VAE's current settings."""
    content = pixels.detach().cpu().contiguous().view(torch.uint8).numpy()
    how = (vae.dtype, vae.use_tiling, vae.tile_sample_min_size, upcast)
    return (hashlib.sha256(content).digest(), pixels.shape, pixels.dtype, *how)


def decode(vae: AutoencoderKL | AutoencoderTiny, latents: Tensor, *, upcast: bool = False) -> Tensor:
    """Decode latents in the range that the UNet sees to pixels.

    Args:
        vae: whose latents they are.
        latents: (batch, channels, height, width).
        upcast: decode in single precision if the VAE is held in float16.

    Returns:
        (batch, 3, height * factor, width * factor), about -1 to 1.
    """
    with in_float32([vae] if upcast and vae.dtype == torch.float16 else []):
        return vae.decode(unscaled(latents.to(vae.dtype), vae.config), return_dict=False)[0]


def tile(vae: AutoencoderKL | AutoencoderTiny) -> None:
    """Have pictures larger than a tile decoded and encoded in tiles, one after the other."""
    if isinstance(vae, AutoencoderKL):  # others already have tiles of that size
        vae.tile_sample_min_size = min(vae.tile_sample_min_size, TILE_SIDE)
        vae.tile_latent_min_size = vae.tile_sample_min_size // 2 ** (len(vae.config["block_out_channels"]) - 1)
    vae.enable_tiling()
    vae.enable_slicing()


@contextmanager
def in_tiles(vae: AutoencoderKL | AutoencoderTiny) -> Iterator[None]:
    """Tile as with `tile` inside the `with` block."""
    names = ("use_tiling", "use_slicing", "tile_sample_min_size", "tile_latent_min_size")
    kept = {name: getattr(vae, name) for name in names}
    try:
        tile(vae)
        yield
    finally:
        for name, value in kept.items():
            setattr(vae, name, value)


def _shift(config: Mapping[str, Any]) -> float:
    return config.get("shift_factor") or 0.0


def _statistics(latents: Tensor, config: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
    """Return the channels' mean and standard deviation (1, channels, 1, 1); None if the VAE has none."""
    mean, deviation = config.get("latents_mean"), config.get("latents_std")
    if mean is None or deviation is None:
        return None
    mean, deviation = (torch.tensor(values).view(1, -1, 1, 1).to(latents) for values in (mean, deviation))
    return mean, deviation


@contextmanager
def in_float32(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Hold modules in float32 inside the `with` block, and restore their own weights afterwards.

    Every half-precision number is also a float32 number, so nothing is lost. Not for modules that another thread uses
    meanwhile.

    Args:
        modules: in any precision; for that time they need up to twice as much memory on top.
    """
    tensors = {id(tensor): tensor for tensor in chain.from_iterable(_tensors(module) for module in modules)}
    kept = [(tensor, tensor.data) for tensor in tensors.values() if tensor.is_floating_point()]
    try:
        for tensor, data in kept:
            tensor.data = data.float()
        yield
    finally:
        for tensor, data in kept:
            tensor.data = data


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    return chain(module.parameters(), module.buffers())
