"""Examples: found on disk, split, opened and ordered."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.training.config import DataConfig
from ipa_app.training.data import Example, ExampleReader, batch_indices, open_example, read_examples, split_heldout
from ipa_app.training.entries import Entry, Skipped
from tests.training.conftest import examples_in


def pair(number: int) -> Example:
    names = f"{number}.png", f"{(number + 1) % 40}.png"
    entry = Entry(image=names[0], text="", reference=names[1])
    return Example(entry=entry, image=Path(names[0]), reference=Path(names[1]))


def test_missing_files_are_left_out_before_anything_is_opened(pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    (pictures / "3.png").unlink()
    entries = json.loads((pictures / "data.json").read_text())
    entries[5]["reference_file"] = "none.png"
    (pictures / "data.json").write_text(json.dumps(entries))
    examples = examples_in(pictures)
    assert len(examples.train) + len(examples.heldout) == 10
    assert examples.listed == 12
    assert caplog.messages == [
        f"skipped 3.png: there is no such file in {pictures}",
        f"skipped 5.png with none.png: its reference none.png is not in {pictures}",
    ]


def test_all_missing_is_refused_and_says_where_files_were_looked_for(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"None of the pictures .* could be found; the first is 0.png: there is no"):
        examples_in(pictures, data_root=tmp_path)


def test_names_start_from_the_data_file_or_the_folder_that_is_named(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (pictures / "data.json").rename(tmp_path / "elsewhere" / "data.json")
    examples = read_examples(
        DataConfig(base=tmp_path, data=tmp_path / "elsewhere" / "data.json", data_root=pictures), seed=0
    )
    assert {example.image.parent for example in examples.train} == {pictures}


def test_the_digest_follows_what_is_listed_and_not_where_it_lies(pictures: Path, tmp_path: Path) -> None:
    before = examples_in(pictures).digest
    Image.new("RGB", (9, 9), "white").save(pictures / "5.png")
    moved = pictures.rename(tmp_path / "moved")
    assert examples_in(moved).digest == before
    entries = json.loads((moved / "data.json").read_text())
    entries[5]["text"] = "something else"
    (moved / "data.json").write_text(json.dumps(entries))
    assert examples_in(moved).digest != before


def test_what_is_looked_into_follows_the_files_and_not_where_they_lie(pictures: Path, tmp_path: Path) -> None:
    before = examples_in(pictures).looked_into()
    assert set(before) == {f"{number}.png" for number in range(12)}
    moved = pictures.rename(tmp_path / "moved")
    assert examples_in(moved).looked_into() == before
    Image.new("RGB", (9, 9), "white").save(moved / "5.png")
    (moved / "6.png").unlink()
    after = examples_in(moved).looked_into()
    assert {name for name in before if before[name] != after.get(name)} == {"5.png", "6.png"}


def test_few_of_many_are_looked_into_and_the_same_few_whatever_else_comes(tmp_path: Path) -> None:
    for number in range(90):
        (tmp_path / f"{number}.png").write_bytes(f"{number}".encode())
    entries = [{"image_file": f"{number}.png", "text": ""} for number in range(90)]
    (tmp_path / "data.json").write_text(json.dumps(entries))
    before = examples_in(tmp_path).looked_into()
    (tmp_path / "data.json").write_text(json.dumps(entries[:-1]))
    assert len(before) == 64
    assert len(before.items() & examples_in(tmp_path).looked_into().items()) >= 63


def test_held_out_pictures_are_in_no_training_example() -> None:
    train, heldout = split_heldout([pair(number) for number in range(40)], count=3, seed=0)
    assert len(heldout) == 3
    hidden = {path for example in heldout for path in (example.image, example.reference)}
    assert hidden.isdisjoint(path for example in train for path in (example.image, example.reference))
    assert len(train) >= 40 - 3 * 3


def subjects(number: int, *, views: int, reference: str | None = None) -> list[Example]:
    """Return examples of several subjects, whose views share one reference each."""
    return [
        Example(
            entry=Entry(image=f"{subject}/{view}", text=""),
            image=Path(f"{subject}/{view}"),
            reference=Path(reference or f"{subject}/reference"),
        )
        for subject in range(number)
        for view in range(views)
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("number", "held_out"), [(10, 16), (5, 10)])
def test_subjects_that_share_a_reference_are_held_out_as_a_whole(number: int, held_out: int, seed: int) -> None:
    train, heldout = split_heldout(subjects(number, views=20), count=16, seed=seed)
    assert len(train) == 20 * (number - 1)
    assert len(heldout) == held_out
    assert {example.reference for example in train}.isdisjoint(example.reference for example in heldout)


def test_pictures_that_share_nothing_are_held_out_among_the_many_that_do() -> None:
    examples = [*subjects(1, views=100), *(pair(number) for number in range(0, 20, 2))]
    train, heldout = split_heldout(examples, count=3, seed=0)
    assert len(train) == len(examples) - 3
    assert {example.reference.name for example in heldout} <= {f"{number}.png" for number in range(1, 20, 2)}


@pytest.mark.parametrize("seed", range(4))
def test_where_nothing_is_shared_the_seed_alone_says_what_is_held_out(seed: int) -> None:
    """A run of an earlier version continues with the same examples."""
    examples = [pair(number) for number in range(0, 40, 2)]
    train, heldout = split_heldout(examples, count=5, seed=seed)
    chosen = random.Random(seed).sample(range(20), 2)
    assert heldout == [examples[index] for index in sorted(chosen)]
    assert train == [example for index, example in enumerate(examples) if index not in chosen]


@pytest.mark.parametrize(
    ("views", "note"),
    [
        (3, "Pictures that are left out of training because they share files with those held out: 2."),
        (12, "No picture can be held out, because too many share their files with others."),
    ],
)
def test_what_shared_files_cost_is_said(views: int, note: str, pictures: Path) -> None:
    entries = json.loads((pictures / "data.json").read_text())
    for number, entry in enumerate(entries):
        entry["reference_file"] = f"{number // views}.png"
    (pictures / "data.json").write_text(json.dumps(entries))
    assert examples_in(pictures).notes == [note]


def test_pictures_that_are_trained_on_and_measured_on_are_said(pictures: Path) -> None:
    examples = examples_in(pictures, heldout_data=pictures / "data.json", heldout=2)
    assert len(examples.train) == 12
    assert len(examples.heldout) == 2
    assert examples.notes == [
        "Pictures used both for training and for measuring: 2; the held-out loss will look too good."
    ]


def test_what_is_measured_on_is_said_wherever_training_uses_it(pictures: Path, tmp_path: Path) -> None:
    entries = json.loads((pictures / "data.json").read_text())
    (pictures / "data.json").write_text(json.dumps([entries[0], entries[1] | {"reference_file": "2.png"}]))
    (tmp_path / "copy.png").write_bytes((pictures / "0.png").read_bytes())
    named = [{"image_file": "copy.png"}, {"image_file": str(pictures / "2.png")}, {"image_file": "pictures/3.png"}]
    (tmp_path / "held.json").write_text(json.dumps([each | {"text": ""} for each in named]))
    (note,) = examples_in(pictures, heldout_data=tmp_path / "held.json").notes
    assert note == "Pictures used both for training and for measuring: 2; the held-out loss will look too good."


def again_by_link(pictures: Path, name: str) -> str:
    (pictures / "again").mkdir(exist_ok=True)
    (pictures / "again" / name).symlink_to(pictures / name)
    return f"again/{name}"


def again_as_copy(pictures: Path, name: str) -> str:
    (pictures / f"copy of {name}").write_bytes((pictures / name).read_bytes())
    return f"copy of {name}"


@pytest.mark.parametrize(
    "again",
    [
        lambda folder, name: str(folder / name),
        lambda folder, name: f"../{folder.name}/{name}",
        pytest.param(
            again_by_link, marks=pytest.mark.skipif(os.name == "nt", reason="links need a right of their own")
        ),
        again_as_copy,
    ],
)
def test_a_picture_that_is_held_out_is_trained_on_under_no_other_name(
    again: Callable[[Path, str], str], pictures: Path
) -> None:
    entries = json.loads((pictures / "data.json").read_text())
    twice = [entry | {"image_file": again(pictures, entry["image_file"])} for entry in entries]
    (pictures / "data.json").write_text(json.dumps([*entries, *twice]))
    examples = examples_in(pictures)
    trained, held_out = (
        [example.image.read_bytes() for example in part] for part in (examples.train, examples.heldout)
    )
    assert len(held_out) == 2
    assert len(trained) == 24 - 2
    assert set(held_out).isdisjoint(trained)


@pytest.mark.parametrize("number", [-1, 2.5])
def test_a_number_of_held_out_pictures_that_cannot_be_is_refused(number: float, pictures: Path) -> None:
    with pytest.raises(UserError, match=f"heldout is {number}; it must be a whole number of at least 0"):
        examples_in(pictures, heldout=number)


def test_all_that_is_named_to_measure_on_counts_unless_a_number_is_asked_for(pictures: Path) -> None:
    entries = json.loads((pictures / "data.json").read_text())
    (pictures / "held.json").write_text(json.dumps([entry | {"text": f"{n}"} for entry in entries for n in range(3)]))
    assert len(examples_in(pictures, heldout_data=pictures / "held.json").heldout) == 36
    assert len(examples_in(pictures, heldout_data=pictures / "held.json", heldout=5).heldout) == 5


@pytest.fixture
def namesakes(pictures: Path, tmp_path: Path) -> Path:
    """Return a folder of different pictures with the same names, listed with an invalid second entry."""
    folder = tmp_path / "others"
    folder.mkdir()
    for number in (0, 1):
        Image.new("RGB", (40, 48), "white").save(folder / f"{number}.png")
    lines = [{"image_file": "0.png", "text": ""}, {"image_file": "1.png"}, {"image_file": "1.png", "text": ""}]
    (folder / "data.json").write_text(json.dumps(lines))
    return folder


def test_a_bad_picture_costs_no_other_one_of_its_name(
    pictures: Path, namesakes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = json.loads((pictures / "data.json").read_text())
    (pictures / "data.json").write_text(json.dumps([{}, {}, *entries]))
    (pictures / "0.png").write_bytes(b"not a picture")
    (namesakes / "1.png").unlink()
    examples = examples_in(pictures, heldout_data=namesakes / "data.json")
    every = [*examples.train, *examples.heldout]
    reader = ExampleReader(every, size=8, skipped=examples.skipped)
    opened = [reader.open(number) is not None for number in range(len(every))]
    assert opened == [False] + [True] * 12
    assert [message.split(":")[0] for message in caplog.messages] == [
        "skipped entry 1 of data.json",
        "skipped entry 2 of data.json",
        "skipped entry 2 of data.json (held out)",
        "skipped 1.png (held out)",
        "skipped 0.png",
    ]
    assert examples.listed == 12 + 2 + 2 + 1


def test_keys_that_are_not_used_are_said(pictures: Path) -> None:
    entries = [entry | {"width": 3} for entry in json.loads((pictures / "data.json").read_text())]
    (pictures / "data.json").write_text(json.dumps(entries))
    assert examples_in(pictures).notes == ['The data also has "width", which training does not use.']


def test_a_picture_is_resized_by_its_short_side_and_cropped_to_the_centre(pictures: Path) -> None:
    opened = open_example(examples_in(pictures, heldout=0).train[0], 32)
    assert opened.pixel_values.shape == (3, 32, 32)
    assert opened.pixel_values[:, 0, 0].tolist() == pytest.approx([1, -1, -1], abs=0.02)
    assert opened.reference.size == (40, 48)


def test_a_bad_picture_is_told_once_whoever_meets_it(pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    (pictures / "3.png").write_bytes(b"not a picture")
    examples = examples_in(pictures, heldout=0)
    for _ in range(2):
        reader = ExampleReader(examples.train, size=8, skipped=examples.skipped)
        assert reader.open(3) is None
        assert reader.open_or_next(3).reference.size == (44, 48)
    assert len(caplog.messages) == len(examples.skipped) == 1
    assert caplog.messages[0].startswith("skipped 3.png: ")


def test_not_one_good_picture_is_said(pictures: Path) -> None:
    for file in pictures.glob("*.png"):
        file.write_bytes(b"not a picture")
    examples = examples_in(pictures, heldout=0)
    with pytest.raises(UserError, match="None of the pictures in the data can be opened; the first is 0.png"):
        ExampleReader(examples.train, size=8, skipped=Skipped()).open_or_next(0)


def test_every_example_comes_once_before_any_comes_again() -> None:
    seen = [index for batch in islice(batch_indices(10, 4, seed=0), 5) for index in batch]
    assert sorted(seen[:10]) == list(range(10))
    assert sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]


def test_the_order_goes_on_from_any_batch_and_is_shared_between_processes() -> None:
    whole = list(islice(batch_indices(7, 3, seed=1), 8))
    assert list(islice(batch_indices(7, 3, seed=1, start=5), 3)) == whole[5:]
    shares = [list(islice(batch_indices(7, 3, seed=1, process=process, processes=2), 4)) for process in (0, 1)]
    assert [batch for pair in zip(*shares, strict=True) for batch in pair] == whole
