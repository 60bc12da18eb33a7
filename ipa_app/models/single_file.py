"""A checkpoint: one file with UNet, VAE and text encoders under their original names, and the configuration for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    create_diffusers_clip_model_from_ldm,
)
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ipa_app.adapter.layers import layers_in
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.contents import FIRST_LAYER, UNET, VAE, contents_of
from ipa_app.models.families import Family, family_of
from ipa_app.models.folder import is_whole_configuration, own_configuration, read_json, repository_folders
from ipa_app.models.parts import check_finite, tensor_named_in
from ipa_app.models.published import published_models
from ipa_app.models.schedule import (
    Sampling,
    sampling_of_notes,
    sampling_of_tensors,
    sampling_of_yaml,
)
from ipa_app.models.weights import Header, quantised, read_header

_CHECKPOINTS = (".safetensors", ".sft", ".ckpt")
_CONFIGURATIONS = ["*.json", "*/*.json", "*/*.txt"]
# Parts of a text encoder that transformers once saved without the prefix "text_model.", and newer versions do again.
_TEXT_PARTS = ("embeddings.", "encoder.", "final_layer_norm.")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk. Its header is read only once.

    Attributes:
        path: of the file.
    """

    path: Path

    @cached_property
    def header(self) -> Header:
        """The header of the file.

        Raises:
            UserError: it is damaged, or not a safetensors file.
        """
        return read_header(self.path, pickles=False)

    @cached_property
    def family(self) -> Family:
        """The family of the checkpoint.

        Raises:
            UserError: it is not a supported checkpoint; the message says what it is.
        """
        name, contents = self.path.name, contents_of(self.header)
        contents.check(name)
        if contents.family is None or contents.lacks:
            lacking = contents.lacks or ("UNet", "VAE", Message("part.text_encoder_alone"))
            raise UserError("checkpoint.lacks_parts", file=name, lacking=lacking)
        if kind := self.header.quantisation:
            raise quantised(name, kind)
        return contents.family

    @cached_property
    def folder(self) -> Path:
        """The folder of its configuration files, in diffusers layout.

        A folder beside it with the file's name without the ending takes precedence, then the file's own folder, as in
        most repositories, then that of the family's usual model.

        Raises:
            UserError: there are none on this machine, or those in the folder are of another family.
        """
        if self._own_folder is None:
            return _reference_configuration(self.family, name=self.path.name)
        index = read_json(self._own_folder / "model_index.json")
        family = family_of(index)
        if family is not None and not self.family.has_saved(index):
            raise UserError(
                "checkpoint.other_configuration",
                file=self.path.name,
                family=self.family.title,
                folder=self._own_folder,
                configured=family.title,
            )
        return self._own_folder

    @cached_property
    def sampling(self) -> Sampling:
        """What the file, and files beside it, say of how the model is sampled.

        Raises:
            UserError: a file beside it cannot be read.
        """
        told = sampling_of_tensors(self.header, self._tensor, name=self.path.name)
        told = told.over(sampling_of_notes(self.header.notes))
        told = told.over(self._sampling_of_training())
        layer = self.family.prediction_layer
        if layer is not None and layer in self.header and not self._has_own_scheduler:
            is_v = self.family.predicts_v(self._tensor(layer).float().numpy())
            told = told.over(Sampling(settings={"prediction_type": "v_prediction" if is_v else "epsilon"}))
        return told

    def scheduler(self, name: str | None) -> tuple[str | None, Mapping[str, Any]]:
        """Return the scheduler's configuration: from beside the file if the other configuration files are not its own.

        Args:
            name: of the scheduler's class, from the model_index.json in `folder`.

        Returns:
            The class's name and its settings.
        """
        for folder in self._scheduler_folders:
            config = read_json(folder / "scheduler_config.json")
            if config:
                own = config.get("_class_name")
                return own if isinstance(own, str) else name, config
        return name, read_json(self.folder / "scheduler" / "scheduler_config.json")

    @property
    def channels(self) -> int:
        """Number of channels that its UNet takes."""
        return self.header[FIRST_LAYER].shape[1]

    def numel(self, parts: Mapping[str, Any]) -> dict[str, int]:
        """Count the elements of each part; what belongs to none, such as averaged weights (EMA), is not read."""
        prefixes = self._prefixes()
        return {name: self.header.numel(lambda key, own=prefixes[name]: key.startswith(own)) for name in parts}

    def stored_as(self, dtype: str) -> bool:
        """Whether any of its UNet's weights are of a type, such as "BF16"."""
        return any(name.startswith(UNET) and tensor.dtype == dtype for name, tensor in self.header.items())

    def check_fit(self, *, unet: nn.Module, vae: nn.Module) -> None:
        """Check that the UNet and the VAE of the configuration are those of the file, before any weight is read.

        Args:
            unet: as the configuration describes it; its weights are not needed.
            vae: as the configuration describes it; its weights are not needed.

        Raises:
            UserError: one is not; for instance if a smaller model cut from SDXL is taken for a whole one.
        """
        tensors = {name: torch.empty(info.shape, device="meta") for name, info in self.header.items()}
        converters = {"UNet": (unet, convert_ldm_unet_checkpoint), "VAE": (vae, convert_ldm_vae_checkpoint)}
        for name, (module, convert) in converters.items():
            try:
                given = convert(tensors, dict(module.config))
                shapes = {key: tensor.shape for key, tensor in given.items()}
            except (AttributeError, KeyError, IndexError) as error:
                key = error.args[0] if isinstance(error, KeyError) else type(error).__name__
                raise self._unfitting(name, str(key)) from error
            wanted = {key: tensor.shape for key, tensor in module.state_dict().items()}
            different = [key for key in shapes.keys() | wanted.keys() if shapes.get(key) != wanted.get(key)]
            if name == "UNet":  # a VAE may come with parts that only its training needs
                taken = {id(tensor) for tensor in given.values()}
                left = {key for key, tensor in tensors.items() if id(tensor) not in taken}
                different += [key for key in left if key.startswith(UNET)]
            if different:
                raise self._unfitting(name, min(different))

    def load(self, parts: Mapping[str, Any], *, dtype: torch.dtype) -> Iterator[tuple[str, Any]]:
        """Read the parts one by one into main memory.

        Args:
            parts: class of each, by its name.
            dtype: of the weights in memory.

        Raises:
            UserError: one does not fit its configuration, or is not finite.
        """
        tensors = {_present_name(name, self.family): tensor for name, tensor in load_file(self.path).items()}
        shared: dict[str, Any] = {"local_files_only": True, "config": str(self.folder)}
        for name, module in parts.items():
            try:
                if name in ("unet", "vae"):
                    settings = self.sampling.vae if name == "vae" else {}
                    part = module.from_single_file(tensors, subfolder=name, dtype=dtype, **shared, **settings)
                else:
                    part = create_diffusers_clip_model_from_ldm(
                        module, checkpoint=tensors, subfolder=name, torch_dtype=dtype, **shared
                    )
            except (AttributeError, KeyError, ValueError) as error:
                raise self._unfitting(name, tensor_named_in(error)) from error
            if lacking := next((key for key, weight in part.named_parameters() if weight.is_meta), None):
                raise self._unfitting(name, lacking)
            check_finite(part, f"{self.path.name} ({name})")
            yield name, part

    def _prefixes(self) -> dict[str, str]:
        encoders = zip(self.family.text_encoders, self.family.checkpoint_encoders, strict=True)
        return {"unet": UNET, "vae": VAE, **dict(encoders)}

    def _tensor(self, name: str) -> Tensor:
        with safe_open(self.path, framework="pt") as file:
            return file.get_tensor(name)

    @cached_property
    def _own_folder(self) -> Path | None:
        return own_configuration(self.path, self.family)

    @property
    def _scheduler_folders(self) -> list[Path]:
        """Folders that may hold the file's own scheduler_config.json, if its other configuration is not its own."""
        if self._own_folder is not None:
            return []
        folders = [self.path.with_suffix(""), *repository_folders(self.path)]
        return [place for folder in folders for place in (folder / "scheduler", folder)]

    @property
    def _has_own_scheduler(self) -> bool:
        places = [folder / "scheduler_config.json" for folder in self._scheduler_folders]
        return self._own_folder is not None or any(place.is_file() for place in places)

    def _sampling_of_training(self) -> Sampling:
        """Read the .yaml file that belongs to it: with the file's name, in its folder, or beside it.

        One beside it may be anything: it counts only if the file has no scheduler configuration of its own, there is no
        other checkpoint that it may belong to, and it is for a UNet of this width. Unreadable files are ignored, and so
        are files that contradict each other.
        """
        inside = sorted(self.path.with_suffix("").glob("*.y*ml"))
        own = [path for ending in (".yaml", ".yml") if (path := self.path.with_suffix(ending)).is_file()] or inside
        if own:
            return sampling_of_yaml(own[0]) or Sampling()
        around = [path for folder in repository_folders(self.path) for path in folder.glob("*.*")]
        checkpoints = {path.stem for path in around if path.suffix.lower() in _CHECKPOINTS}
        if self._has_own_scheduler or checkpoints - {self.path.stem}:
            return Sampling()
        layers = layers_in(self.header)
        width = layers[0].cross_attention_dim if layers else None
        found = []
        for path in around:
            with suppress(UserError):
                if path.suffix in (".yaml", ".yml") and (told := sampling_of_yaml(path, width=width)):
                    found.append(told)
        return found[0] if found and all(each == found[0] for each in found) else Sampling()

    def _unfitting(self, part: str, key: str) -> UserError:
        return UserError(
            "checkpoint.does_not_fit",
            file=self.path.name,
            folder=self.folder,
            part=part,
            key=key,
            own_folder=self.path.stem,
        )


def _reference_configuration(family: Family, *, name: str) -> Path:
    """Return the folder with the configuration of a family's usual model in the Hub's cache on this machine.

    diffusers would fetch it itself, even when told to use local files only; so it is always given a folder.
    """
    for folder in _kept_on_disk(family.references):
        if is_whole_configuration(folder, family):
            return folder
    raise UserError("checkpoint.no_configuration", file=name, repo=family.references[0], folder=Path(name).stem)


def _kept_on_disk(repos: tuple[str, ...]) -> Iterator[Path]:
    """Yield the local folders that hold any files of some repositories, complete or not."""
    for repo in repos:
        with suppress(LocalEntryNotFoundError):
            yield Path(snapshot_download(repo, local_files_only=True, allow_patterns=_CONFIGURATIONS))
    for entry in published_models():  # this app may have downloaded these, at a revision of its own
        if any(part.repo in repos for part in entry.parts):
            yield entry.location


def _present_name(name: str, family: Family) -> str:
    """Return diffusers' name for a tensor of a CLIP text encoder; other names are unchanged."""
    for prefix in family.checkpoint_encoders:
        if name.startswith(prefix) and name.removeprefix(prefix).startswith(_TEXT_PARTS):
            return f"{prefix}text_model.{name.removeprefix(prefix)}"
    return name
