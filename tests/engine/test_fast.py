"""A model's fast way draws the same as plain diffusers with the same LoRA, and changes nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    ControlNetModel,
    LCMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image

from ipa_app.engine.engine import Engine
from ipa_app.engine.plan import make_plan
from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.engine.results import GenerateResult
from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.models.memory import MemoryPlan
from ipa_app.models.state import MemoryUse
from ipa_app.pose.draw import draw_skeleton
from ipa_app.pose.presets import presets
from tests.engine.conftest import TIMEOUT_S, furthest, noise_picture, pixels, reference
from tests.tiny_models import TINY_LORA, tiny_fast_way

SKELETON = draw_skeleton(next(iter(presets().values())), (64, 64))
SQUARE = noise_picture(1, (32, 32))
POSE = {"task": "pose", "pose": SKELETON}
TASKS: dict[str, dict[str, Any]] = {
    "mix": {"task": "mix", "prompt": "a red cat"},
    "reference": {"task": "variation", "references": (reference(),), "adapter": "fine"},
    "start": {"task": "mix", "prompt": "a red cat", "start_image": noise_picture(6, (64, 64)), "strength": 0.7},
    "inpaint": {
        "task": "inpaint",
        "image": noise_picture(3, (64, 64)),
        "mask": noise_picture(4, (64, 64)).convert("L"),
    },
    "pose": {**POSE, "references": (reference(),)},
}
PIPELINES = {
    "tiny_bundle_dir": (StableDiffusionPipeline, StableDiffusionControlNetPipeline),
    "tiny_sdxl_dir": (StableDiffusionXLPipeline, StableDiffusionXLControlNetPipeline),
}


def engine_of(bundle: Path, *, batch_limit: int = 1, **changes: Any) -> Engine:
    """Return an engine whose model has a fast way."""
    entry = replace(entry_from_folder(bundle, name="toybox"), fast=tiny_fast_way(bundle, **changes))
    return Engine(ModelManager({"toybox": entry}, device="cpu"), batch_limit=batch_limit)


@pytest.fixture(scope="module")
def fast_engine(tiny_bundle_dir: Path) -> Iterator[Engine]:
    engine = engine_of(tiny_bundle_dir)
    yield engine
    engine.close()


def draw(engine: Engine, **fields: Any) -> GenerateResult:
    return engine.submit(GenerateRequest(**{"seed": 5, "speed": "fast", **fields})).result(TIMEOUT_S)


def load_theirs(kind: Any, bundle: Path, **parts: Any) -> Any:
    """Return a plain diffusers pipeline with the same LoRA and an adapter."""
    pipeline = kind.from_pretrained(bundle, local_files_only=True, dtype=torch.float32, **parts)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    pipeline.load_lora_weights(bundle / TINY_LORA)
    pipeline.load_ip_adapter(
        str(bundle),
        subfolder="adapters",
        weight_name="ip-adapter_toybox.safetensors",
        image_encoder_folder=None,
        local_files_only=True,
    )
    pipeline.set_ip_adapter_scale(0.6)
    return pipeline


def drawn_by_theirs(pipeline: Any, **given: Any) -> Image.Image:
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn((1, 4, 8, 8), generator=generator)
    return pipeline(
        "a red cat",
        ip_adapter_image=SQUARE,
        latents=noise,
        generator=[generator],  # LCMScheduler draws fresh noise in its steps
        num_inference_steps=3,
        guidance_scale=1.0,
        width=64,
        height=64,
        **given,
    ).images[0]


@pytest.mark.parametrize("is_merged", [True, False])
@pytest.mark.parametrize("bundle", PIPELINES)
def test_it_is_what_diffusers_draws_with_the_lora_an_adapter_and_a_controlnet(
    bundle: str, is_merged: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = request.getfixturevalue(bundle)
    monkeypatch.setattr("ipa_app.models.loading._has_room", lambda _size, **_: is_merged)
    plain, guided = PIPELINES[bundle]
    controlnet = ControlNetModel.from_pretrained(folder / "controlnet", dtype=torch.float32)
    expected = drawn_by_theirs(load_theirs(plain, folder))
    posed = drawn_by_theirs(load_theirs(guided, folder, controlnet=controlnet), image=SKELETON)
    engine = engine_of(folder)
    try:
        wish = {"prompt": "a red cat", "references": (Reference(image=SQUARE),), "scale": 0.6}
        drawn, drawn_pose = (draw(engine, **own, **wish).images[0] for own in ({"task": "mix"}, POSE))
        usual = draw(engine, **wish, task="mix", speed="best").images[0]
    finally:
        engine.close()
    assert furthest(drawn, expected) <= 1
    assert furthest(drawn_pose, posed) <= 1
    assert min(furthest(drawn, posed), furthest(drawn, usual)) > 1


@pytest.mark.parametrize("is_merged", [True, False])
def test_what_is_drawn_at_best_is_the_same_bytes_after_something_fast(
    tiny_bundle_dir: Path, is_merged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipa_app.models.loading._has_room", lambda _size, **_: is_merged)
    engine = engine_of(tiny_bundle_dir)
    try:
        before, fast, after, fast_again = (
            {name: pixels(draw(engine, **fields, speed=speed)) for name, fields in TASKS.items()}
            for speed in ("best", "fast", "best", "fast")
        )
    finally:
        engine.close()
    assert after == before
    assert fast_again == fast
    assert all(fast[name] != before[name] for name in TASKS)


def test_requests_of_both_speeds_that_wait_together_are_drawn_as_alone(
    tiny_bundle_dir: Path, fast_engine: Engine
) -> None:
    wishes = [{"task": "mix", "prompt": "a cat", "seed": seed, "steps": 3} for seed in range(3)]
    wishes = [{**wish, "speed": speed, "guidance_scale": 1} for wish in wishes for speed in ("best", "fast")]
    alone = [draw(fast_engine, **wish).images[0] for wish in wishes]
    together = engine_of(tiny_bundle_dir, batch_limit=8)
    try:
        jobs = [together.submit(GenerateRequest(**wish)) for wish in wishes]
        drawn = [job.result(TIMEOUT_S).images[0] for job in jobs]
    finally:
        together.close()
    assert all(furthest(one, other) <= 1 for one, other in zip(drawn, alone, strict=True))


def test_parts_that_wait_for_their_turn_draw_the_same(
    tiny_bundle_dir: Path, fast_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {name: pixels(draw(fast_engine, **fields)) for name, fields in TASKS.items()}
    plan = MemoryPlan(dtype=torch.float32, offload=True)
    use = MemoryUse(device="cpu", precision="single", needed=10**6, savings=("offload",))
    monkeypatch.setattr("ipa_app.models.loading.plan_memory", lambda *_, **__: (plan, use))
    engine = engine_of(tiny_bundle_dir)
    try:
        draw(engine, **TASKS["mix"], speed="best")
        assert {name: pixels(draw(engine, **fields)) for name, fields in TASKS.items()} == expected
    finally:
        engine.close()


def test_steps_guidance_and_sampler_are_the_ways_own_and_noted(fast_engine: Engine) -> None:
    noted = draw(fast_engine, **TASKS["mix"], guidance_scale=9).settings
    assert {name: noted[name] for name in ("speed", "steps", "guidance_scale", "scheduler")} == {
        "speed": "fast",
        "steps": 3,
        "guidance_scale": 1.0,
        "scheduler": "LCMScheduler",
    }
    asked = draw(fast_engine, **TASKS["mix"], steps=2)
    assert asked.settings["steps"] == 2
    assert pixels(asked) != pixels(draw(fast_engine, **TASKS["mix"]))
    best = draw(fast_engine, **TASKS["mix"], speed="best").settings
    assert (best["speed"], best["steps"], best["scheduler"]) == ("best", 2, "DDIMScheduler")


def test_changes_of_the_schedulers_configuration_count(tiny_bundle_dir: Path, fast_engine: Engine) -> None:
    engine = engine_of(tiny_bundle_dir, scheduler_config={"timestep_spacing": "leading"}, scheduler="DDIMScheduler")
    other = engine_of(tiny_bundle_dir, scheduler="DDIMScheduler")
    try:
        drawn = [pixels(draw(each, **TASKS["mix"])) for each in (engine, other, fast_engine)]
    finally:
        engine.close()
        other.close()
    assert len({tuple(each) for each in drawn}) == 3


def test_they_count_where_the_models_own_configuration_leaves_them_out(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    """As Hyper-SD's spacing does with Stable Diffusion 1.5, whose configuration has none."""
    copy = shutil.copytree(tiny_bundle_dir, tmp_path / "model")
    path = copy / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text())
    spacing = {"timestep_spacing": config.pop("timestep_spacing")}
    path.write_text(json.dumps(config))
    changes = ((tiny_bundle_dir, {}), (copy, spacing), (copy, {}))
    engines = [engine_of(bundle, scheduler="DDIMScheduler", scheduler_config=told) for bundle, told in changes]
    try:
        written, told, neither = [pixels(draw(engine, **TASKS["mix"])) for engine in engines]
    finally:
        for engine in engines:
            engine.close()
    assert told == written != neither


def test_what_has_no_effect_without_guidance_changes_nothing_and_is_said(fast_engine: Engine) -> None:
    plain = draw(fast_engine, **TASKS["reference"])
    assert plain.notes == ()
    without = {"negative_prompt": "a dog", "guidance_scale": 7.0, "negative_reference": noise_picture(9)}
    drawn = draw(fast_engine, **TASKS["reference"], **without)
    assert pixels(drawn) == pixels(plain)
    assert drawn.notes == (
        "Fast drawing uses the model's own settings, so this had no effect: "
        "the guidance, “Not in the picture”, the picture to avoid.",
    )


def test_a_way_with_guidance_takes_negative_words(tiny_bundle_dir: Path) -> None:
    engine = engine_of(tiny_bundle_dir, guidance_scale=2.0)
    try:
        plain, with_words = (draw(engine, **TASKS["mix"], negative_prompt=words) for words in ("", "a dog"))
    finally:
        engine.close()
    assert pixels(plain) != pixels(with_words)
    assert with_words.notes == ()


def test_a_model_without_a_fast_way_says_so(engine: Engine) -> None:
    with pytest.raises(UserError, match="Tiny cannot draw fast: please choose Best") as refused:
        engine.submit(GenerateRequest(**TASKS["mix"], speed="fast"))
    assert refused.value.field == "speed"


def test_more_steps_than_the_sampler_has_are_refused(tiny_bundle_dir: Path, fast_engine: Engine) -> None:
    assert draw(fast_engine, **TASKS["mix"], steps=50).settings["steps"] == 50
    entry = fast_engine.manager.entry("toybox")
    with pytest.raises(UserError, match="Fast pictures take at most 50 steps"):
        make_plan(GenerateRequest(**TASKS["mix"], speed="fast", steps=51), entry)
    assert make_plan(GenerateRequest(**TASKS["mix"], steps=51), entry).steps == 51


def test_words_for_a_place_are_read_by_the_changed_unet(fast_engine: Engine) -> None:
    """Without guidance there is only the conditional side, which gets the words."""
    white = Image.new("L", (8, 8), 255)
    worded, plain = (Reference(image=SQUARE, region_mask=white, region_prompt=words) for words in ("a blue frog", ""))
    fields = {"task": "mix", "scale": 0.6, "steps": 3}
    drawn = draw(fast_engine, **fields, prompt="a red cat", references=(worded,)).images[0]
    as_prompt, without = (
        draw(fast_engine, **fields, prompt=prompt, references=(plain,)).images[0]
        for prompt in ("a blue frog", "a red cat")
    )
    assert furthest(drawn, as_prompt) <= 1
    assert furthest(drawn, without) > 1
