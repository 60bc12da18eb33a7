"""The whole recipe in miniature: every stage runs, resumes, and writes a folder that plain diffusers loads."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    ControlNetModel,
    StableDiffusionPipeline,
)
from safetensors import safe_open
from safetensors.torch import load_file

from ipa_app.adapter.files import load_adapter
from ipa_app.errors import UserError
from ipa_app.models.catalog import BUNDLED, entry_from_folder
from ipa_app.models.loading import load_model
from toybox.recipe.autoencoder import half_crops, load_vae, new_vae, normalise_latents, reconstruction_loss
from toybox.recipe.cached import latents_of
from toybox.recipe.data import VIEWS, load_or_draw, views_of
from toybox.recipe.denoiser import GUIDANCE_SCALE, NUM_INFERENCE_STEPS, load_unet, new_scheduler, pipeline
from toybox.recipe.few_step.inpainting import INPAINTING
from toybox.recipe.few_step.prompts import Holes, questions
from toybox.recipe.few_step.student import LORA_FILE
from toybox.recipe.few_step.trajectories import load_trajectories
from toybox.recipe.images import pixels
from toybox.recipe.settings import TINY, StageSettings
from toybox.recipe.stages import STAGES, run, start_from
from toybox.recipe.training import UnfinishedError
from toybox.world import is_held_out


@pytest.fixture(scope="module")
def work(recipe_dir: Path) -> Path:
    """Return the folder of one complete run."""
    return recipe_dir


def test_every_stage_is_done_once(work: Path) -> None:
    assert {path.name for path in (work / "done").iterdir()} == {
        name for name, stage in STAGES.items() if stage.is_of_bundle
    }
    written = (work / "bundle" / "model_index.json").stat().st_mtime_ns
    run(TINY, work, [])
    assert (work / "bundle" / "model_index.json").stat().st_mtime_ns == written


def test_plain_diffusers_draws_with_the_bundle(work: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(work / "bundle", dtype=torch.float32, safety_checker=None)
    picture = pipe("a red cat", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    assert picture.size == (TINY.size, TINY.size)


def test_the_bundle_is_half_precision_in_small_shards(work: Path) -> None:
    for path in (work / "bundle").rglob("*.safetensors"):
        assert path.stat().st_size <= 16 * 2**20
        with safe_open(path, "pt") as file:
            dtypes = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118 - not a mapping
        assert dtypes <= {"F16", "I64"}


def test_the_small_autoencoder_takes_the_place_of_the_large_one(work: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(work / "bundle", dtype=torch.float32, safety_checker=None)
    pipe.vae = AutoencoderTiny.from_pretrained(work / "bundle" / "vae_tiny", dtype=torch.float32)
    picture = pipe("a red cat", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    assert picture.size == (TINY.size, TINY.size)


def test_what_the_app_is_told_of_the_bundle_is_what_ships(work: Path) -> None:
    files = (folder / "ipa_studio.json" for folder in (work / "bundle", BUNDLED))
    told, shipped = (json.loads(file.read_text("utf-8")) for file in files)
    assert told | {"width": 256, "height": 256} == shipped
    entry = entry_from_folder(work / "bundle", name="toybox")
    assert entry.surroundings_prompt
    assert entry.unknown_words(entry.surroundings_prompt) == []


def test_the_bundle_tells_the_app_of_its_fast_way_as_the_lora_does_itself(work: Path) -> None:
    entry = entry_from_folder(work / "bundle", name="toybox")
    way = entry.fast_way()
    assert way.lora == work / "bundle" / LORA_FILE
    with safe_open(way.lora, framework="pt") as file:
        use = file.metadata()
    told = {"steps": str(way.steps), "guidance_scale": f"{way.guidance_scale:g}", "scheduler": way.scheduler}
    assert use.items() >= told.items()
    model = load_model(entry, device="cpu", dtype=torch.float32, report=lambda *_: None)
    scheduler: Any = model.pipeline("text_to_image", is_fast=True).components["scheduler"]
    trained_with = {name: value for name, value in new_scheduler().config.items() if not name.startswith("_")}
    assert {name: scheduler.config[name] for name in trained_with} == trained_with
    assert scheduler.config["timestep_spacing"] == use["timestep_spacing"]


def test_plain_diffusers_draws_with_the_bundles_lora(work: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(work / "bundle", dtype=torch.float32, safety_checker=None)
    pipe.load_lora_weights(work / "bundle" / LORA_FILE)
    assert pipe("a red cat", num_inference_steps=4, guidance_scale=1).images[0].size == (TINY.size, TINY.size)


def test_the_app_inpaints_with_the_bundles_controlnet_which_has_learned_something(work: Path) -> None:
    entry = entry_from_folder(work / "bundle", name="toybox")
    assert {name: each.pipeline_task for name, each in entry.controlnets.items()} == {
        "pose": "controlnet",
        "inpaint": "controlnet_inpaint",
    }
    trained, start = (ControlNetModel.from_pretrained(work / part) for part in (INPAINTING, "controlnet"))
    assert not torch.equal(trained.controlnet_mid_block.weight, start.controlnet_mid_block.weight)
    assert not [path for path in (work / "bundle").rglob("config.json") if "_name_or_path" in path.read_text("utf-8")]


@torch.no_grad()
def test_a_trajectory_ends_where_diffusers_would_end(work: Path) -> None:
    asked = questions(load_or_draw(TINY, work / "data", "train"), TINY.trajectories, seed=TINY.seed)
    row = next(i for i, each in enumerate(asked) if each.kind is None and each.pose is None and each.filled is None)
    states = torch.from_numpy(load_trajectories(work)[row]).float()
    drawn = pipeline(work, load_unet(work))(
        asked[row].text,
        num_inference_steps=NUM_INFERENCE_STEPS,
        guidance_scale=GUIDANCE_SCALE,
        latents=states[:1],
        output_type="latent",
    ).images
    # Trajectories are sampled in bfloat16 if the processor supports it.
    assert (drawn[0] - states[-1]).norm() < 0.1 * states[-1].norm()


def test_what_is_filled_stays_what_it_was_around_the_hole(work: Path) -> None:
    data = load_or_draw(TINY, work / "data", "train")
    asked = questions(data, TINY.trajectories, seed=TINY.seed)
    row = next(i for i, each in enumerate(asked) if each.filled is not None)
    holes = Holes.of([each.filled for each in asked], TINY, latents_of(data, work, "train"))
    end = torch.from_numpy(load_trajectories(work)[row, -1]).float()
    around = ~holes.mask[row].expand_as(end)
    assert 0 < int(around.sum()) < around.numel()
    assert torch.allclose(end[around], holes.latents[row][around], atol=2e-3, rtol=1e-3)
    assert holes.mask[[i for i, each in enumerate(asked) if each.filled is None]].all()


def test_trajectories_go_on_where_they_stopped(work: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    shutil.copytree(work, folder)
    whole = load_trajectories(folder).copy()
    (folder / "trajectories.json").write_text('{"finished": 0}', "utf-8")
    run(TINY, folder, ["trajectories"])
    assert (whole == load_trajectories(folder)).all()


def test_the_adapters_fit_the_bundles_unet(work: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(work / "bundle", dtype=torch.float32, safety_checker=None)
    kinds = [load_adapter(path, pipe.unet).kind for path in sorted((work / "bundle" / "adapters").iterdir())]
    assert kinds == ["plus", "base"]


def test_a_finished_part_trains_on_only_where_its_stage_is_named(work: Path, tmp_path: Path) -> None:
    start_from(work / "bundle", tmp_path, TINY)
    shutil.copytree(work / "data", tmp_path / "data")
    before = {part: _weights(tmp_path / part) for part in ("vae", "image_encoder", "unet")}
    run(TINY, tmp_path, ["vae", "vision"])
    moved = {part: max(map(_distance, before[part], _weights(tmp_path / part))) for part in before}
    # A few small steps from its start, and nothing like a new network.
    assert 0 < moved["image_encoder"] < 0.02
    assert moved["unet"] == 0
    pictures = pixels(load_or_draw(TINY, tmp_path / "data", "train").images, torch.arange(8), torch.device("cpu"))
    with torch.no_grad():
        old, new = (load_vae(folder).encode(pictures).latent_dist.mean for folder in (work, tmp_path))
    assert 0 < float((old - new).abs().mean()) < 0.2


@torch.no_grad()
def test_a_decoder_that_trains_alone_leaves_the_latents_what_they_are(work: Path, tmp_path: Path) -> None:
    start_from(work / "bundle", tmp_path, TINY)
    shutil.copytree(work / "data", tmp_path / "data")
    before = load_vae(tmp_path)
    with torch.enable_grad():
        run(TINY, tmp_path, ["decoder"])
    pictures = pixels(load_or_draw(TINY, tmp_path / "data", "train").images, torch.arange(8), torch.device("cpu"))
    latents = before.encode(pictures).latent_dist.mean
    after = load_vae(tmp_path)
    assert torch.equal(after.encode(pictures).latent_dist.mean, latents)
    assert 0 < float((after.decode(latents).sample - before.decode(latents).sample).abs().mean()) < 0.2


def _done(folder: Path) -> set[str]:
    return {path.name for path in (folder / "done").iterdir()}


def test_what_needs_a_part_that_trained_on_is_trained_on_before_it_ships(work: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(work, tmp_path / "work")
    run(TINY, folder, ["vision", "controlnet"])  # these have seen all their samples
    assert _done(folder) == _done(work)
    longer = dataclasses.replace(TINY.vision, samples=2 * TINY.vision.samples)
    run(dataclasses.replace(TINY, vision=longer), folder, ["vision"])
    kept = {"tokenizer", "vae", "clip", "vision", "rare_attributes", "unet", "controlnet", "pose_reader", "tiny_vae"}
    assert _done(folder) == kept
    run(TINY, folder, [])
    assert _done(folder) == _done(work)
    adapter = "adapters/ip-adapter_toybox.safetensors"
    assert (folder / "bundle" / adapter).read_bytes() == (folder / adapter).read_bytes()
    assert (folder / adapter).read_bytes() != (work / adapter).read_bytes()


def test_a_decoder_that_trains_alone_takes_only_the_small_autoencoder_along(work: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(work, tmp_path / "work")
    run(TINY, folder, ["decoder"])
    assert _done(work) - _done(folder) == {"tiny_vae", "bundle"}
    run(TINY, folder, [])
    for part in ("vae", "vae_tiny"):
        here, there = (_weights(root / "bundle" / part) for root in (folder, work))
        assert max(map(_distance, here, there)) > 0


def test_what_an_autoencoder_learns_from_is_drawn_by_the_steps_own_generator(work: Path) -> None:
    """So that a run that is stopped and resumed continues as one that was not."""
    torch.manual_seed(0)
    loss = reconstruction_loss(new_vae(TINY), load_or_draw(TINY, work / "data", "train"), 4)
    first, second = (float(loss(torch.Generator().manual_seed(1), 0.0)[0].detach()) for _ in range(2))
    assert first == second


def test_a_bundle_can_be_trained_on(work: Path, tmp_path: Path) -> None:
    start_from(work / "bundle", tmp_path, TINY)
    shutil.copytree(work / "data", tmp_path / "data")
    run(TINY, tmp_path, [])
    difference = max(map(_distance, _weights(work / "unet"), _weights(tmp_path / "unet")))
    # Two small steps from its start, and nothing like a new network.
    assert 0 < difference < 0.02
    assert (tmp_path / "bundle" / "vae" / "config.json").read_bytes()


def test_crops_of_pictures_and_latents_show_the_same_place() -> None:
    latents = torch.rand(3, 4, 8, 8)
    pictures = torch.nn.functional.interpolate(latents[:, :3], scale_factor=16.0)
    cut, places = half_crops(8, torch.Generator().manual_seed(0), pictures, latents)
    assert cut.shape == (3, 3, 64, 64)
    assert torch.equal(cut[:, :, ::16, ::16], places[:, :3])


def test_what_cannot_be_trained_on_is_refused(work: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer"):
        start_from(tmp_path, tmp_path / "work", TINY)
    other = dataclasses.replace(TINY, size=2 * TINY.size)
    with pytest.raises(UserError, match="pictures of 64 pixels"):
        start_from(work / "bundle", tmp_path / "work", other)


def test_training_never_sees_a_held_out_subject() -> None:
    train = [views_of(TINY, "train", number) for number in range(TINY.subjects)]
    heldout = [views_of(TINY, "heldout", number) for number in range(TINY.heldout_subjects)]
    assert not any(is_held_out(views[0].subject) for views in train)
    assert all(is_held_out(views[0].subject) for views in heldout)
    assert all(len(views) == VIEWS and views[0].subject == views[1].subject for views in train)


def test_folding_the_statistics_in_changes_latents_and_not_pictures(work: Path) -> None:
    data = load_or_draw(TINY, work / "data", "train")
    torch.manual_seed(0)
    vae = new_vae(TINY).eval()
    batch = pixels(data.images, torch.arange(len(data)), torch.device("cpu"))
    with torch.no_grad():
        before = vae.encode(batch).latent_dist
        decoded = vae.decode(before.mean).sample
        normalise_latents(vae, data)
        after = vae.encode(batch).latent_dist
        assert torch.allclose(vae.decode(after.mean).sample, decoded, atol=1e-4)
    assert torch.allclose(after.mean.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-3)
    assert torch.allclose(after.mean.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3)
    # The posterior's noise scales by the same factor as its mean.
    assert torch.allclose(after.std / before.std, 1 / before.mean.std(dim=(0, 2, 3)).view(1, 4, 1, 1), rtol=1e-3)


def test_a_stage_that_is_not_finished_is_not_marked_as_done(work: Path, tmp_path: Path) -> None:
    shutil.copytree(work / "data", tmp_path / "data")
    longer = dataclasses.replace(TINY, judge=StageSettings(samples=16, batch_size=4, lr=1e-3, minutes=1e-9))
    with pytest.raises(UnfinishedError, match="judge stopped"):
        run(longer, tmp_path, ["judge"])
    assert not list((tmp_path / "done").iterdir())
    assert not (tmp_path / "judge").exists()


def test_an_adapter_that_is_not_finished_goes_on(work: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    shutil.copytree(work, folder)
    shutil.rmtree(folder / "adapter-base")
    longer = dataclasses.replace(TINY.base_adapter, samples=16, minutes=1e-9)
    recipe = dataclasses.replace(TINY, base_adapter=longer)
    with pytest.raises(UnfinishedError, match=r"adapter-base stopped .* and 4 of 16 samples"):
        run(recipe, folder, ["base_adapter"])
    run(dataclasses.replace(recipe, base_adapter=dataclasses.replace(longer, minutes=None)), folder, ["base_adapter"])
    assert json.loads((folder / "figures.jsonl").read_text("utf-8").splitlines()[-1])["samples"] == 16


def _weights(part: Path) -> list[torch.Tensor]:
    """Return all tensors of a part of a folder."""
    (path,) = part.glob("*.safetensors")
    return [tensor.float() for _, tensor in sorted(load_file(path).items())]


def _distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the largest difference between two tensors."""
    return float((first - second).abs().max())
