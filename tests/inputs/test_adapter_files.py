"""Every row of "Adapter files" in docs/inputs.md: made, handed to the app, and its outcome compared word for word."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ipa_app.errors import UserError
from ipa_app.models.adapter_set import AdapterSet
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.entry import ModelEntry
from tests.adapter_files import (
    prefixed,
    published_shapes,
    saved_by_accelerate,
    write_adapter,
    write_model,
    write_shapes,
)
from tests.inputs.place import Outcome
from tests.inputs.tables import rows
from tests.malicious import Malicious
from tests.tiny_models import random_adapter_tensors, tiny_unet

TINY = tiny_unet()
ROWS = rows("Adapter files")
Case = Callable[[Path, Path], Outcome]


def told(entry: ModelEntry) -> Outcome:
    """Return which adapters a model offers, and the message about the one left out, if any."""
    names = [f"`{name}`" for name in entry.adapters]
    left_out = list(entry.left_out)
    assert len(left_out) <= 1
    offered = " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
    if not names:
        return "left out; the model works", left_out[0]
    return f"offered as {offered}", left_out[0] if left_out else None


def published(*names: str, base: str, tower: str | None = "ViT-H") -> Case:
    """Return a case of published files in the folder of a published model."""

    def case(tmp_path: Path, _bundle: Path) -> Outcome:
        folder = write_model(tmp_path / "model", base, tower=tower)
        for name in names:
            write_shapes(folder / "adapters" / f"{name}.safetensors", published_shapes(name))
        return told(entry_from_folder(folder, name="model"))

    return case


def own(write: Callable[[Path], object]) -> Case:
    """Return a case of files written into the folder of a small model without adapters."""

    def case(tmp_path: Path, bundle: Path) -> Outcome:
        folder = shutil.copytree(bundle, tmp_path / "model", ignore=shutil.ignore_patterns("adapters"))
        (folder / "adapters").mkdir()
        write(folder / "adapters")
        return told(entry_from_folder(folder, name="model"))

    return case


def named(variable: str, *files: str) -> Case:
    """Return a case of IPA_ADAPTERS, with {} for the files' folder, added to a model's own two adapters."""

    def case(tmp_path: Path, bundle: Path) -> Outcome:
        for file in files:
            write_adapter(tmp_path / file, tensors("plus"))
        set_ = AdapterSet(variable.format(*[tmp_path] * variable.count("{}")))
        entry = set_.offered(entry_from_folder(bundle, name="model"))
        return told(entry)

    return case


def added(write: Callable[[Path], Path]) -> Case:
    """Return a case of a file dropped on the page."""

    def case(tmp_path: Path, bundle: Path) -> Outcome:
        adapters, entry = AdapterSet(), entry_from_folder(bundle, name="model")
        try:
            key = adapters.add(write(tmp_path), entry=entry)
        except UserError as error:
            return "refused; the choice stays", str(error)
        assert key not in adapters.offered(entry).listed_adapters
        return f"offered to this visitor alone as `{adapters.offered(entry).adapter(key).name}`", None

    return case


def cleared_away(tmp_path: Path, bundle: Path) -> Outcome:
    adapters, entry = AdapterSet(), entry_from_folder(bundle, name="model")
    file = write_adapter(tmp_path / "toys.safetensors", tensors("plus"))
    key = adapters.add(file, entry=entry)
    file.unlink()
    with pytest.raises(UserError) as refused:
        adapters.offered(entry).adapter(key)
    return "refused", str(refused.value)


def tensors(kind: str, **sizes: int) -> dict[str, torch.Tensor]:
    return random_adapter_tensors(TINY, kind=kind, **sizes)


def without(whole: dict[str, torch.Tensor], missing: str) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in whole.items() if key != missing}


def keys(*names: str) -> Callable[[Path], object]:
    """Return a function that writes a file with arbitrary tensors under some names."""
    return lambda folder: save_file({name: torch.ones(4, 4) for name in names}, folder / "file.safetensors")


def cut_off(folder: Path) -> None:
    file = write_adapter(folder / "file.safetensors", tensors("plus"))
    file.write_bytes(file.read_bytes()[:500])


def too_large(folder: Path) -> Path:
    with (folder / "file.safetensors").open("wb") as file:
        file.truncate(5 * 10**9)
    return folder / "file.safetensors"


FACE_ID = ("image_proj.proj.0.weight", "image_proj.norm.weight", "ip_adapter.1.to_q_lora.down.weight")
SDXL = ("ip-adapter_sdxl", "ip-adapter_sdxl_vit-h", "ip-adapter-plus_sdxl_vit-h", "ip-adapter-plus-face_sdxl_vit-h")

CASES: dict[str, Case] = {
    "All four published SDXL files, beside ViT-H": published(*SDXL, base="sdxl"),
    "Only a special one of a kind: `ip-adapter-plus-face_sd15`": published("ip-adapter-plus-face_sd15", base="sd15"),
    "`ip-adapter_sd15` and its light versions": published(
        "ip-adapter_sd15", "ip-adapter_sd15_light", "ip-adapter_sd15_light_v11", base="sd15"
    ),
    "`ip-adapter-full-face_sd15`": published("ip-adapter-full-face_sd15", base="sd15"),
    "`ip_plus_composition_sd15` (IP Composition Adapter)": published("ip_plus_composition_sd15", base="sd15"),
    "Two fine-grained ones with names of their own, `a` and `b`": own(
        lambda folder: [write_adapter(folder / f"{name}.safetensors", tensors("plus")) for name in "ab"]
    ),
    "Nothing but a `.bin` file": own(lambda folder: write_adapter(folder / "ip-adapter.bin", tensors("base"))),
    "One adapter as `.safetensors` and as `.bin`": own(
        lambda folder: [write_adapter(folder / f"a{ending}", tensors("base")) for ending in (".safetensors", ".bin")]
    ),
    "Files called `.SAFETENSORS` and `.sft`": own(
        lambda folder: [
            write_adapter(folder / "a.safetensors", tensors("base")).rename(folder / "a.SAFETENSORS"),
            write_adapter(folder / "b.safetensors", tensors("plus")).rename(folder / "b.sft"),
        ]
    ),
    "Names with `module.`, `image_proj_model.`, `adapter_modules.` in front": own(
        lambda folder: save_file(prefixed(tensors("plus")), folder / "a.safetensors")
    ),
    "What accelerate saves while training: the whole UNet, the adapter's part under its processors": own(
        lambda folder: save_file(saved_by_accelerate(tensors("plus"), TINY), folder / "model.safetensors")
    ),
    "Base with 8 tokens instead of 4": own(
        lambda folder: write_adapter(folder / "a.bin", tensors("base", num_tokens=8))
    ),
    "An SDXL adapter in a folder of SD 1.5": published("ip-adapter_sdxl_vit-h", base="sd15"),
    "An SD 2 adapter in a folder of SD 1.5": published("an adapter for SD 2", base="sd15"),
    "`ip-adapter_sd15_vit-G` beside ViT-H": published("ip-adapter_sd15_vit-G", base="sd15"),
    "InstantID's `ip-adapter.bin`": published("instantid", base="sdxl"),
    "An adapter without an image encoder": published("ip-adapter_sd15", base="sd15", tower=None),
    "FaceID, FaceID-plus, with or without their LoRA keys": own(keys(*FACE_ID)),
    "A PuLID file": own(keys("id_adapter.latents", "id_adapter_attn_layers.0.id_to_k.weight")),
    "A T2I-Adapter": own(keys("adapter.conv_in.weight", "adapter.body.0.resnets.0.block1.weight")),
    "A ControlNet": own(keys("controlnet_cond_embedding.conv_in.weight", "conv_in.weight")),
    "A LoRA, including FaceID's": own(keys("0.to_q_lora.down.weight", "0.to_q_lora.up.weight")),
    "Another weight file": own(keys("layer.weight")),
    "A file that is cut off": own(cut_off),
    "A file without one of its tensors": own(
        lambda folder: write_adapter(
            folder / "file.safetensors", without(tensors("base"), "ip_adapter.1.to_v_ip.weight")
        )
    ),
    "A web page saved as `.safetensors`": own(
        lambda folder: (folder / "file.safetensors").write_text("<!DOCTYPE html><html>Sign in</html>")
    ),
    "A placeholder for a file that Git LFS has not fetched": own(
        lambda folder: (folder / "file.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    ),
    "A `.bin` file with code in it": own(
        lambda folder: torch.save({"image_proj": Malicious(Path("proof"))}, folder / "file.bin")
    ),
    "`IPA_ADAPTERS` names a file": named("{}/my-toys.safetensors", "my-toys.safetensors"),
    "`IPA_ADAPTERS` names a training run's folder, `toys=runs/toys`": named(
        "toys={}/runs/toys", "runs/toys/ip-adapter-plus.safetensors"
    ),
    "`IPA_ADAPTERS` names such a folder without a name": named("{}/runs/toys", "runs/toys/ip-adapter-plus.safetensors"),
    "`IPA_ADAPTERS` gives a name with spaces, `my toys = runs/toys`": named(
        "my toys = {}/runs/toys", "runs/toys/ip-adapter-plus.safetensors"
    ),
    "`IPA_ADAPTERS` names several, separated by semicolons, with spaces and quotes": named(
        """ {}/my-toys.safetensors; more="{}/others.safetensors"; """, "my-toys.safetensors", "others.safetensors"
    ),
    "`IPA_ADAPTERS` names a file that is not there": named("{}/gone.safetensors"),
    "`IPA_ADAPTERS` gives a name that is taken": named("fine={}/my-toys.safetensors", "my-toys.safetensors"),
    "Dropped on the page: an adapter of this model": added(
        lambda folder: write_adapter(folder / "my toys.safetensors", tensors("full"))
    ),
    "Dropped: one for another model": added(
        lambda folder: write_shapes(folder / "ip-adapter_sd15.safetensors", published_shapes("ip-adapter_sd15"))
    ),
    "Dropped: a file that is too large": added(too_large),
    "Dropped, but cleared away since": cleared_away,
}


def test_the_table_and_the_cases_are_the_same() -> None:
    assert list(CASES) == list(ROWS)


@pytest.mark.parametrize("given", CASES)
def test_what_becomes_of_it_is_what_the_table_says(given: str, tmp_path: Path, tiny_bundle_dir: Path) -> None:
    assert CASES[given](tmp_path, tiny_bundle_dir) == (ROWS[given].outcome, ROWS[given].sentence)
    assert not Path("proof").exists()
