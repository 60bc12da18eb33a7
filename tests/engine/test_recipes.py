"""Recipes: complete as JSON, and as a link without pictures other than the bundled ones."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ipa_app.engine.metadata import input_pictures, metadata_of, pack_inputs, read_request
from ipa_app.engine.plan import make_plan
from ipa_app.engine.recipes import read_code, recipe_code, recipe_json
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.imaging.result_files import NotMadeHereError, write_result
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.hashing import picture_hash
from tests.engine.conftest import noise_picture
from tests.sample_requests import EVERYWHERE, OF_TASK, PRESETS, STYLES, differences, sample_request
from tests.tiny_models import tiny_fast_way


@pytest.fixture
def written(tiny_bundle_dir: Path, tmp_path: Path) -> Any:
    """Return a function that writes a request's result file without drawing."""
    entry = entry_from_folder(tiny_bundle_dir, name="other")

    def write(request: GenerateRequest, *, output_format: Any = "webp") -> Path:
        # A fast way's own guidance scale is recorded: here the requested one.
        fast = tiny_fast_way(Path("m"), guidance_scale=EVERYWHERE["guidance_scale"])
        plan = make_plan(request, replace(entry, presets=PRESETS, styles=STYLES, fast=fast))
        path = tmp_path / "result"
        settings = metadata_of(plan, scheduler="A", precision="float32")
        inputs = pack_inputs(input_pictures(plan))
        write_result(noise_picture(9), path, settings, inputs=inputs, output_format=output_format)
        return path

    return write


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("task", OF_TASK)
def test_a_recipe_in_json_is_read_as_the_file_it_is_of(
    written: Any, tmp_path: Path, task: str, output_format: str
) -> None:
    path = written(sample_request(task), output_format=output_format)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(recipe_json(path), encoding="utf-8")
    assert differences(read_request(recipe), read_request(path)) == []


@pytest.mark.parametrize("task", OF_TASK)
def test_a_link_has_everything_but_the_pictures(written: Any, task: str) -> None:
    path = written(sample_request(task))
    request = read_request(path)
    known = {picture_hash(each): each for each in _pictures_of(request)}
    whole = read_code(recipe_code(path), known=known)
    assert (differences(whole.request, request), whole.missing) == ([], ())
    without = read_code(recipe_code(path), known={})
    left = set(differences(without.request, request))
    assert left <= {"references", "negative_reference", "image", "mask", "start_image", "pose"}
    assert "reference_1" in without.missing
    assert "region_mask_3" in without.missing


@pytest.mark.parametrize("size", [(2560, 1440), (2000, 1500), (1000, 750)])
def test_a_link_to_an_inpainting_squeezes_no_other_picture(written: Any, size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size)
    mask = Image.new("L", size, 255)
    path = written(GenerateRequest(task="inpaint", image=picture, mask=mask, seed=1, model="other"))
    request = read_code(recipe_code(path), known={}).request
    assert (request.width, request.height) == (0, 0)


def _pictures_of(request: GenerateRequest) -> list[Any]:
    own = (getattr(request, name) for name in ("negative_reference", "image", "mask", "start_image", "pose"))
    masks = (each.region_mask for each in request.references)
    return [each for each in (*own, *masks, *(each.image for each in request.references)) if hasattr(each, "size")]


def test_a_link_is_short_and_has_only_letters_that_addresses_may_have(written: Any) -> None:
    code = recipe_code(written(sample_request("mix")))
    assert code.replace("-", "").replace("_", "").isalnum()
    assert len(code) < 2000


def test_what_was_not_made_here_is_no_recipe(tmp_path: Path) -> None:
    noise_picture().save(tmp_path / "a.png")
    for read in (recipe_json, recipe_code):
        with pytest.raises(NotMadeHereError):
            read(tmp_path / "a.png")
    for text in ("{", "{}", '{"ip_adapter_studio": {}, "pictures": []}', "[" * 10_000):
        (tmp_path / "a.json").write_text(text, encoding="utf-8")
        with pytest.raises(UserError):
            read_request(tmp_path / "a.json")


def _code(content: Any) -> str:
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(content).encode())).decode()


@pytest.mark.parametrize(
    "code",
    ["", "a", "%%%", "é", "A" * 100_000, _code([]), _code("a" * 2**21), _code({"task": "mix"})[:-8], _code(None)],
)
def test_a_damaged_link_is_refused(code: str) -> None:
    with pytest.raises(UserError, match="This link is damaged or incomplete"):
        read_code(code, known={})


@pytest.mark.parametrize("wrong", [{"scale": 9}, {"task": "paint"}, {"references": [{"sha256": 1}]}, {"extra": 1}])
def test_what_a_link_may_not_say_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        read_code(_code({"task": "mix", "prompt": "a cat", "seed": 1, **wrong}), known={})
