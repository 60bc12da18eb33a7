"""The stages of the recipe in the order of their dependencies, and running them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from diffusers import ControlNetModel, StableDiffusionPipeline, UniPCMultistepScheduler
from transformers import CLIPImageProcessor

from ipa_app.errors import UserError
from ipa_app.models.catalog import BUNDLED
from toybox import world
from toybox.assets import body_poses
from toybox.recipe.adapters import train_base_adapter, train_fine_adapter
from toybox.recipe.attention_distillation import distil_base_adapter, distil_fine_adapter
from toybox.recipe.autoencoder import train_decoder, train_vae
from toybox.recipe.data import ToyData, load_or_draw
from toybox.recipe.denoiser import GUIDANCE_SCALE, load_unet, pipeline, train_controlnet, train_unet
from toybox.recipe.few_step.inpainting import INPAINTING, SURROUNDINGS_PROMPT, train_inpainting
from toybox.recipe.few_step.student import LORA_FILE, PHASES, train_student
from toybox.recipe.few_step.tiny_autoencoder import EXAMPLES, train_tiny_vae
from toybox.recipe.few_step.trajectories import DONE, draw_trajectories
from toybox.recipe.judge import train_judge
from toybox.recipe.pose_reader import train_pose_reader
from toybox.recipe.rare_attributes import train_rare_attributes
from toybox.recipe.settings import Recipe
from toybox.recipe.tokenizer import train_tokenizer
from toybox.recipe.towers import load_image_encoder, train_clip, train_vision
from toybox.recipe.training import part_of, start_of

SHARD_SIZE = "15MB"
TITLE = "Toybox"
ABOUT = "A small model that ships with the app. It draws toy characters and nothing else."
BUNDLE_STEPS = 6
"""The bundle's default number of UniPC steps (Zhao et al. 2023), as good as 20 of DDIM as far as the judge can tell."""
GUIDANCE_START = 0.1
"""Default share of the steps before guidance starts: of six steps, the first is not guided."""


def write_bundle(recipe: Recipe, _data: ToyData, _heldout: ToyData, folder: Path) -> None:
    """Write `folder/bundle`; it is copied to assets/toybox by hand, after a look at its pictures."""
    target = folder / "bundle"
    shutil.rmtree(target, ignore_errors=True)
    plain = pipeline(folder, load_unet(folder))
    components = plain.components | {
        "scheduler": UniPCMultistepScheduler.from_config(plain.scheduler.config),
        "image_encoder": load_image_encoder(folder),
        "feature_extractor": CLIPImageProcessor.from_pretrained(folder / "feature_extractor"),
    }
    complete = StableDiffusionPipeline(**components, requires_safety_checker=False).to(dtype=torch.float16)
    complete.save_pretrained(target, max_shard_size=SHARD_SIZE)
    for part in ("controlnet", INPAINTING):
        controlnet = ControlNetModel.from_pretrained(part_of(folder, part)).to(dtype=torch.float16)
        controlnet.save_pretrained(target / part, max_shard_size=SHARD_SIZE)
    for part in ("adapters", "pose_reader", "vae_tiny", "loras"):
        shutil.copytree(part_of(folder, part), target / part)
    _forget_origins(target)
    _write_facts(recipe, target)


def _forget_origins(target: Path) -> None:
    """Remove the work folder's paths from the configs, where diffusers records what each part was loaded from."""
    for path in target.rglob("config.json"):
        config = json.loads(path.read_text("utf-8"))
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def _write_facts(recipe: Recipe, target: Path) -> None:
    (target / "body_poses.json").write_text(json.dumps(body_poses(), indent=1) + "\n", "utf-8")
    (target / "words.json").write_text(json.dumps(world.words(), indent=1) + "\n", "utf-8")
    for dictionary in BUNDLED.glob("words.*.json"):  # written by hand: copied from bundle to bundle
        shutil.copy(dictionary, target)
    facts = {
        "title": TITLE,
        "about": ABOUT,
        "licence": "Apache-2.0",
        "width": recipe.size,
        "height": recipe.size,
        "steps": BUNDLE_STEPS,
        "guidance_scale": GUIDANCE_SCALE,
        "guidance_start": GUIDANCE_START,
        "surroundings_prompt": SURROUNDINGS_PROMPT,
        "live": True,
        "fast": {"lora": LORA_FILE, "steps": PHASES, "guidance_scale": 1.0, "scheduler": "DDIMScheduler"},
    }
    (target / "ipa_studio.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage.

    Attributes:
        run: called with the recipe, the training and the held-out split, and the work folder.
        needs: stages that its results depend on.
        own: what it resumes from in the work folder, besides a checkpoint of its name.
        leaves: parts of a bundle with which the stage counts as done when the recipe continues from that bundle.
        can_be_shared: whether several processes can train it together.
        is_of_bundle: whether the bundle needs it; others run only if named.
    """

    run: Callable[[Recipe, ToyData, ToyData, Path], None]
    needs: Set[str] = frozenset()
    own: Set[str] = frozenset()
    leaves: tuple[str, ...] = ()
    can_be_shared: bool = False
    is_of_bundle: bool = True


def _train_tokenizer(recipe: Recipe, data: ToyData, _heldout: ToyData, folder: Path) -> None:
    captions = (text for texts in data.captions for text in texts)
    train_tokenizer(captions, folder, text_tokens=recipe.text_tokens)
    for path in folder.glob("token-ids-*.pt"):
        path.unlink()


STAGES = {
    "tokenizer": Stage(run=_train_tokenizer, leaves=("tokenizer",)),
    "vae": Stage(run=train_vae, leaves=("vae",), can_be_shared=True),
    "decoder": Stage(run=train_decoder, needs={"vae"}, is_of_bundle=False),
    "clip": Stage(run=train_clip, needs={"tokenizer"}, leaves=("text_encoder", "feature_extractor")),
    "vision": Stage(run=train_vision, needs={"clip"}, leaves=("image_encoder",), can_be_shared=True),
    "rare_attributes": Stage(run=train_rare_attributes, needs={"clip"}, leaves=("text_encoder",)),
    "unet": Stage(run=train_unet, needs={"vae", "rare_attributes"}, leaves=("unet", "scheduler"), can_be_shared=True),
    "controlnet": Stage(run=train_controlnet, needs={"unet"}, can_be_shared=True),
    "base_distillation": Stage(run=distil_base_adapter, needs={"vision", "controlnet"}),
    "fine_distillation": Stage(run=distil_fine_adapter, needs={"vision", "controlnet"}, own={"plus_distillation.ckpt"}),
    "base_adapter": Stage(run=train_base_adapter, needs={"base_distillation"}, own={"adapter-base"}),
    "fine_adapter": Stage(run=train_fine_adapter, needs={"fine_distillation"}, own={"adapter-plus"}),
    "pose_reader": Stage(run=train_pose_reader, leaves=("pose_reader",)),
    "trajectories": Stage(run=draw_trajectories, needs={"base_adapter", "fine_adapter"}, own={DONE}),
    "tiny_vae": Stage(run=train_tiny_vae, needs={"decoder", "vae"}, own={EXAMPLES}, leaves=("vae_tiny",)),
    "student": Stage(run=train_student, needs={"trajectories"}),
    "inpainting": Stage(run=train_inpainting, needs={"base_adapter", "fine_adapter"}, leaves=(INPAINTING,)),
    "bundle": Stage(run=write_bundle, needs={"pose_reader", "tiny_vae", "student", "inpainting"}),
    "judge": Stage(run=train_judge, is_of_bundle=False),
}
CONTINUED = ("controlnet", "adapters")
"""Parts of a bundle that their own stages start from."""
LATER_PARTS = frozenset({"vae_tiny", INPAINTING})
"""Parts that the first bundles lack."""


def run(recipe: Recipe, folder: Path, stages: list[str]) -> None:
    """Run `stages` in order, or all unfinished ones of the bundle; each leaves `done/<stage>`.

    If one of `stages` has changed anything, those that need it count as unfinished from then on.

    Raises:
        UnfinishedError: a stage reached its time limit; it is not marked as done, and resumes in the next run.
    """
    (folder / "done").mkdir(parents=True, exist_ok=True)
    data = load_or_draw(recipe, folder / "data", "train")
    heldout = load_or_draw(recipe, folder / "data", "heldout")
    for name, stage in STAGES.items():
        marker = folder / "done" / name
        if name in stages or (not stages and stage.is_of_bundle and not marker.exists()):
            before = _contents(folder)
            stage.run(recipe, data, heldout, folder)
            PartialState().wait_for_everyone()
            if name in stages and _contents(folder) != before:
                _forget_dependents(name, folder)
            marker.touch()


def _contents(folder: Path) -> dict[Path, int]:
    """Return what shows whether a stage has changed anything; one that was done already does not."""
    return {file: hash(file.read_bytes()) for file in (*folder.rglob("*.safetensors"), *folder.glob("tokenizer/*"))}


def _forget_dependents(changed: str, folder: Path) -> None:
    """Have the stages that need `changed` run again, from the existing parts and not from their checkpoints."""
    stale = {changed}
    for name, stage in STAGES.items():
        if stale & stage.needs:
            stale.add(name)
            for path in (folder / each for each in (f"done/{name}", f"{name}.ckpt", *stage.own)):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def start_from(bundle: Path, folder: Path, recipe: Recipe) -> None:
    """Prepare a work folder so that the recipe continues from a bundle; leave an existing one unchanged.

    A stage whose parts the bundle has runs only if named, and then trains them further. UNet and text tower are trained
    further in the stage `controlnet` anyway.

    Args:
        bundle: a folder that the recipe wrote, such as assets/toybox.
        folder: the work folder.
        recipe: for pictures of the size that the bundle draws.

    Raises:
        UserError: the bundle lacks a part, or draws pictures of another size.
    """
    wanted = [*(part for stage in STAGES.values() for part in stage.leaves if part not in LATER_PARTS), *CONTINUED]
    missing = [part for part in dict.fromkeys(wanted) if not (bundle / part).is_dir()]
    if missing:
        raise UserError.plain(f"{bundle} is not a bundle of the recipe: it has no {', '.join(missing)}.")
    side = json.loads((bundle / "vae" / "config.json").read_text("utf-8"))["sample_size"]
    if side != recipe.size:
        raise UserError.plain(
            f"{bundle} draws pictures of {side} pixels, but the recipe {recipe.name} trains on pictures of "
            f"{recipe.size}: please name a recipe of the bundle's size."
        )
    with PartialState().main_process_first():  # other processes then find it prepared
        _lay_out(bundle, folder)


def _lay_out(bundle: Path, folder: Path) -> None:
    (folder / "done").mkdir(parents=True, exist_ok=True)
    for name, stage in STAGES.items():
        marker = folder / "done" / name
        if stage.leaves and all((bundle / part).is_dir() for part in stage.leaves) and not marker.exists():
            for part in stage.leaves:
                shutil.copytree(bundle / part, folder / part, dirs_exist_ok=True)
            marker.touch()
    for part in CONTINUED:
        if not start_of(folder, part).exists():
            shutil.copytree(bundle / part, start_of(folder, part))
