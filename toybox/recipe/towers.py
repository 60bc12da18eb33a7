"""Stages: text and image encoder, trained together contrastively like CLIP, then the image encoder alone.

A caption is distinguished from the others of its batch mostly by its place, so contrastive training (Radford et al.
2021) leaves the image encoder blind to much of the character. In the stage `vision`, a linear layer, discarded later,
must predict every attribute from the projected embedding, which bounds what a reference picture can convey. The loss
is the squared error and not the likelihood of the right word: the base adapter applies a linear layer to the embedding,
without a softmax to single out what is merely likelier.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from PIL import Image
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from toybox import world
from toybox.recipe.data import Split, ToyData, cached_renders
from toybox.recipe.images import Rows, clip_pixels, log_figures, on_device, pixels, take_rows
from toybox.recipe.settings import Recipe
from toybox.recipe.tokenizer import load_tokenizer, token_ids
from toybox.recipe.training import Figures, load_frozen, mixed_precision, pick_device, share, train_module

MAX_LOGIT_SCALE = math.log(100)
"""CLIP clips its temperature at 1/100 to keep training stable (section 2.5)."""


def new_clip(recipe: Recipe, tokenizer: CLIPTokenizer) -> CLIPModel:
    """Build both towers and their temperature, untrained."""
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.text_hidden,
        intermediate_size=4 * recipe.text_hidden,
        projection_dim=recipe.projection_dim,
        num_hidden_layers=recipe.text_layers,
        num_attention_heads=4,
        max_position_embeddings=recipe.text_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=recipe.vision_hidden,
        intermediate_size=4 * recipe.vision_hidden,
        projection_dim=recipe.projection_dim,
        num_hidden_layers=recipe.vision_layers,
        num_attention_heads=4,
        image_size=recipe.vision_size,
        patch_size=recipe.vision_patch,
    )
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=recipe.projection_dim))


def train_clip(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train both towers and write `text_encoder`, `image_encoder` and `feature_extractor`."""
    device = pick_device()
    tokenizer = load_tokenizer(folder)
    clip = new_clip(recipe, tokenizer).to(device)
    images = on_device(data.images, device)
    ids, _ = token_ids(tokenizer, data, folder, "train")
    heldout_ids = token_ids(tokenizer, heldout, folder, "heldout")[0][:, 0]

    def compare(texts: torch.Tensor, pictures: Rows, rows: torch.Tensor) -> Any:
        # Tokens after the first end token do not affect the pooled embedding (attention is causal).
        used = int((texts != tokenizer.eos_token_id).sum(dim=1).max()) + 1
        batch = clip_pixels(pixels(pictures, rows, device), recipe.vision_size)
        return clip(input_ids=texts[:, :used].to(device), pixel_values=batch, return_loss=True)

    def right(compared: Any) -> torch.Tensor:
        logits = compared.logits_per_text
        return (logits.argmax(dim=1) == torch.arange(len(logits), device=device)).float().mean()

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, Figures]:
        rows = torch.randint(len(data), (recipe.clip.batch_size,), generator=generator)
        wording = torch.randint(ids.shape[1], (len(rows),), generator=generator)
        clip.logit_scale.data.clamp_(max=MAX_LOGIT_SCALE)
        compared = compare(ids[rows, wording], images, rows)
        return compared.loss, {"right": right(compared)}

    @torch.no_grad()
    def measure() -> None:
        """Log the share of held-out captions whose own picture is the nearest."""
        share = right(compare(heldout_ids, heldout.images, torch.arange(len(heldout))))
        log_figures(folder, "clip", {"retrieval": round(float(share), 4)})

    train_module("clip", module=clip, loss=loss, settings=recipe.clip, folder=folder, sample=measure)
    # Each tower's own class keeps the names of tensors that other loaders expect; Stable Diffusion's text encoder is
    # the tower without its projection.
    clip.save_pretrained(folder / "clip")
    CLIPTextModel.from_pretrained(folder / "clip").save_pretrained(folder / "text_encoder")
    CLIPVisionModelWithProjection.from_pretrained(folder / "clip").save_pretrained(folder / "image_encoder")
    side = recipe.vision_size
    CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}).save_pretrained(
        folder / "feature_extractor"
    )


def load_text_encoder(folder: Path) -> CLIPTextModel:
    """Load the trained text tower, frozen."""
    return load_frozen(CLIPTextModel, folder / "text_encoder")


def load_image_encoder(folder: Path) -> CLIPVisionModelWithProjection:
    """Load the trained image encoder, frozen."""
    return load_frozen(CLIPVisionModelWithProjection, folder / "image_encoder")


SHIFT, ZOOM = 0.08, 0.1
"""Pictures are shifted by up to this share of their side and scaled by up to this much, and half of them are mirrored,
so that the tower does not memorise the training pictures."""


class AttributeReader(nn.Module):
    """The image encoder with a linear layer on its embeddings that predicts which words are true."""

    def __init__(self, encoder: CLIPVisionModelWithProjection) -> None:
        super().__init__()
        self.encoder = encoder
        self.words = nn.Linear(encoder.config.projection_dim, sum(map(len, world.ATTRIBUTES.values())))

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Predict 1 for true words and 0 for the others: (B, words) for every attribute."""
        values = self.words(self.encoder(pixel_values).image_embeds)
        return values.split([len(words) for words in world.ATTRIBUTES.values()], dim=1)


class WordTargets:
    """Which words are true of a split's pictures, and each attribute's variance to be explained."""

    def __init__(self, labels: torch.Tensor) -> None:
        """Create targets from the data set's `labels`, (N, attributes), on the device that pictures are read on."""
        attributes = zip(labels.T, world.ATTRIBUTES.values(), strict=True)
        self._holds = [F.one_hot(column, len(words)).float() for column, words in attributes]
        self._variances = [holds.var(dim=0, correction=0).sum().clamp(min=1e-6) for holds in self._holds]

    def unexplained(self, readings: tuple[torch.Tensor, ...], rows: torch.Tensor) -> torch.Tensor:
        """Return the share of each attribute's variance in `rows` that `readings` leaves unexplained, (attributes,)."""
        shares = [
            (values - take_rows(holds, rows, values.device)).square().sum(dim=1).mean() / variance
            for values, holds, variance in zip(readings, self._holds, self._variances, strict=True)
        ]
        return torch.stack(shares)


def train_vision(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train `image_encoder` further and rewrite it; its held-out accuracy by attribute goes to figures.jsonl."""
    device = pick_device()
    reader = AttributeReader(load_image_encoder(folder).requires_grad_(True).train()).to(device)
    targets = WordTargets(torch.from_numpy(data.labels).to(device))
    pictures = on_device(as_seen(recipe, data, folder, "train"), device)

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, Figures]:
        rows = torch.randint(len(data), (share(recipe.vision.batch_size),), generator=generator)
        batch = _moved(pixels(pictures, rows, device), generator)
        with mixed_precision():
            readings = reader(clip_pixels(batch, recipe.vision_size))
        return targets.unexplained(readings, rows).mean(), {}

    def measure() -> None:
        log_figures(folder, "vision", _accuracy(reader, heldout, recipe))

    train_module("vision", module=reader, loss=loss, settings=recipe.vision, folder=folder, sample=measure)
    if PartialState().is_main_process:
        reader.encoder.save_pretrained(folder / "image_encoder")


def as_seen(recipe: Recipe, data: ToyData, folder: Path, split: Split) -> np.ndarray:
    """Return a split's pictures at the tower's input size, resampled once as CLIP's image processor does."""
    if recipe.size == recipe.vision_size:
        return data.images
    return cached_renders(
        folder / f"seen-{split}.npy", partial(_resampled, recipe.vision_size), data.images, size=recipe.vision_size
    )


def _resampled(side: int, picture: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


def _moved(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Randomly shift, scale and mirror each of the pictures (B, 3, H, W), repeating edge pixels."""
    drawn = (2 * torch.rand(4, len(batch), generator=generator) - 1).to(batch)
    scale, zero = 1 + ZOOM * drawn[0], torch.zeros_like(drawn[0])
    # The unit of affine_grid is half a side.
    x, y = 2 * SHIFT * drawn[1:3]
    across = scale * drawn[3].sign()
    grid = torch.stack([torch.stack([across, zero, x], dim=-1), torch.stack([zero, scale, y], dim=-1)], dim=1)
    where = F.affine_grid(grid, list(batch.shape), align_corners=False)
    return F.grid_sample(batch, where, padding_mode="border", align_corners=False)


@torch.no_grad()
def _accuracy(reader: AttributeReader, data: ToyData, recipe: Recipe) -> dict[str, float]:
    """Return by attribute the share of pictures whose right word scores highest, and the unexplained variance."""
    device, labels = pick_device(), torch.from_numpy(data.labels)
    readings = []
    for rows in torch.arange(len(data)).split(128):
        readings.append(reader(clip_pixels(pixels(data.images, rows, device), recipe.vision_size)))
    whole = tuple(torch.cat(parts).cpu() for parts in zip(*readings, strict=True))
    right = [(each.argmax(dim=1) == labels[:, i]).float().mean() for i, each in enumerate(whole)]
    shares = {name: round(float(share), 3) for name, share in zip(world.ATTRIBUTES, right, strict=True)}
    return shares | {
        "unexplained": round(float(WordTargets(labels).unexplained(whole, torch.arange(len(data))).mean()), 4)
    }
