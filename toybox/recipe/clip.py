"""Stage: text and vision towers, trained together by contrast as CLIP is (Radford et al. 2021)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from toybox.recipe import sheets
from toybox.recipe.dataset import Split, ToyData
from toybox.recipe.settings import Recipe
from toybox.recipe.tensors import at_hand, clip_pixels, pixels
from toybox.recipe.tokenizer import load_tokenizer
from toybox.recipe.training import Figures, pick_device, train_module

MAX_LOGIT_SCALE = math.log(100)
"""CLIP clips its temperature at 1/100 to keep training stable (section 2.5)."""


class ClipPair(nn.Module):
    """The two towers and their temperature."""

    def __init__(self, recipe: Recipe, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text = CLIPTextModelWithProjection(_text_config(recipe, tokenizer))
        self.vision = CLIPVisionModelWithProjection(_vision_config(recipe))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, input_ids: torch.Tensor, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised embeddings of captions and pictures, (B, projection_dim) each."""
        text = F.normalize(self.text(input_ids).text_embeds, dim=-1)
        image = F.normalize(self.vision(pixel_values).image_embeds, dim=-1)
        return text, image


def _text_config(recipe: Recipe, tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
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


def _vision_config(recipe: Recipe) -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=recipe.vision_hidden,
        intermediate_size=4 * recipe.vision_hidden,
        projection_dim=recipe.projection_dim,
        num_hidden_layers=recipe.vision_layers,
        num_attention_heads=4,
        image_size=recipe.vision_size,
        patch_size=recipe.vision_patch,
    )


def encode_captions(tokenizer: CLIPTokenizer, captions: list[list[str]]) -> torch.Tensor:
    """Token ids of every caption of every picture.

    Returns:
        (N, captions per picture, text_tokens) int64, padded with the end token as Stable Diffusion does.
    """
    flat = [text for texts in captions for text in texts]
    ids = tokenizer(flat, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return ids.view(len(captions), -1, ids.shape[-1])


def token_ids(tokenizer: CLIPTokenizer, data: ToyData, folder: Path, split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    """Of all captions of a split (N, captions per picture, tokens), and of those of the scenes (N, tokens).

    Kept in ``folder``, until `forget_token_ids`: every stage with captions needs them.
    """
    path = folder / f"token-ids-{split}.pt"
    with PartialState().main_process_first():
        if not path.exists():
            scenes = [[text] for text in data.scene_captions]
            ids = {"captions": encode_captions(tokenizer, data.captions), "scenes": encode_captions(tokenizer, scenes)}
            torch.save(ids, path)
    ids = torch.load(path, weights_only=True)
    return ids["captions"], ids["scenes"][:, 0]


def forget_token_ids(folder: Path) -> None:
    """Have the captions of every split taken apart anew, because the tokenizer is another one."""
    for path in folder.glob("token-ids-*.pt"):
        path.unlink()


def train_clip(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train both towers and write ``text_encoder``, ``image_encoder`` and ``feature_extractor``."""
    device = pick_device()
    tokenizer = load_tokenizer(folder)
    pair = ClipPair(recipe, tokenizer).to(device)
    images = at_hand(data.images, device)
    ids, _ = token_ids(tokenizer, data, folder, "train")
    heldout_ids = token_ids(tokenizer, heldout, folder, "heldout")[0][:, 0]

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, Figures]:
        rows = torch.randint(len(data), (recipe.clip.batch_size,), generator=generator)
        wording = torch.randint(ids.shape[1], (len(rows),), generator=generator)
        batch = clip_pixels(pixels(images, rows, device), recipe.vision_size)
        return _contrast(pair, _trim(ids[rows, wording], tokenizer).to(device), batch)

    def note() -> None:
        sheets.note(folder, "clip", {"retrieval": _retrieval(pair, heldout_ids.to(device), heldout, recipe)})

    train_module("clip", module=pair, loss=loss, settings=recipe.clip, folder=folder, sample=note)
    _write(pair, recipe, folder)


def _trim(ids: torch.Tensor, tokenizer: CLIPTokenizer) -> torch.Tensor:
    # Tokens after the first end token take no part in the pooled embedding (attention is causal).
    used = int((ids != tokenizer.eos_token_id).sum(dim=1).max()) + 1
    return ids[:, :used]


def _contrast(pair: ClipPair, input_ids: torch.Tensor, pixel_values: torch.Tensor) -> tuple[torch.Tensor, Figures]:
    text, image = pair(input_ids, pixel_values)
    logits = pair.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp() * text @ image.T
    target = torch.arange(len(logits), device=logits.device)
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    return loss, {"right": (logits.argmax(dim=1) == target).float().mean()}


@torch.no_grad()
def _retrieval(pair: ClipPair, ids: torch.Tensor, data: ToyData, recipe: Recipe) -> float:
    """Share of held-out pictures whose own caption is the nearest of all held-out captions."""
    images = []
    for rows in torch.arange(len(data)).split(128):
        batch = clip_pixels(pixels(data.images, rows, ids.device), recipe.vision_size)
        images.append(F.normalize(pair.vision(batch).image_embeds, dim=-1))
    texts = torch.cat([F.normalize(pair.text(part).text_embeds, dim=-1) for part in ids.split(256)])
    nearest = (torch.cat(images) @ texts.T).argmax(dim=1).cpu()
    return float((nearest == torch.arange(len(data))).float().mean())


def _write(pair: ClipPair, recipe: Recipe, folder: Path) -> None:
    # Stable Diffusion's text encoder is the tower without its projection. Going through the base class of
    # transformers (from_pretrained drops the projection) keeps the key names that other loaders expect.
    pair.text.save_pretrained(folder / "text_encoder")
    CLIPTextModel.from_pretrained(folder / "text_encoder").save_pretrained(folder / "text_encoder")
    pair.vision.save_pretrained(folder / "image_encoder")
    side = recipe.vision_size
    CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}).save_pretrained(
        folder / "feature_extractor"
    )


def load_text_encoder(folder: Path) -> CLIPTextModel:
    """The trained text tower, frozen."""
    return (
        CLIPTextModel.from_pretrained(folder / "text_encoder")
        .to(pick_device(), torch.float32)
        .requires_grad_(False)
        .eval()
    )


def load_image_encoder(folder: Path) -> CLIPVisionModelWithProjection:
    """The trained vision tower, frozen."""
    encoder = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder")
    return encoder.to(pick_device(), torch.float32).requires_grad_(False).eval()
