"""Regional prompts: each layer shares its text attention among them, and no other row changes.

The oracle is diffusers' own processor, called once for each text. As the shares of a place add up to 1, its outputs may
be weighted after the last projection as well as before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from ipa_app.adapter import (
    ImagePrompt,
    ImagePromptBatch,
    IPAttnProcessor,
    RegionalPrompt,
    RegionalPromptBatch,
    install_processors,
)
from ipa_app.adapter.image_prompt import KeyValue
from tests.tiny_models import CROSS_ATTENTION_DIM, tiny_unet

HIDDEN = 24
PLAIN = AttnProcessor2_0()
Words = list[tuple[Tensor, Tensor]]
"""One picture's texts: hidden states, (tokens, dim), and the share of each place, (height, width)."""


@dataclass
class MixedProcessor:
    """Mix the outputs of diffusers' processor for each text by share; other rows stay as they are."""

    rows: dict[int, Words]

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        out = PLAIN(attn, hidden_states, encoder_hidden_states, **kwargs)
        if encoder_hidden_states is None:
            return out
        for row, words in self.rows.items():
            one, mixed, rest = hidden_states[row : row + 1], torch.zeros_like(out[row]), 1.0
            for states, share in words:
                cells = layer_cells(share, one.shape[1])
                mixed, rest = mixed + cells * PLAIN(attn, one, states[None])[0], rest - cells
            out = torch.cat([out[:row], (mixed + rest * out[row])[None], out[row + 1 :]])
        return out


def layer_cells(share: Tensor, length: int) -> Tensor:
    """Return the mean share of each cell of a layer's grid, halved and rounded up as often as needed; (length, 1)."""
    height, width = share.shape
    while height * width != length:
        height, width = -(-height // 2), -(-width // 2)
    return F.adaptive_avg_pool2d(share[None], (height, width)).reshape(length, 1)


def left_and_right(height: int, width: int) -> tuple[Tensor, Tensor]:
    left = (width / 2 - torch.arange(width)).clamp(0, 1).expand(height, width).contiguous()
    return left, 1 - left


def random_shares(count: int, height: int, width: int) -> tuple[Tensor, ...]:
    """Return overlapping shares that leave a rest everywhere."""
    masks = torch.rand(count, height, width)
    return tuple(masks / (masks.sum(dim=0) + 0.1))


def texts(*lengths: int, dim: int = CROSS_ATTENTION_DIM) -> list[Tensor]:
    return [torch.randn(length, dim) for length in lengths]


def stacked(*rows: Words, guidance: bool, size: tuple[int, int]) -> RegionalPromptBatch:
    prompts = [[RegionalPrompt(states=states, share=share) for states, share in words] for words in rows]
    return RegionalPromptBatch.stack(prompts, guidance=guidance, latent_size=size)


@pytest.fixture
def attn() -> Attention:
    return Attention(query_dim=20, cross_attention_dim=CROSS_ATTENTION_DIM, heads=3, dim_head=HIDDEN // 3).eval()


@torch.no_grad()
@pytest.mark.parametrize("guidance", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (9, 7), (5, 12)], ids=str)
def test_a_unet_predicts_what_diffusers_attention_shared_by_hand_does(
    unet: UNet2DConditionModel, size: tuple[int, int], guidance: bool
) -> None:
    """Of three pictures the first has halves, the second nothing, the third four texts, one of them longer."""
    halves = list(zip(texts(7, 7), left_and_right(*size), strict=True))
    four = list(zip(texts(7, 14, 7, 7), random_shares(4, *size), strict=True))
    batch = stacked(halves, [], four, guidance=guidance, size=size)
    rows = 6 if guidance else 3
    inputs = (torch.randn(rows, 4, *size), 500, torch.randn(rows, 7, CROSS_ATTENTION_DIM))
    predicted = unet(*inputs, cross_attention_kwargs={"regional_prompt": batch}).sample

    theirs: Any = tiny_unet()
    first = rows - 3
    theirs.set_attn_processor(MixedProcessor({first: halves, first + 2: four}))
    torch.testing.assert_close(predicted, theirs(*inputs).sample, rtol=1e-4, atol=1e-5)

    plain = unet(*inputs).sample
    others = [row for row in range(rows) if row not in (first, first + 2)]
    assert torch.equal(predicted[others], plain[others])
    assert all((predicted[row] - plain[row]).abs().max() > 1e-3 for row in (first, first + 2))


@torch.no_grad()
def test_words_of_no_share_change_no_bit_and_those_of_all_are_the_text(unet: UNet2DConditionModel) -> None:
    latents, (text, words) = torch.randn(1, 4, 8, 8), texts(7, 7)
    nothing, everything = torch.zeros(8, 8), torch.ones(8, 8)

    def predict(text: Tensor, *prompts: tuple[Tensor, Tensor]) -> Tensor:
        batch = stacked(list(prompts), guidance=False, size=(8, 8)) if prompts else None
        return unet(latents, 500, text[None], cross_attention_kwargs={"regional_prompt": batch}).sample

    assert torch.equal(predict(text, (words, nothing)), predict(text))
    torch.testing.assert_close(predict(text, (words, everything)), predict(words))
    assert (predict(words) - predict(text)).abs().max() > 1e-3


@torch.no_grad()
def test_what_a_picture_says_is_added_to_it(attn: Attention) -> None:
    hidden_states, text = torch.randn(1, 12, 20), torch.randn(1, 7, CROSS_ATTENTION_DIM)
    words = list(zip(texts(7, 9), random_shares(2, 3, 4), strict=True))
    pair = KeyValue(torch.randn(4, HIDDEN), torch.randn(4, HIDDEN))
    picture = ImagePrompt(cond={"attn2": pair}, scale=0.7)
    told = {
        "image_prompt": ImagePromptBatch.stack([[picture]], guidance=False, steps=1),
        "regional_prompt": stacked(words, guidance=False, size=(3, 4)),
    }

    def attend(*names: str) -> Tensor:
        return IPAttnProcessor("attn2")(attn, hidden_states, text, **{name: told[name] for name in names})

    expected = MixedProcessor({0: words})(attn, hidden_states, text) + attend("image_prompt") - attend()
    torch.testing.assert_close(attend("image_prompt", "regional_prompt"), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_self_attention_pays_no_heed_to_them() -> None:
    attn = Attention(query_dim=HIDDEN, heads=3, dim_head=HIDDEN // 3).eval()
    hidden_states = torch.randn(1, 12, HIDDEN)
    batch = stacked([(torch.randn(7, HIDDEN), torch.ones(3, 4))], guidance=False, size=(3, 4))
    assert torch.equal(IPAttnProcessor()(attn, hidden_states, regional_prompt=batch), PLAIN(attn, hidden_states))


@torch.no_grad()
def test_another_batch_than_it_was_stacked_for_is_refused(unet: UNet2DConditionModel) -> None:
    batch = stacked([(texts(7)[0], torch.ones(8, 8))], guidance=False, size=(8, 8))
    text = torch.randn(2, 7, CROSS_ATTENTION_DIM)
    with pytest.raises(ValueError, match="stacked for 1 rows but the UNet got 2"):
        unet(torch.randn(2, 4, 8, 8), 500, text, cross_attention_kwargs={"regional_prompt": batch})


@torch.no_grad()
@pytest.mark.parametrize("rows", [[3, 4, 5], [5, 0, 3], [4, 5, 3, 1]])
def test_some_rows_of_a_call_are_told_what_they_were_told_among_all(
    unet: UNet2DConditionModel, rows: list[int]
) -> None:
    """Including all rows with regional prompts, in any order; the unconditional rows have none."""
    halves = list(zip(texts(7, 7), left_and_right(8, 8), strict=True))
    longer = [(texts(14)[0], torch.rand(8, 8))]
    batch = stacked(halves, [], longer, guidance=True, size=(8, 8))
    latents, text = torch.randn(6, 4, 8, 8), torch.randn(6, 7, CROSS_ATTENTION_DIM)

    def predict(batch: RegionalPromptBatch, rows: list[int]) -> Tensor:
        return unet(latents[rows], 500, text[rows], cross_attention_kwargs={"regional_prompt": batch}).sample

    together = predict(batch, list(range(6)))
    alone = predict(batch.of_rows(torch.tensor(rows)), rows)
    torch.testing.assert_close(alone, together[rows], rtol=1e-5, atol=1e-5)


def test_words_in_another_precision_and_on_another_device() -> None:
    words = RegionalPrompt(states=torch.randn(7, CROSS_ATTENTION_DIM), share=torch.rand(4, 4))
    half = words.to(torch.float16)
    assert torch.equal(half.states, words.states.half())
    assert half.share is words.share
    away = words.to(torch.float16, device=torch.device("meta"))
    assert away.states.dtype == torch.float16
    assert away.states.device.type == away.share.device.type == "meta"


@torch.no_grad()
def test_half_precision_draws_nearly_the_same(unet: UNet2DConditionModel) -> None:
    """A bfloat16 UNet gets regional prompts in single precision."""
    batch = stacked(list(zip(texts(7, 7), left_and_right(8, 8), strict=True)), guidance=False, size=(8, 8))
    kwargs = {"regional_prompt": batch}
    latents, text = torch.randn(1, 4, 8, 8), torch.randn(1, 7, CROSS_ATTENTION_DIM)
    half = tiny_unet().bfloat16()
    install_processors(half)
    predicted = half(latents.bfloat16(), 500, text.bfloat16(), cross_attention_kwargs=kwargs).sample
    expected = unet(latents, 500, text, cross_attention_kwargs=kwargs).sample
    torch.testing.assert_close(predicted.float(), expected, rtol=0.1, atol=0.1)
