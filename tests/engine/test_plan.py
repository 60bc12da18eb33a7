from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ipa_app.engine.metadata import metadata_of
from ipa_app.engine.plan import make_plan
from ipa_app.engine.requests import LARGEST_SEED, GenerateRequest, Reference, picture_seeds
from ipa_app.engine.tasks import TASKS
from ipa_app.errors import UserError
from ipa_app.models.adapters import usual_adapter
from ipa_app.models.controlnets import usual_controlnet
from ipa_app.models.entry import AdapterEntry, ModelEntry
from ipa_app.models.styles import Style
from tests.sample_requests import STYLES, sample_request
from tests.tiny_models import tiny_fast_way

ENTRY = ModelEntry(
    name="m",
    title="M",
    location=Path("m"),
    adapters={
        "base": usual_adapter("base", Path("a.safetensors")),
        "toys": AdapterEntry(name="toys", title="toys", file=Path("toys.bin"), kind="plus"),
        "mine~secret": AdapterEntry(name="mine", title="mine", file=Path("b"), kind="full", is_private=True),
    },
    width=128,
    height=96,
    steps=20,
    guidance_scale=3.0,
    negative_prompt="blurry",
    styles=STYLES,
    fast=tiny_fast_way(Path("m"), guidance_scale=3.0),
)
PICTURE = Image.new("RGB", (50, 30), "red")


def test_zeros_become_the_models_own_defaults() -> None:
    plan = make_plan(GenerateRequest(task="mix", prompt="a cat"), ENTRY)
    assert (plan.width, plan.height, plan.steps, plan.guidance_scale) == (128, 96, 20, 3.0)
    assert plan.negative_prompt == "blurry"


def test_a_style_stands_around_the_prompts_that_are_typed_or_usual() -> None:
    plan = make_plan(GenerateRequest(task="mix", style="night"), ENTRY)
    assert plan.prompts == ("on the beach", "blurry, a hat")
    plan = make_plan(GenerateRequest(task="mix", prompt="a cat", negative_prompt="a dog"), ENTRY)
    assert plan.prompts == ("a cat", "a dog")
    with pytest.raises(UserError, match=r"M has no style 'day'; it has night\.") as refused:
        make_plan(GenerateRequest(task="mix", prompt="a cat", style="day"), ENTRY)
    assert refused.value.field == "style"


def test_weights_that_get_out_of_bounds_within_those_of_a_style_are_refused() -> None:
    loud = dataclasses.replace(ENTRY, styles={"loud": Style(name="loud", prompt="({prompt}:2), (night:2)")})
    assert make_plan(GenerateRequest(task="mix", prompt="a (cat:1.5)", style="loud"), loud).prompts[0]
    with pytest.raises(UserError, match=r"^“Words” gives “cat” the weight 4; a weight must be ") as refused:
        make_plan(GenerateRequest(task="mix", prompt="a (cat:2)", style="loud"), loud)
    assert refused.value.field == "style"


def test_what_is_asked_for_counts() -> None:
    request = GenerateRequest(
        task="mix", prompt="a cat", width=64, height=256, steps=7, guidance_scale=1, negative_prompt="dark", seed=5
    )
    plan = make_plan(request, ENTRY)
    assert (plan.width, plan.height, plan.steps, plan.guidance_scale) == (64, 256, 7, 1.0)
    assert (plan.negative_prompt, plan.seeds) == ("dark", (5,))


@pytest.mark.parametrize("size", [{"width": 40}, {"height": 264}])
def test_a_size_far_from_the_models_own_is_refused(size: dict[str, int]) -> None:
    with pytest.raises(UserError, match="it must be 0 or a multiple of 8 from 48 to 256"):
        make_plan(GenerateRequest(task="mix", prompt="a cat", **size), ENTRY)


def test_inpainting_keeps_the_pictures_own_size_and_draws_at_the_models() -> None:
    plan = make_plan(GenerateRequest(task="inpaint", image=PICTURE, mask=PICTURE), ENTRY)
    assert (plan.width, plan.height) == (50, 30)
    assert plan.canvas_size == (128, 96)


def test_what_the_model_lacks_is_said_before_anything_is_loaded() -> None:
    with pytest.raises(UserError, match=r"no adapter 'best' \(it has base, toys\)"):
        make_plan(GenerateRequest(task="variation", references=(Reference(image=PICTURE),), adapter="best"), ENTRY)
    with pytest.raises(UserError, match="no adapter 'best'"):
        make_plan(GenerateRequest(task="mix", prompt="a cat", adapter="best"), ENTRY)
    with pytest.raises(UserError, match="no adapter 'fine'"):
        plain = dataclasses.replace(ENTRY, adapters={})
        make_plan(GenerateRequest(task="variation", references=(Reference(image=PICTURE),), adapter="fine"), plain)
    with pytest.raises(UserError, match="no ControlNet"):
        make_plan(GenerateRequest(task="pose", pose=PICTURE), ENTRY)


def test_the_settings_hold_every_input_as_used_and_are_json() -> None:
    request = GenerateRequest(task="variation", references=(Reference(image=PICTURE, weight=0.5),), count=3, seed=8)
    settings = json.loads(
        json.dumps(
            metadata_of(make_plan(request.with_seed(), ENTRY), scheduler="S", precision="float32"), allow_nan=False
        )
    )
    assert settings["seeds"] == [8, 9, 10]
    assert (settings["steps"], settings["guidance_scale"], settings["scheduler"]) == (20, 3.0, "S")
    assert (settings["width"], settings["height"], settings["adapter"]) == (128, 96, "base")
    assert settings["references"][0]["weight"] == 0.5
    assert len(settings["references"][0]["sha256"]) == 64


@pytest.mark.parametrize(
    ("asked", "name"), [("base", "base"), ("a", "base"), ("toys", "toys"), ("fine", "toys"), ("mine~secret", "mine")]
)
def test_an_adapter_is_found_by_every_name_it_has_and_noted_by_one(asked: str, name: str) -> None:
    """Its own name, its file's name, the default of its kind, or the key of an uploaded adapter."""
    request = GenerateRequest(task="variation", references=(Reference(image=PICTURE),), adapter=asked)
    plan = make_plan(request.with_seed(), ENTRY)
    assert plan.adapter is not None
    assert plan.adapter.name == name
    assert metadata_of(plan, scheduler="S", precision="float32")["adapter"] == name


def test_what_a_visitors_adapter_is_asked_for_by_is_never_written_down() -> None:
    for scale in (0, 1):
        request = GenerateRequest(
            task="variation", references=(Reference(image=PICTURE),), adapter="mine~secret", scale=scale
        )
        assert "secret" not in json.dumps(
            metadata_of(make_plan(request.with_seed(), ENTRY), scheduler="S", precision="float32")
        )


def test_who_asks_for_an_adapter_that_is_gone_is_told_so() -> None:
    request = GenerateRequest(task="variation", references=(Reference(image=PICTURE),), adapter="old~secret")
    with pytest.raises(UserError, match="^The adapter old is no longer here: please add its file again"):
        make_plan(request, ENTRY)


def test_words_alone_need_no_adapter() -> None:
    plain = dataclasses.replace(ENTRY, adapters={})
    for name in ("base", "fine"):
        plan = make_plan(GenerateRequest(task="mix", prompt="a cat", adapter=name, seed=1), plain)
        assert plan.adapter is None
        assert metadata_of(plan, scheduler="S", precision="float32")["adapter"] == name


def test_scale_0_and_no_reference_are_written_down_alike() -> None:
    nothing = GenerateRequest(task="mix", prompt="a cat", seed=1)
    ignored = GenerateRequest(task="mix", prompt="a cat", seed=1, references=(Reference(image=PICTURE),), scale=0)
    first, second = (
        metadata_of(make_plan(request.with_seed(), ENTRY), scheduler="S", precision="float32")
        for request in (nothing, ignored)
    )
    assert first == second
    assert (first["scale"], first["references"]) == (0.0, [])


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.02), (0.4, 0.42), (0.98, 1.0)])
def test_a_range_without_a_whole_step_is_refused(start: float, end: float) -> None:
    request = GenerateRequest(task="variation", references=(Reference(image=PICTURE),), start=start, end=end)
    with pytest.raises(UserError, match="of 20 steps there is no whole step in which the picture could have an effect"):
        make_plan(request, ENTRY)
    make_plan(GenerateRequest(task="mix", prompt="a cat", start=start, end=end), ENTRY)


def test_a_pose_needs_a_whole_step_too() -> None:
    entry = dataclasses.replace(ENTRY, controlnets={"pose": usual_controlnet("pose", Path("c"))})
    with pytest.raises(UserError, match="in which the pose could have an effect"):
        make_plan(GenerateRequest(task="pose", pose=PICTURE, control_start=0.5, control_end=0.54), entry)
    make_plan(GenerateRequest(task="pose", pose=PICTURE, control_start=0.5, control_end=0.55), entry)


def test_a_picture_to_stay_away_from_is_noted_where_it_counts() -> None:
    wish = GenerateRequest(task="variation", references=(Reference(image=PICTURE),), negative_reference=PICTURE)
    counts = metadata_of(make_plan(wish.with_seed(), ENTRY), scheduler="S", precision="float32")
    assert counts["negative_reference"] == counts["references"][0]["sha256"]
    for change in ({"guidance_scale": 1}, {"scale": 0}, {"task": "mix", "prompt": "a cat", "references": ()}):
        plan = make_plan(dataclasses.replace(wish, seed=1, **change), ENTRY)
        assert plan.negative_reference is None
        assert "negative_reference" not in metadata_of(plan, scheduler="S", precision="float32")


def test_a_start_picture_leaves_only_the_last_steps_to_be_drawn() -> None:
    wish = GenerateRequest(task="mix", prompt="a cat", start_image=PICTURE, strength=0.3)
    assert make_plan(wish, ENTRY).drawn_steps == 6
    assert make_plan(dataclasses.replace(wish, strength=1), ENTRY).drawn_steps == 20
    with pytest.raises(UserError, match="none of the 20 steps would be drawn"):
        make_plan(dataclasses.replace(wish, strength=0.04), ENTRY)
    assert make_plan(dataclasses.replace(wish, start_image=None, strength=0), ENTRY).drawn_steps == 20


def test_seeds_count_up_and_start_over() -> None:
    assert picture_seeds(4, 3) == (4, 5, 6)
    assert picture_seeds(LARGEST_SEED, 2) == (LARGEST_SEED, 0)


def test_a_random_seed_is_drawn_once_and_a_decided_one_stays() -> None:
    wish = GenerateRequest(task="mix", prompt="a cat", count=2)
    first, second = wish.with_seed(), wish.with_seed()
    assert first.seed != second.seed
    assert all(0 <= request.seed <= LARGEST_SEED for request in (first, second))
    assert first.with_seed() is first
    assert make_plan(first, ENTRY).seeds == (first.seed, (first.seed + 1) % (LARGEST_SEED + 1))
    with pytest.raises(ValueError, match="not decided"):
        assert make_plan(wish, ENTRY).seeds


APART = [
    ("mix", {"steps": 9}),
    ("mix", {"guidance_scale": 2.0}),
    ("mix", {"steps": 20, "speed": "fast"}),
    ("mix", {"width": 64}),
    ("mix", {"height": 64}),
    ("mix", {"model": "n"}),
    ("mix", {"start_image": PICTURE}),
    ("inpaint", {"steps": 9}),
    ("pose", {"control_scale": 0.5}),
    ("pose", {"control_start": 0.5}),
    ("pose", {"control_end": 0.5}),
]
"""Settings that all pictures of a batch share."""
TOGETHER = [
    ("mix", {"prompt": "a dog"}),
    ("mix", {"negative_prompt": "a dog"}),
    ("mix", {"style": "night"}),
    ("mix", {"references": (Reference(image=PICTURE),)}),
    ("mix", {"references": (Reference(image=PICTURE),), "adapter": "toys", "scale": 0.5, "end": 0.5}),
    ("mix", {"seed": 2, "count": 3}),
    ("mix", {"task": "variation", "references": (Reference(image=PICTURE),)}),
    ("mix", {"strength": 0.5}),
    ("inpaint", {"image": PICTURE.rotate(180)}),
    ("pose", {"pose": PICTURE.rotate(180)}),
]
"""Settings that each picture of a batch has of its own, or that have no effect in the request."""


def batch_key(**fields: Any) -> Any:
    """Return the batch key of a request whose model has a ControlNet."""
    request = GenerateRequest(**fields)
    controlnets = {"pose": usual_controlnet("pose", Path("c"))}
    return make_plan(request, dataclasses.replace(ENTRY, name=request.model, controlnets=controlnets)).batch_key


@pytest.mark.parametrize(
    ("task", "change", "together"),
    [(*each, False) for each in APART] + [(*each, True) for each in TOGETHER],
    ids=lambda each: ",".join(each) if isinstance(each, dict) else None,
)
def test_pictures_share_a_batch_where_nothing_differs_that_a_batch_has_once(
    task: str, change: dict[str, Any], together: bool
) -> None:
    own = {"mix": {}, "inpaint": {"image": PICTURE, "mask": PICTURE}, "pose": {"pose": PICTURE}}
    fields = {"task": task, "prompt": "a cat", "model": "m", **own[task]}
    assert (batch_key(**fields) == batch_key(**{**fields, **change})) is together


def test_tasks_with_a_pipeline_of_their_own_share_no_batch() -> None:
    own = ({"task": "mix"}, {"task": "inpaint", "image": PICTURE, "mask": PICTURE}, {"task": "pose", "pose": PICTURE})
    started = [{"task": "mix", "start_image": PICTURE, "strength": strength} for strength in (0.5, 0.7)]
    assert len({batch_key(prompt="a cat", **fields) for fields in (*own, *started)}) == 5


@pytest.mark.parametrize("task", TASKS)
def test_the_same_request_has_the_same_plan(task: str) -> None:
    request = sample_request(task, adapter="base", part="all", width=0, height=0, seed=-1)
    entry = dataclasses.replace(ENTRY, controlnets={"pose": usual_controlnet("pose", Path("c"))})
    assert make_plan(request, entry) == make_plan(request, entry)
    assert make_plan(request.with_seed(), entry).seeds != make_plan(request.with_seed(), entry).seeds
