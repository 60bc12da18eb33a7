"""Compute the cost of training an adapter at the published shapes; for SD 1.5, also time it on this machine.

    python -m bench.training_cost sd15 [--adapter plus] [--batch-size 8] [--mixed-precision no]
    python -m bench.training_cost sdxl
    python -m bench.training_cost sd15 --timed DIR

One training step runs on tensors that have shapes but no data, so it needs no weights, no GPU and little memory. The
peak size of all live tensors is what a GPU needs, apart from its libraries' own workspace. `--timed` builds SD 1.5 with
random weights in the folder (about 5 GB), unless it is already there, and has `python -m ipa_app.training --dry-run`
take a few real steps.
"""

from __future__ import annotations

import argparse
import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

from bench.published import PUBLISHED, SIZES, hub, text_config, unet_config, vae_config, vision_config, write
from ipa_app.adapter.attention import install_processors
from ipa_app.adapter.ip_adapter import IPAdapter
from ipa_app.training.cli import main as training
from ipa_app.training.estimate import BYTES_PER_TRAINED
from ipa_app.training.loop import GuidedUNet


class LivingTensors(TorchDispatchMode):
    """Adds up the size of live tensors, counting each storage once.

    Attributes:
        now: current bytes.
        most: peak bytes.
    """

    def __init__(self, given: Sequence[torch.Tensor]) -> None:
        """Start with existing tensors."""
        super().__init__()
        self.now = self.most = 0
        self._known = WeakIdKeyDictionary()
        for tensor in given:
            self._add(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count its outputs."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._add(leaf)
        return result

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known[storage] = True
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, storage.nbytes())

    def _drop(self, size: int) -> None:
        self.now -= size


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the cost, and time a few steps if asked."""
    options = _options(arguments)
    print(report(options), flush=True)
    if options.timed is not None:
        time_here(options)


def report(options: argparse.Namespace) -> str:
    """Return one process's memory needs: frozen and trained weights, optimizer, activations kept for gradients."""
    dtype = torch.bfloat16 if options.mixed_precision == "bf16" else torch.float32
    frozen = frozen_parameters(options.family)
    lines = [f"{name}: {count / 1e6:.1f} million, frozen" for name, count in frozen.items()]
    frozen_bytes = sum(frozen.values()) * dtype.itemsize
    for checkpointing in (False, True):
        unet_bytes, trained, most = step(options, dtype=dtype, checkpointing=checkpointing)
        if not checkpointing:
            lines.append(f"{options.adapter} adapter: {trained / 1e6:.1f} million, trained")
            lines.append(f"frozen weights in {dtype}: {frozen_bytes / 1e9:.2f} GB")
            lines.append(f"trained weights, gradients, optimizer: {trained * BYTES_PER_TRAINED / 1e9:.2f} GB")
        name = "with" if checkpointing else "without"
        total = frozen_bytes + most - unet_bytes
        lines.append(
            f"all of it at the fullest moment, batch {options.batch_size}, {side(options.family)} pixels, {name} "
            f"gradient checkpointing: {total / 1e9:.2f} GB"
        )
    return "\n".join(lines)


def side(family: str) -> int:
    """Return the side of the family's pictures in pixels."""
    return unet_config(family, PUBLISHED[family])["sample_size"] * 8


def frozen_parameters(family: str) -> dict[str, int]:
    """Return the number of weights of each frozen part."""
    widths = PUBLISHED[family]
    with torch.device("meta"):
        parts: dict[str, nn.Module] = {"UNet": UNet2DConditionModel(**unet_config(family, widths))}
        parts["VAE"] = AutoencoderKL(**vae_config(family, widths))
        for number, (width, layers) in enumerate(widths.text):
            text = CLIPTextModelWithProjection if number else CLIPTextModel
            parts[f"text encoder {number + 1}"] = text(text_config(width, layers, second=number == 1))
        parts["image encoder (ViT-H)"] = CLIPVisionModelWithProjection(vision_config(widths))
    return {name: sum(weight.numel() for weight in part.parameters()) for name, part in parts.items()}


def step(options: argparse.Namespace, *, dtype: torch.dtype, checkpointing: bool) -> tuple[int, int, int]:
    """Take two steps on tensors without data; at the second, the optimizer's moments exist.

    Returns:
        Bytes of the UNet, number of trained weights, and peak bytes of UNet, adapter, optimizer and batch.
    """
    config = unet_config(options.family, PUBLISHED[options.family])
    with FakeTensorMode():
        torch.set_default_dtype(dtype)
        unet = UNet2DConditionModel(**config).requires_grad_(False).eval()
        torch.set_default_dtype(torch.float32)
        if checkpointing:
            unet.enable_gradient_checkpointing()
        install_processors(unet)
        vision = PUBLISHED[options.family].vision
        clip_dim = vision[2] if options.adapter == "base" else vision[0]
        heads = PUBLISHED[options.family].resampler_heads
        adapter = IPAdapter.for_unet(unet, kind=options.adapter, clip_dim=clip_dim, heads=heads)
        guided = GuidedUNet(unet, adapter.requires_grad_(True))
        optimizer = torch.optim.AdamW(adapter.parameters())
        frozen, trained = list(unet.parameters()), list(adapter.parameters())
        inputs = _inputs(options, config, clip_dim=clip_dim, dtype=dtype)
        with LivingTensors([*frozen, *trained]) as living:
            for _ in range(2):
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                    prediction = guided(*inputs)
                prediction.float().square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
    return sum(weight.nbytes for weight in frozen), sum(weight.numel() for weight in trained), living.most


def time_here(options: argparse.Namespace) -> None:
    """Take a few real steps at the published shapes with random weights, repeating one picture."""
    places = hub(options.family, options.timed)
    if not (places.model / "model_index.json").is_file():
        write(options.family, options.timed, widths=SIZES[options.family, False])
    picture, data = options.timed / "picture.png", options.timed / "data.json"
    Image.effect_noise((512, 512), 90).convert("RGB").save(picture)
    data.write_text(json.dumps([{"image_file": picture.name, "text": "noise"}]), encoding="utf-8")
    arguments = ["--base", str(places.model), "--image-encoder", str(places.image_encoder), "--data", str(data)]
    arguments += ["--output", str(options.timed / "never-written"), "--adapter", options.adapter, "--dry-run"]
    arguments += ["--batch-size", str(options.batch_size), "--mixed-precision", options.mixed_precision]
    if training(arguments):
        raise SystemExit("The training could not be timed.")


def _inputs(
    options: argparse.Namespace, config: dict[str, Any], *, clip_dim: int, dtype: torch.dtype
) -> tuple[Any, ...]:
    """Build a batch of zeros as the training loop passes it to the UNet."""
    rows, latents = options.batch_size, config["sample_size"]
    features = (rows, clip_dim) if options.adapter == "base" else (rows, 257, clip_dim)
    added = None
    if options.family == "sdxl":
        pooled = PUBLISHED["sdxl"].text[-1][0]
        added = {"text_embeds": torch.zeros(rows, pooled, dtype=dtype), "time_ids": torch.zeros(rows, 6)}
    return (
        torch.zeros(rows, 4, latents, latents, dtype=dtype),
        torch.zeros(rows, dtype=torch.long),
        torch.zeros(rows, 77, config["cross_attention_dim"], dtype=dtype),
        torch.zeros(features, dtype=dtype),
        added,
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=["sd15", "sdxl"])
    parser.add_argument("--adapter", choices=["base", "plus"], default="base")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--mixed-precision", choices=["no", "bf16"], default="bf16")
    parser.add_argument("--timed", type=Path, metavar="DIR", help="also take real steps with SD 1.5, built here")
    options = parser.parse_args(arguments)
    if options.timed is not None and options.family != "sd15":
        parser.error("only sd15 can be timed: SDXL is not built at its full width")
    return options


if __name__ == "__main__":
    main()
