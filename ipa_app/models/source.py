"""Where a base model's parts are read from: a folder in diffusers layout, or one checkpoint file. Local files only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
from transformers import CLIPTextConfig

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.catalog import ModelEntry
from ipa_app.models.families import Family, class_name, known_family
from ipa_app.models.folder import latent_size, read_json
from ipa_app.models.parts import Part
from ipa_app.models.schedule import Sampling, build_scheduler, sampling_of_tensors
from ipa_app.models.single_file import Checkpoint
from ipa_app.models.tokenizer import load_tokenizer
from ipa_app.models.weights import Header

# UNets that cannot draw from noise alone, by the number of channels that they take.
_SPECIAL_UNETS = {
    5: Message("purpose.depth"),
    7: Message("purpose.enlarging"),
    8: Message("purpose.instructions"),
}


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """A base model on disk, checked to be complete and consistent; each of its files is read once.

    Attributes:
        title: the model's name for users.
        family: how it is built.
        folder: its configuration files, in diffusers layout; the weights too, unless there is a checkpoint.
        index: its model_index.json.
        scheduler: its scheduler; each drawing needs one of its own.
        sampling: what is known of how it is sampled beside its configuration.
        parts: the parts of the folder that have weights, by name.
    """

    title: str
    family: Family
    folder: Path
    index: Mapping[str, Any]
    scheduler: SchedulerMixin
    sampling: Sampling
    parts: Mapping[str, Part] = field(repr=False)

    @property
    @abstractmethod
    def unet_header(self) -> Header:
        """The header of the UNet's tensors, including others if they are in the same file.

        Raises:
            UserError: it has no weights, or they cannot be read.
        """

    @property
    @abstractmethod
    def channels(self) -> int:
        """Number of channels that the UNet takes."""

    @abstractmethod
    def numel(self) -> dict[str, int]:
        """Count the elements of each part's weights.

        Raises:
            UserError: a part has no weights.
        """

    @abstractmethod
    def stored_bfloat16(self) -> bool:
        """Whether the UNet's weights are stored in bfloat16."""

    @abstractmethod
    def check(self, unet: UNet2DConditionModel) -> None:
        """Check that the weights are there, are plain numbers and fit their configuration, without reading any.

        Args:
            unet: see `unet_layout`.

        Raises:
            UserError: they are not, or do not fit.
        """

    @abstractmethod
    def load_modules(self, *, dtype: torch.dtype) -> Iterator[tuple[str, Any]]:
        """Read the parts with weights one by one into main memory.

        Raises:
            UserError: one cannot be read.
        """

    def unet_layout(self) -> UNet2DConditionModel:
        """Build the UNet without memory for its weights, to see what fits it.

        Raises:
            UserError: it cannot draw from noise alone, such as an inpainting model's, or does not fit the other parts.
        """
        unet = cast(UNet2DConditionModel, self.parts["unet"].layout(UNet2DConditionModel))
        # A checkpoint may be of another sort than its family's usual model.
        self._check_channels(self.channels, unet.config.out_channels)
        self._check_widths(unet)
        self.check(unet)
        return unet

    def load(self, *, dtype: torch.dtype) -> Iterator[tuple[str, Any]]:
        """Read everything that the pipelines share, one by one, into main memory.

        Raises:
            UserError: something cannot be read.
        """
        for name, encoder in zip(self.family.tokenizers, self.family.text_encoders, strict=True):
            most = self._text_config(encoder).max_position_embeddings
            yield name, load_tokenizer(self.folder / name, title=self.title, most_tokens=most)
        yield "scheduler", self.scheduler
        for name, module in self.load_modules(dtype=dtype):
            if name == "unet":
                # Some pipelines of diffusers cannot be built with a size that is a pair or is not stated.
                module.register_to_config(sample_size=min(latent_size(module.config)))
            yield name, module

    def _text_config(self, name: str) -> CLIPTextConfig:
        config = self.parts[name].config
        return CLIPTextConfig.from_dict(config.get("text_config") or config)

    def _check_channels(self, given: int, made: int) -> None:
        if given == made:
            return
        if given == 2 * made + 1:
            raise UserError("model.for_inpainting", title=self.title, channels=given)
        purpose = _SPECIAL_UNETS.get(given, Message("purpose.other"))
        raise UserError("model.for_something_else", title=self.title, purpose=purpose, channels=given)

    def _check_widths(self, unet: UNet2DConditionModel) -> None:
        """Check that the parts' inputs and outputs match.

        Raises:
            UserError: they do not; the message names both sides.
        """
        given = sum(self._text_config(name).hidden_size for name in self.family.text_encoders)
        projected = unet.config.encoder_hid_dim_type == "text_proj"
        taken = unet.config.encoder_hid_dim if projected else unet.config.cross_attention_dim
        if given != taken:
            raise UserError("model.other_tokens", title=self.title, given=given, wanted=taken)
        latents = self.parts["vae"].config.get("latent_channels", 4)
        if latents != unet.config.out_channels:
            raise UserError("model.other_latents", title=self.title, given=latents, made=unet.config.out_channels)
        if unet.config.addition_embed_type != self.family.added or (
            unet.config.encoder_hid_dim_type is not None and not projected
        ):
            raise UserError("model.other_conditions", title=self.title, family=self.family.title)


class _Folder(Source):
    """A model in diffusers layout."""

    @property
    def unet_header(self) -> Header:
        return self.parts["unet"].weights().header

    @property
    def channels(self) -> int:
        return self.parts["unet"].config.get("in_channels", 4)

    def numel(self) -> dict[str, int]:
        return {name: part.weights().numel for name, part in self.parts.items()}

    def stored_bfloat16(self) -> bool:
        return any(tensor.dtype == "BF16" for tensor in self.unet_header.values())

    def check(self, unet: UNet2DConditionModel) -> None:
        del unet  # whether weights fit their own configuration is checked when they are read
        for part in self.parts.values():
            part.check()

    def load_modules(self, *, dtype: torch.dtype) -> Iterator[tuple[str, Any]]:
        for name, kind in self.family.classes().items():
            module = self.parts[name].load(kind, dtype=dtype)
            if name == "vae":
                module.register_to_config(**self.sampling.vae)
            yield name, module


@dataclass(frozen=True, kw_only=True)
class _SingleFile(Source):
    """A model whose weights are in one file.

    Attributes:
        checkpoint: the file.
    """

    checkpoint: Checkpoint

    @property
    def unet_header(self) -> Header:
        return self.checkpoint.header

    @property
    def channels(self) -> int:
        return self.checkpoint.channels

    def numel(self) -> dict[str, int]:
        return self.checkpoint.numel(self.family.modules)

    def stored_bfloat16(self) -> bool:
        return self.checkpoint.stored_as("BF16")

    def check(self, unet: UNet2DConditionModel) -> None:
        self.checkpoint.check_fit(unet=unet, vae=self.parts["vae"].layout(AutoencoderKL))

    def load_modules(self, *, dtype: torch.dtype) -> Iterator[tuple[str, Any]]:
        yield from self.checkpoint.load(self.family.classes(), dtype=dtype)


def open_source(entry: ModelEntry) -> Source:
    """Open a catalogue entry's location as a folder or a checkpoint.

    Raises:
        UserError: there is nothing, or nothing that works here.
    """
    title, folder, checkpoint = entry.title, entry.location, None
    if folder.is_file():
        checkpoint = Checkpoint(folder)
        folder = checkpoint.folder
    elif not folder.exists():
        raise UserError("model.not_there", title=title, path=folder)
    elif not (folder / "model_index.json").is_file():
        raise UserError("model.no_index", title=title, path=folder)
    index = read_json(folder / "model_index.json")
    family = known_family(index, title=title)
    family.check_parts(index, title=title)
    parts = {name: Part(folder / name, title) for name in family.modules}
    name = class_name(index, "scheduler")
    if checkpoint is not None:
        family = checkpoint.family  # more specific than the configuration's
        (name, config), sampling = checkpoint.scheduler(name), checkpoint.sampling
    else:
        config = read_json(folder / "scheduler" / "scheduler_config.json")
        sampling = sampling_of_tensors(parts["unet"].weights().header, parts["unet"].tensor, name=title)
    if not config:
        raise UserError("model.no_file", title=title, folder=folder / "scheduler", file="scheduler_config.json")
    corrections = family.scheduler_corrections
    scheduler = build_scheduler(name, config, title=title, sampling=sampling, corrections=corrections)
    found: dict[str, Any] = {"title": title, "family": family, "folder": folder, "index": index}
    found |= {"scheduler": scheduler, "sampling": sampling, "parts": parts}
    return _Folder(**found) if checkpoint is None else _SingleFile(**found, checkpoint=checkpoint)
