"""Train the baselines: the whole UNet on image embeddings, and an adapter from scratch.

    python -m bench.baseline_training --work DIR [--samples 12000] [--start-from assets/toybox]

The UNet learns to draw from image embeddings instead of text, as was done before adapters: sd-image-variations
(lambdalabs/sd-image-variations-diffusers), which the IP-Adapter paper (Ye et al. 2023) calls a fine-tuned model. It
starts from the trained UNet. The adapter is a base adapter as in the paper, which has not learned from the text first.
Both see exactly the same pairs in the same order. `python -m bench.baseline --work DIR` compares them.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.utils import make_image_grid
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPImageProcessor

from ipa_app.adapter.features import encode_image
from ipa_app.adapter.files import write_tensors
from ipa_app.errors import UserError
from ipa_app.models.catalog import BUNDLED
from ipa_app.training.loss import mse
from toybox.recipe.adapters import FILES, Pairs, fit_adapter, train_config
from toybox.recipe.data import ToyData, load_or_draw
from toybox.recipe.denoiser import GUIDANCE_SCALE, LATENESS, NUM_INFERENCE_STEPS, load_unet, noised, pipeline
from toybox.recipe.images import log_figures, normal
from toybox.recipe.settings import FULL, Recipe, StageSettings
from toybox.recipe.stages import start_from
from toybox.recipe.towers import load_image_encoder
from toybox.recipe.training import Figures, mixed_precision, pick_device, train_module

NO_PICTURE_SHARE = 0.1
"""Share of zero embeddings, for classifier-free guidance."""

PROJECTION_FILE = "projection.safetensors"


@dataclass(frozen=True)
class Baseline:
    """The fine-tuned UNet.

    Attributes:
        unet: attends to one image token instead of text tokens.
        projection: from the pooled CLIP embedding to that token; has no bias, so that "no picture" is a zero token.
    """

    unet: UNet2DConditionModel
    projection: nn.Linear

    def token(self, image_embeds: torch.Tensor) -> torch.Tensor:
        """Project embeddings (B, projection_dim) to the image token (B, 1, text_hidden)."""
        return self.projection(image_embeds)[:, None]


def save_baseline(baseline: Baseline, folder: Path) -> None:
    """Write a baseline to a work folder's `baseline`, the UNet in diffusers layout."""
    baseline.unet.save_pretrained(folder / "baseline" / "unet")
    write_tensors(baseline.projection.state_dict(), folder / "baseline" / PROJECTION_FILE)


def load_baseline(folder: Path) -> Baseline:
    """Load the trained baseline of a work folder, frozen and on the CPU."""
    unet = UNet2DConditionModel.from_pretrained(folder / "baseline" / "unet")
    weights = load_file(folder / "baseline" / PROJECTION_FILE)
    outside, inside = weights["weight"].shape
    projection = nn.Linear(inside, outside, bias=False)
    projection.load_state_dict(weights)
    return Baseline(unet.float().requires_grad_(False).eval(), projection.requires_grad_(False))


def train_baseline(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train UNet and projection on as many samples as the base adapter; write both to `folder/baseline`."""
    device, settings = pick_device(), recipe.base_adapter
    projection = nn.Linear(recipe.projection_dim, recipe.text_hidden, bias=False)
    baseline = Baseline(load_unet(folder), projection)
    parts = nn.ModuleDict({"unet": baseline.unet, "projection": projection}).requires_grad_(True).train()
    parts.to(device, torch.float32).to(memory_format=torch.channels_last)
    pairs = Pairs("base", recipe, data, folder, "train")
    scheduler: Any = DDIMScheduler.from_pretrained(folder / "scheduler")

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, Figures]:
        batch = pairs.draw(settings.batch_size, generator)
        # Batches may be raw elsewhere; pairs are encoded.
        assert batch.latents is not None and batch.latents_std is not None
        assert batch.features is not None and batch.loss_weights is not None
        clean = batch.latents + batch.latents_std * normal(batch.latents.shape, generator, device)
        noisy, timesteps, target = noised(scheduler, clean, generator, lateness=LATENESS)
        without = torch.rand(len(batch), generator=generator) < NO_PICTURE_SHARE
        seen = batch.features.masked_fill(without[:, None].to(device), 0)
        with mixed_precision():
            prediction = baseline.unet(noisy, timesteps, baseline.token(seen)).sample
        return mse(prediction, target, batch.loss_weights).mean(), {}

    def sample() -> None:
        _sheet(baseline, heldout, folder)

    seen = train_module("baseline", module=parts, loss=loss, settings=settings, folder=folder, sample=sample)
    log_figures(folder, "baseline", {"samples": seen})
    save_baseline(baseline, folder)


@torch.no_grad()
def _sheet(baseline: Baseline, heldout: ToyData, folder: Path) -> None:
    """Write eight held-out pictures, with what is drawn from them below, to `samples/baseline.png`."""
    references = [Image.fromarray(image) for image in heldout.images[:16:2]]
    processor = CLIPImageProcessor.from_pretrained(folder / "feature_extractor")
    pixel_values = processor(images=references, return_tensors="pt").pixel_values
    features = encode_image(load_image_encoder(folder), pixel_values, "base")
    pictures: Any = pipeline(folder, baseline.unet)(
        prompt_embeds=baseline.token(features.cond),
        negative_prompt_embeds=baseline.token(features.uncond),
        num_inference_steps=NUM_INFERENCE_STEPS,
        guidance_scale=GUIDANCE_SCALE,
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(references))],
    )
    path = folder / "samples" / "baseline.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    make_image_grid([*references, *pictures.images], rows=2, cols=len(references)).save(path)


def train_plain_adapter(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train a base adapter from scratch, as in the paper, and write `folder/plain_adapter/<published name>`."""
    config = train_config("base", recipe, recipe.base_adapter, folder / "adapter-plain", pretrained=None)
    fit_adapter(replace(config, scale=1.0), recipe, data, heldout, folder, target=plain_adapter_path(folder))


def plain_adapter_path(folder: Path) -> Path:
    """Return the path of the adapter that was trained from scratch."""
    return folder / "plain_adapter" / FILES["base"]


def main() -> None:
    """Train both in a work folder of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="work folder: one of the recipe, or a new one")
    parser.add_argument("--samples", type=int, default=12_000, help="training pairs that both see")
    parser.add_argument("--subjects", type=int, default=12_000, help="number of subjects to draw for a new folder")
    parser.add_argument("--start-from", type=Path, default=BUNDLED, help="bundle whose parts a new folder gets")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    settings = StageSettings(samples=arguments.samples, batch_size=16, lr=6e-4)
    recipe, folder = replace(FULL, subjects=arguments.subjects, base_adapter=settings), arguments.work
    try:
        if not (folder / "done").exists():
            start_from(arguments.start_from, folder, recipe)
        data, heldout = (load_or_draw(recipe, folder / "data", split) for split in ("train", "heldout"))
        train_baseline(recipe, data, heldout, folder)
        train_plain_adapter(recipe, data, heldout, folder)
    except UserError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
