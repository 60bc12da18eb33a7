"""A process killed in the middle of its work, and the next one over the same library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client, handle_file

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.imaging.opening import open_image
from ipa_app.imaging.result_files import read_settings
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.ui.orders import SERIES
from ipa_app.ui.running import Runner
from ipa_app.ui.studio import save_pictures
from tests.engine.conftest import TIMEOUT_S, noise_picture
from tests.engine.test_keeping import opened, until
from tests.ui.page_parts import inputs_after, opened_page
from tests.ui.test_operations import running_app

DRAWN, LONG, WAITING = (1, 2), 50, tuple(range(101, 111))


@dataclass(frozen=True)
class Folder:
    """A library on disk, seen from outside the process."""

    path: Path

    @property
    def pictures(self) -> dict[int, Path]:
        """Its picture files by seed."""
        found = sorted((self.path / "pictures").rglob("*.png"), key=lambda path: path.stat().st_mtime_ns)
        return {(read_settings(path) or {}).get("seed", -1): path for path in found}

    @property
    def waiting(self) -> dict[int, int]:
        """How often each waiting request has been begun, by seed, in the order of arrival."""
        records = []
        for path in (self.path / "waiting").glob("*.json"):
            with suppress(FileNotFoundError):  # it has been drawn meanwhile
                records.append(json.loads(path.read_text()))
        records.sort(key=lambda record: record["asked"])
        return {record["parts"][0]["request"]["seed"]: record["begun"][0] for record in records}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "reference.png"
    noise_picture(3).save(path)
    return path


@pytest.mark.slow
def test_what_waited_is_drawn_after_a_kill_in_order_and_to_the_byte(
    tiny_bundle_dir: Path, tmp_path: Path, picture: Path
) -> None:
    folder = Folder(tmp_path / "library")
    shared: dict[str, Any] = {
        "model": tiny_bundle_dir.name,
        "reference": handle_file(picture),
        "api_name": "/variation",
    }
    with running_app(tiny_bundle_dir, tmp_path / "first", library=folder.path) as (url, process):
        client = Client(url, verbose=False, download_files=False)
        for seed in DRAWN:
            client.predict(steps=2, seed=seed, **shared)
        jobs = [client.submit(steps=100, count=4, seed=LONG, **shared)]
        until(lambda: folder.waiting == {LONG: 1})
        jobs += [client.submit(steps=2, count=2, seed=seed * 10, **shared) for seed in WAITING]
        until(lambda: folder.waiting == {LONG: 1, **{seed * 10: 0 for seed in WAITING}})
        came = tuple(folder.waiting)
        process.kill()
        process.wait()
    assert tuple(folder.pictures) == DRAWN, jobs
    with running_app(tiny_bundle_dir, tmp_path / "second", library=folder.path):
        until(lambda: not folder.waiting)
    pictures = folder.pictures
    drawn_later = [*range(LONG, LONG + 4), *(seed + index for seed in came[1:] for index in range(2))]
    assert list(pictures) == [*DRAWN, *drawn_later]
    assert not list((folder.path / "waiting" / "pictures").iterdir())
    for seed, count, steps in ((LONG, 4, 100), (WAITING[0] * 10, 2, 2), (WAITING[-1] * 10, 2, 2)):
        undisturbed = drawn_undisturbed(tiny_bundle_dir, picture, seed=seed, count=count, steps=steps)
        assert [pictures[seed + index].read_bytes() for index in range(count)] == undisturbed


def drawn_undisturbed(bundle: Path, picture: Path, **values: Any) -> list[bytes]:
    """Return the files of a request that was not interrupted."""
    engine = Engine(ModelManager({bundle.name: entry_from_folder(bundle, name=bundle.name)}, device="cpu"))
    request = GenerateRequest(
        task="variation", model=bundle.name, references=(Reference(image=open_image(picture)),), **values
    )
    result = engine.submit(request).result(TIMEOUT_S)
    engine.close()
    return [Path(path).read_bytes() for path in save_pictures(result, job_id=f"undisturbed{request.seed}")]


@contextmanager
def page_over(bundle: Path, library: Path, *, shows: bool = True) -> Iterator[tuple[Any, Any, Runner]]:
    with (
        opened(library, shows=shows) as (keeper, _),
        opened_page(bundle, keeper=keeper) as (parts, studio),
    ):
        yield parts, studio, Runner(studio=studio, results=parts.results, tabs=parts.tabs)


@pytest.mark.parametrize("name", [None, "scale-strip"])
def test_a_page_that_is_opened_again_follows_on(
    tiny_bundle_dir: Path, tmp_path: Path, picture: Path, name: str | None
) -> None:
    order = SERIES[name] if name else None
    with page_over(tiny_bundle_dir, tmp_path / "library") as (parts, studio, runner):
        update = {parts.panel.references.slots[0].image: str(picture), parts.settings.inputs["steps"]: 30}
        entered = inputs_after(parts, "variation", {**update, parts.settings.seed: 7})
        updates = runner.run("variation", order)(**entered)
        kept = next(json.loads(each[runner.results.running]) for each in updates if runner.results.running in each)
        studio.engine.close()
        updates.close()  # type: ignore[attr-defined]
    with page_over(tiny_bundle_dir, tmp_path / "library") as (_, studio, runner):
        studio.take_up()
        first, *_, last = runner.resume(kept, [])
        assert first[runner.stop_buttons[0]]["interactive"]
        assert len(last[runner.results.gallery]["value"]) == (5 if name else entered["count"])
        assert last[runner.results.running] == ""
        assert "seconds" not in last[runner.results.status], "it began in another process"
        made = [path.read_bytes() for path in sorted((tmp_path / "library" / "pictures").rglob("*.png"))]
        assert sorted(Path(path).read_bytes() for path, _ in last[runner.results.gallery]["value"]) == sorted(made)
    with page_over(tiny_bundle_dir, tmp_path / "library") as (_, studio, runner):
        studio.take_up()
        assert not studio.knows(kept["job"])
        (earlier,) = runner.resume(kept, [])
        assert earlier[runner.results.running] == gr.skip()
        assert len(earlier[runner.results.history]) == len(made)


def test_what_is_stopped_stays_stopped(tiny_bundle_dir: Path, tmp_path: Path, picture: Path) -> None:
    request = GenerateRequest(
        task="variation", references=(Reference(image=open_image(picture)),), steps=100, count=8, seed=1
    )
    with page_over(tiny_bundle_dir, tmp_path) as (_, studio, _):
        job_id = studio.submit(request)
        studio.cancel(job_id)
        studio.note_on_keeping(job_id)
    with page_over(tiny_bundle_dir, tmp_path) as (_, studio, _):
        studio.take_up()
        assert not studio.knows(job_id)


def test_the_sentence_of_what_is_not_tried_again_waits_for_its_page(
    tiny_bundle_dir: Path, tmp_path: Path, picture: Path
) -> None:
    request = GenerateRequest(
        task="variation", model="other", references=(Reference(image=open_image(picture)),), steps=100, count=8, seed=1
    )
    with page_over(tiny_bundle_dir, tmp_path) as (_, studio, _):
        job_id = studio.submit(request)
        studio.engine.close()
    record = next((tmp_path / "waiting").glob("*.json"))
    record.write_text(record.read_text().replace('"model": "other"', '"model": "gone"'))
    with page_over(tiny_bundle_dir, tmp_path) as (_, studio, runner):
        studio.take_up()
        with pytest.raises(Exception, match="There is no model"):
            list(runner.resume({"job": job_id}, []))
        until(lambda: not studio.knows(job_id))
        until(lambda: not record.exists())
    with page_over(tiny_bundle_dir, tmp_path) as (_, studio, _):
        studio.take_up()
        assert not studio.knows(job_id)


def test_an_order_that_cannot_be_queued_holds_up_no_other(
    tiny_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with page_over(tiny_bundle_dir, tmp_path) as (_, studio, _):
        jobs = [studio.submit(GenerateRequest(task="mix", prompt=word, steps=100, count=8)) for word in ("cat", "dog")]
        studio.engine.close()
    with page_over(tiny_bundle_dir, tmp_path) as (_, studio, runner):
        submit = studio.engine.submit

        def failing(request: GenerateRequest, **shared: Any) -> Any:
            if request.prompt == "cat":
                raise ZeroDivisionError("no such thing")
            return submit(request, **shared)

        monkeypatch.setattr(studio.engine, "submit", failing)
        studio.take_up()
        with pytest.raises(Exception, match="Something went wrong inside the app"):
            list(runner.resume({"job": jobs[0]}, []))
        assert studio.knows(jobs[1])


def test_nobody_is_shown_what_others_made(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    with opened(tmp_path) as (_, library):
        library.pictures.save(
            noise_picture(), name="somebody's", made=1e9, settings={"output_format": "png"}, inputs={}
        )
    with page_over(tiny_bundle_dir, tmp_path, shows=False) as (_, _, runner):
        assert list(runner.resume({}, [])) == [{runner.results.running: gr.skip()}]
