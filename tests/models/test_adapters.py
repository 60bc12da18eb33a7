"""Finding, naming and fitting adapters by the headers of their files."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ipa_app.adapter import attention_layers
from ipa_app.errors import UserError
from ipa_app.models.adapters import LARGEST_ADDED, MOST_ADDED, AdapterSet, adapter_base, largest_added
from ipa_app.models.catalog import BUNDLED, entry_from_file, entry_from_folder
from ipa_app.models.entry import ModelEntry
from ipa_app.models.manager import ModelManager
from tests.adapter_files import (
    PUBLISHED,
    prefixed,
    published_shapes,
    saved_by_accelerate,
    write_adapter,
    write_model,
    write_shapes,
)
from tests.single_file import write_single_file
from tests.tiny_models import random_adapter_tensors, tiny_unet

TINY = tiny_unet()


def titles(entry: ModelEntry) -> dict[str, str]:
    return {name: adapter.title for name, adapter in entry.adapters.items()}


def with_published(folder: Path, *names: str) -> ModelEntry:
    for name in names:
        write_shapes(folder / "adapters" / f"{name}.safetensors", published_shapes(name))
    return entry_from_folder(folder, name="model")


# A model's own


def test_all_published_adapters_of_sdxl_lie_side_by_side(tmp_path: Path) -> None:
    names = [name for name in PUBLISHED if name.startswith("ip-adapter") and PUBLISHED[name][0] == "sdxl"]
    entry = with_published(write_model(tmp_path / "model", "sdxl"), *names)
    assert titles(entry) == {
        "base": "Base",
        "fine": "Fine-grained",
        "ip-adapter-plus-face_sdxl_vit-h": "Face (fine-grained)",
    }
    assert entry.adapters["base"].file.stem == "ip-adapter_sdxl_vit-h"
    assert entry.adapters["fine"].file.stem == "ip-adapter-plus_sdxl_vit-h"
    assert entry.left_out == (
        "ip-adapter_sdxl.safetensors needs an image encoder whose embedding is 1280 (OpenCLIP ViT-bigG/14) wide, but "
        "this model's is 1024 (OpenCLIP ViT-H/14).",
    )


def test_all_published_adapters_of_sd15_lie_side_by_side(tmp_path: Path) -> None:
    names = [name for name in PUBLISHED if PUBLISHED[name][0] == "sd15"]
    entry = with_published(write_model(tmp_path / "model", "sd15"), *names)
    assert titles(entry) == {
        "base": "Base",
        "fine": "Fine-grained",
        "ip-adapter-full-face_sd15": "Full face",
        "ip-adapter-plus-face_sd15": "Face (fine-grained)",
        "ip-adapter_sd15_light": "Light",
        "ip-adapter_sd15_light_v11": "Light (version 1.1)",
        "ip_plus_composition_sd15": "Composition",
    }
    assert [sentence.split()[0] for sentence in entry.left_out] == ["ip-adapter_sd15_vit-G.safetensors"]


def test_the_usual_names_always_work(tmp_path: Path) -> None:
    """With nothing but a special one of the kind, too; and every file answers to its own name."""
    names = ["ip-adapter-plus-face_sd15", "ip-adapter_sd15"]
    entry = with_published(write_model(tmp_path / "model", "sd15"), *names)
    assert list(entry.adapters) == ["base", "ip-adapter-plus-face_sd15"]
    assert entry.adapter("fine") is entry.adapter("ip-adapter-plus-face_sd15")
    assert entry.adapter("base") is entry.adapter("ip-adapter_sd15")


def test_a_file_with_a_name_of_its_own_displaces_no_published_one(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "sd15")
    for name in ("aaa", "zzz"):
        write_shapes(folder / "adapters" / f"{name}.safetensors", published_shapes("ip-adapter-plus_sd15"))
    entry = entry_from_folder(folder, name="model")
    assert {name: adapter.file.stem for name, adapter in entry.adapters.items()} == {"fine": "aaa", "zzz": "zzz"}
    entry = with_published(folder, "ip-adapter-plus_sd15")
    assert list(entry.adapters) == ["fine", "aaa", "zzz"]
    assert entry.adapters["fine"].file.stem == "ip-adapter-plus_sd15"


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_the_layouts_of_training_are_told_apart_too(tiny_bundle_dir: Path, tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "model"
    for part in ("unet", "image_encoder"):
        (folder / part).mkdir(parents=True)
        for file in (tiny_bundle_dir / part).iterdir():
            (folder / part / file.name).symlink_to(file)
    plus, full = (random_adapter_tensors(TINY, kind=kind) for kind in ("plus", "full"))
    write_adapter(folder / "adapters" / f"plain.{ending}", random_adapter_tensors(TINY, kind="base"))
    for name, tensors in {"prefixed": prefixed(full), "whole": saved_by_accelerate(plus, TINY)}.items():
        write_adapter(folder / "adapters" / f"{name}.safetensors", tensors)
    entry = entry_from_folder(folder, name="model")
    assert {name: (adapter.file.stem, adapter.kind) for name, adapter in entry.adapters.items()} == {
        "base": ("plain", "base"),
        "fine": ("whole", "plus"),
        "prefixed": ("prefixed", "full"),
    }
    assert entry.left_out == ()


def test_what_has_to_be_fitted_is_the_same_in_a_folder_and_in_one_file(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    write_single_file(tiny_bundle_dir, tmp_path / "tiny.safetensors")
    (tmp_path / "tiny").mkdir()
    single = entry_from_file(tmp_path / "tiny.safetensors", name="tiny")
    told = [adapter_base(entry).layers for entry in (entry_from_folder(tiny_bundle_dir, name="tiny"), single)]
    sizes = [
        [(layer.index, layer.hidden_size, layer.cross_attention_dim) for layer in layers]
        for layers in (*told, attention_layers(TINY))
    ]
    assert sizes[0] == sizes[1] == sizes[2]


def test_a_model_without_an_image_encoder_works_without_adapters(tmp_path: Path) -> None:
    entry = with_published(write_model(tmp_path / "model", "sd15", tower=None), "ip-adapter_sd15")
    assert entry.adapters == {}
    assert "needs an image encoder, and this model has none" in entry.left_out[0]


def test_finding_adapters_brings_in_no_pytorch() -> None:
    """The page opens before that is there."""
    script = "import sys; from ipa_app.models.catalog import catalog; catalog(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# Those beside


@pytest.fixture
def tiny(tiny_bundle_dir: Path) -> ModelEntry:
    return entry_from_folder(tiny_bundle_dir, name="tiny")


def written(path: Path, kind: str = "plus", seed: int = 5) -> Path:
    return write_adapter(path, random_adapter_tensors(TINY, kind=kind, seed=seed))


def test_named_adapters_are_offered_for_whatever_they_fit(tiny: ModelEntry, tmp_path: Path) -> None:
    one = written(tmp_path / "one.safetensors")
    run = written(tmp_path / "run" / "ip-adapter-plus.safetensors").parent
    both = [written(tmp_path / "both" / f"{name}.bin", kind="base").parent for name in ("a", "b")][0]
    named = os.pathsep.join([str(one), f"toys={run}", f"my={both}"])
    offered = AdapterSet(named).offered(tiny)
    assert titles(offered) == {**titles(tiny), "one": "one", "toys": "toys", "my-a": "my-a", "my-b": "my-b"}
    assert offered.left_out == ()
    large = replace(tiny, name="large", location=write_model(tmp_path / "sd15", "sd15"))
    offered = AdapterSet(named).offered(large)
    assert not offered.adapters.keys() - large.adapters.keys()
    assert len(offered.left_out) == 4
    assert all("but this base model is Stable Diffusion 1.x" in sentence for sentence in offered.left_out)


def test_a_named_adapter_comes_changes_and_goes_while_the_program_runs(tiny: ModelEntry, tmp_path: Path) -> None:
    adapters = AdapterSet(str(tmp_path / "run"))
    assert adapters.offered(tiny).left_out == (f"IPA_ADAPTERS names {tmp_path / 'run'}, which is not there.",)
    file = written(tmp_path / "run" / "toys.safetensors")
    assert adapters.offered(tiny).adapters["toys"].kind == "plus"
    written(file, kind="base")
    assert adapters.offered(tiny).adapters["toys"].kind == "base"
    file.unlink()
    assert "toys" not in adapters.offered(tiny).adapters


def test_a_broken_one_is_named_and_takes_no_other_with_it(
    tiny: ModelEntry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = written(tmp_path / "good.safetensors"), tmp_path / "bad.safetensors"
    bad.write_bytes(good.read_bytes()[:500])
    adapters = AdapterSet(os.pathsep.join(map(str, [bad, tmp_path / "gone.safetensors", good])))
    for _ in range(2):
        offered = adapters.offered(tiny)
    assert "good" in offered.adapters
    assert offered.left_out == (
        "bad.safetensors is damaged or cut off; fetch it again.",
        f"IPA_ADAPTERS names {tmp_path / 'gone.safetensors'}, which is not there.",
    )
    assert caplog.text.count("bad.safetensors is damaged") == 1


@pytest.mark.parametrize("name", ["fine", "one"])
def test_a_second_one_of_a_name_displaces_none(tiny: ModelEntry, tmp_path: Path, name: str) -> None:
    one, other = written(tmp_path / "one.safetensors"), written(tmp_path / "other.safetensors")
    offered = AdapterSet(os.pathsep.join([str(one), f"{name}={other}"])).offered(tiny)
    assert offered.adapters["fine"] == tiny.adapters["fine"]
    assert offered.adapters["one"].file == one
    assert offered.left_out[0].startswith(f"There is an adapter {name} already: please give other.safetensors another")


def test_a_name_is_no_part_of_a_path(tiny: ModelEntry, tmp_path: Path) -> None:
    file = written(tmp_path / "a=b.safetensors")
    assert "a=b" in AdapterSet(str(file)).offered(tiny).adapters


# What visitors bring


def test_what_a_visitor_brings_nobody_else_is_told_of(tiny: ModelEntry, tmp_path: Path) -> None:
    adapters = AdapterSet()
    keys = [adapters.add(written(tmp_path / place / "toys.safetensors"), entry=tiny) for place in ("a", "b")]
    assert len(set(keys)) == 2
    offered = adapters.offered(tiny)
    assert list(offered.listed_adapters) == list(tiny.adapters)
    assert {offered.adapter(key).name for key in keys} == {"toys"}
    for name in ("toys", keys[0][:-1]):
        with pytest.raises(UserError) as refused:
            offered.adapter(name)
        assert keys[0] not in str(refused.value)


def test_a_visitors_second_file_of_a_name_is_called_otherwise(tiny: ModelEntry, tmp_path: Path) -> None:
    adapters = AdapterSet()
    keys: list[str] = []
    for place in ("a", "b", "c"):
        keys.append(adapters.add(written(tmp_path / place / "fine.bin"), entry=adapters.offered(tiny), own=keys))
    assert [adapters.offered(tiny).adapter(key).title for key in keys] == ["fine-2", "fine-3", "fine-4"]


def test_names_of_uploads_become_harmless(tiny: ModelEntry, tmp_path: Path) -> None:
    adapters = AdapterSet()
    file = written(tmp_path / "<b>my~toys & co.safetensors")
    key = adapters.add(file, entry=tiny)
    assert adapters.offered(tiny).adapter(key).name == "b-my-toys-co"


def test_what_is_let_go_of_is_gone_with_its_file(tiny: ModelEntry, tmp_path: Path) -> None:
    adapters = AdapterSet()
    file, other = written(tmp_path / "toys.safetensors"), written(tmp_path / "other.safetensors")
    first, second, third = (adapters.add(path, entry=tiny) for path in (file, file, other))
    adapters.remove([first])
    assert file.exists(), "somebody else's is the same file"
    adapters.remove([second, "unknown"])
    assert not file.exists()
    other.unlink()  # as what was uploaded is cleared away after a day
    assert adapters.offered(tiny) is tiny
    with pytest.raises(UserError, match="The adapter other is not here any more"):
        adapters.offered(tiny).adapter(third)


def test_only_so_many_are_kept_at_a_time(tiny: ModelEntry, tmp_path: Path) -> None:
    adapters, file = AdapterSet(), written(tmp_path / "toys.safetensors")
    keys = [adapters.add(file, entry=tiny) for _ in range(MOST_ADDED + 2)]
    assert [key for key in keys if key in adapters.offered(tiny).adapters] == keys[2:]


def test_an_upload_is_refused_before_it_is_read(
    tiny: ModelEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = AdapterSet()
    huge = tmp_path / "huge.safetensors"
    with huge.open("wb") as file:
        file.truncate(LARGEST_ADDED + 1)
    with pytest.raises(UserError, match=r"huge\.safetensors has 2\.0 GB, and an adapter .* may have 2\.0 GB"):
        adapters.add(huge, entry=tiny)
    monkeypatch.setenv("SPACE_ID", "somebody/something")
    assert largest_added() == 128_000_000
    cut = load_file(written(tmp_path / "cut.safetensors"))
    del cut["image_proj.norm_out.bias"]
    with pytest.raises(UserError, match=r"cut\.safetensors is incomplete: image_proj\.norm_out\.bias is missing"):
        adapters.add(write_adapter(tmp_path / "cut.safetensors", cut), entry=tiny)
    sd15 = write_shapes(tmp_path / "sd15.safetensors", published_shapes("ip-adapter_sd15"))
    with pytest.raises(UserError, match=r"sd15\.safetensors was made for Stable Diffusion 1\.x"):
        adapters.add(sd15, entry=tiny)
    assert adapters.offered(tiny) is tiny


def test_a_manager_knows_them_by_the_model(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    written(tmp_path / "toys.safetensors")
    manager = ModelManager(
        {"toybox": entry_from_folder(BUNDLED, name="toybox"), "tiny": entry_from_folder(tiny_bundle_dir, name="tiny")},
        device="cpu",
        adapters=AdapterSet(str(tmp_path)),
    )
    assert list(manager.entry("tiny").adapters) == ["base", "fine", "toys"]
    assert list(manager.entry("toybox").adapters) == ["base", "fine"]
    assert "toys.safetensors was made for" in manager.entry("toybox").left_out[0]
