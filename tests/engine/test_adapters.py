"""Adapters of every kind and file format, in one model: the same pictures as plain diffusers with the same weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.embeddings import ImageProjection
from PIL import Image, ImageChops
from safetensors.torch import load_file, save_file

from ipa_app.adapter.projection import ImageProjModel
from ipa_app.adapter.shapes import ProjectionSizes
from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.errors import UserError
from ipa_app.imaging.cropping import square_for_clip
from ipa_app.models.adapter_set import AdapterSet
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.hashing import file_hash
from ipa_app.models.manager import ModelManager
from tests.adapter_files import prefixed, saved_by_accelerate, write_adapter
from tests.engine.conftest import TIMEOUT_S, noise_picture, pixels
from tests.tiny_models import random_adapter_tensors, tiny_unet

# The weights in the published layout, the only one that diffusers reads.
PLAIN = {
    "pooled": random_adapter_tensors(tiny_unet(), kind="base", seed=11),
    "plus": random_adapter_tensors(tiny_unet(), kind="plus", seed=12),
    "full": random_adapter_tensors(tiny_unet(), kind="full", seed=13),
    "8 queries": random_adapter_tensors(tiny_unet(), kind="plus", seed=14, num_tokens=8),
}
SQUARE = square_for_clip(noise_picture())
WISH = {"task": "mix", "prompt": "a red cat", "seed": 5, "scale": 0.6, "references": (Reference(image=SQUARE),)}


@pytest.fixture(scope="module")
def folder(tiny_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model with more than two adapters: each of `PLAIN`, and the same weights in two other layouts."""
    folder = shutil.copytree(tiny_bundle_dir, tmp_path_factory.mktemp("models") / "many")
    for name, tensors in PLAIN.items():
        write_adapter(folder / "adapters" / f"{name}.bin", tensors)
        save_file(prefixed(tensors), folder / "adapters" / f"{name} prefixed.safetensors")
        whole = saved_by_accelerate(tensors, tiny_unet())
        save_file(whole, folder / "adapters" / f"{name} whole.safetensors")
    return folder


@pytest.fixture(scope="module")
def many(folder: Path) -> Iterator[Engine]:
    engine = Engine(ModelManager({"toybox": entry_from_folder(folder, name="toybox")}, device="cpu"))
    yield engine
    engine.close()


def draw(engine: Engine, **changes: object) -> GenerateResult:
    return engine.submit(GenerateRequest(**{**WISH, **changes})).result(TIMEOUT_S)


def draw_theirs(folder: Path, weight_name: str) -> Image.Image:
    """Return one picture by plain diffusers from the engine's initial noise."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_ip_adapter(
        str(folder), subfolder="adapters", weight_name=weight_name, image_encoder_folder=None, local_files_only=True
    )
    pipeline.set_ip_adapter_scale(WISH["scale"])
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(WISH["seed"]))
    settings = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64}
    return pipeline(WISH["prompt"], latents=noise, ip_adapter_image=SQUARE, **settings).images[0]


@pytest.mark.parametrize("name", PLAIN)
def test_every_kind_and_form_is_what_diffusers_draws(many: Engine, folder: Path, name: str) -> None:
    expected = draw_theirs(folder, f"{name}.bin")
    plain = draw(many, scale=0)
    for form in ("", " prefixed", " whole"):
        drawn = draw(many, adapter=f"{name}{form}")
        furthest = int(np.asarray(ImageChops.difference(drawn.images[0], expected)).max())
        assert furthest <= 1, form
        assert drawn.settings["adapter"] == f"{name}{form}"
        assert pixels(drawn) != pixels(plain)


def test_a_base_adapter_may_have_other_numbers_of_tokens() -> None:
    """Diffusers assumes four when it reads files; its projection itself does not."""
    tensors = random_adapter_tensors(tiny_unet(), kind="base", num_tokens=8)
    ours = ImageProjModel(ProjectionSizes(clip_dim=24, cross_attention_dim=32, num_tokens=8))
    ours.load_state_dict({key[11:]: tensor for key, tensor in tensors.items() if key.startswith("image_proj.")})
    theirs = ImageProjection(image_embed_dim=24, cross_attention_dim=32, num_image_text_embeds=8)
    theirs.image_embeds.load_state_dict(ours.proj.state_dict())
    theirs.norm.load_state_dict(ours.norm.state_dict())
    embeds = torch.randn(2, 24)
    torch.testing.assert_close(ours(embeds), theirs(embeds))


def test_one_batch_draws_with_many_adapters(folder: Path) -> None:
    manager = ModelManager({"toybox": entry_from_folder(folder, name="toybox")}, device="cpu")
    engine = Engine(manager, batch_limit=4)
    manager.get("toybox", TIMEOUT_S)
    names = ["base", "fine", "full", "8 queries"]
    wishes = [{**WISH, "adapter": name, "seed": seed} for seed, name in enumerate(names)]
    jobs = [engine.submit(GenerateRequest(**wish)) for wish in wishes]
    together = [job.result(TIMEOUT_S).images[0] for job in jobs]
    for seed, (name, picture) in enumerate(zip(names, together, strict=True)):
        alone = draw(engine, adapter=name, seed=seed).images[0]
        assert int(np.asarray(ImageChops.difference(alone, picture)).max()) <= 1
    engine.close()


def test_a_new_adapter_is_drawn_with_at_once_and_the_model_stays(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    adapters = AdapterSet(f"toys={tmp_path / 'run'}")
    manager = ModelManager(
        {"toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu", adapters=adapters
    )
    engine = Engine(manager)
    before = draw(engine, adapter="fine")
    model = manager.get("toybox")
    with pytest.raises(UserError, match=r"no adapter 'toys' \(it has base, fine\)"):
        draw(engine, adapter="toys")
    file = write_adapter(tmp_path / "run" / "ip-adapter-plus.safetensors", PLAIN["plus"])
    job = engine.submit(GenerateRequest(**{**WISH, "adapter": "toys"}))
    events = list(job.events())
    assert any(isinstance(event, Progress) and event.message == "reading the adapter toys" for event in events)
    first = job.result(TIMEOUT_S)
    assert first.settings["adapter_sha256"] == file_hash(file)
    save_file({key: tensor * 0.5 for key, tensor in load_file(file).items()}, file)  # as if trained further
    second = draw(engine, adapter="toys")
    assert second.settings["adapter_sha256"] == file_hash(file)
    assert len({pixels(result)[0] for result in (before, first, second)}) == 3
    assert pixels(draw(engine, adapter="fine")) == pixels(before)
    assert manager.get("toybox") is model
    engine.close()


def test_what_a_visitor_brought_fails_alone_when_it_is_gone(
    engine: Engine, manager: ModelManager, tmp_path: Path
) -> None:
    file = write_adapter(tmp_path / "mine.safetensors", PLAIN["full"])
    key = manager.adapters.add(file, entry=manager.entry("toybox"))
    drawn = draw(engine, adapter=key)
    assert drawn.settings["adapter"] == "mine"
    running = engine.submit(GenerateRequest(task="mix", prompt="a cat", steps=100))
    waiting = engine.submit(GenerateRequest(**{**WISH, "adapter": key}))
    manager.adapters.remove([key])
    running.cancel()
    with pytest.raises(UserError, match="The adapter mine is no longer here"):
        waiting.result(TIMEOUT_S)
    assert draw(engine).images
