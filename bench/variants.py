"""The bundled model with other samplers, so that its default can be chosen by what they draw."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import diffusers

from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.entry import ModelEntry


def sampled_by(model: Path, samplers: Sequence[str], folder: Path) -> dict[str, ModelEntry]:
    """The model once for each sampler, under its name; all share the files of the weights.

    Args:
        model: a folder in diffusers layout.
        samplers: class names of diffusers' schedulers.
        folder: an empty one, where links to the model are laid out.

    Raises:
        UserError: diffusers has no such scheduler.
    """
    entries = {}
    for name in samplers:
        if not name.endswith("Scheduler") or not hasattr(diffusers, name):
            raise UserError(f"diffusers has no scheduler called {name}.")
        target = folder / name
        target.mkdir(parents=True)
        for part in model.iterdir():
            if part.name not in ("scheduler", "model_index.json"):
                (target / part.name).symlink_to(part.resolve(), target_is_directory=part.is_dir())
        index = json.loads((model / "model_index.json").read_text("utf-8"))
        (target / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", name]}), "utf-8")
        schedule = diffusers.DDIMScheduler.from_pretrained(model / "scheduler").config
        getattr(diffusers, name).from_config(schedule).save_pretrained(target / "scheduler")
        entries[name] = entry_from_folder(target, name=name)
    return entries
