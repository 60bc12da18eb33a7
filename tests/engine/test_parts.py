"""Only the style or only the layout of a reference counts, through the layers published for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.engine.results import GenerateResult
from ipa_app.engine.series import each_adapter, scale_strip
from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import TIMEOUT_S, Generate, furthest, noise_picture, pixels, reference
from tests.tiny_models import SDXL_BLOCKS
from tests.tiny_sdxl import tiny_sdxl_bundle

FILES = {"base": "ip-adapter_toybox.safetensors", "fine": "ip-adapter-plus_toybox.safetensors"}
# The layers of diffusers' documentation, times the scale.
BLOCKS: dict[str, dict[str, Any]] = {
    "style": {"up": {"block_0": [0.0, 0.6, 0.0]}},
    "layout": {"down": {"block_2": [0.0, 0.6]}},
}
SQUARE = noise_picture(1, (32, 32))
WISH: dict[str, Any] = {"task": "mix", "prompt": "a red cat", "seed": 5}


@pytest.fixture(scope="module")
def published_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a random SDXL with the published block structure; do not write into it."""
    return tiny_sdxl_bundle(tmp_path_factory.mktemp("models") / "published-xl", blocks=SDXL_BLOCKS)


@pytest.fixture(scope="module")
def engine_xl(published_dir: Path) -> Iterator[Engine]:
    engine = Engine(ModelManager({"toybox": entry_from_folder(published_dir, name="toybox")}, device="cpu"))
    yield engine
    engine.close()


def draw(engine: Engine, request: GenerateRequest | None = None, **fields: Any) -> GenerateResult:
    return engine.submit(request or GenerateRequest(**WISH, **fields)).result(TIMEOUT_S)


def draw_theirs(folder: Path, *, adapter: str, scale: dict[str, Any]) -> Image.Image:
    """Return one picture by plain diffusers from the engine's initial noise."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_ip_adapter(
        str(folder), subfolder="adapters", weight_name=FILES[adapter], image_encoder_folder=None, local_files_only=True
    )
    pipeline.set_ip_adapter_scale(scale)
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(WISH["seed"]))
    settings = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64, "output_type": "pil"}
    return pipeline(WISH["prompt"], latents=noise, ip_adapter_image=SQUARE, **settings).images[0]


@pytest.mark.parametrize("adapter", ["base", "fine"])
@pytest.mark.parametrize("part", BLOCKS)
def test_a_part_of_the_picture_is_what_diffusers_takes_in_the_published_blocks(
    engine_xl: Engine, published_dir: Path, part: str, adapter: str
) -> None:
    picture = {"references": (Reference(image=SQUARE),), "adapter": adapter}
    drawn = draw(engine_xl, **picture, part=part, scale=0.6)
    assert drawn.settings["part"] == part
    assert furthest(drawn.images[0], draw_theirs(published_dir, adapter=adapter, scale=BLOCKS[part])) <= 1
    for changes in ({"scale": 0.6}, {"scale": 0.0}, {"scale": 1.2, "part": part}):
        assert furthest(drawn.images[0], draw(engine_xl, **picture, **changes).images[0]) > 1, changes


@pytest.mark.parametrize("part", BLOCKS)
def test_parts_go_with_series_several_references_and_a_picture_to_stay_away_from(engine_xl: Engine, part: str) -> None:
    pictures = {"references": (reference(1, 0.5), reference(2)), "part": part}
    request = GenerateRequest(**WISH, **pictures, negative_reference=noise_picture(4))
    strip = [draw(engine_xl, each.request) for each in scale_strip(request)]
    assert len({pixels(result)[0] for result in strip}) == len(strip)
    assert pixels(strip[0]) == pixels(draw(engine_xl))
    assert [result.settings["part"] for result in strip] == ["all", *[part] * (len(strip) - 1)]
    entry = engine_xl.manager.entry(request.model)
    base, fine = (draw(engine_xl, each.request) for each in each_adapter(request, entry.adapters))
    assert pixels(base) == pixels(strip[-1])
    others = [fine, draw(engine_xl, **pictures), draw(engine_xl, **{**pictures, "references": (reference(2),)})]
    assert len({pixels(result)[0] for result in (base, *others)}) == 4


@pytest.mark.parametrize("part", BLOCKS)
def test_a_model_without_such_layers_says_so(engine: Engine, generate: Generate, part: str) -> None:
    wish = {"task": "variation", "references": (reference(),)}
    with pytest.raises(UserError, match=rf"Tiny cannot separate a picture's {part} from the rest: please .*\.$"):
        engine.submit(GenerateRequest(**wish, part=part))
    assert generate(**wish, part="all").settings["part"] == "all"


@pytest.mark.parametrize("part", ["colour", None, ["style"]])
def test_another_part_is_no_request(part: Any) -> None:
    with pytest.raises(UserError, match="it must be all or style or layout"):
        GenerateRequest(**WISH, part=part)
