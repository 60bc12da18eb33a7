"""Single-file checkpoints: the same model as from a folder, without network access."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ipa_app.adapter.header import read_safetensors
from ipa_app.engine.batch import BatchItem
from ipa_app.engine.drawing import denoise
from ipa_app.engine.plan import make_plan
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.models.catalog import ModelEntry, entry_from_file, entry_from_folder
from ipa_app.models.hub import model_folder
from ipa_app.models.source import open_source
from tests.checkpoints import (
    cache_configuration,
    copy_configuration,
    draw_ours,
    draw_plainly,
    load,
    plain_pipeline,
    pose_pipeline,
    write_checkpoint,
)
from tests.single_file import write_single_file
from tests.tiny_models import SDXL_BLOCKS
from tests.tiny_sdxl import tiny_sdxl_bundle

FIRST = "model.diffusion_model.input_blocks.0.0.weight"
SDXL_MARK = "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"
SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
CONFIGURATIONS = ("model_index.json", "unet", "vae", "text_encoder", "tokenizer", "scheduler")


@pytest.fixture
def entry(tiny_bundle_dir: Path, tmp_path: Path) -> ModelEntry:
    """Return a checkpoint with the tiny model's adapters and ControlNet, and its configuration beside it."""
    path = tmp_path / "my-model.safetensors"
    write_single_file(tiny_bundle_dir, path)
    for name in CONFIGURATIONS:
        source, target = tiny_bundle_dir / name, tmp_path / "my-model" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*model.safetensors"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
    return dataclasses.replace(entry_from_folder(tiny_bundle_dir, name="tiny"), location=path)


def test_it_is_the_same_model_as_from_a_folder(entry: ModelEntry, tiny_bundle_dir: Path) -> None:
    usual, single = load(entry_from_folder(tiny_bundle_dir, name="tiny")), load(entry)
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = (getattr(pose_pipeline(each), part).state_dict() for each in (single, usual))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), part
    for part in ("scheduler", "tokenizer"):
        assert type(getattr(single.pipelines["inpaint"], part)) is type(getattr(usual.pipelines["inpaint"], part))
    assert all(adapter in single.adapters for adapter in single.entry.adapters.values())
    assert set(single.pipelines) == {"text_to_image", "image_to_image", "inpaint"}


def test_an_sdxl_in_one_file_draws_what_its_folder_draws(tmp_path: Path) -> None:
    """Through the ordinary catalogue, which finds adapters and configuration beside the file."""
    # An SDXL is recognised by layer 10 of its second text encoder, which is told from the first by its width.
    folder = tiny_sdxl_bundle(tmp_path / "folder", second_text={"hidden_size": 48, "num_hidden_layers": 10})
    path = tmp_path / "my-xl.safetensors"
    write_single_file(folder, path)
    shutil.copytree(folder, tmp_path / "my-xl", ignore=shutil.ignore_patterns("model.safetensors", "diffusion*"))
    for part in ("image_encoder", "controlnet"):
        shutil.copytree(folder / part, tmp_path / "my-xl" / part, dirs_exist_ok=True)
    entry = entry_from_file(path, name="my-xl")
    usual, single = load(entry_from_folder(folder, name="my-xl")), load(entry)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        ours, theirs = (getattr(pose_pipeline(each), part).state_dict() for each in (single, usual))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), part
    picture = Image.effect_noise((40, 40), 90).convert("RGB")
    latents = []
    for model in (usual, single):
        plan = make_plan(GenerateRequest(task="mix", prompt="a red cat"), model.entry)
        prompt = model.encode(picture, model.entry.adapters["fine"])
        row = BatchItem(prompt="a red cat", negative_prompt="", seed=5, image_prompts=(prompt,))
        with torch.inference_mode():
            latents.append(denoise(model, [row], plan=plan, on_step=lambda _: None))
    assert torch.equal(*latents)


def test_without_a_configuration_on_this_machine_it_is_told_in_words(
    entry: ModelEntry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    shutil.rmtree(entry.location.with_suffix(""))
    words = (
        r"my-model\.safetensors holds only weights, .*stable-diffusion-v1-5.* or put its files into a folder my-model"
    )
    with pytest.raises(UserError, match=words):
        load(entry)


def test_a_configuration_of_the_other_family_is_refused(entry: ModelEntry) -> None:
    save_file({SDXL_MARK: torch.zeros(1), **others(entry.location, "cond_stage_model.")}, entry.location)
    with pytest.raises(UserError, match="checkpoint of SDXL, but the configuration in .* is for Stable Diffusion"):
        load(entry)


def others(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint except those of one part."""
    return {key: tensor for key, tensor in load_file(path).items() if not key.startswith(prefix)}


@pytest.mark.parametrize("missing", ["first_stage_model.", "model.diffusion_model."])
def test_a_checkpoint_that_lacks_a_part_is_refused(entry: ModelEntry, missing: str) -> None:
    save_file(others(entry.location, missing), entry.location)
    with pytest.raises(UserError, match="is not a complete checkpoint"):
        load(entry)


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        ("conditioner.embedders.0.model.text_projection", "the SDXL refiner"),
        ("double_blocks.0.img_attn.norm.key_norm.scale", "FLUX"),
        ("model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale", "FLUX"),
    ],
)
def test_a_checkpoint_of_another_family_is_named(entry: ModelEntry, mark: str, name: str) -> None:
    save_file({mark: torch.zeros(1), **others(entry.location, "cond_stage_model.")}, entry.location)
    with pytest.raises(UserError, match=f"is a checkpoint of {name}, "):
        load(entry)


@pytest.mark.parametrize(
    ("channels", "words"),
    [
        (9, r"made for inpainting only \(9 input channels\)"),
        (8, r"changing pictures by instructions, like InstructPix2Pix \(8 input channels\)"),
        (7, r"enlarging pictures, like the x4 upscaler \(7 input channels\)"),
        (5, r"changing pictures by their depth, like Stable Diffusion 2 depth \(5 input channels\)"),
        (16, r"something other than drawing pictures from noise \(16 input channels\)"),
    ],
)
def test_a_checkpoint_for_something_else_says_what_it_is_made_for(entry: ModelEntry, channels: int, words: str) -> None:
    tensors = load_file(entry.location)
    tensors[FIRST] = torch.zeros(tensors[FIRST].shape[0], channels, 3, 3)
    save_file(tensors, entry.location)
    with pytest.raises(UserError, match=words):
        load(entry)


@pytest.mark.parametrize("layout", ["old", "open_clip"])
def test_text_encoders_under_other_names_are_read(tiny_bundle_dir: Path, tmp_path: Path, layout: str) -> None:
    """Names of transformers before 4.23, as newer versions write them again, and those of Stable Diffusion 2."""
    positions = {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(24.0)[None]}
    more = positions if layout == "old" else {"cond_stage_model.model.logit_scale": torch.zeros(())}
    single = load(write_checkpoint(tiny_bundle_dir, tmp_path / "x.safetensors", text_layout=layout, more=more))
    usual = load(entry_from_folder(tiny_bundle_dir, name="tiny"))
    ours, theirs = (each.pipelines["text_to_image"].text_encoder.state_dict() for each in (single, usual))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_the_first_encoder_of_an_sdxl_may_be_named_the_new_way(tmp_path: Path) -> None:
    folder = tiny_sdxl_bundle(tmp_path / "folder", second_text={"hidden_size": 48})
    single = load(write_checkpoint(folder, tmp_path / "x.safetensors", text_layout="old"))
    usual = load(entry_from_folder(folder, name="xl"))
    ours, theirs = (each.pipelines["text_to_image"].text_encoder.state_dict() for each in (single, usual))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_averaged_weights_and_what_else_training_left_take_no_memory(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    tensors = {f"model_ema.diffusion_model{number}": torch.zeros(1000, 100) for number in range(5)}
    tensors |= {"alphas_cumprod": torch.zeros(1000), "global_step": torch.tensor(7), "model_ema.decay": torch.ones(())}
    plain = load(write_checkpoint(tiny_bundle_dir, tmp_path / "plain.safetensors"))
    full = load(write_checkpoint(tiny_bundle_dir, tmp_path / "full.safetensors", more=tensors))
    assert full.memory.needed == plain.memory.needed
    assert torch.equal(draw_ours(full), draw_ours(plain))


def test_its_header_is_read_once_to_list_it_and_once_to_load_it(
    entry: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def noting(path: Path, **options: int) -> Any:
        read.append(path)
        return read_safetensors(path, **options)

    monkeypatch.setattr("ipa_app.models.weights.read_safetensors", noting)
    listed = entry_from_file(entry.location, name="my-model")
    assert read.count(entry.location) == 1
    load(listed)
    assert read.count(entry.location) == 2


def test_a_file_in_capitals_is_read(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    entry = write_checkpoint(tiny_bundle_dir, tmp_path / "dream.SAFETENSORS")
    usual = load(entry_from_folder(tiny_bundle_dir, name="tiny"))
    assert torch.equal(draw_ours(load(entry)), draw_ours(dataclasses.replace(usual, entry=entry)))


def test_a_model_cut_from_another_one_needs_its_own_configuration(tmp_path: Path) -> None:
    """Such as SSD-1B, which has fewer layers than SDXL: with SDXL's configuration, half of it would be random."""
    whole = tiny_sdxl_bundle(tmp_path / "whole", second_text={"hidden_size": 48}, blocks=SDXL_BLOCKS)
    cut = {**SDXL_BLOCKS, "transformer_layers_per_block": (1, 1, 1)}
    folder = tiny_sdxl_bundle(tmp_path / "cut", second_text={"hidden_size": 48}, blocks=cut)
    entry = write_checkpoint(folder, tmp_path / "ssd.safetensors", beside=False, layers_per_block=2)
    copy_configuration(whole, tmp_path / "ssd")
    with pytest.raises(UserError, match=r"ssd\.safetensors does not fit the configuration in .*ssd: its UNet .*SSD-1B"):
        load(entry)
    shutil.rmtree(tmp_path / "ssd")
    copy_configuration(folder, tmp_path / "ssd")
    assert torch.equal(draw_ours(load(entry)), draw_plainly(plain_pipeline(folder)))


def test_a_part_that_the_configuration_does_not_know_is_told(entry: ModelEntry) -> None:
    """Such as the additional embedding of an unCLIP: without it, the model would draw something else."""
    save_file(
        {**load_file(entry.location), "model.diffusion_model.label_emb.0.0.weight": torch.zeros(4)}, entry.location
    )
    with pytest.raises(UserError, match=r"its UNet is built differently \(model\.diffusion_model\.label_emb\.0\.0"):
        load(entry)


def test_what_the_vae_was_trained_with_beside_it_does_not_matter(entry: ModelEntry) -> None:
    more = {"first_stage_model.loss.logvar": torch.zeros(()), "first_stage_model.loss.discriminator.x": torch.zeros(3)}
    save_file({**load_file(entry.location), **more}, entry.location)
    load(entry)


EPSILON_YAML = "model:\n  params:\n    parameterization: eps\n"
OTHER_YAML = f"{EPSILON_YAML}    scale_factor: 0.5\n    unet_config: {{params: {{context_dim: 768}}}}\n"


@pytest.mark.parametrize("names", [("dream",), ("dream", "second")])
def test_a_yaml_of_another_name_says_nothing_of_a_file_with_a_configuration_of_its_own(
    tiny_bundle_dir: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    entries = [write_checkpoint(tiny_bundle_dir, tmp_path / f"{name}.safetensors") for name in names]
    (tmp_path / "v1-inference.yaml").write_text(EPSILON_YAML)
    for entry in entries:
        assert open_source(entry).scheduler.config["prediction_type"] == "v_prediction"


@pytest.mark.parametrize(
    ("text", "others", "predicted"),
    [
        (EPSILON_YAML, (), "epsilon"),
        (OTHER_YAML, (), "v_prediction"),
        (OTHER_YAML.replace("unet", "network"), (), "v_prediction"),
        (OTHER_YAML.replace("768", "32"), (), "epsilon"),
        (EPSILON_YAML, ("second.safetensors",), "v_prediction"),
        (EPSILON_YAML, ("second.ckpt",), "v_prediction"),
        (EPSILON_YAML, ("dream.ckpt",), "epsilon"),
    ],
)
def test_a_yaml_of_another_name_is_that_of_the_only_checkpoint_that_it_fits(
    tiny_bundle_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    others: tuple[str, ...],
    predicted: str,
) -> None:
    cache_configuration(tiny_bundle_dir, repo=SD15, cache=tmp_path / "cache", monkeypatch=monkeypatch)
    entry = write_checkpoint(tiny_bundle_dir, tmp_path / "here" / "dream.safetensors", beside=False)
    for name in others:
        (tmp_path / "here" / name).touch()
    (tmp_path / "here" / "v1-inference.yaml").write_text(text)
    source = open_source(entry)
    assert source.scheduler.config["prediction_type"] == predicted
    assert ("scaling_factor" in source.sampling.vae) is ("scale_factor" in text and predicted == "epsilon")


@pytest.mark.parametrize("kept", ["vae/config.json", "model_index.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize("has_other", [True, False])
def test_a_repository_that_is_kept_in_part_hides_no_whole_one(
    tiny_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str, has_other: bool
) -> None:
    cache = tmp_path / "cache"
    cache_configuration(tiny_bundle_dir, repo=SD15, cache=cache, monkeypatch=monkeypatch)
    if has_other:
        cache_configuration(
            tiny_bundle_dir, repo="runwayml/stable-diffusion-v1-5", cache=cache, monkeypatch=monkeypatch
        )
    partial = cache / f"models--{SD15.replace('/', '--')}" / "snapshots" / ("0" * 40)
    for path in [path for path in partial.rglob("*") if path.is_file() and path != partial / kept]:
        path.unlink()
    entry = write_checkpoint(tiny_bundle_dir, tmp_path / "x.safetensors", beside=False)
    if has_other:
        assert "runwayml" in str(open_source(entry).folder)
        return
    with pytest.raises(UserError, match=r"x\.safetensors holds only weights, and the configuration"):
        open_source(entry)


@pytest.mark.parametrize("place", ["the other name of its repository", "what the app has downloaded itself"])
def test_the_usual_configuration_is_found_wherever_it_is(
    tiny_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    cache_configuration(
        tiny_bundle_dir,
        repo="runwayml/stable-diffusion-v1-5" if "other" in place else "somebody/something",
        cache=tmp_path / "cache",
        monkeypatch=monkeypatch,
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    if "app" in place:
        copy_configuration(tiny_bundle_dir, model_folder("sd15"))
    entry = write_checkpoint(tiny_bundle_dir, tmp_path / "here" / "dream.safetensors", beside=False)
    usual = load(entry_from_folder(tiny_bundle_dir, name="tiny"))
    assert torch.equal(draw_ours(load(entry)), draw_ours(dataclasses.replace(usual, entry=entry)))


@pytest.mark.parametrize(("part", "name"), [("first_stage_model.", "VAE"), ("model.diffusion_model.", "UNet")])
def test_a_tensor_that_is_missing_is_told_before_weights_are_read(entry: ModelEntry, part: str, name: str) -> None:
    tensors = load_file(entry.location)
    del tensors[next(key for key in tensors if key.startswith(part) and "conv" in key and key != FIRST)]
    save_file(tensors, entry.location)
    with pytest.raises(UserError, match=rf"does not fit the configuration in .*: its {name} is built differently"):
        load(entry)


def test_a_tensor_that_is_missing_in_the_text_encoder_is_told(entry: ModelEntry) -> None:
    tensors = load_file(entry.location)
    del tensors["cond_stage_model.transformer.text_model.final_layer_norm.weight"]
    save_file(tensors, entry.location)
    with pytest.raises(UserError, match=r"its text_encoder is built differently \(final_layer_norm\.weight\)"):
        load(entry)


def test_a_file_that_is_no_checkpoint_is_refused(entry: ModelEntry) -> None:
    save_file({"lora.weight": torch.zeros(1)}, entry.location)
    with pytest.raises(UserError, match="is a LoRA, which is not a complete checkpoint"):
        load(entry)
    save_file({"weight": torch.zeros(1)}, entry.location)
    with pytest.raises(UserError, match=r"is not a complete checkpoint .* \(it has no UNet, VAE, text encoder\)"):
        load(entry)
    entry.location.write_bytes(b"hello")
    with pytest.raises(UserError, match="damaged or incomplete"):
        load(entry)


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [(torch.float8_e4m3fn, "fp8"), (torch.float8_e5m2, "fp8"), (torch.int8, "int8"), (torch.uint8, "uint8")],
)
def test_a_quantised_checkpoint_is_named_before_it_is_drawn_with(
    entry: ModelEntry, dtype: torch.dtype, kind: str
) -> None:
    tensors = load_file(entry.location)
    save_file({key: value.to(dtype) if value.ndim > 1 else value for key, value in tensors.items()}, entry.location)
    with pytest.raises(UserError, match=rf"my-model\.safetensors is quantised \({kind}\), and quantised weights"):
        load(entry)


def test_a_scaled_checkpoint_is_named_too(entry: ModelEntry) -> None:
    """Without its scale tensors, its weights would pass as plain numbers."""
    tensors = load_file(entry.location)
    save_file({**tensors, "model.diffusion_model.scaled_fp8": torch.zeros(2)}, entry.location)
    with pytest.raises(UserError, match=r"is quantised \(fp8\)"):
        load(entry)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["model.diffusion_model.", "first_stage_model.", "cond_stage_model."])
def test_weights_that_are_no_numbers_are_named_before_they_are_drawn_with(
    entry: ModelEntry, part: str, value: float
) -> None:
    tensors = load_file(entry.location)
    key = next(key for key in reversed(tensors) if key.startswith(part) and "bias" in key)
    tensors[key].view(-1)[-1] = value
    save_file(tensors, entry.location)
    with pytest.raises(UserError, match=r"my-model\.safetensors \(\w+\) cannot be used: .* infinities or NaN"):
        load(entry)
