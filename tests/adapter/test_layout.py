"""The type of a file follows from its tensor names: the kinds of adapters, and what is commonly mistaken for one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ipa_app.adapter.ip_adapter import PROJECTIONS
from ipa_app.adapter.kinds import KINDS, USUAL_NAMES
from ipa_app.adapter.layout import read_layout
from ipa_app.adapter.shapes import MOST_TOKENS, LayoutError, check_tokens
from ipa_app.errors import UserError
from tests.adapter_files import PUBLISHED, published_shapes, write_shapes


def test_every_kind_has_its_network() -> None:
    assert PROJECTIONS.keys() == KINDS.keys()
    assert USUAL_NAMES == ("base", "fine")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_are_told_by_their_headers(tmp_path: Path, name: str) -> None:
    _, kind, _, sizes = PUBLISHED[name]
    layout = read_layout(write_shapes(tmp_path / "any-name.safetensors", published_shapes(name)))
    assert (layout.kind, layout.clip_dim) == (kind, sizes["clip_dim"])


def test_an_adapter_may_make_as_many_tokens_as_any_encoder_has_patches() -> None:
    check_tokens(MOST_TOKENS)
    with pytest.raises(LayoutError, match=r"^adapter\.too_many_tokens$"):
        check_tokens(MOST_TOKENS + 1)


def test_a_file_of_too_many_tensors_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    layers = {f"ip_adapter.{number}.to_k_ip.weight": (32, 32) for number in range(1, 5000, 2)}
    write_shapes(tmp_path / "many.safetensors", {"image_proj.proj.weight": (128, 24), **layers})
    with pytest.raises(UserError) as refused:
        read_layout(tmp_path / "many.safetensors")
    said = "many.safetensors is not an IP-Adapter that works here: it has 2501 tensors, but at most 1024 are allowed."
    assert str(refused.value) == said


def test_how_many_elements_a_file_holds_is_told(tmp_path: Path) -> None:
    shapes = published_shapes("ip-adapter_sd15")
    layout = read_layout(write_shapes(tmp_path / "a.safetensors", shapes))
    assert layout.numel == sum(math.prod(shape) for shape in shapes.values())
    assert [layer.name for layer in layout.layers] == [str(layer.index) for layer in layout.layers]


FOREIGN = {
    "a PuLID file": "id_adapter_attn_layers.0.id_to_k.weight",
    "an IP-Adapter for FLUX": "double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight",
    "a T2I-Adapter": "adapter.body.0.resnets.0.block1.weight",
    "a ControlNet": "controlnet_cond_embedding.conv_in.weight",
    "a LoRA": "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
    "a whole model": "model.diffusion_model.input_blocks.0.0.weight",
    "an image encoder": "vision_model.embeddings.class_embedding",
    "a textual inversion": "emb_params",
}


@pytest.mark.parametrize(("sort", "key"), FOREIGN.items(), ids=FOREIGN)
def test_what_is_no_adapter_is_called_by_its_name(tmp_path: Path, sort: str, key: str) -> None:
    save_file({key: torch.ones(2, 2), "other.weight": torch.ones(2)}, tmp_path / "file.safetensors")
    with pytest.raises(UserError) as refused:
        read_layout(tmp_path / "file.safetensors")
    assert str(refused.value) == f"file.safetensors is {sort}, not an IP-Adapter: please use an IP-Adapter file."


def test_a_lora_is_told_in_the_names_of_diffusers_too(tmp_path: Path) -> None:
    """The LoRAs published alongside FaceID adapters are, too."""
    for key in ("unet.down_blocks.0.attn1.to_q.lora_A.weight", "0.to_q_lora.down.weight"):
        save_file({key: torch.ones(2, 2)}, tmp_path / "file.safetensors")
        with pytest.raises(UserError, match=r"is a LoRA, not an IP-Adapter"):
            read_layout(tmp_path / "file.safetensors")
