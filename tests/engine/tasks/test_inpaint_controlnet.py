"""A model with an inpainting ControlNet draws the same as plain diffusers with the same ControlNet."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    SchedulerMixin,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from torch import nn

from ipa_app.engine.engine import Engine
from ipa_app.engine.metadata import pack_inputs, read_request
from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.engine.results import GenerateResult
from ipa_app.imaging.masks import blank_masked
from ipa_app.imaging.result_files import write_result
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.pose.draw import draw_skeleton
from ipa_app.pose.presets import presets
from tests.engine.conftest import TIMEOUT_S, noise_picture, pixels
from tests.tiny_models import tiny_controlnet

SIDE = 64
PICTURE, SQUARE = noise_picture(3, (SIDE, SIDE)), noise_picture(1, (32, 32))
MASK = Image.new("L", (SIDE, SIDE))
MASK.paste(255, (16, 8, 48, 40))  # whole latent cells, so that the expected condition is easy to write down
HOLE: dict[str, Any] = {"task": "inpaint", "image": PICTURE, "mask": MASK, "mask_feather": 0.0, "area": "whole"}
GIVEN = {"references": (Reference(image=SQUARE),), "scale": 0.6, "prompt": "a red cat"}
POSE = {"task": "pose", "pose": draw_skeleton(next(iter(presets().values())), (SIDE, SIDE))}
PIPELINES: dict[str, Any] = {
    "tiny_bundle_dir": (StableDiffusionPipeline, StableDiffusionControlNetInpaintPipeline),
    "tiny_sdxl_dir": (StableDiffusionXLPipeline, StableDiffusionXLControlNetInpaintPipeline),
}


@dataclass(frozen=True)
class Studio:
    """An engine whose model has two ControlNets, the model's folder, and the same components in plain diffusers."""

    folder: Path
    engine: Engine
    pipeline: Any

    @property
    def inpainting(self) -> Any:
        """The model's pipeline for inpainting, which each drawing copies."""
        model = self.engine.manager.get("toybox", TIMEOUT_S)
        return model.controlnets.pipeline(model.entry.controlnet("inpaint"))

    def draw(self, **fields: Any) -> GenerateResult:
        return self.engine.submit(GenerateRequest(**{"seed": 5, **fields})).result(TIMEOUT_S)


@pytest.fixture(scope="module", params=PIPELINES)
def studio(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = shutil.copytree(request.getfixturevalue(request.param), tmp_path_factory.mktemp("models") / "model")
    plain, inpainting = PIPELINES[request.param]
    theirs = plain.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    controlnet = tiny_controlnet(theirs.unet, seed=40)
    controlnet.save_pretrained(folder / "controlnets" / "inpaint")
    pipeline = inpainting(**theirs.components, controlnet=controlnet, **_options(plain))
    pipeline.set_progress_bar_config(disable=True)
    engine = Engine(ModelManager({"toybox": entry_from_folder(folder, name="toybox")}, device="cpu"))
    yield Studio(folder=folder, engine=engine, pipeline=pipeline)
    engine.close()


def _options(kind: Any) -> dict[str, Any]:
    is_xl = kind is StableDiffusionXLPipeline
    return {"add_watermarker": False} if is_xl else {"requires_safety_checker": False}


def by_diffusers(studio: Studio) -> Image.Image:
    """Return diffusers' picture for the prompt and a reference; the masked part is hidden as in the model card."""
    pipeline = studio.pipeline
    pipeline.load_ip_adapter(
        str(studio.folder),
        subfolder="adapters",
        weight_name="ip-adapter_toybox.safetensors",
        image_encoder_folder=None,
        local_files_only=True,
    )
    pipeline.set_ip_adapter_scale(0.6)
    seen = np.asarray(PICTURE, np.float32)[None].transpose(0, 3, 1, 2) / 255
    hidden = np.asarray(MASK.convert("L"), np.float32)[None, None].repeat(3, axis=1) / 255 > 0.5
    seen[hidden] = -1.0
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn((1, 4, SIDE // 8, SIDE // 8), generator=generator)
    drawn = pipeline(
        "a red cat",
        image=PICTURE,
        mask_image=MASK,
        control_image=torch.from_numpy(seen),
        controlnet_conditioning_scale=1.0,
        strength=1.0,
        ip_adapter_image=SQUARE,
        latents=noise,
        generator=[generator],
        num_inference_steps=2,
        guidance_scale=3.0,
        width=SIDE,
        height=SIDE,
    ).images[0]
    return Image.composite(drawn, PICTURE, MASK)


@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerAncestralDiscreteScheduler])
def test_it_draws_what_it_draws_in_diffusers(
    studio: Studio, scheduler: type[SchedulerMixin], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = studio.pipeline.scheduler.config
    for pipeline in (studio.inpainting, studio.pipeline):
        monkeypatch.setattr(pipeline, "scheduler", scheduler.from_config(config))
    drawn, without = (studio.draw(**HOLE, **GIVEN, surroundings=on).images[0] for on in (True, False))
    expected = np.asarray(by_diffusers(studio), int)
    assert np.abs(np.asarray(drawn, int) - expected).max() <= 1
    assert np.abs(np.asarray(without, int) - expected).max() > 1


def test_nothing_is_done_twice(studio: Studio) -> None:
    vae, controlnet = studio.inpainting.vae, studio.inpainting.controlnet
    calls = {"encoder": 0, "condition": 0, "controlnet": 0}
    watched = {"encoder": vae.encoder, "condition": controlnet.controlnet_cond_embedding.conv_in}
    with ExitStack() as hooks:
        for name, module in {**watched, "controlnet": controlnet}.items():
            hooks.enter_context(_counted(module, calls, name))
        hole = {**HOLE, "image": PICTURE.rotate(180)}  # new to every cache
        studio.draw(**hole, **GIVEN, steps=4)
        assert calls == {"encoder": 1, "condition": 1, "controlnet": 4}
        studio.draw(**{**hole, "mask": MASK.rotate(90)}, **GIVEN, steps=4)
        assert calls == {"encoder": 1, "condition": 2, "controlnet": 8}, "another mask leaves the picture as it is"
        studio.draw(**{**hole, "image": PICTURE.rotate(90)}, **GIVEN, steps=4)
        assert calls == {"encoder": 2, "condition": 3, "controlnet": 12}, "another picture has its own"


@contextmanager
def _counted(module: nn.Module, calls: dict[str, int], name: str) -> Iterator[None]:
    def count(*_: Any) -> None:
        calls[name] += 1

    hook = module.register_forward_pre_hook(count)
    yield
    hook.remove()


def test_holes_share_a_batch_and_each_is_drawn_as_alone(studio: Studio) -> None:
    requests = [GenerateRequest(**{**HOLE, "image": noise_picture(n, (SIDE, SIDE))}, seed=n) for n in range(3)]
    alone = [studio.engine.submit(request).result(TIMEOUT_S) for request in requests]
    engine = Engine(studio.engine.manager, batch_limit=4)
    try:
        together = [job.result(TIMEOUT_S) for job in [engine.submit(request) for request in requests]]
    finally:
        engine.close()
    for one, other in zip(alone, together, strict=True):
        assert np.abs(np.asarray(one.images[0], int) - np.asarray(other.images[0], int)).max() <= 1


def test_poses_have_a_controlnet_of_their_own_and_both_stay_in_memory(studio: Studio) -> None:
    before = pixels(studio.draw(**POSE, references=GIVEN["references"]))
    studio.draw(**HOLE)
    model = studio.engine.manager.get("toybox", timeout=TIMEOUT_S)
    assert {name for name, entry in model.entry.controlnets.items() if entry in model.controlnets} == {
        "pose",
        "inpaint",
    }
    assert pixels(studio.draw(**POSE, references=GIVEN["references"])) == before


def test_the_file_says_so_and_gives_the_same_picture_again(studio: Studio, tmp_path: Path) -> None:
    for on in (True, False):
        result = studio.draw(**HOLE, **GIVEN, surroundings=on)
        assert result.settings["surroundings"] is on
        path = tmp_path / f"{on}.png"
        write_result(result.images[0], path, result.settings, inputs=pack_inputs(result.inputs))
        again = studio.engine.submit(read_request(path)).result(TIMEOUT_S)
        assert pixels(again) == pixels(result)


def test_one_that_cannot_be_used_is_named_beside_the_picture(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "model")
    (folder / "controlnets" / "inpaint").mkdir(parents=True)
    (folder / "controlnets" / "inpaint" / "config.json").write_text("{", "utf-8")
    engine = Engine(ModelManager({"toybox": entry_from_folder(folder, name="toybox")}, device="cpu"))
    try:
        with_it, without = (
            engine.submit(GenerateRequest(**HOLE, **GIVEN, surroundings=on)).result(TIMEOUT_S) for on in (True, False)
        )
    finally:
        engine.close()
    assert any("is not readable JSON" in note for note in with_it.notes)
    assert not without.notes


def test_what_lies_below_the_mask_is_not_seen() -> None:
    other = PICTURE.copy()
    other.paste("red", (16, 8, 48, 40))
    seen = blank_masked(PICTURE, MASK)
    assert (seen == blank_masked(other, MASK)).all()
    assert (seen[np.asarray(MASK) > 0] == -1).all()
    assert seen[np.asarray(MASK) == 0].min() >= 0
