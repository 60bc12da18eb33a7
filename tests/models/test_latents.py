"""Everything that encodes or decodes latents uses the same scaling: drawing, previews, inpainting and training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline
from PIL import Image
from torch import Tensor

from ipa_app.engine.batch import BatchItem
from ipa_app.engine.drawing import denoise, draw
from ipa_app.engine.plan import make_plan
from ipa_app.engine.previews import pictures_of
from ipa_app.engine.requests import GenerateRequest
from ipa_app.models.caches import Posteriors
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.latents import decode, encode, scaled, scaled_deviation, unscaled
from ipa_app.models.loaded import LoadedModel
from ipa_app.training.components import load_components
from ipa_app.training.config import TrainConfig
from ipa_app.training.encoding import FrozenEncoder
from ipa_app.training.sampling import Sampler
from tests.checkpoints import load
from tests.engine.conftest import noise_picture
from tests.tiny_models import tiny_vae

MEAN, DEVIATION = [-1.6, 1.1, 0.4, -2.0], [8.4, 5.9, 8.4, 4.5]
STATISTICS = {"latents_mean": MEAN, "latents_std": DEVIATION, "scaling_factor": 0.5}
SHIFT = {"shift_factor": 0.1159, "scaling_factor": 0.3611}
SETTINGS = {"the factor alone": {}, "statistics of the channels": STATISTICS, "a shift": SHIFT}


def column(values: list[float]) -> Tensor:
    return torch.tensor(values).view(1, 4, 1, 1)


@pytest.fixture(params=SETTINGS.values(), ids=SETTINGS.keys())
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


@pytest.fixture
def folder(tiny_bundle_dir: Path, tmp_path: Path, settings: dict[str, Any]) -> Path:
    """Return a model whose VAE configuration scales its latents differently."""
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "model")
    path = folder / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


@pytest.fixture
def vae(settings: dict[str, Any]) -> AutoencoderKL:
    vae = tiny_vae()
    vae.register_to_config(**settings)
    return vae


def by_hand(latents: Tensor, settings: dict[str, Any]) -> Tensor:
    """Convert VAE latents to what the UNet sees, as the configurations of such VAEs define it."""
    if settings == STATISTICS:
        return (latents - column(MEAN)) / column(DEVIATION) * 0.5
    if settings == SHIFT:
        return (latents - 0.1159) * 0.3611
    return latents * 0.18215


def test_they_are_scaled_as_the_configuration_says(vae: AutoencoderKL, settings: dict[str, Any]) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    there = scaled(latents, vae.config)
    torch.testing.assert_close(there, by_hand(latents, settings))
    torch.testing.assert_close(unscaled(there, vae.config), latents)
    deviation = latents.abs()
    expected = by_hand(latents + deviation, settings) - by_hand(latents, settings)
    torch.testing.assert_close(scaled_deviation(deviation, vae.config), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_pixels_are_encoded_each_by_its_own_generator(vae: AutoencoderKL, settings: dict[str, Any]) -> None:
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    found = encode(vae, pixels, posteriors=Posteriors(), generator=generators)
    for row, seed in enumerate((1, 2)):
        posterior = vae.encode(pixels[row : row + 1]).latent_dist
        expected = by_hand(posterior.sample(torch.Generator().manual_seed(seed)), settings)
        torch.testing.assert_close(found[row : row + 1], expected)


@torch.no_grad()
def test_what_was_encoded_last_is_not_encoded_again(vae: AutoencoderKL) -> None:
    encoded: list[int] = []
    vae.encoder.register_forward_hook(lambda *_: encoded.append(1))
    first, second, third = torch.rand(3, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    posteriors = Posteriors(limit=2)

    def latents(pixels: torch.Tensor, seed: int = 1, **how: Any) -> torch.Tensor:
        generator = [torch.Generator().manual_seed(seed)] * len(pixels)
        return encode(vae, pixels, posteriors=posteriors, generator=generator, **how)

    anew = encode(vae, first, posteriors=Posteriors(), generator=torch.Generator().manual_seed(2))
    encoded.clear()
    before = latents(first)
    assert torch.equal(latents(first.clone(), seed=2), anew), "another seed takes another sample of the same"
    latents(torch.cat([first, second]))
    assert len(encoded) == 2
    latents(third)
    assert torch.equal(latents(first), before)
    assert len(encoded) == 4, "of what was used longest ago nothing is kept"
    latents(first, upcast=True)
    latents(first.double().float())
    vae.enable_tiling()
    latents(first)
    assert len(encoded) == 6, "nor is it taken for what the VAE gives when it works in another way"


@torch.no_grad()
def test_previews_and_samples_show_what_is_drawn(folder: Path, settings: dict[str, Any]) -> None:
    """All three turn the same latents into the same picture, by the configuration's formula."""
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    model = load(entry_from_folder(folder, name="x"))
    pipeline: Any = model.pipelines["text_to_image"]
    base = load_components(folder)
    sampler = Sampler(base, encoder=FrozenEncoder(base, kind="base"), config=TrainConfig(output=folder, max_steps=1))
    undone = {
        str(STATISTICS): latents * column(DEVIATION) / 0.5 + column(MEAN),
        str(SHIFT): latents / 0.3611 + 0.1159,
        str({}): latents / 0.18215,
    }[str(settings)]
    expected = pipeline.vae.decode(undone, return_dict=False)[0]
    torch.testing.assert_close(decode(pipeline.vae, latents), expected, atol=1e-5, rtol=1e-5)
    picture = pipeline.image_processor.postprocess(expected, output_type="pil")[0]
    for shown in (pictures_of(model.vae, latents, family=model.family)[0], sampler._decode(latents)):
        assert np.abs(np.asarray(shown, int) - np.asarray(picture, int)).max() <= 1


def test_training_aims_at_what_drawing_starts_from(folder: Path, settings: dict[str, Any]) -> None:
    base = load_components(folder)
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, deviation = FrozenEncoder(base, kind="base").posterior(pixels)
    with torch.no_grad():
        posterior = base.vae.encode(pixels).latent_dist
    torch.testing.assert_close(mean, by_hand(posterior.mean, settings))
    expected = by_hand(posterior.mean + posterior.std, settings) - by_hand(posterior.mean, settings)
    torch.testing.assert_close(deviation, expected, atol=1e-5, rtol=1e-5)


def drawn(model: LoadedModel, request: GenerateRequest, **fields: Any) -> Image.Image:
    row = BatchItem(prompt=request.prompt, negative_prompt="", seed=5, **fields)
    picture = draw(model, [row], plan=make_plan(request, model.entry), on_step=lambda _: None)[0]
    assert picture is not None
    return picture


@torch.no_grad()
def test_around_a_mask_there_is_the_picture_itself(folder: Path, settings: dict[str, Any]) -> None:
    model = load(entry_from_folder(folder, name="x"))
    picture, mask = noise_picture(2, (64, 64)), Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    request = GenerateRequest(task="inpaint", image=picture, mask=mask, prompt="a cat", steps=3)
    row = BatchItem(prompt="a cat", negative_prompt="", seed=5, image=picture, mask=mask)
    latents = denoise(model, [row], plan=make_plan(request, model.entry), on_step=lambda _: None)
    pipeline: Any = model.pipelines["inpaint"]
    posterior = pipeline.vae.encode(pipeline.image_processor.preprocess(picture)).latent_dist
    generator = torch.Generator().manual_seed(5)
    torch.randn(1, 4, 8, 8, generator=generator)  # the initial noise is drawn first
    expected = by_hand(posterior.sample(generator), settings)
    torch.testing.assert_close(latents[..., :4], expected[..., :4])


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_starting_from_a_picture_is_plain_diffusers(tiny_bundle_dir: Path, tiny_sdxl_dir: Path, family: str) -> None:
    folder, kind = {
        "sd": (tiny_bundle_dir, StableDiffusionImg2ImgPipeline),
        "sdxl": (tiny_sdxl_dir, StableDiffusionXLImg2ImgPipeline),
    }[family]
    model, picture = load(entry_from_folder(folder, name="x")), noise_picture(2, (64, 64))
    request = GenerateRequest(task="mix", prompt="a cat", start_image=picture, strength=0.7, steps=4, seed=5)
    plain = kind.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    plain.set_progress_bar_config(disable=True)
    expected = plain(
        "a cat",
        image=picture,
        strength=0.7,
        num_inference_steps=4,
        guidance_scale=3.0,
        generator=[torch.Generator().manual_seed(5)],
    ).images[0]
    assert np.array_equal(np.asarray(drawn(model, request, image=picture)), np.asarray(expected))


def test_an_sdxl_with_statistics_starts_from_a_picture_as_in_diffusers(tiny_sdxl_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_sdxl_dir, tmp_path / "model")
    path = folder / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | STATISTICS))
    test_starting_from_a_picture_is_plain_diffusers(folder, folder, "sdxl")
