"""Checkpoints: written completely or not at all; those of another run are refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ipa_app.errors import UserError
from ipa_app.training.checkpoint import (
    STATE_FILE,
    Checkpoint,
    Origin,
    check_same_run,
    latest_checkpoint,
    load_checkpoint,
    resume_step,
    save_checkpoint,
)
from ipa_app.training.config import TrainConfig

MakeConfig = Callable[..., TrainConfig]
FILES = {"a.png": "1", "b.png": "2", "c.png": "3", "d.png": "4"}
ORIGIN = Origin(
    base="b",
    preparation="p",
    configuration="c",
    data="d",
    files=FILES,
    pictures=12,
    found=11,
    size=0,
    heldout=16,
    examples_per_step=2,
)


def checkpoint(step: int) -> Checkpoint:
    weights = {"weight": torch.full((1000,), float(step))}
    return Checkpoint(step=step, seconds=1.0, adapter=weights, optimization={"moment": weights["weight"]})


@pytest.fixture
def written(make_config: MakeConfig) -> Iterator[TrainConfig]:
    config = make_config(keep_checkpoints=2)
    for step in (1, 2, 3):
        save_checkpoint(checkpoint(step), config, ORIGIN)
    yield config


def names(config: TrainConfig) -> list[str]:
    return sorted(path.name for path in config.output.iterdir())


def test_the_latest_are_kept_and_read_back(written: TrainConfig) -> None:
    assert names(written) == ["checkpoint-00000002", "checkpoint-00000003"]
    found = load_checkpoint(written, ORIGIN)
    assert found is not None
    assert (found.step, resume_step(written.output)) == (3, 3)
    assert torch.equal(found.adapter["weight"], checkpoint(3).adapter["weight"])


@pytest.mark.parametrize("file", ["adapter.safetensors", "optimizer.pt", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_one_is_left_aside_with_a_word(
    file: str, damage: str, written: TrainConfig, caplog: pytest.LogCaptureFixture
) -> None:
    path = written.output / "checkpoint-00000003" / file
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    assert resume_step(written.output) == 2
    found = load_checkpoint(written, ORIGIN)
    assert found is not None
    assert found.step == 2
    assert caplog.messages == [f"{written.output / 'checkpoint-00000003'} is damaged and is ignored."]
    save_checkpoint(checkpoint(3), written, ORIGIN)
    assert resume_step(written.output) == 3
    assert names(written) == ["checkpoint-00000002", "checkpoint-00000003"]


def test_one_that_is_written_already_is_never_away(written: TrainConfig) -> None:
    state = written.output / "checkpoint-00000003" / "state.json"
    before = state.stat().st_ino
    save_checkpoint(checkpoint(3), written, ORIGIN)
    assert state.stat().st_ino == before


def test_one_that_cannot_be_written_leaves_the_others_and_no_litter(
    written: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 704 vs 598")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RuntimeError):
        save_checkpoint(checkpoint(4), written, ORIGIN)
    assert names(written) == ["checkpoint-00000002", "checkpoint-00000003"]


@pytest.mark.skipif(os.name == "nt", reason="permissions are of another kind")
def test_all_files_may_be_read_by_whom_new_files_may(written: TrainConfig) -> None:
    umask = os.umask(0)
    os.umask(umask)
    files = [path for path in written.output.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~umask}


@pytest.mark.parametrize(
    ("changes", "origin", "words"),
    [
        ({"adapter": "plus"}, {}, "a run with adapter base, not plus"),
        ({"learning_rate": 1e-3}, {}, "a run with learning_rate 0.0001, not 0.001"),
        ({"pretrained": Path("other.safetensors")}, {}, "that began with a new adapter, not from other.safetensors"),
        ({}, {"examples_per_step": 4}, r"a run with 2 examples per step, not 4; choose .* product is 2"),
        ({}, {"base": "c"}, "a run on another base model"),
        ({}, {"preparation": "q"}, r"pictures or texts were prepared with other settings \(of the image processor"),
        ({}, {"configuration": "q"}, "on the base model as it was before settings of it changed"),
        (
            {},
            {"files": dict.fromkeys(FILES, "5")},
            r"on other data \(other pictures under the same names, such as a.png",
        ),
        (
            {},
            {"files": FILES | dict.fromkeys(["b.png", "c.png", "d.png"], "5")},
            r"under the same names, such as b.png",
        ),
        ({}, {"size": 256}, "a run with size 0, not 256"),
        ({}, {"heldout": 3}, "a run with heldout 16, not 3"),
        ({}, {"data": "e"}, r"on other data \(other names or texts\)"),
        ({}, {"data": "e", "pictures": 13}, r"on other data \(12 pictures then, 13 now\).*checkpoint-00000003"),
    ],
)
def test_another_run_is_not_continued(
    changes: dict[str, object], origin: dict[str, object], words: str, written: TrainConfig, make_config: MakeConfig
) -> None:
    with pytest.raises(UserError, match=words):
        check_same_run(make_config(**changes), Origin(**(vars(ORIGIN) | origin)))


@pytest.mark.parametrize(
    ("changes", "origin"),
    [
        ({"max_steps": 9, "save_precision": "fp32"}, vars(ORIGIN)),
        ({"batch_size": 1, "gradient_accumulation_steps": 2}, vars(ORIGIN)),
        ({"batch_size": 1}, vars(ORIGIN)),  # on two processes
        ({}, {}),
        ({}, {"data": "d"}),
        ({}, {"files": {"e.png": "5"} | FILES}),
        ({}, {"files": FILES | {"a.png": "5", "b.png": "5"}}),
    ],
)
def test_what_does_not_touch_what_is_learned_may_change(
    changes: dict[str, object], origin: dict[str, object], written: TrainConfig, make_config: MakeConfig
) -> None:
    check_same_run(make_config(**changes), Origin(**origin))


def test_a_run_of_before_there_was_a_setting_goes_on_with_its_default(
    written: TrainConfig, make_config: MakeConfig
) -> None:
    folder = latest_checkpoint(written.output)
    assert folder is not None
    file = folder / STATE_FILE
    state = json.loads(file.read_text("utf-8"))
    del state["config"]["scale"]
    file.write_text(json.dumps(state), "utf-8")
    check_same_run(make_config(), ORIGIN)
    with pytest.raises(UserError, match=r"a run with scale 1.0, not 0.75"):
        check_same_run(make_config(scale=0.75), ORIGIN)


def test_a_run_of_before_processes_were_counted_goes_on(written: TrainConfig, make_config: MakeConfig) -> None:
    folder = latest_checkpoint(written.output)
    assert folder is not None
    file = folder / STATE_FILE
    state = json.loads(file.read_text("utf-8"))
    del state["origin"]["examples_per_step"]
    file.write_text(json.dumps(state), "utf-8")
    now = Origin(examples_per_step=4)
    check_same_run(make_config(), now)
    check_same_run(make_config(batch_size=1, gradient_accumulation_steps=2), now)
    with pytest.raises(UserError, match="a run with 2 examples per step, not 4"):
        check_same_run(make_config(batch_size=4), now)


def test_examples_that_came_or_went_are_said(written: TrainConfig, caplog: pytest.LogCaptureFixture) -> None:
    assert load_checkpoint(written, Origin(**(vars(ORIGIN) | {"found": 12}))) is not None
    assert caplog.messages == ["The run had 11 examples so far and continues with 12, in a different order."]


def test_pictures_that_have_changed_since_are_said(written: TrainConfig, caplog: pytest.LogCaptureFixture) -> None:
    changed = Origin(**(vars(ORIGIN) | {"files": FILES | {"b.png": "5", "e.png": "6"}}))
    assert load_checkpoint(written, changed) is not None
    assert caplog.messages == ["Pictures have changed since the run began: 1 of those checked; the first is b.png."]


def test_a_run_of_before_pictures_and_settings_were_noted_goes_on_and_says_so(
    written: TrainConfig, caplog: pytest.LogCaptureFixture
) -> None:
    folder = latest_checkpoint(written.output)
    assert folder is not None
    file = folder / STATE_FILE
    state = json.loads(file.read_text("utf-8"))
    for name in ("files", "preparation", "configuration"):
        del state["origin"][name]
    file.write_text(json.dumps(state), "utf-8")
    assert load_checkpoint(written, ORIGIN) is not None
    assert [message.split(" were when it began, so they")[0] for message in caplog.messages] == [
        "The run does not say what the pictures",
        "The run does not say what the model's settings for pictures and texts",
        "The run does not say what the other settings of the model's parts",
    ]


def test_a_run_from_a_file_may_leave_it_out_or_find_it_elsewhere_later(make_config: MakeConfig) -> None:
    config = make_config(pretrained=Path("here/a.safetensors"))
    save_checkpoint(checkpoint(1), config, ORIGIN)
    check_same_run(make_config(), ORIGIN)
    check_same_run(make_config(pretrained=Path("there/a.safetensors")), ORIGIN)
    with pytest.raises(UserError, match=r"began from here/a.safetensors, not from b.safetensors"):
        check_same_run(make_config(pretrained=Path("b.safetensors")), ORIGIN)


def test_a_run_from_a_file_is_not_continued_with_another_of_its_name(make_config: MakeConfig) -> None:
    def began_from(name: str | None, digest: str | None) -> tuple[TrainConfig, Origin]:
        file = None if name is None else Path(name)
        return make_config(pretrained=file), Origin(**(vars(ORIGIN) | {"pretrained": digest}))

    save_checkpoint(checkpoint(1), *began_from("here/a.safetensors", "1"))
    check_same_run(*began_from("there/renamed.safetensors", "1"))
    with pytest.raises(UserError, match=r"began from another file of the same name, not from there/a.safetensors"):
        check_same_run(*began_from("there/a.safetensors", "2"))
    save_checkpoint(checkpoint(2), *began_from(None, None))  # a resumed run need not name it
    check_same_run(*began_from("here/a.safetensors", "1"))
    with pytest.raises(UserError, match="began from another file of the same name"):
        check_same_run(*began_from("here/a.safetensors", "2"))
