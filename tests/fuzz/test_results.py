"""Pictures with notes on how they were made, of here and of other programs, that somebody has spoilt or made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import strategies as st

from ipa_app.engine.adopting import adopt
from ipa_app.engine.metadata import input_pictures, metadata_of, pack_inputs, read_request
from ipa_app.engine.plan import make_plan
from ipa_app.imaging.other_programs import read_other
from ipa_app.imaging.result_files import SETTINGS_KEY, NotMadeHereError, OutputFormat, read_settings, write_result
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.entry import ModelEntry
from tests.engine.test_metadata import ENTRY
from tests.fuzz.hostile import altered, anything, check_sentence, examples, holds, spoilt, texts, with_right_sums
from tests.noted_files import noted_file
from tests.other_programs import COMFY, FOOOCUS, INFOTEXT, INVOKE, PICTURE, exif, png, unicode_comment
from tests.sample_requests import OF_TASK, sample_request

FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
OTHERS = [
    {"prompt": COMFY},
    {"parameters": FOOOCUS, "fooocus_scheme": "fooocus"},
    {"invokeai_metadata": INVOKE},
    {"parameters": INFOTEXT},
    {"Comment": {"prompt": "a fox", "steps": 28, "sampler": "k_euler", "seed": 1, "uc": "blurry", "scale": 5}},
]


@pytest.fixture(scope="module")
def entry(tiny_bundle_dir: Path) -> ModelEntry:
    return entry_from_folder(tiny_bundle_dir, name="toybox")


@pytest.fixture
def restore(entry: ModelEntry, tmp_path: Path) -> Callable[[bytes], None]:
    """Reads the settings out of a file as the page does."""

    def read(data: bytes) -> None:
        path = tmp_path / "dropped"
        path.write_bytes(data)
        try:
            read_request(path)
            read_settings(path)
        except NotMadeHereError:
            other = read_other(str(path))
            if other is not None:
                for message in adopt(other, models=[entry], chosen=entry).told:
                    check_sentence(message)

    return read


PLANS = {task: make_plan(sample_request(task, model="m"), ENTRY) for task in OF_TASK}
SETTINGS = [metadata_of(plan, scheduler="S", precision="float32") for plan in PLANS.values()]
INPUTS = {name: text for plan in PLANS.values() for name, text in pack_inputs(input_pictures(plan)).items()}
"""Of all tasks: each takes its own."""


@pytest.fixture(scope="module")
def own_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Whole results of every task in every format."""
    folder, made = tmp_path_factory.mktemp("results"), []
    for settings in SETTINGS:
        for output_format in FORMATS:
            made.append(folder / f"{settings['task']}.{output_format}")
            write_result(PICTURE, made[-1], settings, inputs=INPUTS, output_format=output_format)
    return made


@pytest.fixture(scope="module")
def files(own_files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Whole files with notes of every kind."""
    folder, made = tmp_path_factory.mktemp("noted"), list(own_files)
    for number, notes in enumerate(OTHERS):
        made += [png(folder / f"{number}-{behind}.png", behind=behind, **notes) for behind in (False, True)]
    for suffix in ("jpg", "webp"):
        made.append(exif(folder / f"forge.{suffix}", unicode_comment(INFOTEXT)))
        made.append(exif(folder / f"comfy.{suffix}", Make=f"workflow:{json.dumps(COMFY)}"))
    return [path.read_bytes() for path in made]


def test_what_is_spoilt_below_is_taken_whole(own_files: list[Path]) -> None:
    assert [read_request(path).task for path in own_files[:: len(FORMATS)]] == list(OF_TASK)


@examples(80)
def test_files(count: int, files: list[bytes], restore: Callable[[bytes], None]) -> None:
    data = spoilt(files, head=2048)
    holds(restore, st.one_of(data, data.map(with_right_sums)), count=count)


@examples(60)
def test_settings_made_up(count: int, restore: Callable[[bytes], None], tmp_path: Path) -> None:
    def read(made_up: tuple[OutputFormat, str]) -> None:
        notes = {SETTINGS_KEY: made_up[1], **{f"{SETTINGS_KEY}:{name}": text for name, text in INPUTS.items()}}
        path = noted_file(tmp_path / "noted", PICTURE, made_up[0], notes)
        restore(path.read_bytes())

    settings = st.one_of(altered(SETTINGS), anything())
    written = st.one_of(settings.map(json.dumps), texts().map(lambda text: text.encode("ascii", "replace").decode()))
    holds(read, st.tuples(st.sampled_from(FORMATS), written), count=count)


@examples(60)
def test_notes_of_other_programs_made_up(count: int, restore: Callable[[bytes], None], tmp_path: Path) -> None:
    def read(notes: dict[str, Any]) -> None:
        text = {name: json.dumps(value) if not isinstance(value, str) else value for name, value in notes.items()}
        valid = {name: value.encode("utf-8", "replace").decode() for name, value in text.items()}
        restore(png(tmp_path / "noted.png", **valid).read_bytes())

    def under_its_key(notes: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({key: st.one_of(altered([value]), texts(200)) for key, value in notes.items()})

    holds(read, st.sampled_from(OTHERS).flatmap(under_its_key), count=count)
