"""From a request to a result's file and back: no setting is lost."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image, ImageChops

from ipa_app.engine.metadata import STYLED, input_pictures, metadata_of, pack_inputs, read_request, without_style
from ipa_app.engine.plan import make_plan
from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.engine.wording import readable
from ipa_app.errors import UserError
from ipa_app.imaging.result_files import OutputFormat
from ipa_app.imaging.result_files import write_result as write_file
from ipa_app.models.adapters import usual_adapter
from ipa_app.models.controlnets import usual_controlnet
from ipa_app.models.entry import ModelEntry
from ipa_app.models.prompt_weights import without_weights
from ipa_app.pose.presets import preset_sheets
from tests.engine.conftest import noise_picture, reference
from tests.noted_files import noted_file
from tests.sample_requests import EVERYWHERE, OF_TASK, PRESETS, STYLES, differences, plain, sample_request
from tests.tiny_models import tiny_fast_way

ENTRY = ModelEntry(
    name="m",
    title="M",
    location=Path("m"),
    adapters={"base": usual_adapter("base", Path("a")), "fine": usual_adapter("plus", Path("b"))},
    controlnets={"pose": usual_controlnet("pose", Path("c"))},
    width=128,
    height=96,
    presets=PRESETS,
    styles=STYLES,
    # A fast way's own guidance scale is recorded: here the requested one.
    fast=tiny_fast_way(Path("m"), guidance_scale=EVERYWHERE["guidance_scale"]),
)


def write_result(request: GenerateRequest, path: Path, **changes: Any) -> Path:
    """Write a result's file for the request, with some settings changed."""
    plan = make_plan(request.with_seed(), ENTRY)
    settings = {**metadata_of(plan, scheduler="S", precision="float32"), **changes}
    inputs = pack_inputs(input_pictures(plan))
    write_file(Image.new("RGB", (8, 8)), path, settings, inputs=inputs, output_format=request.output_format)
    return path


def test_every_field_of_a_request_is_tried_below() -> None:
    tried = {"task", *EVERYWHERE, *(name for own in OF_TASK.values() for name in own)}
    fields = [field for field in dataclasses.fields(GenerateRequest) if field.name != "notes"]
    assert {field.name for field in fields} == tried
    for field in fields:
        values = [values[field.name] for values in (EVERYWHERE, *OF_TASK.values()) if field.name in values]
        assert field.default not in values, field.name


@pytest.mark.parametrize("output_format", get_args(OutputFormat))
@pytest.mark.parametrize("task", OF_TASK)
def test_a_request_comes_back_from_its_result(task: str, output_format: OutputFormat, tmp_path: Path) -> None:
    request = sample_request(task, model="m", output_format=output_format)
    assert differences(read_request(write_result(request, tmp_path / "a.png")), request) == []


def test_notes_are_for_whoever_made_the_request_and_not_for_its_file(tmp_path: Path) -> None:
    request, told = (sample_request("variation", model="m", notes=notes) for notes in ((), ("The reference is odd.",)))
    files = [write_result(each, tmp_path / f"{each is told}.png") for each in (request, told)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert read_request(write_result(told, tmp_path / "a.png", notes=["typed"])).notes == ()


def test_keypoints_come_back_as_keypoints(tmp_path: Path) -> None:
    sheet = next(iter(preset_sheets().values()))
    # The options of the search matter for a photo only.
    photo = {"pose_hands": False, "pose_face": False, "pose_detector": "openpose"}
    request = sample_request("pose", model="m", pose=sheet, **photo)
    assert differences(read_request(write_result(request, tmp_path / "a.png")), request) == []


def test_a_pose_from_before_poses_were_fitted_is_drawn_as_it_was(tmp_path: Path) -> None:
    request = sample_request("pose", model="m", pose_fit=True)
    settings = {**metadata_of(make_plan(request.with_seed(), ENTRY), scheduler="S", precision="float32")}
    del settings["pose_fit"]
    inputs = pack_inputs(input_pictures(make_plan(request.with_seed(), ENTRY)))
    write_file(Image.new("RGB", (8, 8)), tmp_path / "a.png", settings, inputs=inputs)
    assert not read_request(tmp_path / "a.png").pose_fit


def test_transparent_pictures_come_back_transparent(tmp_path: Path) -> None:
    picture = noise_picture(1).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    for task, field in (("inpaint", "image"), ("mix", "start_image")):
        request = sample_request(task, model="m", **{field: picture})
        again = getattr(read_request(write_result(request, tmp_path / "a.png")), field)
        assert again.mode == "RGBA"
        assert again.tobytes() == picture.tobytes()


def test_a_picture_that_is_only_extended_comes_back_without_a_mask(tmp_path: Path) -> None:
    request = sample_request("inpaint", model="m", mask=None)
    again = read_request(write_result(request, tmp_path / "a.png"))
    assert again.mask is None
    assert differences(again, request) == []


MASK_FIELDS = ["mask_invert", "mask_grow", "mask_feather", "area", "mask_padding"]
MASK_FIELDS += [f"extend_{side}" for side in ("left", "right", "up", "down")]


def test_a_result_from_before_masks_had_edges_comes_back_as_it_was(tmp_path: Path) -> None:
    request = sample_request("inpaint", model="m")
    plan = make_plan(request.with_seed(), ENTRY)
    settings = {
        name: value
        for name, value in metadata_of(plan, scheduler="S", precision="float32").items()
        if name not in MASK_FIELDS
    }
    write_file(Image.new("RGB", (8, 8)), tmp_path / "a.png", settings, inputs=pack_inputs(input_pictures(plan)))
    assert differences(read_request(tmp_path / "a.png"), request) == MASK_FIELDS


@pytest.mark.parametrize(("option", "usual"), [("part", "all"), ("output_format", "png"), ("speed", "best")])
def test_a_result_from_before_there_was_an_option_comes_back_with_what_is_usual(
    option: str, usual: str, tmp_path: Path
) -> None:
    request = sample_request("variation", model="m", **{option: usual})
    plan = make_plan(request.with_seed(), ENTRY)
    settings = metadata_of(plan, scheduler="S", precision="float32")
    assert settings.pop(option) == usual
    write_file(Image.new("RGB", (8, 8)), tmp_path / "a.png", settings, inputs=pack_inputs(input_pictures(plan)))
    assert differences(read_request(tmp_path / "a.png"), request) == []


@pytest.mark.parametrize(
    ("typed", "restored"),
    [
        ("a red cat", "a red cat"),
        ("a cat :) (", "a cat :) ("),
        ("a (red:1.3) cat, [x]", r"a \(red:1.3\) cat, \[x\]"),
        (r"saber \(fate\)", r"saber \\\(fate\\\)"),
        ("a（red：1.3）cat", r"a\（red：1.3\）cat"),
        ("(red:30)", r"\(red:30\)"),
    ],
)
def test_a_result_from_before_prompts_had_weights_comes_back_as_it_was_read(
    typed: str, restored: str, tmp_path: Path
) -> None:
    plan = make_plan(sample_request("mix", model="m").with_seed(), ENTRY)
    settings = metadata_of(plan, scheduler="S", precision="float32") | {"prompt": typed, "negative_prompt": typed}
    del settings["prompt_syntax"]
    write_file(Image.new("RGB", (8, 8)), tmp_path / "a.png", settings, inputs=pack_inputs(input_pictures(plan)))
    request = read_request(tmp_path / "a.png")
    assert (request.prompt, request.negative_prompt) == (restored, restored)
    assert without_weights(readable(restored)) == readable(typed)


def test_a_style_comes_back_by_its_name_and_its_words_are_noted(tmp_path: Path) -> None:
    request = sample_request("mix", model="m", style="night")
    plan = make_plan(request.with_seed(), ENTRY)
    noted = metadata_of(plan, scheduler="S", precision="float32")
    assert (noted["style"], noted["prompt"], noted["negative_prompt"]) == ("night", "a cat, on a beach", "a dog")
    assert noted["styled_prompt"] == "a cat, on a beach, on the beach"
    assert noted["styled_negative_prompt"] == "a dog, a hat"
    assert noted["styled_region_prompts"] == ["", "a (red:1.2) dog, on the beach", "", ""]
    words = without_style(request, noted)
    assert (words.style, words.prompt, words.negative_prompt) == ("", *plan.prompts)
    assert tuple(each.region_prompt for each in words.references) == plan.region_prompts
    for told in (None, [], ["", 7, "", ""], "typed"):
        with pytest.raises(UserError):
            without_style(request, {**noted, "styled_region_prompts": told})
    plain = metadata_of(
        make_plan(dataclasses.replace(plan.request, style=""), ENTRY), scheduler="S", precision="float32"
    )
    assert not {*STYLED, "styled_region_prompts"} & set(plain)


def test_weights_come_back_as_weights(tmp_path: Path) -> None:
    request = sample_request("mix", model="m", prompt="a (red:1.3) cat", negative_prompt="[x]")
    assert differences(read_request(write_result(request, tmp_path / "a.png")), request) == []


def test_a_result_from_before_adapters_had_names_comes_back_as_it_was(tmp_path: Path) -> None:
    """It records base or fine and nothing of the file; a new result also records the file's hash."""
    request = sample_request("variation", model="m")
    plan = make_plan(request.with_seed(), ENTRY)
    for sha256 in (None, "0" * 64):
        settings = metadata_of(plan, scheduler="S", precision="float32", adapter_sha256=sha256)
        assert settings["adapter"] == "fine"
        assert settings.get("adapter_sha256") == sha256
        write_file(Image.new("RGB", (8, 8)), tmp_path / "a.png", settings, inputs=pack_inputs(input_pictures(plan)))
        assert differences(read_request(tmp_path / "a.png"), request) == []


def test_the_seed_is_the_one_of_the_picture(tmp_path: Path) -> None:
    request = GenerateRequest(task="mix", prompt="a cat", seed=5, count=3, model="m")
    assert read_request(write_result(request, tmp_path / "a.png", seed=7)).seed == 7


def test_defaults_come_back_as_what_was_used(tmp_path: Path) -> None:
    request = GenerateRequest(task="inpaint", image=noise_picture(7, (51, 37)), mask=Image.new("L", (9, 9), 255))
    again = read_request(write_result(request, tmp_path / "a.png"))
    assert (again.steps, again.guidance_scale, again.seed >= 0) == (ENTRY.steps, ENTRY.guidance_scale, True)
    assert (again.width, again.height) == (0, 0)


def test_large_pictures_come_back_smaller_and_can_be_used(tmp_path: Path) -> None:
    large = noise_picture(1).resize((2000, 1604), Image.Resampling.BICUBIC)
    request = GenerateRequest(
        task="inpaint", image=large, mask=Image.new("L", (9, 9), 255), references=(Reference(image=large),)
    )
    again = read_request(write_result(request, tmp_path / "a.png"))
    assert again.image is not None
    assert again.mask is not None
    assert (max(again.image.size), max(again.references[0].image.size)) == (1536, 512)
    small = large.resize(again.image.size, Image.Resampling.LANCZOS)
    assert int(np.asarray(ImageChops.difference(small, again.image)).max()) < 32
    make_plan(again, ENTRY)


@pytest.mark.parametrize(
    "size", [(2560, 1440), (2000, 1500), (1500, 2000), (2000, 1604), (2048, 1152), (2600, 8), (1000, 750)]
)
@pytest.mark.parametrize(("asked", "restored"), [({}, (0, 0)), ({"width": 1024, "height": 720}, (1024, 720))])
def test_a_picture_of_any_size_keeps_its_shape_unless_another_was_asked_for(
    size: tuple[int, int], asked: dict[str, int], restored: tuple[int, int], tmp_path: Path
) -> None:
    """Where it comes back smaller its size is not the noted one, and a single side of that would squeeze it."""
    request = GenerateRequest(task="inpaint", image=Image.new("RGB", size), mask=Image.new("L", (9, 9), 255), **asked)
    again = read_request(write_result(request, tmp_path / "a.png"))
    assert (again.width, again.height) == restored


@pytest.mark.parametrize(
    "fields", [{"scale": 0}, {"references": (reference(0, 0), reference(1, 0))}], ids=["scale", "weights"]
)
@pytest.mark.parametrize(
    "words", [{}, {"prompt": "a cat"}, {"prompt": " ", "style": "night"}], ids=["", "words", "style"]
)
@pytest.mark.parametrize("task", OF_TASK)
def test_every_file_can_be_read_again_where_references_have_no_effect(
    task: str, words: dict[str, Any], fields: dict[str, Any], tmp_path: Path
) -> None:
    own = {"pose": OF_TASK["pose"]["pose"]} if task == "pose" else OF_TASK[task]
    request = GenerateRequest(task=task, model="m", **{"references": (reference(),), **own, **words, **fields})
    again = read_request(write_result(request, tmp_path / "a.png"))
    kept = task == "variation" or (task == "mix" and not words)
    assert plain(again.references) == plain(request.references if kept else ())
    assert not make_plan(again, ENTRY).uses_references


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"adapter": ["best"]}, "adapter"),
    ({"scale": "strong"}, "Strength of the picture"),
    ({"scale": 1e999}, "damaged"),
    ({"scale": 10**400}, "Strength of the picture"),
    ({"count": 1000}, "How many pictures"),
    ({"prompt": 12}, "Words"),
    ({"prompt": "x" * 3000}, "3000"),
    ({"prompt": "half \ud83d"}, "Words"),
    ({"task": "<b>"}, "task"),
    ({"task": ["mix"]}, "task"),
    ({"task": "pose"}, "missing from the file"),
    ({"task": "pose", "pose": {"people": 5}}, "."),
    ({"seed": [1]}, "seed"),
    ({"task": "inpaint", "mask": None}, "missing from the file"),
    ({"extend_left": 1e9}, "extension to the left"),
    ({"mask_invert": "yes"}, "true or false"),
    ({"references": 5}, "incomplete"),
    ({"references": [5]}, "incomplete"),
    ({"references": [{"weight": 9}]}, "weight"),
    ({"references": [{"weight": 1}] * 4}, "missing from the file"),
    ({"references": [{"weight": 1}] * 5}, "at most 4"),
    ({"references": [{"weight": 1, "view": "<b>"}]}, "becomes a square"),
    ({"references": [{"weight": 1, "region": ["left"]}]}, "Where in the new picture"),
    ({"references": [{"weight": 1, "centre_x": "left"}]}, "Crop: left"),
    ({"negative_reference": "0" * 64}, "missing from the file"),
    ({"start_image": {"path": "a.png"}}, "missing from the file"),
    ({"start": 2}, "beginning"),
    ({"output_format": "gif"}, "it must be png or jpeg or webp"),
    ({"part": "<b>"}, "it must be all or style or layout"),
    ({"colour": "<img src=x>"}, "unknown here .colour"),
]


@pytest.mark.parametrize("output_format", get_args(OutputFormat))
@pytest.mark.parametrize(("changes", "told"), HOSTILE, ids=lambda value: str(value)[:30])
def test_what_is_not_allowed_is_said_in_one_sentence(
    changes: dict[str, Any], told: str, output_format: OutputFormat, tmp_path: Path
) -> None:
    request = GenerateRequest(task="variation", references=(reference(),), model="m")
    plan = make_plan(request.with_seed(), ENTRY)
    notes = {
        "ip_adapter_studio": json.dumps({**metadata_of(plan, scheduler="S", precision="float32"), **changes}),
        "ip_adapter_studio:reference_1": pack_inputs(input_pictures(plan))["reference_1"],
    }
    path = noted_file(tmp_path / "a", Image.new("RGB", (8, 8)), output_format, notes)
    with pytest.raises(UserError, match=told) as refused:
        read_request(path)
    assert str(refused.value).endswith(".")


def test_settings_without_a_task_are_not_complete(tmp_path: Path) -> None:
    write_file(Image.new("RGB", (8, 8)), tmp_path / "a.png", {"prompt": "a cat"})
    with pytest.raises(UserError, match="incomplete"):
        read_request(tmp_path / "a.png")
