"""The published layouts with narrow layers: exact names, and the same pictures from the app and plain diffusers."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from bench import shape_exact
from bench.published import Hub, hub
from ipa_app.adapter import read_adapter
from ipa_app.models.weights import read_header

NUMBER_OF_TENSORS = {
    "sd15": {"unet": 686, "vae": 248, "controlnet": 340},
    "sdxl": {"unet": 1680, "vae": 248},
}
LAST_LAYER = {"sd15": 31, "sdxl": 139}


def draw_here(options: argparse.Namespace, folder: Path, who: str) -> dict[str, float]:
    """Draw in this process: otherwise imports would take most of the test's time."""
    options = argparse.Namespace(**{**vars(options), "folder": folder, "draw": who})
    return shape_exact.draw_with_app(options) if who == "app" else shape_exact.draw_with_diffusers(options)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_narrow_family_has_the_published_names_and_draws_as_in_diffusers(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shape_exact, "_run", draw_here)
    shape_exact.main([family, "--tiny", "--size", "64", "--folder", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "largest difference of a pixel" in printed
    assert all(f"\n{row}" in printed for row in ("load", "variation", "mix", "inpaint", "pose", "peak memory"))
    check_names(family, hub(family, tmp_path))


def check_names(family: str, places: Hub) -> None:
    folders = {"unet": places.model / "unet", "vae": places.model / "vae", "controlnet": places.controlnet}
    for part, count in NUMBER_OF_TENSORS[family].items():
        assert len(read_header(folders[part] / "diffusion_pytorch_model.fp16.safetensors")) == count, part
    text = read_header(places.model / "text_encoder" / "model.fp16.safetensors")
    assert "text_model.embeddings.token_embedding.weight" in text
    vision = read_header(places.image_encoder / "model.safetensors")
    assert {"visual_projection.weight", "vision_model.embeddings.class_embedding"} <= vision.keys()
    vae = read_header(places.model / "vae" / "diffusion_pytorch_model.fp16.safetensors")
    query = "query" if family == "sd15" else "to_q"
    assert f"decoder.mid_block.attentions.0.{query}.weight" in vae
    base, plus = (read_adapter(places.adapters / name) for name in (places.base, places.plus))
    assert [file.layers[-1].index for file in (base, plus)] == [LAST_LAYER[family]] * 2
    assert (base.kind, base.num_tokens, plus.kind, plus.num_tokens) == ("base", 4, "plus", 16)
    assert read_adapter((places.adapters / places.base).with_suffix(".bin")).kind == "base"
