"""The safety checker decides as in diffusers, and the user is told what it withholds."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPTextConfig

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.engine.results import GenerateResult
from ipa_app.engine.series import scale_strip
from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.loaded import LoadedModel
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import TIMEOUT_S, noise_picture
from tests.tiny_models import tiny_clip_vision

NEVER, ALWAYS = 2.0, -2.0
"""Thresholds outside the range of a cosine."""
SOME_PICTURE = noise_picture(1, (64, 64))


@pytest.fixture(scope="module")
def folder(tiny_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path_factory.mktemp("safety") / "model")
    name_in_index(folder, ["stable_diffusion", "StableDiffusionSafetyChecker"])
    torch.manual_seed(0)
    vision = tiny_clip_vision().config.to_dict()
    config = CLIPConfig(text_config=CLIPTextConfig().to_dict(), vision_config=vision, projection_dim=16)
    checker = StableDiffusionSafetyChecker(config)
    with torch.no_grad():
        for parameter in checker.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    checker.half().save_pretrained(folder / "safety_checker")
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    engine = Engine(ModelManager({"toybox": entry_from_folder(folder, name="toybox")}, device="cpu"))
    yield engine
    engine.close()


@pytest.fixture
def model(engine: Engine) -> LoadedModel:
    model = engine.manager.get("toybox", timeout=TIMEOUT_S)
    set_threshold(model, NEVER)
    return model


def name_in_index(folder: Path, checker: object) -> None:
    """Write what a folder's model_index.json says of its safety checker; None leaves it out."""
    index = json.loads((folder / "model_index.json").read_text()) | {"safety_checker": checker}
    kept = {name: value for name, value in index.items() if value is not None}
    (folder / "model_index.json").write_text(json.dumps(kept))


@torch.no_grad()
def set_threshold(model: LoadedModel, value: float) -> None:
    model.safety.network.concept_embeds_weights.fill_(value)
    model.safety.network.special_care_embeds_weights.fill_(NEVER)


def generate(engine: Engine, **fields: object) -> GenerateResult:
    return engine.submit(GenerateRequest(**({"task": "mix", "prompt": "a cat", "seed": 1} | fields))).result(TIMEOUT_S)


def test_a_model_without_a_checker_has_none(tiny_bundle_dir: Path) -> None:
    manager = ModelManager({"x": entry_from_folder(tiny_bundle_dir, name="x")}, device="cpu")
    assert manager.get("x", timeout=TIMEOUT_S).safety is None


@pytest.mark.parametrize("named", [[None, None], None])
def test_one_that_the_index_does_not_name_is_off_as_in_diffusers(folder: Path, tmp_path: Path, named: object) -> None:
    changed = shutil.copytree(folder, tmp_path / "model")
    name_in_index(changed, named)
    assert StableDiffusionPipeline.from_pretrained(changed, local_files_only=True).safety_checker is None
    manager = ModelManager({"x": entry_from_folder(changed, name="x")}, device="cpu")
    assert manager.get("x", timeout=TIMEOUT_S).safety is None


@torch.no_grad()
def test_it_decides_as_in_diffusers(model: LoadedModel) -> None:
    safety = model.safety
    pictures = [noise_picture(seed, (64, 64)) for seed in range(6)]
    plain = StableDiffusionPipeline(
        **{**model.pipelines["text_to_image"].components, "safety_checker": safety.network},
        requires_safety_checker=True,
    )
    plain.feature_extractor = safety.processor
    seen = set()
    for threshold in np.linspace(-1, 1, 21):
        set_threshold(model, float(threshold))
        for picture in pictures:
            pixels = plain.image_processor.preprocess(picture)
            _, flagged = plain.run_safety_checker(pixels, torch.device("cpu"), torch.float32)
            assert safety.flags(picture) == flagged[0]
            seen.add(flagged[0])
    assert seen == {True, False}


def test_a_request_of_which_everything_is_withheld_fails_in_words(engine: Engine, model: LoadedModel) -> None:
    set_threshold(model, ALWAYS)
    with pytest.raises(UserError, match=r"checker of Tiny .* \(seed 1, 2\) .* withheld it: please try another seed"):
        generate(engine, count=2)
    set_threshold(model, NEVER)
    assert "withheld" not in generate(engine).settings


@pytest.mark.parametrize("task", ["mix", "inpaint"])
def test_one_of_several_is_replaced_by_a_notice(
    engine: Engine, model: LoadedModel, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    fields: dict[str, object] = {"task": task, "count": 3}
    if task == "inpaint":
        fields |= {"image": noise_picture(2, (90, 50)), "mask": noise_picture(3, (90, 50)).convert("L")}
    whole = generate(engine, **fields)
    answers = iter([False, True, False])
    monkeypatch.setattr(type(model.safety), "flags", lambda *_: next(answers))
    result = generate(engine, **fields)
    assert [a.tobytes() == b.tobytes() for a, b in zip(result.images, whole.images, strict=True)] == [True, False, True]
    assert result.settings["withheld"] == [2]
    notice = result.images[1]
    assert notice.size == whole.images[1].size
    assert notice.getpixel((0, 0)) == (236, 236, 240)
    assert len(notice.getcolors()) > 5  # it shows a sign


@pytest.mark.parametrize("held_back", [[1], [0, 2, 3]])
def test_a_series_shows_what_is_left_of_it(
    engine: Engine, model: LoadedModel, monkeypatch: pytest.MonkeyPatch, held_back: list[int]
) -> None:
    request = GenerateRequest(task="variation", references=(Reference(image=SOME_PICTURE),), seed=7)
    whole = pictures_of(engine, request)
    numbers = itertools.count()
    monkeypatch.setattr(type(model.safety), "flags", lambda *_: next(numbers) in held_back)
    results = pictures_of(engine, request)
    assert [number for number, result in enumerate(results) if result.withheld] == held_back
    for number, (result, before) in enumerate(zip(results, whole, strict=True)):
        assert (result.images[0].tobytes() == before.images[0].tobytes()) is (number not in held_back)


def test_a_series_of_which_everything_is_withheld_fails_in_words(engine: Engine, model: LoadedModel) -> None:
    set_threshold(model, ALWAYS)
    with pytest.raises(UserError, match="please try another seed"):
        pictures_of(engine, GenerateRequest(task="mix", prompt="a cat", references=(Reference(image=SOME_PICTURE),)))


def pictures_of(engine: Engine, request: GenerateRequest) -> list[GenerateResult]:
    events = engine.submit_series(scale_strip(request)).events()
    return [event for event in events if isinstance(event, GenerateResult)]


def test_settings_of_a_result_with_a_withheld_picture_can_be_restored(
    engine: Engine, model: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ipa_app.engine.metadata import pack_inputs, read_request
    from ipa_app.imaging.result_files import write_result

    answers = iter([True, False])
    monkeypatch.setattr(type(model.safety), "flags", lambda *_: next(answers))
    result = generate(engine, count=2)
    path = tmp_path / "result.png"
    write_result(result.images[1], path, result.settings, inputs=pack_inputs(result.inputs))
    assert read_request(path).prompt == "a cat"
