"""Stage: the UNet, text to latents, trained on v-prediction with a schedule that ends in pure noise."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import PartialState
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel

from ipa_app.training.loss import mse
from toybox.recipe import sheets
from toybox.recipe.backends import compile_for_gpu
from toybox.recipe.dataset import ToyData
from toybox.recipe.frozen import Captions, latents_of
from toybox.recipe.loss_weights import loss_weights
from toybox.recipe.sampling import picture_sheet
from toybox.recipe.settings import Recipe
from toybox.recipe.tensors import at_hand, normal, taken
from toybox.recipe.training import Figures, mixed_precision, pick_device, share, train_module

TEXT_DROP = 0.1
"""Share of empty captions, for classifier-free guidance (Ho & Salimans 2022)."""
SCENE_SHARE = 0.2
"""Share of captions that leave the subject open, as prompts beside a reference picture do."""
LATENESS = 3.0
"""Preference for noisy timesteps where a skeleton or a reference decides the layout; see `noised`."""
WORDS_LATENESS = 1.5
"""Preference for noisy timesteps where words alone decide a pose; see `noised`."""
SMALL_UNTIL = 0.5
"""Share of the budget that is trained on pictures of half the side, where a step costs a quarter: what words mean is
learned as well on those."""


def new_scheduler() -> DDIMScheduler:
    """The bundle's noise schedule: zero terminal SNR, so that sampling starts from pure noise (Lin et al. 2023)."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # unused by trailing spacing; diffusers warns about other values
    )


def new_unet(recipe: Recipe) -> UNet2DConditionModel:
    """An untrained UNet with cross-attention at every level but the first, where attention costs most."""
    levels = len(recipe.unet_channels)
    return UNet2DConditionModel(
        sample_size=recipe.latent_size,
        block_out_channels=recipe.unet_channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * (levels - 1)),
        up_block_types=(*("CrossAttnUpBlock2D",) * (levels - 1), "UpBlock2D"),
        cross_attention_dim=recipe.text_hidden,
        attention_head_dim=recipe.unet_heads,
        norm_num_groups=16,
    )


def load_unet(folder: Path) -> UNet2DConditionModel:
    """The trained UNet, frozen."""
    return (
        UNet2DConditionModel.from_pretrained(folder / "unet")
        .to(pick_device(), torch.float32)
        .requires_grad_(False)
        .eval()
    )


def train_unet(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train the UNet with the text tower, as Rombach et al. 2022 do; write both, and ``scheduler``.

    A UNet that lies there already, of the bundle that the recipe goes on from, trains on.

    Contrast taught the tower which words a picture has, and hardly which colour belongs to which garment.
    """
    device, settings = pick_device(), recipe.unet
    scheduler = new_scheduler()
    scheduler.save_pretrained(folder / "scheduler")
    unet = load_unet(folder).requires_grad_(True) if (folder / "unet").exists() else new_unet(recipe)
    unet = unet.train().to(device, dtype=torch.float32, memory_format=torch.channels_last)
    compile_for_gpu(unet)
    small, whole = (latents_of(data, folder, "train", shrink=shrink) for shrink in (2, 1))
    captions = Captions(data, folder, "train")
    parts = nn.ModuleDict({"unet": unet, "text_encoder": captions.encoder.requires_grad_(True).train()})
    keypoints = at_hand(data.keypoints, device)

    def loss(generator: torch.Generator, fraction: float) -> tuple[torch.Tensor, Figures]:
        rows = torch.randint(len(data), (share(settings.batch_size),), generator=generator)
        clean = (small if fraction < SMALL_UNTIL else whole).sample(rows, generator, device)
        noisy, timesteps, target = noised(scheduler, clean, generator, lateness=WORDS_LATENESS)
        with mixed_precision():
            hidden = captions.hidden_states(captions.draw(rows, generator, drop=TEXT_DROP, scene=SCENE_SHARE))
            prediction = unet(noisy, timesteps, hidden).sample
        weights = loss_weights(taken(keypoints, rows, device), clean.shape)
        return mse(prediction, target, weights).mean(), {}

    def sheet() -> None:
        save_text_encoder(captions.encoder, folder)
        text_sheet(folder, unet, heldout)

    train_module("unet", module=parts, loss=loss, settings=settings, folder=folder, sample=sheet)
    if PartialState().is_main_process:
        unet.save_pretrained(folder / "unet")


def save_text_encoder(text_encoder: CLIPTextModel, folder: Path) -> None:
    """Write ``text_encoder``, which the sheets' pipelines read."""
    text_encoder.save_pretrained(folder / "text_encoder")


def text_sheet(folder: Path, unet: UNet2DConditionModel, heldout: ToyData) -> None:
    """What the UNet makes of the captions of eight held-out pictures, in ``sheets/unet.png``."""
    prompts = [texts[0] for texts in heldout.captions[:16:2]]
    picture_sheet(folder, unet, prompts, folder / "sheets" / "unet.png")
    sheets.note(folder, "unet", {"pictures": len(prompts)})


def noised(
    scheduler: DDIMScheduler, clean: torch.Tensor, generator: torch.Generator, *, lateness: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw noise and timesteps; (noisy latents, timesteps, v target), after Salimans & Ho 2022, appendix D.

    The timesteps of a batch lie one in each of equal stretches of the schedule, so that the loss of a small batch
    varies less from step to step (Kingma et al. 2021, appendix I.1).

    Args:
        scheduler: gives the schedule.
        clean: (B, 4, h, w) latents.
        generator: of the step, on the CPU.
        lateness: above 1 prefers noisy timesteps, where the layout of a picture is decided (Mou et al. 2023, section
            3.3, whose timesteps are those of 3).
    """
    noise = normal(clean.shape, generator, clean.device)
    places = (torch.arange(len(clean)) + torch.rand(len(clean), generator=generator)) / len(clean)
    steps = scheduler.config.num_train_timesteps
    timesteps = ((1 - places**lateness) * steps).long().clamp(max=steps - 1).to(clean.device, non_blocking=True)
    noisy = scheduler.add_noise(clean, noise, timesteps)
    return noisy, timesteps, scheduler.get_velocity(clean, noise, timesteps)
