"""Stages: each adapter first learns the text's attention output, layer by layer and without the UNet.

Decoupled cross-attention adds `Attn(Q, K_img, V_img)` to the output of attention to the text. So in every layer, a
subject's picture should add what its full caption would add to the given text. This target has no noise, the queries
are real ones of the UNet, and a step costs a small fraction of one through the UNet: distillation of one attention
into another (Romero et al. 2015, on hints from inner layers). The adapters' own stages continue from there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPVisionModelWithProjection

from ipa_app.adapter.files import load_adapter, save_adapter
from ipa_app.adapter.ip_adapter import IPAdapter
from ipa_app.adapter.kinds import KINDS
from ipa_app.adapter.layers import attention_layers
from toybox.recipe.adapters import FILES, TRAINING_SCALES, Kind, features_of, features_of_nothing
from toybox.recipe.cached import Captions, latents_of
from toybox.recipe.data import ToyData
from toybox.recipe.denoiser import LATENESS, load_unet, noised
from toybox.recipe.images import take_rows
from toybox.recipe.loss_weights import loss_weights
from toybox.recipe.settings import Recipe
from toybox.recipe.towers import load_image_encoder
from toybox.recipe.training import Figures, pick_device, start_of, train_module

NO_PICTURE_SHARE = 0.1
"""Share of pairs without a picture, which must add nothing, as guidance leads away from the "no picture" output."""
QUERY_BATCHES, QUERY_BATCH, QUERIES_KEPT, QUERIES_ASKED = 24, 16, 256, 64
"""UNet passes that queries are taken from, pictures per pass, queries kept per pass, queries used per step."""


@dataclass(frozen=True)
class _Layer:
    """A cross-attention layer of the UNet.

    Attributes:
        index: its index in the adapter.
        attention: the module.
        queries: (heads, M, head_dim), recorded queries.
    """

    index: str
    attention: nn.Module
    queries: torch.Tensor

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend with queries (heads, n, d) to keys and values (B, L, hidden): (B, heads, n, d)."""
        heads = len(query)
        key, value = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (key, value))
        return F.scaled_dot_product_attention(query.expand(len(key), -1, -1, -1), key, value)

    def text(self, query: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Return the output of attention to text states (B, L, text_hidden)."""
        return self.attend(query, self.attention.to_k(hidden), self.attention.to_v(hidden))


def distil_attention(kind: Kind, recipe: Recipe, data: ToyData, _heldout: ToyData, folder: Path) -> None:
    """Train one adapter on the attention to text and write it where its own stage starts."""
    device, unet = pick_device(), load_unet(folder)
    start = start_of(folder, "adapters") / FILES[kind]
    adapter = (
        load_adapter(start, unet) if start.exists() else new_adapter(kind, recipe, unet, load_image_encoder(folder))
    )
    adapter = adapter.to(device, torch.float32).requires_grad_(True).train()
    layers = list(_layers(unet, data, folder))
    captions = Captions(data, folder, "train")
    # Captions that name everything, those that name only the scene, and the empty text.
    texts = (captions.ids[:, 0], captions.scene_ids, captions.empty[None])
    full, scene, empty = (captions.cached_states(ids) for ids in texts)
    features, nothing = features_of(kind, recipe, data, folder, "train"), features_of_nothing(kind, recipe, folder)

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, Figures]:
        rows = torch.randint(len(data), (recipe.attention_distillation.batch_size,), generator=generator)
        # The picture itself and no text, as in a variation; or another view and text for the scene, as in a mix.
        own = torch.rand(len(rows), generator=generator) >= recipe.other_view_share
        words = torch.where(own[:, None, None].to(device), empty, take_rows(scene, rows, device)).float()
        wanted = take_rows(full, rows, device).float()
        # Pictures 2 i and 2 i + 1 show the same subject.
        seen = take_rows(features, torch.where(own, rows, rows ^ 1), device).float()
        without = (torch.rand(len(rows), generator=generator) < NO_PICTURE_SHARE).to(device)
        seen[without], wanted[without] = nothing, words[without]
        tokens = adapter.tokens(seen)
        asked = {"tokens": tokens, "words": words, "full": wanted, "scale": TRAINING_SCALES[kind]}
        return torch.stack([_error(adapter, layer, generator, **asked) for layer in layers]).mean(), {}

    name = f"{kind}_distillation"
    train_module(name, module=adapter, loss=loss, settings=recipe.attention_distillation, folder=folder)
    start.parent.mkdir(parents=True, exist_ok=True)
    save_adapter(adapter, start, dtype=torch.float32)


distil_base_adapter = partial(distil_attention, "base")
distil_fine_adapter = partial(distil_attention, "plus")


def _error(
    adapter: IPAdapter,
    layer: _Layer,
    generator: torch.Generator,
    *,
    tokens: torch.Tensor,
    words: torch.Tensor,
    full: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Return the squared error of what the picture adds in a layer, relative to what it should add."""
    asked = torch.randint(layer.queries.shape[1], (QUERIES_ASKED,), generator=generator)
    query = layer.queries[:, asked.to(tokens.device, non_blocking=True)]
    with torch.no_grad():
        target = layer.text(query, full) - layer.text(query, words)
    projection = adapter.ip_adapter[layer.index]
    added = scale * layer.attend(query, projection.to_k_ip(tokens), projection.to_v_ip(tokens))
    return (added - target).square().mean() / target.square().mean()


def new_adapter(
    kind: Kind, recipe: Recipe, unet: UNet2DConditionModel, encoder: CLIPVisionModelWithProjection
) -> IPAdapter:
    """Build an untrained adapter for a UNet and an image encoder."""
    return IPAdapter.for_unet(
        unet,
        kind=kind,
        clip_dim=KINDS[kind].features.width(encoder.config),
        heads=max(1, recipe.text_hidden // 64),
        dim=recipe.text_hidden,
    )


@torch.no_grad()
def _layers(unet: UNet2DConditionModel, data: ToyData, folder: Path) -> Iterator[_Layer]:
    """Yield every cross-attention layer with its queries, recorded while noisy pictures passed through the UNet."""
    modules = {layer: unet.get_submodule(layer.name.removesuffix(".processor")) for layer in attention_layers(unet)}
    asked: dict[str, torch.Tensor] = {}
    hooks = []
    for layer, module in modules.items():

        def keep(attention: nn.Module, arguments: tuple[torch.Tensor, ...], name: str = layer.name) -> None:
            asked[name] = attention.to_q(arguments[0])

        hooks.append(module.register_forward_pre_hook(keep))
    kept: dict[str, list[torch.Tensor]] = {layer.name: [] for layer in modules}
    generator = torch.Generator().manual_seed(0)
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
    latents, captions = latents_of(data, folder, "train"), Captions(data, folder, "train")
    for _ in range(QUERY_BATCHES):
        rows = torch.randint(len(data), (QUERY_BATCH,), generator=generator)
        noisy, timesteps, _ = noised(
            scheduler, latents.sample(rows, generator, unet.device), generator, lateness=LATENESS
        )
        unet(noisy, timesteps, captions.hidden_states(captions.ids[rows, 0]).to(unet.device))
        weights = loss_weights(torch.from_numpy(data.keypoints)[rows], noisy.shape)
        for name, queries in asked.items():
            kept[name].append(queries_that_count(queries, weights, QUERIES_KEPT, generator))
    for hook in hooks:
        hook.remove()
    for layer, module in modules.items():
        queries = torch.cat(kept[layer.name]).unflatten(-1, (module.heads, -1)).transpose(0, 1).contiguous()
        yield _Layer(str(layer.index), module, queries)


def queries_that_count(
    queries: torch.Tensor, weights: torch.Tensor, count: int, generator: torch.Generator
) -> torch.Tensor:
    """Draw queries by the loss weights of their positions, so that the face is not lost among the background.

    Args:
        queries: (B, n, hidden) of a layer, from square pictures in row-major order.
        weights: (B, 1, h, w), `loss_weights` of the same pictures.
        count: number to draw; with repetition.
        generator: decides which ones.

    Returns:
        (count, hidden).
    """
    shares = F.adaptive_avg_pool2d(weights, math.isqrt(queries.shape[1])).flatten()
    return queries.flatten(0, 1)[torch.multinomial(shares, count, replacement=True, generator=generator)]
