"""Stages: the UNet, from text to latents, then a ControlNet for OpenPose skeletons, trained together with the UNet.

Both are trained with v-prediction and a schedule that ends in pure noise, and the text tower with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from torch import nn

from ipa_app.pose.draw import draw_skeleton
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.skeleton import Skeleton
from ipa_app.training.loss import mse
from toybox.recipe.autoencoder import load_vae
from toybox.recipe.backends import compile_for_gpu
from toybox.recipe.cached import Captions, latents_of
from toybox.recipe.data import Split, ToyData, cached_renders, load_or_draw
from toybox.recipe.images import Rows, normal, on_device, save_samples, take_rows
from toybox.recipe.loss_weights import loss_weights
from toybox.recipe.settings import Recipe
from toybox.recipe.tokenizer import load_tokenizer
from toybox.recipe.towers import load_text_encoder
from toybox.recipe.training import Figures, load_frozen, mixed_precision, pick_device, share, start_of, train_module

NUM_INFERENCE_STEPS = 20
"""DDIM steps of samples and of what a student learns from."""
GUIDANCE_SCALE = 3.0
"""Guidance scale of samples, and the bundle's default."""
TEXT_DROP = 0.1
"""Share of empty captions, for classifier-free guidance (Ho & Salimans 2022)."""
SCENE_SHARE = 0.2
"""Share of captions that leave the subject open, like prompts that accompany a reference picture."""
LATENESS = 3.0
"""Preference for noisy timesteps where a skeleton or a reference decides the layout; see `noised`."""
WORDS_LATENESS = 1.5
"""Preference for noisy timesteps where text alone decides a pose; see `noised`."""
SMALL_UNTIL = 0.5
"""Share of the budget that is trained on pictures of half the side, where a step costs a quarter: the meaning of words
is learned just as well on those."""
POSED_SHARE = 0.25
"""Share of a batch that has a skeleton."""
POSED_TEXT_DROP = 0.3
"""Share of empty captions beside skeletons: captions often name the pose, and the model must rely on the skeleton."""


def new_scheduler() -> DDIMScheduler:
    """Build the bundle's noise scheduler: zero terminal SNR, so sampling starts from pure noise (Lin et al. 2023)."""
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
    """Build an untrained UNet with cross-attention at every level but the first, where attention costs most."""
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
    """Load the trained UNet, frozen."""
    return load_frozen(UNet2DConditionModel, folder / "unet")


def train_unet(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train the UNet with the text tower, as in Rombach et al. 2022; write both, and `scheduler`.

    A UNet that is already there, of the bundle that the recipe continues, is trained further.

    Contrastive training taught the tower which words a picture has, but hardly which colour belongs to which garment.
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
    keypoints = on_device(data.keypoints, device)

    def loss(generator: torch.Generator, fraction: float) -> tuple[torch.Tensor, Figures]:
        rows = torch.randint(len(data), (share(settings.batch_size),), generator=generator)
        clean = (small if fraction < SMALL_UNTIL else whole).sample(rows, generator, device)
        noisy, timesteps, target = noised(scheduler, clean, generator, lateness=WORDS_LATENESS)
        with mixed_precision():
            hidden = captions.hidden_states(captions.draw(rows, generator, drop=TEXT_DROP, scene=SCENE_SHARE))
            prediction = unet(noisy, timesteps, hidden).sample
        weights = loss_weights(take_rows(keypoints, rows, device), clean.shape)
        return mse(prediction, target, weights).mean(), {}

    def sample() -> None:
        captions.encoder.save_pretrained(folder / "text_encoder")  # which the pipeline reads
        draw_text_samples(folder, unet, heldout)

    train_module("unet", module=parts, loss=loss, settings=settings, folder=folder, sample=sample)
    if PartialState().is_main_process:
        unet.save_pretrained(folder / "unet")


def draw_text_samples(folder: Path, unet: UNet2DConditionModel, heldout: ToyData) -> None:
    """Draw the captions of eight held-out pictures with the UNet, to `samples/unet.png`."""
    prompts = [texts[0] for texts in heldout.captions[:16:2]]
    pictures = pipeline(folder, unet)(
        prompts,
        num_inference_steps=NUM_INFERENCE_STEPS,
        guidance_scale=GUIDANCE_SCALE,
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(prompts))],
    ).images
    save_samples(folder / "samples" / "unet.png", pictures)


def noised(
    scheduler: DDIMScheduler, clean: torch.Tensor, generator: torch.Generator, *, lateness: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw noise and timesteps; return (noisy latents, timesteps, v target), after Salimans & Ho 2022, appendix D.

    Timesteps are stratified, one in each of equal parts of the schedule, so that the loss of a small batch varies less
    from step to step (Kingma et al. 2021, appendix I.1).

    Args:
        scheduler: of the noise.
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


def pipeline(folder: Path, unet: UNet2DConditionModel) -> StableDiffusionPipeline:
    """Build a text-to-image pipeline around `unet` from the recipe's parts so far."""
    pipe = StableDiffusionPipeline(
        vae=load_vae(folder),
        text_encoder=load_text_encoder(folder),
        tokenizer=load_tokenizer(folder),
        unet=unet,
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pose_pipeline(
    folder: Path, unet: UNet2DConditionModel, controlnet: ControlNetModel
) -> StableDiffusionControlNetPipeline:
    """Build such a pipeline with a ControlNet."""
    components = pipeline(folder, unet).components
    pipe = StableDiffusionControlNetPipeline(**components, controlnet=controlnet, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def skeleton_of(keypoints: np.ndarray) -> Skeleton:
    """Convert the data set's (18, 2) keypoints to the app's skeleton of one person."""
    return Skeleton(people=(tuple(Keypoint(float(x), float(y)) for x, y in keypoints),))


def draw_keypoints(size: int, keypoints: np.ndarray) -> np.ndarray:
    """Draw the skeleton picture of (18, 2) keypoints, (size, size, 3) uint8."""
    return np.asarray(draw_skeleton(skeleton_of(keypoints), (size, size)))


def skeletons_of(recipe: Recipe, data: ToyData, folder: Path, split: Split) -> np.ndarray:
    """Return the skeleton pictures of a split, (N, size, size, 3) uint8, drawn once."""
    draw = partial(draw_keypoints, recipe.size)
    return cached_renders(folder / f"skeletons-{split}.npy", draw, data.keypoints, size=recipe.size)


def control_pixels(pictures: Rows, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return (B, 3, H, W) in [0, 1], as diffusers' ControlNet pipelines pass it."""
    return take_rows(pictures, rows, device).permute(0, 3, 1, 2).float() / 255


def train_controlnet(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train the ControlNet with the UNet and the text tower; write all three.

    A UNet trained for minutes has learned little that a ControlNet could steer, so its training continues; the rows
    without a skeleton keep it good at pictures without one.
    """
    device = pick_device()
    unet = load_unet(folder)
    batches = _Batches(recipe, data, folder, device)
    start, text_encoder = start_of(folder, "controlnet"), batches.captions.encoder
    controlnet = ControlNetModel.from_pretrained(start) if start.exists() else new_controlnet(recipe, unet)
    parts = nn.ModuleDict({"unet": unet, "controlnet": controlnet, "text_encoder": text_encoder})
    parts = parts.requires_grad_(True).train().to(device, torch.float32, memory_format=torch.channels_last)
    for part in (unet, controlnet):
        compile_for_gpu(part)

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, Figures]:
        with mixed_precision():
            batch = batches.draw(share(recipe.controlnet.batch_size), generator)
            given = batch.noisy, batch.timesteps, batch.hidden
            posed = torch.arange(len(batch.control), device=device)
            prediction = unet(*given, **control_residuals(controlnet, *given, control=batch.control, rows=posed)).sample
        return mse(prediction, batch.target, batch.weights).mean(), {}

    def sample() -> None:
        text_encoder.save_pretrained(folder / "text_encoder")
        draw_text_samples(folder, unet, heldout)
        _draw_pose_samples(folder, unet, controlnet, heldout, recipe.size)

    train_module("controlnet", module=parts, loss=loss, settings=recipe.controlnet, folder=folder, sample=sample)
    if PartialState().is_main_process:
        controlnet.save_pretrained(folder / "controlnet")
        unet.save_pretrained(folder / "unet")


@dataclass(frozen=True)
class _Batch:
    """One batch; the first `len(control)` of its rows have a skeleton."""

    noisy: torch.Tensor
    timesteps: torch.Tensor
    target: torch.Tensor
    hidden: torch.Tensor
    control: torch.Tensor
    weights: torch.Tensor


class _Batches:
    """Draws batches from the training split and, for rows with a skeleton, as many from the split with free limbs."""

    def __init__(self, recipe: Recipe, data: ToyData, folder: Path, device: torch.device) -> None:
        self._device = device
        self._scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
        self._named = _Source(recipe, data, folder, "train")
        self._free = _Source(recipe, load_or_draw(recipe, folder / "data", "free"), folder, "free")

    @property
    def captions(self) -> Captions:
        """The captions, which encode the texts."""
        return self._named.captions

    def draw(self, size: int, generator: torch.Generator) -> _Batch:
        """Draw `size` random rows, the first of them with a skeleton."""
        posed = round(size * POSED_SHARE)
        parts = [(self._free, posed // 2), (self._named, posed - posed // 2), (self._named, size - posed)]
        rows = [torch.randint(len(source), (count,), generator=generator) for source, count in parts]
        chances = [(POSED_TEXT_DROP, 0.0), (POSED_TEXT_DROP, 0.0), (TEXT_DROP, SCENE_SHARE)]
        taken = list(zip((source for source, _ in parts), rows, chances, strict=True))
        ids = [source.captions.draw(of, generator, drop=drop, scene=scene) for source, of, (drop, scene) in taken]
        clean = torch.cat([source.latents.sample(of, generator, self._device) for source, of, _ in taken])
        control = [control_pixels(source.skeletons, of, self._device) for source, of, _ in taken[:2]]
        keypoints = [take_rows(source.keypoints, of, self._device) for source, of, _ in taken]
        halves = [
            noised(self._scheduler, clean[:posed], generator, lateness=LATENESS),
            noised(self._scheduler, clean[posed:], generator, lateness=WORDS_LATENESS),
        ]
        noisy, timesteps, target = (torch.cat(each) for each in zip(*halves, strict=True))
        return _Batch(
            noisy=noisy,
            timesteps=timesteps,
            target=target,
            hidden=self.captions.hidden_states(torch.cat(ids)),
            control=torch.cat(control),
            weights=loss_weights(torch.cat(keypoints), clean.shape),
        )


class _Source:
    """A split to draw batches from, encoded beforehand by all frozen parts."""

    def __init__(self, recipe: Recipe, data: ToyData, folder: Path, split: Split) -> None:
        device = pick_device()
        self.latents, self.captions = latents_of(data, folder, split), Captions(data, folder, split)
        self.skeletons = on_device(skeletons_of(recipe, data, folder, split), device)
        self.keypoints = on_device(data.keypoints, device)

    def __len__(self) -> int:
        return len(self.keypoints)


def control_residuals(
    controlnet: ControlNetModel,
    noisy: torch.Tensor,
    timesteps: torch.Tensor,
    hidden: torch.Tensor,
    *,
    control: torch.Tensor,
    rows: torch.Tensor,
) -> dict[str, Any]:
    """Return the UNet's arguments for a ControlNet's residuals, which apply only to `rows` (P,), those of `control`."""
    if len(rows) == 0:
        return {}
    down, middle = controlnet(noisy[rows], timesteps[rows], hidden[rows], control, return_dict=False)

    def spread(residual: torch.Tensor) -> torch.Tensor:
        return residual.new_zeros(len(noisy), *residual.shape[1:]).index_copy(0, rows, residual)

    return {
        "down_block_additional_residuals": [spread(residual) for residual in down],
        "mid_block_additional_residual": spread(middle),
    }


def new_controlnet(recipe: Recipe, unet: UNet2DConditionModel) -> ControlNetModel:
    """Build a ControlNet that starts from the UNet's weights and has learned nothing about skeletons."""
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=recipe.controlnet_channels)


@torch.no_grad()
def _draw_pose_samples(
    folder: Path, unet: UNet2DConditionModel, controlnet: ControlNetModel, heldout: ToyData, size: int
) -> None:
    """Draw held-out skeletons with their subjects in those poses below."""
    rows = range(1, 16, 2)
    skeletons = [draw_skeleton(skeleton_of(heldout.keypoints[row]), (size, size)) for row in rows]
    prompts = [heldout.captions[row - 1][0] for row in rows]  # the other view: its words name another pose
    pictures = pose_pipeline(folder, unet, controlnet)(
        prompts,
        image=skeletons,
        num_inference_steps=NUM_INFERENCE_STEPS,
        guidance_scale=GUIDANCE_SCALE,
        generator=[torch.Generator().manual_seed(row) for row in rows],
    ).images
    originals = [Image.fromarray(heldout.images[row]) for row in rows]
    save_samples(folder / "samples" / "controlnet.png", skeletons, pictures, originals)
