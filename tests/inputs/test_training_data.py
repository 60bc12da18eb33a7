"""Every row of "Training data" in docs/inputs.md, tried with the real command line or the reader behind it."""

from __future__ import annotations

import json
import logging
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import save_file

from ipa_app.errors import UserError
from ipa_app.training.cli import main
from ipa_app.training.config import DataConfig
from ipa_app.training.data import read_examples
from ipa_app.training.preflight import claimed
from tests.inputs.tables import rows
from tests.tiny_models import random_adapter_tensors, tiny_unet

ROWS = rows("Training data")
Found = tuple[str, str | None]


class Desk:
    """A folder to lay out training data in, and the code that reads it."""

    def __init__(self, bundle: Path, other: Path, log: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture) -> None:
        self.bundle = bundle
        self.other = other
        self._log = log
        self._capsys = capsys

    def pictures(self, *names: str) -> None:
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), "red").save(name)

    def write(self, name: str, content: str | bytes | list) -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content) if isinstance(content, list) else content
        Path(name).write_bytes(text.encode() if isinstance(text, str) else text)

    def read(self, data: str = "data.json", *, expect: list[tuple[str, str]]) -> Found:
        """Return the outcome of reading data, whose good examples must be these pictures with these texts."""
        self._log.clear()
        try:
            examples = read_examples(DataConfig(base=self.bundle, data=Path(data), heldout=0), seed=0)
        except UserError as error:
            return "Refused", str(error)
        assert [(example.image.name, example.entry.text) for example in examples.train] == expect
        assert all(example.image.is_file() and example.reference.is_file() for example in examples.train)
        if len(examples.skipped):
            return "Left out", self._log.messages[-1]
        return "Taken", next(iter(examples.notes), None)

    def train(self, *more: str, data: str = "data.json") -> Found:
        """Return the outcome of a whole run, with its error or its first warning."""
        self._log.clear()
        self._capsys.readouterr()
        settings = ["--batch-size", "1", "--num-inference-steps", "1", "--sample-steps", "0", "--size", "64"]
        places = ["--base", str(self.bundle), "--data", data, "--output", "out", "--max-steps", "1"]
        if main([*places, *settings, *more]):
            (line,) = (line for line in self._capsys.readouterr().err.splitlines() if line.startswith("error: "))
            return "Refused", line.removeprefix("error: ")
        warnings = [message for message in self._log.messages if message.startswith("warning: ")]
        return "Taken", warnings[0].removeprefix("warning: ") if warnings else None


BOTH = [("a.png", "a bear"), ("b.png", "a frog")]
LIST = [{"image_file": "a.png", "text": "a bear"}, {"image_file": "b.png", "text": "a frog", "reference_file": "a.png"}]


def two(desk: Desk, content: str | bytes | list = LIST, *, name: str = "data.json") -> Found:
    desk.pictures("a.png", "b.png")
    desk.write(name, content)
    return desk.read(name, expect=BOTH)


def first_alone(desk: Desk, content: str | list, *, name: str = "data.json") -> Found:
    desk.pictures("a.png", "b.png")
    desk.write(name, content)
    return desk.read(name, expect=BOTH[:1])


def other_names(desk: Desk) -> Found:
    lines = [{"File_Name": "a.png", "TEXT": "a bear"}, {"image": "b.png", "Caption": "a frog"}]
    return two(desk, "\n".join(json.dumps(line) for line in lines))


def mapping(desk: Desk) -> Found:
    return two(desk, json.dumps({"a.png": "a bear", "b.png": {"caption": "a frog"}}))


def table(desk: Desk) -> Found:
    assert two(desk, "text;file_name\na bear;a.png\na frog;b.png\n", name="data.csv") == ("Taken", None)
    assert two(desk, "file_name\ttext\na.png\ta bear\nb.png\ta frog\n", name="data.tsv") == ("Taken", None)
    return two(desk, "file_name,text\na.png,a bear\nb.png,a frog\n", name="data.csv")


def folder_with_list(desk: Desk) -> Found:
    desk.pictures("toys/a.png", "toys/b.png")
    desk.write("toys/metadata.csv", "file_name,text\na.png,a bear\nb.png,a frog\n")
    assert desk.read("toys", expect=BOTH) == ("Taken", None)
    Path("toys/metadata.csv").unlink()
    desk.write(
        "toys/metadata.jsonl", '{"file_name": "a.png", "text": "a bear"}\n{"file_name": "b.png", "text": "a frog"}'
    )
    return desk.read("toys", expect=BOTH)


def folder(desk: Desk, *, bear: bytes | None = b"a bear", frog: bytes | None = b"a frog", expect: list = BOTH) -> Found:
    desk.pictures("toys/a.png", "toys/b.png")
    for name, text in (("a.txt", bear), ("b.caption", frog)):
        if text is not None:
            desk.write(f"toys/{name}", text)
    return desk.read("toys", expect=expect)


def repeats(desk: Desk) -> Found:
    desk.pictures("toys/10_bear/a.png")
    outcome = desk.read("toys", expect=[("a.png", "bear")])
    examples = read_examples(DataConfig(base=desk.bundle, data=Path("toys")), seed=0)
    assert [example.entry.repeats for example in examples.train] == [10]
    return outcome


def a_year(desk: Desk) -> Found:
    desk.pictures("toys/2023_holiday/a.png")
    return desk.read("toys", expect=[("a.png", "")])


def unicode_marks(desk: Desk) -> Found:
    assert two(desk, json.dumps(LIST).encode("utf-8-sig")) == ("Taken", None)
    assert folder(desk, bear="a bear".encode("utf-16")) == ("Taken", None)
    return two(desk, json.dumps(LIST).encode("utf-16"))


def spellings(desk: Desk) -> Found:
    desk.pictures("Toys/A.PNG", unicodedata.normalize("NFD", "Toys/Bär.png"))
    names = ["toys\\a.png", unicodedata.normalize("NFC", "Toys\\Bär.png")]
    desk.write("data.json", [{"image_file": name, "text": "a bear"} for name in names])
    accented = unicodedata.normalize("NFD", "Bär.png")
    return desk.read(expect=[("A.PNG", "a bear"), (accented, "a bear")])


def absolute(desk: Desk) -> Found:
    desk.pictures("elsewhere/a.png", "elsewhere/b.png")
    paths = [Path("elsewhere", name).resolve() for name, _ in BOTH]
    texts = [text for _, text in BOTH]
    desk.write("data.json", [{"image_file": str(p), "text": text} for p, text in zip(paths, texts, strict=True)])
    return desk.read(expect=BOTH)


def missing(desk: Desk) -> Found:
    desk.pictures("toys/a.png")
    desk.write("toys/data.json", [LIST[0], {"image_file": "b.png", "text": ""}])
    return desk.read("toys/data.json", expect=BOTH[:1])


def no_picture(desk: Desk) -> Found:
    desk.pictures("a.png")
    desk.write("b.png", "not a picture")
    desk.write("data.json", LIST)
    outcome, _ = desk.train("--eval-steps", "0")
    assert outcome == "Taken"
    told = [message for message in desk._log.messages if message.startswith("skipped b.png with a.png: ")]
    assert len(told) == 1
    assert any(message.startswith("Left out: 1 of 2 pictures (") for message in desk._log.messages)
    return "Left out", None


def long_text(desk: Desk) -> Found:
    desk.pictures("a.png", "b.png")
    desk.write("data.json", [LIST[0], {"image_file": "b.png", "text": "a red hat " * 20}])
    return desk.train("--eval-steps", "0")


def laid_out(desk: Desk) -> None:
    desk.pictures("a.png", "b.png")
    desk.write("data.json", LIST)


def shared(desk: Desk) -> Found:
    names = [f"{number}.png" for number in range(10)]
    desk.pictures(*names)
    desk.write("data.json", [{"image_file": name, "text": "", "reference_file": names[0]} for name in names])
    return desk.train()


def twice(desk: Desk) -> Found:
    names = [f"{number}.png" for number in range(20)]
    for number, name in enumerate(names):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(name)
        shutil.copy(name, f"copy of {name}")
    every = [*names, *(f"copy of {name}" for name in names)]
    desk.write("data.json", [{"image_file": name, "text": ""} for name in every])
    examples = read_examples(DataConfig(base=desk.bundle, data=Path("data.json")), seed=0)
    held_out = {example.image.name.removeprefix("copy of ") for example in examples.heldout}
    assert (len(held_out), len(examples.heldout), len(examples.train)) == (2, 4, 36)
    return "Taken", next(iter(examples.notes), None)


def measured_again(desk: Desk) -> Found:
    desk.pictures("a.png", "b.png")
    shutil.copy("a.png", "held.png")
    Image.new("RGB", (64, 64), "blue").save("b.png")
    desk.write("data.json", LIST)
    desk.write("held.json", [{"image_file": "held.png", "text": ""}])
    return desk.train("--heldout-data", "held.json")


def few(desk: Desk) -> Found:
    laid_out(desk)
    return desk.train()


def by_heart(desk: Desk) -> Found:
    laid_out(desk)
    return desk.train("--max-steps", "1000", "--batch-size", "2", "--eval-steps", "0", "--max-minutes", "0.000001")


def refused_file(content: str, *, name: str = "data.json") -> Callable[[Desk], Found]:
    def given(desk: Desk) -> Found:
        desk.pictures("a.png")
        desk.write(name, content)
        return desk.read(name, expect=[])

    return given


def no_file_there(desk: Desk) -> Found:
    desk.write("toys/data.json", LIST)
    return desk.read("toys/data.json", expect=[])


def output_taken(desk: Desk) -> Found:
    laid_out(desk)
    desk.write("out", "a file")
    return desk.train()


def output_busy(desk: Desk) -> Found:
    laid_out(desk)
    with claimed(Path("out")):
        return desk.train()


def after_a_run(*more: str, entries: int = 2, file: str = "", **told: object) -> Callable[[Desk], Found]:
    def given(desk: Desk) -> Found:
        laid_out(desk)
        assert desk.train("--eval-steps", "0")[0] == "Taken"
        desk.write("data.json", LIST[:entries])
        if file:
            changed = Path(shutil.copytree(desk.bundle, "changed"), file)
            changed.write_text(json.dumps(json.loads(changed.read_text()) | told))
        return desk.train(*(str(desk.other) if part == "OTHER" else part for part in more))

    return given


def with_other_pictures(desk: Desk) -> Found:
    laid_out(desk)
    assert desk.train("--eval-steps", "0")[0] == "Taken"
    Path("others").mkdir()
    for name, _ in BOTH:
        Image.new("RGB", (64, 64), "blue").save(Path("others") / name)
    return desk.train("--data-root", "others")


def three(desk: Desk) -> None:
    """Train on three pictures."""
    names = [f"toys/{number}.png" for number in range(3)]
    desk.pictures(*names)
    desk.write("toys/data.json", [{"image_file": Path(name).name, "text": ""} for name in names])
    assert desk.train("--eval-steps", "0", data="toys/data.json")[0] == "Taken"


def one_replaced(desk: Desk) -> Found:
    three(desk)
    Image.new("RGB", (64, 64), "blue").save("toys/2.png")
    outcome, _ = desk.train("--eval-steps", "0", data="toys/data.json")
    (told,) = (message for message in desk._log.messages if message.startswith("Pictures have changed"))
    return outcome, told


def moved(desk: Desk) -> Found:
    three(desk)
    Path("toys").rename("moved")
    return desk.train("--eval-steps", "0", data="moved/data.json")


def pretrained(desk: Desk, kind: str = "plus") -> Found:
    laid_out(desk)
    save_file(random_adapter_tensors(tiny_unet(), kind=kind), f"{kind}.safetensors")
    return desk.train("--pretrained", f"{kind}.safetensors")


def no_room(desk: Desk) -> Found:
    laid_out(desk)
    with pytest.MonkeyPatch.context() as patch:
        usage = shutil.disk_usage(".")._replace(free=10**6)
        patch.setattr(shutil, "disk_usage", lambda _: usage)
        return desk.train()


other_processor = after_a_run(
    "--base", "changed", file="feature_extractor/preprocessor_config.json", do_center_crop=False
)
other_tokenizer = after_a_run("--base", "changed", file="tokenizer/tokenizer_config.json", pad_token="a</w>")
ENTRY = '{"image_file": "a.png", "text": "a"}'
GIVEN: dict[str, Callable[[Desk], Found]] = {
    'A JSON list of `{"image_file", "text"}`, with `"reference_file"` or without': two,
    "The same as JSON lines, with other names (`file_name`, `image`; `caption`, `prompt`), in any capital letters": (
        other_names
    ),
    'A JSON mapping of file names to texts, or to `{"caption"}`': mapping,
    "A table with `file_name,text` in its first line; semicolons or tabs will do": table,
    "A folder with a `metadata.jsonl` or `metadata.csv`": folder_with_list,
    "A folder with a `.txt` or `.caption` file beside every picture": folder,
    "A folder named like `10_bear`": repeats,
    "A folder named by a year or a date, like `2023_holiday`": a_year,
    "A folder in which a picture has no caption": lambda desk: folder(
        desk, frog=None, expect=[("a.png", "a bear"), ("b.png", "")]
    ),
    "UTF-16, or UTF-8 with a byte order mark": unicode_marks,
    "A caption in another encoding": lambda desk: folder(
        desk, bear="Bär".encode("cp1252"), expect=[("a.png", "Bär"), ("b.png", "a frog")]
    ),
    "Names with backslashes, in other capital letters, or with accents composed in another way": spellings,
    "Absolute names": absolute,
    "A picture that is there twice, under two names, by a link or as a copy": twice,
    "The name of a missing file": missing,
    "A file that is not a picture": no_picture,
    "An entry with a misspelt key": lambda desk: first_alone(
        desk, [LIST[0], {"image_file": "b.png", "text": "a frog", "refrence_file": "a.png"}]
    ),
    "An entry without a text": lambda desk: first_alone(desk, [LIST[0], {"image_file": "b.png"}]),
    "A row whose text has commas and no quotes": lambda desk: first_alone(
        desk, "file_name,text\na.png,a bear\nb.png,a frog, sitting\n", name="metadata.csv"
    ),
    "A key that means nothing here": lambda desk: two(desk, [LIST[0] | {"width": 64}, LIST[1]]),
    "A text too long for the text encoder": long_text,
    "Fewer than 10 pictures": few,
    "Pictures of which so many share a file that none can be held out": shared,
    "`--heldout-data` with pictures that are in `--data` as well, under whatever names": measured_again,
    "So few pictures that each is seen a thousand times": by_heart,
    "A data file that is not there": lambda desk: desk.read(expect=[]),
    "A damaged data file": refused_file(f"[{ENTRY[:-1]}"),
    "A file that is not data at all, such as a picture": refused_file("# Toys\n\nBears.\n", name="README.md"),
    "A table without a line that names its columns": refused_file("a.png,a bear\n", name="metadata.csv"),
    "Data with nothing that can be used": refused_file('[{"image_file": "a.png"}]'),
    "Data whose files are all missing": no_file_there,
    "`--output` where nothing can be written": output_taken,
    "`--output` that another run is writing to": output_busy,
    "`--output` with a run of another `--adapter`": after_a_run("--adapter", "plus"),
    "`--output` with a run on another base model": after_a_run("--base", "OTHER"),
    "`--output` with a run on other data": after_a_run(entries=1),
    "`--output` with a run on other pictures under the same names": with_other_pictures,
    "`--output` with a run, and one of many pictures replaced since": one_replaced,
    "`--output` with a run, and the data moved unchanged": moved,
    "`--output` with a run on a model whose image processor was set up differently": other_processor,
    "`--output` with a run on a model with a tokenizer or a part that was set up differently": other_tokenizer,
    "`--output` on a disk without room for the run": no_room,
    "`--size` that the base model's autoencoder cannot take": lambda desk: (
        laid_out(desk),
        desk.train("--size", "100"),
    )[1],
    "`--pretrained` with an adapter of another kind": pretrained,
    "`--pretrained` with a full-face adapter": lambda desk: pretrained(desk, "full"),
}


@pytest.fixture
def desk(
    tiny_bundle_dir: Path,
    other_bundle_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture,
) -> Desk:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    return Desk(tiny_bundle_dir, other_bundle_dir, caplog, capsys)


def test_every_row_of_the_table_is_tried() -> None:
    assert list(GIVEN) == list(ROWS)


@pytest.mark.parametrize("given", GIVEN)
def test_what_becomes_of_it_and_what_is_said(given: str, desk: Desk) -> None:
    outcome, sentence = GIVEN[given](desk)
    assert ROWS[given].outcome.startswith(outcome)
    assert sentence == ROWS[given].sentence
