"""Settings are read from ComfyUI's graphs, however the nodes are connected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipa_app.imaging.other_programs import read_other
from tests.effort import check_cpu_s
from tests.other_programs import COMFY, OF_COMFY, comfy, compare, node, png, read, without


def test_a_sampler_made_of_several_nodes(tmp_path: Path) -> None:
    graph = comfy(
        _3=node(
            "SamplerCustomAdvanced",
            noise=["10", 0],
            guider=["11", 0],
            sampler=["12", 0],
            sigmas=["13", 0],
            latent_image=["5", 0],
        )
    )
    graph |= {
        "10": node("RandomNoise", noise_seed=4242),
        "11": node("CFGGuider", cfg=7.5, model=["4", 0], positive=["6", 0], negative=["7", 0]),
        "12": node("KSamplerSelect", sampler_name="euler"),
        "13": node("BasicScheduler", scheduler="normal", steps=20, denoise=1, model=["4", 0]),
    }
    compare(read(png(tmp_path / "a.png", prompt=graph)), "ComfyUI", OF_COMFY)
    graph["11"] = node("BasicGuider", model=["4", 0], conditioning=["6", 0])
    settings = read(png(tmp_path / "b.png", prompt=graph))
    assert (settings.prompt, settings.negative_prompt, settings.guidance_scale) == ("a fox in a blue coat", "", 1)


WAN = {
    "3": node(
        "WanVideoSampler",
        seed=4242,
        steps=20,
        cfg=7.5,
        scheduler="unipc",
        model=["4", 0],
        text_embeds=["10", 0],
        image_embeds=["5", 0],
    ),
    "4": node("WanVideoModelLoader", model="wan.safetensors"),
    "5": node("WanVideoEmptyEmbeds", width=512, height=384, num_frames=1),
    "6": COMFY["6"],
    "7": COMFY["7"],
    "10": node("WanVideoTextEmbedBridge", positive=["6", 0], negative=["7", 0]),
}
OF_WAN = {"size": None, "model": "wan.safetensors", "sampler": "unipc"}
GRAPHS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linked values": (
        {
            **comfy(_3__seed=["20", 0], _5__width=["21", 0], _6__text=["22", 0]),
            "20": node("Seed (rgthree)", seed=4242),
            "21": node("PrimitiveInt", value=512),
            "22": node("String", value="a fox in a blue coat"),
        },
        {},
    ),
    "sdxl": (comfy(_6=node("CLIPTextEncodeSDXL", text_g="a fox in a blue coat", text_l="a fox", clip=["4", 1])), {}),
    "flux": (
        comfy(
            _4=node("UNETLoader", unet_name="flux.safetensors"),
            _7=node("ConditioningZeroOut", conditioning=["6", 0]),
        ),
        {"negative_prompt": "", "model": "flux.safetensors"},
    ),
    "advanced": (
        comfy(_3={**node("KSamplerAdvanced", **without(COMFY["3"]["inputs"], "seed", "denoise"), noise_seed=4242)}),
        {},
    ),
    "changed since": ({**COMFY, "9": {**COMFY["9"], "is_changed": [float("nan")]}}, {}),
    "lora and controlnet": (
        {
            **comfy(_3__model=["30", 0], _3__positive=["31", 0]),
            "30": node("LoraLoader", lora_name="ink.safetensors", model=["4", 0], clip=["4", 1]),
            "31": node("ControlNetApply", conditioning=["6", 0], control_net=["32", 0], image=["33", 0], strength=1),
            "32": node("ControlNetLoader", control_net_name="pose"),
            "33": node("LoadImage", image="x.png"),
        },
        {"beside": ("lora", "controlnet", "start")},
    ),
    "a text that is nowhere, and tags of LoRAs": (
        comfy(_6=node("CLIPTextEncode", text=["99", 0], clip=["40", 1]))
        | {"40": node("LoraTagLoader", text="<lora:ink:1>", model=["4", 0], clip=["4", 1])},
        {"prompt": "", "beside": ("lora",)},
    ),
    "embedded texts": (WAN, OF_WAN),
    "embedded texts that are nowhere": (
        {**WAN, "3": node("WanVideoSampler", **{**WAN["3"]["inputs"], "text_embeds": ["99", 0]})},
        {**OF_WAN, "prompt": "", "negative_prompt": ""},
    ),
    "a sampler without a name": (
        {**WAN, "3": node("WanVideoSampler", **without(WAN["3"]["inputs"], "scheduler"))},
        {**OF_WAN, "sampler": None},
    ),
    "a sampler with its schedule alone": (
        comfy(_3=node("WanVideoSampler", **without(COMFY["3"]["inputs"], "sampler_name"))),
        {"sampler": "normal"},
    ),
    "from a picture": (
        comfy(_5=node("VAEEncode", pixels=["33", 0], vae=["4", 2])) | {"33": node("LoadImage", image="x.png")},
        {"size": None, "beside": ("start",)},
    ),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_graphs_of_other_shapes(tmp_path: Path, case: str) -> None:
    graph, changes = GRAPHS[case]
    compare(read(png(tmp_path / "a.png", prompt=graph)), "ComfyUI", {**OF_COMFY, **changes})


def test_of_several_samplers_the_one_that_starts_from_noise_is_taken_and_named(tmp_path: Path) -> None:
    second = node("KSampler", **{**COMFY["3"]["inputs"], "seed": 1, "steps": 5, "latent_image": ["2", 0]})
    graph = {"1": second, "2": node("LatentUpscale", samples=["3", 0], width=1024, height=768), **COMFY}
    settings = read(png(tmp_path / "a.png", prompt=graph))
    assert (settings.seed, settings.steps, settings.size) == (4242, 20, (512, 384))
    assert (settings.samplers, settings.taken_from) == (2, "KSampler 3")


def _samplers_after_a_long_way() -> dict[str, Any]:
    """Every sampler is linked to the same chain of thousands of nodes, with a text at each."""
    way = {
        f"w{number}": node("ControlNetApply", a=[f"w{number + 1}", 0], b=[f"t{number}", 0]) for number in range(4000)
    }
    texts = {f"t{number}": node("CLIPTextEncode", text="fox") for number in range(4000)}
    sampler = node("KSampler", **{**COMFY["3"]["inputs"], "positive": ["w0", 0], "model": ["w0", 0]})
    return {**COMFY, **{f"s{number}": sampler for number in range(4000)}, **way, **texts}


def _samplers_of_large_parts() -> dict[str, Any]:
    """Every sampler uses a node that has thousands of values."""
    sampler = node("SamplerCustomAdvanced", guider=["part", 0])
    part = node("CFGGuider", cfg=7.5, **{f"value_{number}": number for number in range(20_000)})
    return {**COMFY, **{f"s{number}": sampler for number in range(5000)}, "part": part}


@pytest.mark.parametrize("make", [_samplers_after_a_long_way, _samplers_of_large_parts])
def test_a_graph_that_is_made_to_take_long_takes_no_time(tmp_path: Path, make: Callable[[], dict[str, Any]]) -> None:
    path = png(tmp_path / "a.png", prompt=make())
    check_cpu_s(lambda: read_other(path), most=1.5)
    settings = read_other(path)
    assert settings is not None
    assert (settings.seed, settings.prompt) == (4242, "a fox in a blue coat")


def test_a_graph_may_have_pictures_in_it(tmp_path: Path) -> None:
    graph = {**COMFY, "10": node("LoadImageBase64", image="A" * 600_000)}
    assert read(png(tmp_path / "a.png", prompt=graph)).seed == 4242


def test_notes_of_no_sense_are_shortened_or_left_out(tmp_path: Path) -> None:
    graph = comfy(_3__seed=10**4000, _3__sampler_name="e" * 5000, _4__ckpt_name=7, _5__width=10**4000)
    settings = read(png(tmp_path / "a.png", prompt=graph))
    assert (settings.model, settings.seed, settings.size) == ("7", None, None)
    assert settings.sampler == "e" * 99 + "…"
