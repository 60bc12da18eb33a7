"""Stage: everything trained, gathered as one ordinary Stable Diffusion folder in half precision."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import ControlNetModel, StableDiffusionPipeline
from transformers import CLIPImageProcessor

from toybox import world
from toybox.recipe.data import ToyData
from toybox.recipe.denoiser import GUIDANCE_SCALE, NUM_INFERENCE_STEPS, load_unet, pipeline
from toybox.recipe.settings import Recipe
from toybox.recipe.towers import load_image_encoder
from toybox.recipe.training import part_of

SHARD_SIZE = "15MB"
TITLE = "Toybox"
ABOUT = "A small model that ships with the app. It draws toy characters and nothing else."


def write_bundle(recipe: Recipe, _data: ToyData, _heldout: ToyData, folder: Path) -> None:
    """Write ``folder/bundle``; copied to assets/toybox by hand, once its pictures have been looked at."""
    target = folder / "bundle"
    shutil.rmtree(target, ignore_errors=True)
    plain = pipeline(folder, load_unet(folder))
    components = plain.components | {
        "image_encoder": load_image_encoder(folder),
        "feature_extractor": CLIPImageProcessor.from_pretrained(folder / "feature_extractor"),
    }
    complete = StableDiffusionPipeline(**components, requires_safety_checker=False).to(dtype=torch.float16)
    complete.save_pretrained(target, max_shard_size=SHARD_SIZE)
    controlnet = ControlNetModel.from_pretrained(part_of(folder, "controlnet")).to(dtype=torch.float16)
    controlnet.save_pretrained(target / "controlnet", max_shard_size=SHARD_SIZE)
    for part in ("adapters", "pose_reader", "vae_tiny", "loras"):
        shutil.copytree(part_of(folder, part), target / part)
    _forget_origins(target)
    _write_facts(recipe, target)


def _forget_origins(target: Path) -> None:
    """Take the paths of the work folder out of the configs, where diffusers notes what each part was loaded from."""
    for path in target.glob("*/config.json"):
        config = json.loads(path.read_text("utf-8"))
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def _write_facts(recipe: Recipe, target: Path) -> None:
    (target / "words.json").write_text(json.dumps(world.words(), indent=1) + "\n", "utf-8")
    facts = {
        "title": TITLE,
        "about": ABOUT,
        "licence": "Apache-2.0",
        "width": recipe.size,
        "height": recipe.size,
        "steps": NUM_INFERENCE_STEPS,
        "guidance_scale": GUIDANCE_SCALE,
    }
    (target / "ipa_studio.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
