"""One part of a model as diffusers and transformers save it: a folder with a config.json and weights."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ipa_app.errors import UserError
from ipa_app.models.folder import read_json
from ipa_app.models.schedule import MARKS
from ipa_app.models.weights import WeightFiles, find_weights, load_pickled, quantised

logger = logging.getLogger(__name__)

# Weights in formats that are not read here.
_OTHER_FORMATS = {".gguf", ".onnx", ".msgpack", ".h5", ".pth", ".pt", ".ckpt", ".xml", ".mlmodelc"}
# What older versions of the libraries saved beside the weights, and parts of a whole CLIP unused by one encoder.
_SURPLUS = ("position_ids", "logit_scale", "text_projection.weight", "visual_projection.weight")
_OTHER_TOWERS = ("vision_model.", "text_model.")


@dataclass(frozen=True)
class Part:
    """A part on disk. The header of each of its files is read only once.

    Attributes:
        folder: with its config.json and weights.
        title: of the model that it belongs to, for messages.
    """

    folder: Path
    title: str
    _seen: dict[tuple[Path, ...], WeightFiles] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of its config.json.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        config = read_json(self.folder / "config.json")
        if not config:
            raise UserError("model.no_file", title=self.title, folder=self.folder, file="config.json")
        return config

    def weights(self, *, prefer_half: bool = False) -> WeightFiles:
        """Return its weight files; see `find_weights`.

        Raises:
            UserError: there are none in a supported format, or a piece of them is missing.
        """
        files = find_weights(self.folder, prefer_half=prefer_half)
        if files is None:
            others = sorted(path.name for path in self.folder.glob("*") if path.suffix.lower() in _OTHER_FORMATS)
            if others:
                raise UserError("model.wrong_format", title=self.title, folder=self.folder.name, file=others[0])
            raise UserError("model.no_weights", title=self.title, folder=self.folder)
        if files.missing:
            raise UserError("model.missing_piece", title=self.title, piece=files.missing, folder=self.folder)
        return self._seen.setdefault(files.paths, files)

    def check(self) -> None:
        """Check that its weights are plain numbers, before any of them is read.

        Raises:
            UserError: they are quantised, or cannot be read.
        """
        method = self.config.get("quantization_config")
        if isinstance(method, dict):
            raise quantised(f"{self.title} ({self.folder.name})", str(method.get("quant_method", "?"))[:40])
        if kind := self.weights().header.quantisation:
            raise quantised(f"{self.title} ({self.folder.name})", kind)

    def layout(self, module: Any) -> Any:
        """Build it without memory for its weights, to see what fits it.

        Args:
            module: its class, of diffusers.

        Raises:
            UserError: its config.json does not describe a network of this class.
        """
        try:
            with torch.device("meta"):
                return module.from_config(self.config)
        except Exception as error:
            raise self.undescribed(module, error) from error

    def tensor(self, name: str) -> Tensor:
        """Read one of its tensors."""
        files = self.weights()
        if not files.is_safetensors:
            return next(tensors[name] for tensors in map(load_pickled, files.paths) if name in tensors)
        path = next(path for path, header in files.headers.items() if name in header)
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name)

    def load(self, module: Any, *, dtype: torch.dtype, **options: Any) -> Any:
        """Read it into main memory.

        Args:
            module: its class, of diffusers or transformers.
            dtype: of the weights in memory, whatever they are on disk.
            options: passed to from_pretrained().

        Raises:
            UserError: its weights do not fit its config.json, or are not finite.
        """
        self.check()
        files = self.weights(prefer_half=dtype != torch.float32)
        try:
            loaded, info = module.from_pretrained(
                self.folder, local_files_only=True, dtype=dtype, output_loading_info=True, **files.options, **options
            )
        except (RuntimeError, ValueError) as error:
            if not any(word in str(error) for word in ("shape", "mismatch")):
                raise
            raise self._unfitting(tensor_named_in(error)) from error
        except OSError as error:
            logger.warning("%s: %s", self.folder, error)
            raise UserError("model.unreadable", title=self.title, folder=self.folder) from error
        self._check_fit(info["missing_keys"], info["unexpected_keys"])
        check_finite(loaded, f"{self.title} ({self.folder.name})")
        return loaded

    def undescribed(self, module: type, error: Exception) -> UserError:
        """Return the error that its config.json does not describe a network of a class; log the error behind it."""
        logger.warning("%s: %s", self.folder, error)
        return UserError(
            "model.unknown_class", title=self.title, path=self.folder / "config.json", sort=module.__name__
        )

    def _check_fit(self, missing: Collection[str], unexpected: Collection[str]) -> None:
        if lacking := sorted(key for key in missing if not key.endswith("position_ids")):
            raise UserError("model.missing_key", title=self.title, folder=self.folder, key=lacking[0])
        if surplus := sorted(key for key in unexpected if not _is_harmless(key)):
            raise self._unfitting(surplus[0])

    def _unfitting(self, key: str) -> UserError:
        return UserError("model.other_network", title=self.title, path=self.folder / "config.json", key=key)


def tensor_named_in(error: Exception) -> str:
    """Return the tensor that diffusers' error names as not fitting: "Cannot load x because y expected shape ..."."""
    reason = str(error).partition(" because ")[2]
    return reason.split(" ")[0] if reason else type(error).__name__


def check_finite(module: nn.Module, place: str) -> None:
    """Check that a network's weights are finite.

    Args:
        module: the network.
        place: its name for users.

    Raises:
        UserError: one is infinite or NaN.
    """
    for name, tensor in module.named_parameters():
        if tensor.numel() and not torch.isfinite(torch.stack(torch.aminmax(tensor.detach()))).all():
            precision = str(tensor.dtype).removeprefix("torch.")
            raise UserError("file.not_finite", name=place, dtype=precision, key=name)


def _is_harmless(key: str) -> bool:
    return key.endswith(_SURPLUS) or key.startswith((*_OTHER_TOWERS, *MARKS)) or ".processor." in key
