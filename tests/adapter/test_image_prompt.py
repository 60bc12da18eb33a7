"""Image prompts as data: different rows in one batch, ranges, masks, concatenated references."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ipa_app.adapter import ImagePrompt, ImagePromptBatch
from ipa_app.errors import UserError
from tests.adapter.conftest import MakePrompt

SIZE = (8, 8)


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor]:
    return torch.randn(6, 4, *SIZE), torch.randn(6, 7, 32)


@torch.no_grad()
def run(unet: UNet2DConditionModel, inputs: tuple[Tensor, Tensor], batch: ImagePromptBatch | None = None) -> Tensor:
    latents, text = inputs
    kwargs = None if batch is None else {"image_prompt": batch}
    return unet(latents, 500, text, cross_attention_kwargs=kwargs).sample


def unlike_rows(prompt: MakePrompt) -> list[list[ImagePrompt]]:
    mask = torch.zeros(16, 16)
    mask[:, :5] = 1
    return [
        [],
        [prompt("base", scale=0.7)],
        [prompt("plus", seed=1)],
        [prompt("base", seed=2, pictures=2, scale=1.3)],
        [prompt("base", seed=3), prompt("base", seed=4, scale=0.4), prompt("plus", seed=5, scale=0.2)],
        [prompt("plus", seed=6).with_range(0.0, 0.5), prompt("full", seed=7).with_mask(mask)],
    ]


@pytest.mark.parametrize("step", [0, 3])
def test_a_batch_of_unlike_rows_equals_the_rows_alone(
    unet: UNet2DConditionModel, prompt: MakePrompt, inputs: tuple[Tensor, Tensor], step: int
) -> None:
    rows = unlike_rows(prompt)
    batch = ImagePromptBatch.stack(rows, guidance=False, steps=4, latent_size=SIZE)
    batch.at_step(step)
    together = run(unet, inputs, batch)
    for i, row in enumerate(rows):
        alone = ImagePromptBatch.stack([row], guidance=False, steps=4, latent_size=SIZE)
        alone.at_step(step)
        expected = run(unet, (inputs[0][i : i + 1], inputs[1][i : i + 1]), alone)
        torch.testing.assert_close(together[i : i + 1], expected, rtol=1e-5, atol=1e-5)


def test_rows_without_a_prompt_and_at_scale_0_equal_plain_bit_for_bit(
    unet: UNet2DConditionModel, prompt: MakePrompt, inputs: tuple[Tensor, Tensor]
) -> None:
    rows = [[], [prompt("base", scale=0.0)], [prompt("plus")], [], [prompt("plus", scale=0.0)], [prompt("base")]]
    plain, guided = run(unet, inputs), run(unet, inputs, ImagePromptBatch.stack(rows, guidance=False, steps=1))
    untouched = [0, 1, 3, 4]
    assert torch.equal(guided[untouched], plain[untouched])
    assert all((guided[i] - plain[i]).abs().max() > 1e-2 for i in (2, 5))


def test_guidance_puts_the_unconditional_side_first(
    unet: UNet2DConditionModel, prompt: MakePrompt, inputs: tuple[Tensor, Tensor]
) -> None:
    first, second = prompt("base", seed=1), prompt("plus", seed=2)
    batch = ImagePromptBatch.stack([[first], [], [second]], guidance=True, steps=1)
    assert first.uncond is not None and second.uncond is not None
    spelled_out = [first.uncond, None, second.uncond, first.cond, None, second.cond]
    rows = [[] if side is None else [ImagePrompt(cond=side)] for side in spelled_out]
    expected = ImagePromptBatch.stack(rows, guidance=False, steps=1)
    assert torch.equal(run(unet, inputs, batch), run(unet, inputs, expected))


@pytest.mark.parametrize(
    ("start", "end", "counts"), [(0, 0.5, [0, 1]), (0.5, 1, [2, 3]), (0.25, 0.25, []), (0, 1, [0, 1, 2, 3])]
)
def test_a_range_counts_in_its_steps_only(
    unet: UNet2DConditionModel,
    prompt: MakePrompt,
    inputs: tuple[Tensor, Tensor],
    start: float,
    end: float,
    counts: list[int],
) -> None:
    batch = ImagePromptBatch.stack([[prompt("base").with_range(start, end)]] * 6, guidance=False, steps=4)
    plain = run(unet, inputs)
    for step in range(4):
        batch.at_step(step)
        assert torch.equal(run(unet, inputs, batch), plain) == (step not in counts)


def test_two_halves_of_the_steps_make_no_step_count_twice(prompt: MakePrompt) -> None:
    whole = prompt("base")
    for steps in range(1, 12):
        batch = ImagePromptBatch.stack(
            [[whole.with_range(0, 0.3), whole.with_range(0.3, 1)]], guidance=False, steps=steps
        )
        for step in range(steps):
            batch.at_step(step)
            assert len(list(batch.terms(next(iter(whole.cond))))) == 1


def test_joined_references_equal_references_encoded_together(
    unet: UNet2DConditionModel, prompt: MakePrompt, inputs: tuple[Tensor, Tensor]
) -> None:
    one = ImagePrompt.concat([prompt("base", seed=1), prompt("plus", seed=2)])
    layer = next(iter(one.cond))
    assert one.cond[layer].key.shape[0] == 4 + 16
    assert one.uncond is not None and one.uncond[layer].key.shape[0] == 4 + 16
    # The same image twice acts as once: the softmax splits its weight between the copies.
    twice = ImagePrompt.concat([prompt("base", seed=1)] * 2)
    results = [
        run(unet, inputs, ImagePromptBatch.stack([[each]] * 6, guidance=False, steps=1))
        for each in (twice, prompt("base", seed=1))
    ]
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


def test_joined_references_have_an_unconditional_side_where_all_have_one(prompt: MakePrompt) -> None:
    whole = prompt("base")
    assert ImagePrompt.concat([whole, ImagePrompt(cond=whole.cond)]).uncond is None


@torch.no_grad()
@pytest.mark.parametrize("is_masked", [False, True])
def test_pictures_of_one_sort_add_up_however_many_they_are(
    unet: UNet2DConditionModel, prompt: MakePrompt, is_masked: bool
) -> None:
    """In a single layer, whose output is linear in each image's contribution."""
    pictures = [prompt("base", seed=seed, scale=0.3 * seed) for seed in (1, 2, 3, 4)]
    if is_masked:
        pictures = [picture.with_mask(torch.rand(2, 6)) for picture in pictures]
    attn = unet.get_submodule(next(iter(pictures[0].cond)).removesuffix(".processor"))
    hidden_states, text = torch.randn(1, 12, 32), torch.randn(1, 7, 32)
    plain = attn(hidden_states, text)

    def change(*told: ImagePrompt) -> Tensor:
        batch = ImagePromptBatch.stack([told], guidance=False, steps=1, latent_size=(2, 6))
        return attn(hidden_states, text, image_prompt=batch) - plain

    expected = torch.stack([change(picture) for picture in pictures]).sum(dim=0)
    torch.testing.assert_close(change(*pictures), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [[4], [5, 1, 4], [0, 3]])
def test_some_rows_of_a_call_are_told_what_they_were_told_among_all(
    unet: UNet2DConditionModel, prompt: MakePrompt, inputs: tuple[Tensor, Tensor], rows: list[int]
) -> None:
    """In any order, at the step of the whole call."""
    batch = ImagePromptBatch.stack(unlike_rows(prompt), guidance=False, steps=4, latent_size=SIZE)
    batch.at_step(3)
    some = batch.of_rows(torch.tensor(rows))
    alone = run(unet, (inputs[0][rows], inputs[1][rows]), some)
    torch.testing.assert_close(alone, run(unet, inputs, batch)[rows], rtol=1e-5, atol=1e-5)
    some.at_step(3)
    assert torch.equal(run(unet, (inputs[0][rows], inputs[1][rows]), some), alone)


def test_what_a_unet_is_told_is_all_that_counts_at_a_step(prompt: MakePrompt) -> None:
    """These tensors are what a compiled UNet is recognised by."""
    late, masked = prompt("base").with_range(0.5, 1.0), prompt("plus", seed=1).with_mask(torch.ones(4, 4))
    batch = ImagePromptBatch.stack([[late, masked]], guidance=False, steps=2, latent_size=SIZE)
    for step, lengths in ((0, [16]), (1, [4, 16])):
        batch.at_step(step)
        told = batch.tensors()
        assert told.keys() == late.cond.keys()
        for terms in told.values():
            assert [key.shape[1] for _, key, _, _ in terms if key is not None] == lengths
            assert [mask is not None for *_, mask in terms] == [length == 16 for length in lengths]


def test_a_weight_of_a_joined_reference_scales_its_values(prompt: MakePrompt) -> None:
    first, second = prompt("base", seed=1), prompt("base", seed=2)
    joined = ImagePrompt.concat([first, second], weights=[1.0, 0.25])
    for layer, pair in joined.cond.items():
        assert torch.equal(pair.key[4:], second.cond[layer].key)
        assert torch.equal(pair.value[:4], first.cond[layer].value)
        assert torch.equal(pair.value[4:], second.cond[layer].value * 0.25)


def test_a_scale_per_block_counts_there_only(
    unet: UNet2DConditionModel, prompt: MakePrompt, inputs: tuple[Tensor, Tensor]
) -> None:
    whole = prompt("base")
    up = whole.with_scale({"up_blocks": 0.5})
    assert up.scale_at("up_blocks.1.attentions.0.transformer_blocks.0.attn2.processor") == 0.5
    assert up.scale_at("mid_block.attentions.0.transformer_blocks.0.attn2.processor") == 0.0
    finer = whole.with_scale({"up_blocks": 0.5, "up_blocks.1": 0.75})
    assert finer.scale_at("up_blocks.1.attentions.0.transformer_blocks.0.attn2.processor") == 0.75
    assert finer.scale_at("up_blocks.10.attentions.0.transformer_blocks.0.attn2.processor") == 0.5
    everywhere = whole.with_scale(dict.fromkeys(whole.cond, 0.6))
    results = [
        run(unet, inputs, ImagePromptBatch.stack([[each]] * 6, guidance=False, steps=1))
        for each in (everywhere, whole.with_scale(0.6))
    ]
    assert torch.equal(*results)


def test_copies_share_the_tensors(prompt: MakePrompt) -> None:
    whole = prompt("base")
    copy = whole.with_scale(0.1).with_range(0.2, 0.8).with_mask(torch.ones(2, 2))
    assert copy.cond is whole.cond and copy.uncond is whole.uncond
    assert (whole.scale, whole.start, whole.end, whole.mask) == (1.0, 0.0, 1.0, None)


def test_a_copy_in_another_precision_says_the_same(prompt: MakePrompt) -> None:
    whole = prompt("base", scale=0.7).with_range(0.2, 0.8).with_mask(torch.rand(4, 4))
    half = whole.to(torch.float16)
    assert (half.scale, half.start, half.end) == (0.7, 0.2, 0.8)
    assert half.mask is whole.mask
    for mine, theirs in ((half.cond, whole.cond), (half.uncond, whole.uncond)):
        assert mine is not None and theirs is not None and mine.keys() == theirs.keys()
        for layer, pair in mine.items():
            assert torch.equal(pair.key, theirs[layer].key.half())
            assert torch.equal(pair.value, theirs[layer].value.half())
    plain = ImagePrompt(cond=whole.cond).to(torch.float16)
    assert plain.uncond is None and plain.mask is None


def test_a_copy_on_another_device_is_there_as_a_whole_and_so_are_batches_of_it(prompt: MakePrompt) -> None:
    meta = torch.device("meta")
    copy = prompt("base").with_mask(torch.ones(4, 4)).to(torch.float16, device=meta)
    assert copy.mask is not None and copy.mask.device == meta
    batch = ImagePromptBatch.stack([[copy]], guidance=True, steps=1, latent_size=SIZE)
    for layer in copy.cond:
        (term,) = batch.terms(layer)
        assert {each.device for each in (term.rows, term.key, term.value, term.mask) if each is not None} == {meta}
        assert term.key.dtype == term.value.dtype == torch.float16


@pytest.mark.parametrize("size", [(8, 8), (7, 13), (9, 5)])
def test_masks_cover_their_part_of_a_picture_of_any_shape(
    unet: UNet2DConditionModel, prompt: MakePrompt, size: tuple[int, int]
) -> None:
    inputs = torch.randn(1, 4, *size), torch.randn(1, 7, 32)
    whole, mask = prompt("plus"), torch.zeros(40, 40)

    def masked(mask: Tensor) -> Tensor:
        rows = [[whole.with_mask(mask)]]
        return run(unet, inputs, ImagePromptBatch.stack(rows, guidance=False, steps=1, latent_size=size))

    assert torch.equal(masked(mask), run(unet, inputs))
    unmasked = run(unet, inputs, ImagePromptBatch.stack([[whole]], guidance=False, steps=1))
    assert torch.equal(masked(torch.ones(40, 40)), unmasked)


def test_a_mask_is_reduced_on_the_true_grid_of_each_layer(prompt: MakePrompt) -> None:
    height, width = 7, 13
    mask = torch.zeros(height, width)
    mask[:, 10:] = 1
    batch = ImagePromptBatch.stack(
        [[prompt("base").with_mask(mask)]], guidance=False, steps=1, latent_size=(height, width)
    )
    (term,) = batch.terms(next(iter(prompt("base").cond)))
    for rows, columns in ((7, 13), (4, 7), (2, 4), (1, 2)):
        grid = term.mask_for(rows * columns).reshape(rows, columns)
        assert math.isclose(float(grid[:, 0].max()), 0.0)
        assert float(grid[:, -1].min()) > 0.4
        assert torch.equal(
            grid, grid[:1].expand(rows, columns)
        )  # stripes stay stripes: rows and columns are not mixed up
    with pytest.raises(ValueError, match=r"^9 positions are no halving of a \(7, 13\) latent\.$"):
        term.mask_for(9)
    whole = ImagePromptBatch.stack([[prompt("base")]], guidance=False, steps=1)
    with pytest.raises(ValueError, match=r"^These terms have no mask\.$"):
        whole.terms(next(iter(prompt("base").cond)))[0].mask_for(9)


@torch.no_grad()
def test_a_mask_leaves_the_text_alone_outside(unet: UNet2DConditionModel, prompt: MakePrompt) -> None:
    """In a single layer, positions under a zero mask get the text's part only."""
    name = next(iter(prompt("base").cond))
    attn = unet.get_submodule(name.removesuffix(".processor"))
    hidden_states, text = torch.randn(1, 7 * 13, 32), torch.randn(1, 7, 32)
    mask = torch.zeros(7, 13)
    mask[2:5, 3:9] = 1
    rows = [[prompt("base").with_mask(mask)]]
    batch = ImagePromptBatch.stack(rows, guidance=False, steps=1, latent_size=(7, 13))
    change = (attn(hidden_states, text, image_prompt=batch) - attn(hidden_states, text)).abs().amax(-1).view(7, 13)
    assert torch.equal(change > 0, mask > 0)


def test_wrong_numbers_are_refused_in_words(prompt: MakePrompt) -> None:
    for scale in (math.nan, math.inf, {"up_blocks": math.nan}):
        with pytest.raises(UserError, match="finite number"):
            prompt("base").with_scale(scale)
    for start, end in ((-0.1, 1.0), (0.0, 1.1), (0.6, 0.4), (math.nan, 1.0)):
        with pytest.raises(UserError, match=f"between 0 and 1; it was {start} to {end}"):
            prompt("base").with_range(start, end)


def test_misuse_is_told_at_once(unet: UNet2DConditionModel, prompt: MakePrompt, inputs: tuple[Tensor, Tensor]) -> None:
    whole = prompt("base")
    with pytest.raises(ValueError, match="stacked for 2 rows but the UNet got 6"):
        run(unet, inputs, ImagePromptBatch.stack([[whole]], guidance=True, steps=1))
    with pytest.raises(ValueError, match="unconditional side"):
        ImagePromptBatch.stack([[ImagePrompt(cond=whole.cond)]], guidance=True, steps=1)
    with pytest.raises(ValueError, match="size of the latents"):
        ImagePromptBatch.stack([[whole.with_mask(torch.ones(4, 4))]], guidance=False, steps=1)
    with pytest.raises(ValueError, match="different base models"):
        ImagePromptBatch.stack([[whole], [ImagePrompt(cond={})]], guidance=False, steps=1)
