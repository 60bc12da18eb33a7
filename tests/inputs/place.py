"""A folder to make models in, and the outcomes of handing them to the app."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import SchedulerMixin
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor

from ipa_app.errors import UserError
from ipa_app.models.catalog import ModelEntry, catalog, entry_from_file, entry_from_folder
from ipa_app.training.components import load_components
from tests.checkpoints import copy_configuration, load, write_checkpoint

TAKEN, LEFT_OUT, REFUSED = "Taken", "Left out", "Refused"

Outcome = tuple[str, str | None]


@dataclass(frozen=True)
class Place:
    """A folder to make models in, and ways to hand them to the app."""

    root: Path
    bundle: Path
    patch: pytest.MonkeyPatch

    def copy(self, name: str = "dream") -> Path:
        """Return the folder of a model in diffusers layout."""
        return shutil.copytree(self.bundle, self.root / name, ignore=shutil.ignore_patterns("ipa_studio.json"))

    def file(self, folder: Path | None = None, **written: Any) -> Path:
        """Return a checkpoint with its configuration beside it."""
        path = self.root / "dream.safetensors"
        write_checkpoint(folder or self.bundle, path, **written)
        return path

    def named(self, *items: object, separator: str = ":") -> Outcome:
        """Return the outcome of naming items in IPA_MODELS; a good model named after them must still work."""
        good = self.root / "good"
        copy_configuration(self.bundle, good)
        self.patch.setenv("IPA_MODELS", separator.join(map(str, [*items, good])))
        found = catalog()
        assert "good" in found
        if not found.left_out:
            assert "dream" in found
            return TAKEN, None
        (sentence,) = found.left_out.values()
        return LEFT_OUT, sentence

    def tensors(self, *names: str) -> Outcome:
        """Return the outcome of a file with these tensors."""
        save_arrays({name: np.zeros((4, 4), dtype=np.float32) for name in names}, self.root / "dream.safetensors")
        return self.named(self.root / "dream.safetensors")

    def loaded(self, path: Path) -> Outcome:
        """Return the outcome of choosing a model."""
        return outcome(lambda: load(self.entry(path)))

    def trained_on(self, path: Path) -> Outcome:
        """Return the outcome of training an adapter on a model."""
        return outcome(lambda: load_components(path).noise_schedule())

    def edited(self, part: str, change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> Outcome:
        """Return the outcome of a model with one part's weights changed."""
        folder = self.copy()
        path = next((folder / part).glob("*.safetensors"))
        save_file(dict(change(load_file(path))), path, metadata={"format": "pt"})
        return self.loaded(folder)

    def configured(self, file: str, **changes: Any) -> Outcome:
        """Return the outcome of a model with one JSON file changed."""
        path = self.copy() / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return self.loaded(self.root / "dream")

    def channels(self, number: int) -> Outcome:
        """Return the outcome of a model whose UNet has `number` input channels."""
        return self.configured("unet/config.json", in_channels=number)

    def scheduled(self, scheduler: SchedulerMixin) -> Path:
        """Return the folder of a model with another scheduler."""
        folder = self.copy()
        scheduler.save_pretrained(folder / "scheduler")
        index = json.loads((folder / "model_index.json").read_text())
        index["scheduler"] = ["diffusers", type(scheduler).__name__]
        (folder / "model_index.json").write_text(json.dumps(index))
        return folder

    def entry(self, path: Path) -> ModelEntry:
        make = entry_from_file if path.is_file() else entry_from_folder
        return make(path, name=path.stem)


def outcome(attempt: Callable[[], object]) -> Outcome:
    try:
        attempt()
    except UserError as error:
        return REFUSED, str(error)
    return TAKEN, None
