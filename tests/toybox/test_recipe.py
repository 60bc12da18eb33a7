"""The whole recipe in miniature: every stage runs, resumes, and leaves a folder that plain diffusers loads."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from ipa_app.adapter.files import load_adapter
from ipa_app.errors import UserError
from tests.precision import own_precision
from toybox.__main__ import FOR_BENCH, STAGES, run
from toybox.recipe.adapters import FILES, plain_adapter_path
from toybox.recipe.asked import questions
from toybox.recipe.baseline import load_baseline
from toybox.recipe.dataset import VIEWS, load_or_draw, views_of
from toybox.recipe.enlarge import crops, grown_vae
from toybox.recipe.fit import UnfinishedError
from toybox.recipe.holes import Holes
from toybox.recipe.sampling import GUIDANCE_SCALE, STEPS, pipeline
from toybox.recipe.settings import TINY, Enlargement, StageSettings
from toybox.recipe.start import start_from
from toybox.recipe.student import LORA_FILE
from toybox.recipe.tensors import pixels
from toybox.recipe.trajectories import load_trajectories
from toybox.recipe.unet import load_unet
from toybox.recipe.vae import load_vae, new_vae, normalise_latents
from toybox.recipe.widen import widened_vae
from toybox.world import is_held_out


@pytest.fixture(scope="module", autouse=True)
def recipes_precision() -> Iterator[None]:
    """Lets the recipe train in the precision that suits the processor."""
    with own_precision():
        yield


@pytest.fixture(scope="module")
def compared(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder with what the adapter is compared with."""
    folder = tmp_path_factory.mktemp("comparison") / "work"
    shutil.copytree(work, folder)
    run(TINY, folder, list(FOR_BENCH))
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one complete run."""
    folder = tmp_path_factory.mktemp("recipe")
    run(TINY, folder, [])
    return folder


def test_every_stage_is_done_once(work: Path) -> None:
    assert {path.name for path in (work / "done").iterdir()} == set(STAGES)
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


def test_plain_diffusers_draws_with_the_bundles_lora(work: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(work / "bundle", dtype=torch.float32, safety_checker=None)
    pipe.load_lora_weights(work / "bundle" / LORA_FILE)
    assert pipe("a red cat", num_inference_steps=4, guidance_scale=1).images[0].size == (TINY.size, TINY.size)


@torch.no_grad()
def test_a_trajectory_ends_where_diffusers_would_end(work: Path) -> None:
    asked = questions(load_or_draw(TINY, work / "data", "train"), TINY.trajectories, seed=TINY.seed)
    row = next(i for i, each in enumerate(asked) if each.kind is None and each.pose is None and each.filled is None)
    states = torch.from_numpy(load_trajectories(work)[row]).float()
    drawn = pipeline(work, load_unet(work))(
        asked[row].text,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE_SCALE,
        latents=states[:1],
        output_type="latent",
    ).images
    # Trajectories are drawn in bfloat16 where the processor has it.
    assert (drawn[0] - states[-1]).norm() < 0.1 * states[-1].norm()


def test_what_is_filled_stays_what_it_was_around_the_hole(work: Path) -> None:
    data = load_or_draw(TINY, work / "data", "train")
    asked = questions(data, TINY.trajectories, seed=TINY.seed)
    row = next(i for i, each in enumerate(asked) if each.filled is not None)
    holes = Holes.of([each.filled for each in asked], TINY, data, work)
    end = torch.from_numpy(load_trajectories(work)[row, -1]).float()
    around = ~holes.mask[row].expand_as(end)
    assert 0 < int(around.sum()) < around.numel()
    assert torch.allclose(end[around], holes.latents[row][around], atol=2e-3)
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
    # A few small steps away from where it began, and nowhere near a new network.
    assert 0 < moved["image_encoder"] < 0.02
    assert moved["unet"] == 0
    pictures = pixels(load_or_draw(TINY, tmp_path / "data", "train").images, torch.arange(8), torch.device("cpu"))
    with torch.no_grad():
        old, new = (load_vae(folder).encode(pictures).latent_dist.mean for folder in (work, tmp_path))
    assert 0 < float((old - new).abs().mean()) < 0.2


def test_a_bundle_can_be_trained_on(work: Path, tmp_path: Path) -> None:
    start_from(work / "bundle", tmp_path, TINY)
    shutil.copytree(work / "data", tmp_path / "data")
    run(TINY, tmp_path, [])
    difference = max(map(_distance, _weights(work / "unet"), _weights(tmp_path / "unet")))
    # Two small steps away from where it began, and nowhere near a new network.
    assert 0 < difference < 0.02
    assert (tmp_path / "bundle" / "vae" / "config.json").read_bytes()


def test_an_enlarged_bundle_draws_at_twice_the_side_with_the_same_unet(work: Path, tmp_path: Path) -> None:
    short = StageSettings(samples=8, batch_size=4, lr=1e-3)
    enlarged = dataclasses.replace(TINY, enlarge=Enlargement(vae=short, skeletons=short))
    shutil.copytree(work, tmp_path / "work")
    run(enlarged, tmp_path / "work", ["enlarge", "bundle"])
    bundle = tmp_path / "work" / "bundle"
    controlnet = ControlNetModel.from_pretrained(bundle / "controlnet")
    pipe = StableDiffusionControlNetPipeline.from_pretrained(
        bundle, controlnet=controlnet, dtype=torch.float32, safety_checker=None
    )
    skeleton = Image.new("RGB", (2 * TINY.size, 2 * TINY.size))
    assert pipe("a red cat", image=skeleton, num_inference_steps=2).images[0].size == skeleton.size
    before = UNet2DConditionModel.from_pretrained(work / "bundle" / "unet")
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), pipe.unet.parameters(), strict=True))


def test_the_enlarged_autoencoder_keeps_what_it_took_over(work: Path) -> None:
    vae = load_vae(work)
    grown = grown_vae(vae)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert grown.decode(latents).sample.shape[-1] == 2 * vae.decode(latents).sample.shape[-1]
        middle = grown.decoder.mid_block(grown.decoder.conv_in(latents))
        assert torch.equal(middle, vae.decoder.mid_block(vae.decoder.conv_in(latents)))
    for level, block in enumerate(vae.encoder.down_blocks):
        later = grown.encoder.down_blocks[level + 1]
        assert torch.equal(block.resnets[0].conv1.weight, later.resnets[0].conv1.weight)


def test_a_widened_autoencoder_begins_as_what_it_was(work: Path) -> None:
    vae = load_vae(work)
    wide = widened_vae(vae, 2)
    channels = [2 * each for each in TINY.vae_channels]
    anew = new_vae(dataclasses.replace(TINY, vae_channels=tuple(channels)))
    # One made anew at that width is built alike, so that the checkpoint of either fits both.
    assert [list(each.config["block_out_channels"]) for each in (wide, anew)] == [channels, channels]
    assert wide.config["norm_num_groups"] == anew.config["norm_num_groups"]
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latents = vae.encode(picture).latent_dist.mean
        assert torch.allclose(wide.encode(picture).latent_dist.mean, latents, atol=1e-4)
        assert torch.allclose(wide.decode(latents).sample, vae.decode(latents).sample, atol=1e-4)


def test_the_widened_autoencoder_takes_the_place_of_the_old_one(work: Path, tmp_path: Path) -> None:
    channels = tuple(2 * each for each in TINY.vae_channels)
    wider = dataclasses.replace(TINY, vae_channels=channels, widen=StageSettings(samples=8, batch_size=4, lr=1e-3))
    folder = tmp_path / "work"
    shutil.copytree(work, folder)
    run(wider, folder, ["widen"])
    # What was encoded by the old one is of no use any more.
    assert not list(folder.glob("latents-*.pt"))
    run(wider, folder, ["unet", "bundle"])
    new = AutoencoderKL.from_pretrained(folder / "bundle" / "vae")
    assert tuple(new.config["block_out_channels"]) == channels
    run(wider, folder, ["widen"])
    assert load_vae(folder).config["block_out_channels"] == new.config["block_out_channels"], "it is wide enough"
    data = load_or_draw(TINY, folder / "data", "train")
    pictures = pixels(data.images, torch.arange(len(data)), torch.device("cpu"))
    with torch.no_grad():
        means = load_vae(folder).encode(pictures).latent_dist.mean
    assert torch.allclose(means.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-2)


def test_crops_of_pictures_and_latents_show_the_same_place() -> None:
    latents = torch.rand(3, 4, 8, 8)
    pictures = torch.nn.functional.interpolate(latents[:, :3], scale_factor=16.0)
    cut, places = crops(pictures, latents, torch.Generator().manual_seed(0))
    assert cut.shape == (3, 3, 64, 64)
    assert torch.equal(cut[:, :, ::16, ::16], places[:, :3])


def test_what_cannot_be_trained_on_is_refused(work: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer"):
        start_from(tmp_path, tmp_path / "work", TINY)
    other = dataclasses.replace(TINY, size=2 * TINY.size)
    with pytest.raises(UserError, match="pictures of 64 pixels"):
        start_from(work / "bundle", tmp_path / "work", other)


def test_the_baseline_and_the_plain_adapter_see_as_many_samples(compared: Path) -> None:
    figures = [json.loads(line) for line in (compared / "figures.jsonl").read_text("utf-8").splitlines()]
    seen = {line["stage"]: line["samples"] for line in figures if "samples" in line}
    assert seen["baseline"] == seen["adapter-plain"] == TINY.base_adapter.samples
    baseline = load_baseline(compared)
    assert load_adapter(plain_adapter_path(compared), baseline.unet).kind == "base"


def test_the_plain_adapter_does_not_start_from_the_teachers(compared: Path, work: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(work / "unet")
    taught, plain = (
        load_adapter(folder, unet) for folder in (_base_adapter(work / "adapters"), plain_adapter_path(compared))
    )
    # Two small steps do not lead from one to the other.
    assert not torch.allclose(taught.image_proj.proj.weight, plain.image_proj.proj.weight, atol=0.02)


def test_the_baseline_trains_the_whole_unet(compared: Path, work: Path) -> None:
    before = UNet2DConditionModel.from_pretrained(work / "unet").state_dict()
    after = load_baseline(compared).unet.state_dict()
    for part in ("conv_in.weight", "mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight", "conv_out.weight"):
        assert 0 < float((before[part] - after[part]).abs().max()) < 0.02


@torch.no_grad()
def test_the_baseline_draws_from_what_its_projection_makes_of_a_picture(compared: Path) -> None:
    baseline = load_baseline(compared)
    embeds = torch.randn(2, TINY.projection_dim, generator=torch.Generator().manual_seed(0))
    assert not baseline.token(torch.zeros_like(embeds)).any()
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).expand(2, -1, -1, -1)
    first, second = baseline.unet(noisy, 500, baseline.token(embeds)).sample
    assert not torch.allclose(first, second, atol=1e-4)


def test_the_baseline_goes_on_where_it_stopped(compared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    shutil.copytree(compared, folder)
    longer = dataclasses.replace(TINY.base_adapter, samples=2 * TINY.base_adapter.samples)
    run(dataclasses.replace(TINY, base_adapter=longer), folder, ["baseline"])
    progress = torch.load(folder / "baseline.ckpt", weights_only=True)["progress"]
    assert (progress["samples"], progress["step"]) == (longer.samples, longer.samples // longer.batch_size)
    # The log has the first step once: the second sitting began behind it.
    assert len((folder / "baseline.jsonl").read_text("utf-8").splitlines()) == 1
    first, second = (load_baseline(each).projection.weight for each in (compared, folder))
    assert not torch.equal(first, second)


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
    # The posterior's noise shrinks or grows by the same factor as its mean.
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
    """All numbers of a part of a folder."""
    (path,) = part.glob("*.safetensors")
    return [tensor.float() for _, tensor in sorted(load_file(path).items())]


def _distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """How far the farthest two of their numbers are apart."""
    return float((first - second).abs().max())


def _base_adapter(folder: Path) -> Path:
    """The base adapter of a folder."""
    return folder / FILES["base"]
