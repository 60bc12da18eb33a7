from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ipa_app.engine.adopting import adopt
from ipa_app.errors import UserError
from ipa_app.imaging.other_programs import OtherSettings
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.entry import ModelEntry

FOX = OtherSettings(
    program="ComfyUI",
    prompt="a fox",
    negative_prompt="blurry",
    seed=4242,
    steps=20,
    guidance_scale=7.5,
    size=(96, 64),
    model="models/mymodel.safetensors",
    sampler="euler (normal)",
)


@pytest.fixture(scope="module")
def chosen(tiny_bundle_dir: Path) -> ModelEntry:
    """A model that draws from 32 to 128 pixels."""
    return entry_from_folder(tiny_bundle_dir, name="toybox")


def test_what_can_be_asked_for_here_is_taken_over_and_the_rest_said(chosen: ModelEntry) -> None:
    adopted = adopt(FOX, models=[chosen], chosen=chosen)
    request = adopted.request
    assert (request.task, request.prompt, request.negative_prompt) == ("mix", "a fox", "blurry")
    assert (request.seed, request.steps, request.guidance_scale) == (4242, 20, 7.5)
    assert (request.width, request.height, request.model, request.count) == (96, 64, "toybox", 1)
    assert [str(each) for each in adopted.told] == [
        "Settings in the ComfyUI format were taken over: press Generate to make a similar picture here.",
        "Not taken over: the model models/mymodel.safetensors, the sampler euler (normal).",
    ]


@pytest.mark.parametrize("model", ["mymodel", "MyModel.ckpt", "folder\\mymodel.safetensors", "/models/mymodel"])
def test_the_picture_s_own_model_is_taken_where_it_is_here(chosen: ModelEntry, model: str) -> None:
    own = replace(chosen, name="mymodel", width=512, height=512)
    adopted = adopt(replace(FOX, model=model, size=(512, 768)), models=[chosen, own], chosen=chosen)
    assert (adopted.request.model, adopted.request.height) == ("mymodel", 768)
    assert str(adopted.told[1]) == "Not taken over: the sampler euler (normal)."


def test_what_is_out_of_bounds_is_brought_within_them_and_said(chosen: ModelEntry) -> None:
    seed = 1102676403634909
    far = replace(FOX, seed=seed, steps=150, guidance_scale=0.5, size=(1000, 50), prompt="fox " * 600, model=None)
    adopted = adopt(far, models=[], chosen=chosen)
    request = adopted.request
    assert (request.seed, request.steps, request.guidance_scale) == (4294967295, 100, 1)
    assert (request.width, request.height, len(request.prompt)) == (128, 48, 2000)
    assert str(adopted.told[-1]) == (
        "Out of range here, so set to the nearest value: “Words” (cut to 2000 characters), the seed "
        "1102676403634909 (now 4294967295), the number of steps 150 (now 100), the guidance 0.5 (now 1), "
        "the width 1000 (now 128), the height 50 (now 48)."
    )


def test_weights_that_are_not_allowed_here_are_brought_within_bounds_and_said(chosen: ModelEntry) -> None:
    loud = replace(FOX, prompt="a (fox (red:2):2.5), (old:0.8)", negative_prompt="（blurry：-1）\\(x\\)")
    adopted = adopt(loud, models=[chosen], chosen=chosen)
    assert adopted.request.prompt == "a (fox :2.5)(red:3), (old:0.8)"
    assert adopted.request.negative_prompt == r"(blurry:0)\(x\)"
    assert str(adopted.told[-1]) == (
        "Out of range here, so set to the nearest value: “Words” (its weights limited to the range 0 to 3), "
        "“Not in the picture” (its weights limited to the range 0 to 3)."
    )
    for prompt in ("(fox:9) " * 600, "(fox:9) " + "[red] " * 300):  # one too long beforehand, one only once rewritten
        long = adopt(replace(FOX, prompt=prompt), models=[chosen], chosen=chosen)
        assert len(long.request.prompt) == 2000
        assert "“Words” (its weights limited to the range 0 to 3), “Words” (cut to 2000 char" in str(long.told[-1])


def test_what_is_not_written_is_as_usual_and_said(chosen: ModelEntry) -> None:
    adopted = adopt(OtherSettings(program="InvokeAI", prompt="a fox"), models=[], chosen=chosen)
    assert (adopted.request.seed, adopted.request.steps, adopted.request.width) == (-1, 0, 0)
    assert str(adopted.told[-1]) == (
        "Not in the file, so set to the usual value: the seed, the number of steps, the guidance, the width, "
        "the height."
    )


def test_what_was_used_beside_words_is_said(chosen: ModelEntry) -> None:
    used = replace(FOX, beside=("lora", "controlnet", "reference", "start"), samplers=2, taken_from="KSampler 3")
    told = [str(each) for each in adopt(used, models=[], chosen=chosen).told]
    assert told[1] == "It used 2 samplers; the settings are those of KSampler 3."
    assert told[2].endswith("its LoRAs, its ControlNet, its image prompts, the picture it started from.")


def test_half_characters_do_not_spoil_the_rest(chosen: ModelEntry) -> None:
    assert adopt(replace(FOX, prompt="a \ud83d fox"), models=[], chosen=chosen).request.prompt == "a ? fox"


def test_without_words_there_is_nothing_to_draw(chosen: ModelEntry) -> None:
    with pytest.raises(UserError, match="nothing to draw"):
        adopt(replace(FOX, prompt=" "), models=[], chosen=chosen)
