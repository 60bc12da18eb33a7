"""Adapters in addition to a model's own: named at startup, or uploaded by visitors."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ipa_app.adapter.kinds import FILE_NAMES
from ipa_app.errors import UserError
from ipa_app.models.adapter_set import LARGEST_ADDED, MOST_ADDED, AdapterSet, largest_added
from ipa_app.models.catalog import BUNDLED, entry_from_folder
from ipa_app.models.entry import AdapterEntry, ModelEntry
from ipa_app.models.manager import ModelManager
from tests.adapter_files import published_shapes, write_adapter, write_model, write_shapes
from tests.tiny_models import random_adapter_tensors, tiny_unet

TINY = tiny_unet()


def titles(entry: ModelEntry) -> dict[str, str]:
    return {name: adapter.title for name, adapter in entry.adapters.items()}


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
    assert adapters.offered(tiny).left_out == ("IPA_ADAPTERS names run, which is not there.",)
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
        "bad.safetensors is damaged or incomplete; download it again.",
        "IPA_ADAPTERS names gone.safetensors, which is not there.",
    )
    assert caplog.text.count("bad.safetensors is damaged") == 1


def test_an_incomplete_one_is_named_and_not_offered(tiny: ModelEntry, tmp_path: Path) -> None:
    tensors = random_adapter_tensors(TINY, kind="base")
    del tensors["ip_adapter.1.to_v_ip.weight"]
    offered = AdapterSet(str(write_adapter(tmp_path / "cut.safetensors", tensors))).offered(tiny)
    assert list(offered.adapters) == list(tiny.adapters)
    assert offered.left_out == ("cut.safetensors is incomplete: ip_adapter.1.to_v_ip.weight is missing.",)


@pytest.mark.parametrize("name", ["fine", "one"])
def test_a_second_one_of_a_name_displaces_none(tiny: ModelEntry, tmp_path: Path, name: str) -> None:
    one, other = written(tmp_path / "one.safetensors"), written(tmp_path / "other.safetensors")
    offered = AdapterSet(os.pathsep.join([str(one), f"{name}={other}"])).offered(tiny)
    assert offered.adapters["fine"] == tiny.adapters["fine"]
    assert offered.adapters["one"].file == one
    said = f"There is already an adapter called {name}: please give other.safetensors another"
    assert offered.left_out[0].startswith(said)


def test_a_name_is_no_part_of_a_path(tiny: ModelEntry, tmp_path: Path) -> None:
    file = written(tmp_path / "a=b.safetensors")
    assert "a=b" in AdapterSet(str(file)).offered(tiny).adapters


@pytest.mark.parametrize("item", ["my toys={}", "toys = {}", "'my toys' = '{}'", "toys, new= {}", "玩具={}", "a&b={}"])
def test_any_name_may_be_given(tiny: ModelEntry, tmp_path: Path, item: str) -> None:
    run = written(tmp_path / "run1" / "ip-adapter-plus.safetensors").parent
    offered = AdapterSet(item.format(run)).offered(tiny)
    assert offered.left_out == ()
    assert list(offered.adapters) == [*tiny.adapters, item.partition("=")[0].strip(" '")]


@pytest.mark.parametrize(
    ("item", "path"), [("toys={}/gone", "gone"), ("{}/a=b/run", "run"), ("{}/toys=", "toys="), ("toys=", "toys=")]
)
def test_what_is_not_there_is_called_by_its_own_name(tiny: ModelEntry, tmp_path: Path, item: str, path: str) -> None:
    offered = AdapterSet(item.format(tmp_path)).offered(tiny)
    assert offered.left_out == (f"IPA_ADAPTERS names {path}, which is not there.",)


def test_training_runs_are_called_as_their_folders_are(tiny: ModelEntry, tmp_path: Path) -> None:
    runs = [written(tmp_path / name / FILE_NAMES["plus"]).parent for name in ("run1", "run2")]
    written(tmp_path / "both" / FILE_NAMES["plus"])
    written(tmp_path / "both" / FILE_NAMES["base"], kind="base")
    written(tmp_path / "both" / "toys.safetensors")
    offered = AdapterSet(os.pathsep.join(map(str, [*runs, tmp_path / "both"]))).offered(tiny)
    assert offered.left_out == ()
    own = ["run1", "run2", "both-ip-adapter", "both-ip-adapter-plus", "toys"]
    assert sorted(offered.adapters.keys() - tiny.adapters.keys()) == sorted(own)
    assert offered.adapters["run2"].file.parent == runs[1]


# Uploads


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


def test_what_another_process_calls_its_own_takes_no_adapters_place(tiny: ModelEntry, tmp_path: Path) -> None:
    adapters, file = AdapterSet(), written(tmp_path / "brought.safetensors")
    brought = AdapterEntry(name="base", title="base", file=file, kind="plus")
    key = adapters.adopt(brought, sha256="5" * 64)
    offered = adapters.offered(tiny)
    assert offered.adapter("base") == tiny.adapters["base"]
    assert offered.adapter(key).file == file
    assert offered.adapter(key).name == "base"
    without = adapters.offered(replace(tiny, adapters={}))
    assert without.find_adapter("fine") is None, "whose models have none there get none here"


def test_what_is_let_go_of_is_gone_with_its_file(tiny: ModelEntry, tmp_path: Path) -> None:
    adapters = AdapterSet()
    file, other = written(tmp_path / "toys.safetensors"), written(tmp_path / "other.safetensors")
    first, second, third = (adapters.add(path, entry=tiny) for path in (file, file, other))
    adapters.remove([first])
    assert file.exists(), "somebody else's is the same file"
    adapters.remove([second, "unknown"])
    assert not file.exists()
    other.unlink()  # as uploads are deleted after a day
    assert adapters.offered(tiny) is tiny
    with pytest.raises(UserError, match="The adapter other is no longer here"):
        adapters.offered(tiny).adapter(third)


def test_only_so_many_are_kept_at_a_time(tiny: ModelEntry, tmp_path: Path) -> None:
    adapters, file = AdapterSet(), written(tmp_path / "toys.safetensors")
    keys = [adapters.add(file, entry=tiny) for _ in range(MOST_ADDED + 2)]
    assert [key for key in keys if key in adapters.offered(tiny).adapters] == keys[2:]


def test_who_brings_many_gives_up_their_own(tiny: ModelEntry, tmp_path: Path) -> None:
    adapters, file = AdapterSet(), written(tmp_path / "toys.safetensors")
    others = [adapters.add(file, entry=tiny) for _ in range(MOST_ADDED - 2)]
    own: list[str] = []
    for _ in range(5):
        own.append(adapters.add(file, entry=tiny, own=own))
    there = adapters.offered(tiny).adapters
    assert [key for key in (*others, *own) if key in there] == [*others, *own[-2:]]


def test_an_upload_is_refused_before_it_is_read(
    tiny: ModelEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = AdapterSet()
    huge = tmp_path / "huge.safetensors"
    with huge.open("wb") as file:
        file.truncate(LARGEST_ADDED + 1)
    with pytest.raises(UserError, match=r"huge\.safetensors is 2\.0 GB, but an adapter .* at most 2\.0 GB"):
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
