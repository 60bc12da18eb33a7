"""Outputs of the frozen parts for later stages: cached latents of pictures, hidden states of captions."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import PartialState
from transformers import CLIPTextModel, CLIPTokenizer

from ipa_app.runtime import written_whole
from toybox.recipe.autoencoder import load_vae
from toybox.recipe.backends import tuned_backends
from toybox.recipe.data import Split, ToyData
from toybox.recipe.images import normal, pixels, take_rows
from toybox.recipe.tokenizer import encode_captions, load_tokenizer, token_ids
from toybox.recipe.towers import load_text_encoder
from toybox.recipe.training import mixed_precision, pick_device

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Latents:
    """Latents of a split.

    Attributes:
        mean: (N, 4, h, w) float16, mean of the autoencoder's posterior; in GPU memory if there is a GPU.
        deviation: (N, 4, h, w) float16, its standard deviation, in the same memory.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def sample(self, rows: torch.Tensor, generator: torch.Generator, device: torch.device) -> torch.Tensor:
        """Sample the posterior, (B, 4, h, w) float32, as training on pictures would."""
        mean, deviation = (take_rows(part, rows, device).float() for part in (self.mean, self.deviation))
        return mean + deviation * normal(mean.shape, generator, device)


@torch.no_grad()
def latents_of(data: ToyData, folder: Path, split: str, *, shrink: int = 1) -> Latents:
    """Encode a split once; cached in `folder`.

    Args:
        data: the split.
        folder: of the recipe's results.
        split: its name.
        shrink: factor by which the pictures are shrunk before encoding, for training that starts small.
    """
    path = folder / f"latents-{split}-{shrink}.pt"
    with PartialState().main_process_first():
        if not path.exists():
            logger.info("encoding %d pictures of %s", len(data), split)
            with written_whole(path) as part:
                torch.save(_encoded(data, folder, shrink), part)
    return Latents(**torch.load(path, weights_only=True, map_location=pick_device()))


def _encoded(data: ToyData, folder: Path, shrink: int) -> dict[str, torch.Tensor]:
    vae, device = load_vae(folder).to(memory_format=torch.channels_last), pick_device()
    means, deviations = [], []
    for rows in torch.arange(len(data)).split(64):
        batch = pixels(data.images, rows, device)
        if shrink > 1:
            side = batch.shape[-1] // shrink
            batch = F.interpolate(batch, size=(side, side), mode="bicubic", antialias=True).clamp(-1, 1)
        with mixed_precision(), tuned_backends(vae):
            posterior = vae.encode(batch).latent_dist
        means.append(posterior.mean.half().cpu().contiguous())
        deviations.append(posterior.std.half().cpu().contiguous())
    return {"mean": torch.cat(means), "deviation": torch.cat(deviations)}


class Captions:
    """The captions of a split, encoded on demand (the text tower is small)."""

    def __init__(self, data: ToyData, folder: Path, split: Split) -> None:
        self.tokenizer: CLIPTokenizer = load_tokenizer(folder)
        self.encoder: CLIPTextModel = load_text_encoder(folder)
        self.ids, self.scene_ids = token_ids(self.tokenizer, data, folder, split)
        self.empty = encode_captions(self.tokenizer, [[""]])[0, 0]

    def draw(self, rows: torch.Tensor, generator: torch.Generator, *, drop: float, scene: float) -> torch.Tensor:
        """Draw one caption per picture and return its token ids, (B, tokens).

        Args:
            rows: (B,) pictures.
            generator: decides the wording.
            drop: share of empty captions.
            scene: share of captions that name only pose and place.
        """
        wording = torch.randint(self.ids.shape[1], (len(rows),), generator=generator)
        u = torch.rand(len(rows), generator=generator)[:, None]
        ids = torch.where(u < drop + scene, self.scene_ids[rows], self.ids[rows, wording])
        return torch.where(u < drop, self.empty, ids)

    def hidden_states(self, ids: torch.Tensor) -> torch.Tensor:
        """Return (B, tokens, text_hidden), what Stable Diffusion's UNet attends to, with gradients unless frozen."""
        device = next(self.encoder.parameters()).device
        return self.encoder(ids.to(device, non_blocking=True)).last_hidden_state

    @torch.no_grad()
    def cached_states(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the hidden states of many captions (N, tokens) at once, float16."""
        return torch.cat([self.hidden_states(part).half() for part in ids.split(256)])
