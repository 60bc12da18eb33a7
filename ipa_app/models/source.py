"""Where a base model's parts are read from: a folder in diffusers layout, or one checkpoint file. Local files only."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import UNet2DConditionModel
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import CLIPTokenizer

from ipa_app.errors import UserError
from ipa_app.models.catalog import ModelEntry
from ipa_app.models.families import STABLE_DIFFUSION, STABLE_DIFFUSION_XL, Family, family_of, scheduler_class
from ipa_app.models.folder import read_json
from ipa_app.models.weights import WeightFiles, find_weights, numbers_in, read_header

# What only the checkpoints of one family have: SDXL's second text encoder, and the one of Stable Diffusion 1.x.
_MARKS = {
    "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": STABLE_DIFFUSION_XL,
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": STABLE_DIFFUSION,
    "cond_stage_model.transformer.embeddings.token_embedding.weight": STABLE_DIFFUSION,
}
# What tells the checkpoints of models that are not drawn with here from one file.
_OTHERS = {
    "conditioner.embedders.0.model.text_projection": "the SDXL refiner",
    "cond_stage_model.model.token_embedding.weight": "Stable Diffusion 2.x",
    "model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias": "Stable Diffusion 3",
    "model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale": "FLUX",
    "double_blocks.0.img_attn.norm.key_norm.scale": "FLUX",
}
_FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"
_CHECKPOINT_PARTS = {"model.diffusion_model.": "unet", "first_stage_model.": "vae"}
_CONFIGURATIONS = ["*.json", "*/*.json", "*/*.txt"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A base model on disk.

    Attributes:
        title: what people call the model.
        family: how it is built.
        folder: its configuration files, in diffusers layout; the weights too, unless there is a checkpoint.
        index: its model_index.json.
        checkpoint: the one file with all weights, None where they lie in the folder.
    """

    title: str
    family: Family
    folder: Path
    index: Mapping[str, Any]
    checkpoint: Path | None = None

    def unet_layout(self) -> UNet2DConditionModel:
        """Build the UNet without memory for its weights, to see what fits it.

        Raises:
            UserError: it draws nothing from noise alone, as an inpainting model's.
        """
        config = read_json(self.folder / "unet" / "config.json")
        if not config:
            raise UserError(f"The model {self.title} is incomplete: {self.folder / 'unet'} holds no config.json.")
        with torch.device("meta"):
            unet = cast(UNet2DConditionModel, UNet2DConditionModel.from_config(config))
        channels = unet.config.in_channels
        if self.checkpoint is not None:  # it may be another sort than its family's usual model
            channels = read_header(self.checkpoint)[_FIRST_LAYER]["shape"][1]
        if channels != unet.config.out_channels:
            raise UserError(
                f"The model {self.title} is made for inpainting alone ({channels} input channels); "
                "please choose an ordinary one, which can paint into pictures too."
            )
        return unet

    def numbers(self) -> dict[str, int]:
        """Count the numbers in each part's weights.

        Raises:
            UserError: a part has no weights.
        """
        if self.checkpoint is not None:
            return _count_by_part(self.checkpoint)
        return {name: require_weights(self.folder / name, title=self.title).numbers for name in self.family.modules}

    def stored_bfloat16(self) -> bool:
        """Whether the UNet's weights lie on disk in bfloat16."""
        path = self.checkpoint
        if path is None:
            files = require_weights(self.folder / "unet", title=self.title)
            path = files.paths[0] if files.is_safetensors else None
        return path is not None and any(tensor.get("dtype") == "BF16" for tensor in read_header(path).values())

    def load(self, *, dtype: torch.dtype) -> Iterator[tuple[str, Any]]:
        """Read the parts one by one into main memory.

        Raises:
            UserError: one cannot be read.
        """
        if self.checkpoint is not None:
            yield from self._load_checkpoint(dtype)
            return
        for name in self.family.tokenizers:
            yield name, CLIPTokenizer.from_pretrained(self.folder / name, local_files_only=True)
        scheduler = scheduler_class(self.index, title=self.title)
        yield "scheduler", scheduler.from_pretrained(self.folder / "scheduler", local_files_only=True)
        for name, module in self.family.modules.items():
            yield name, load_module(module, self.folder / name, dtype=dtype, title=self.title)

    def _load_checkpoint(self, dtype: torch.dtype) -> Iterator[tuple[str, Any]]:
        pipeline = self.family.pipelines["text_to_image"].from_single_file(
            str(self.checkpoint),
            config=str(self.folder),
            local_files_only=True,
            dtype=dtype,
            image_encoder=None,
            feature_extractor=None,
            **self.family.options,
        )
        for name in (*self.family.tokenizers, "scheduler", *self.family.modules):
            yield name, getattr(pipeline, name)


def open_source(entry: ModelEntry) -> Source:
    """Find out what a catalogue entry's location is.

    Raises:
        UserError: there is nothing, or nothing that works here.
    """
    if entry.location.is_file():
        return _open_checkpoint(entry)
    if not (entry.location / "model_index.json").is_file():
        raise UserError(f"The model {entry.title} is not there: {entry.location} holds no model_index.json.")
    index = read_json(entry.location / "model_index.json")
    return Source(title=entry.title, family=family_of(index, title=entry.title), folder=entry.location, index=index)


def require_weights(folder: Path, *, title: str, prefer_half: bool = False) -> WeightFiles:
    """Find a part's weight files; see `find_weights`.

    Raises:
        UserError: there are none.
    """
    files = find_weights(folder, prefer_half=prefer_half)
    if files is None:
        raise UserError(
            f"The model {title} is incomplete: {folder} holds no weights (.safetensors or .bin); please fetch it again."
        )
    return files


def load_module(module: Any, folder: Path, *, dtype: torch.dtype, title: str) -> Any:
    """Read one part with weights into main memory.

    Args:
        module: its class, of diffusers or transformers.
        folder: with its config.json and weights; which of several files is told by `find_weights`.
        dtype: of the weights in memory.
        title: of the model, for the message.

    Raises:
        UserError: there are no weights, or a PyTorch file holds more than weights.
    """
    files = require_weights(folder, title=title, prefer_half=dtype != torch.float32)
    try:
        return module.from_pretrained(folder, local_files_only=True, dtype=dtype, **files.options)
    except (OSError, pickle.UnpicklingError) as error:
        if files.is_safetensors:
            raise
        raise UserError(
            f"The model {title} cannot be read: {folder.name}/{files.paths[0].name} is not a file of plain weights "
            "(damaged, or it holds program code, which is never run); use the .safetensors version."
        ) from error


def _open_checkpoint(entry: ModelEntry) -> Source:
    """Tell a checkpoint file's family by its keys, and find configuration files for it.

    Those in a folder beside it, named as the file without its ending, count before those of the family's usual model.

    Raises:
        UserError: it is no Stable Diffusion checkpoint, or there is no configuration on this machine.
    """
    header = read_header(entry.location)
    family = next((family for mark, family in _MARKS.items() if mark in header), None)
    other = next((name for mark, name in _OTHERS.items() if mark in header), None)
    if other is not None:
        raise UserError(
            f"{entry.location.name} is a checkpoint of {other}, and single files work here for "
            "Stable Diffusion 1.x and SDXL alone: please choose one of those."
        )
    has_parts = all(any(key.startswith(part) for key in header) for part in _CHECKPOINT_PARTS)
    if family is None or not has_parts or _FIRST_LAYER not in header:
        raise UserError(
            f"{entry.location.name} is not a whole checkpoint of Stable Diffusion 1.x or SDXL: please choose a file "
            "with UNet, VAE and text encoder in it, or a folder in diffusers layout."
        )
    beside = entry.location.with_suffix("")
    has_own = (beside / "model_index.json").is_file()
    folder = beside if has_own else _usual_configuration(family, name=entry.location.name)
    index = read_json(folder / "model_index.json")
    if family_of(index, title=entry.title) is not family:
        raise UserError(
            f"{entry.location.name} is a checkpoint of {family.title}, but the configuration in {folder} is that of "
            f"{family_of(index, title=entry.title).title}; please name a folder of the same family."
        )
    return Source(title=entry.title, family=family, folder=folder, index=index, checkpoint=entry.location)


def _usual_configuration(family: Family, *, name: str) -> Path:
    """Find the configuration files of the family's usual model among what the Hub's client keeps on this machine.

    diffusers would fetch them itself, even where it is told to use local files only; so it is always handed a folder.
    """
    try:
        return Path(snapshot_download(family.usual, local_files_only=True, allow_patterns=_CONFIGURATIONS))
    except LocalEntryNotFoundError:
        raise UserError(
            f"{name} holds weights only, and the configuration that goes with them ({family.usual}: its .json and .txt "
            "files, a few megabytes) is not on this machine; please fetch that once, or put them into a folder "
            f"{Path(name).stem} beside the file."
        ) from None


def _count_by_part(checkpoint: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for key, tensor in read_header(checkpoint).items():
        part = next((part for prefix, part in _CHECKPOINT_PARTS.items() if key.startswith(prefix)), "text_encoder")
        counts[part] = counts.get(part, 0) + numbers_in(tensor)
    return counts
