"""The Library tab without a browser: finding, showing, deleting and restoring pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from ipa_app.library.pictures import Pictures
from ipa_app.ui.library import ON_A_PAGE, LibraryPanel, LibraryView
from ipa_app.ui.library_pictures import MOST_TICKED
from tests.engine.test_keeping import opened
from tests.ui.page_parts import opened_page

NOWHERE = ("../../outside.png", "/etc/hostname", "a\0.png", "link.png", "", "gone.png", "x" * 5000)


def save(pictures: Pictures, seed: int, prompt: str = "a cat", **settings: Any) -> str:
    path = pictures.save(
        Image.new("RGB", (16, 12), (seed, 9, 9)),
        name=f"mix-{seed}",
        made=1e9 + seed,
        settings={"seed": seed, "output_format": "png", "prompt": prompt, "task": "mix", **settings},
        inputs={},
    )
    return path.relative_to(pictures.folder).as_posix()


@pytest.fixture(scope="module")
def app(tiny_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LibraryView, Pictures]]:
    folder = tmp_path_factory.mktemp("library")
    with opened(folder) as (keeper, library), opened_page(tiny_bundle_dir, keeper=keeper) as (parts, studio):
        assert parts.library
        yield LibraryView(parts.library, pictures=library.pictures, studio=studio), library.pictures


@pytest.fixture(autouse=True)
def _all_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give reading enough time even on a busy machine."""
    monkeypatch.setattr("ipa_app.ui.library._READING_S", 60)


@pytest.fixture
def pictures(app: tuple[LibraryView, Pictures]) -> Iterator[Pictures]:
    yield app[1]
    for path in app[1].folder.rglob("*.*"):
        path.unlink()


@pytest.fixture
def view(app: tuple[LibraryView, Pictures]) -> LibraryView:
    return app[0]


@pytest.fixture
def panel(view: LibraryView) -> LibraryPanel:
    return view._panel


def searched(panel: LibraryPanel, *, offset: int = 0, **search: Any) -> list[Any]:
    values = {"words": "", "favourites": False, "task": "", "model": "", "adapter": "", **search}
    return [*(values[name] for name in panel.search), offset]


def test_without_a_library_there_is_no_tab(tiny_bundle_dir: Path) -> None:
    with opened_page(tiny_bundle_dir) as (parts, _):
        assert parts.library is None


def test_pages_follow_each_other_and_say_where_one_is(
    view: LibraryView, panel: LibraryPanel, pictures: Pictures
) -> None:
    for seed in range(ON_A_PAGE + 3):
        save(pictures, seed)
    first = view.look(*searched(panel))
    assert first[panel.pictures].count("<li") == ON_A_PAGE
    assert f"1 to {ON_A_PAGE} of {ON_A_PAGE + 3}" in first[panel.note]
    assert (first[panel.newer]["interactive"], first[panel.older]["interactive"]) == (False, True)
    second = view.older(*searched(panel))
    assert second[panel.pictures].count("<li") == 3
    assert (second[panel.newer]["interactive"], second[panel.older]["interactive"]) == (True, False)
    assert view.newer(*searched(panel, offset=second[panel.offset]))[panel.pictures] == first[panel.pictures]
    last = [save(pictures, 200 + seed) for seed in range(3)]
    view.delete([*last, *(save(pictures, seed) for seed in range(3))], [], *searched(panel))
    assert view.look(*searched(panel, offset=ON_A_PAGE))[panel.offset] == 0, "what was there has been deleted"


def test_another_search_begins_with_the_newest(view: LibraryView, panel: LibraryPanel, pictures: Pictures) -> None:
    for seed in range(ON_A_PAGE + 3):
        save(pictures, seed)
    assert view.older(*searched(panel))[panel.offset] == ON_A_PAGE
    found = view.look_for(*searched(panel, offset=ON_A_PAGE, words="cat"))
    assert found[panel.offset] == 0
    assert f"1 to {ON_A_PAGE} of {ON_A_PAGE + 3}" in found[panel.note]


def test_what_is_not_read_yet_is_said_and_read_while_the_page_waits(
    view: LibraryView, panel: LibraryPanel, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipa_app.ui.library._READING_S", 0)
    for seed in range(ON_A_PAGE + 2):
        save(pictures, seed)
    first = view.look(*searched(panel))
    assert "2 files have yet to be read" in first[panel.note]
    assert first[panel.timer].active
    monkeypatch.setattr("ipa_app.ui.library._READING_S", 60)
    then = view.read_on(*searched(panel))
    assert not then[panel.timer].active
    assert panel.pictures not in then, "what is ticked there stays where it is"
    assert panel.offset not in then, "it may be that of another page by then"
    assert panel.pictures in view.read_on(*searched(panel, words="cat"))


def test_filters_offer_what_there_is_by_its_title(view: LibraryView, panel: LibraryPanel, pictures: Pictures) -> None:
    reference = [{"weight": 1.0}]
    save(pictures, 1, model="toybox", adapter="base", references=reference)
    save(pictures, 2, model="a stranger", adapter="fine", task="nothing known", references=reference)
    shown = view.look(*searched(panel, adapter="gone"))
    assert [value for _, value in shown[panel.search["task"]]["choices"]] == ["", "mix", "nothing known"]
    assert [title for title, _ in shown[panel.search["task"]]["choices"]] == ["All", "Text + image", "nothing known"]
    assert [value for _, value in shown[panel.search["model"]]["choices"]] == ["", "a stranger", "toybox"]
    assert shown[panel.search["adapter"]]["value"] == "gone"
    assert [value for _, value in shown[panel.search["adapter"]]["choices"]] == ["", "base", "fine", "gone"]
    assert "No pictures" in shown[panel.note]


def test_what_is_no_text_is_not_searched_for(view: LibraryView, panel: LibraryPanel, pictures: Pictures) -> None:
    save(pictures, 1)
    update = view.look_for(*searched(panel, words=None, task=["x"], model=5, favourites="yes"))
    assert 'data-name="' in update[panel.pictures]


def test_what_files_say_of_themselves_is_only_text(view: LibraryView, panel: LibraryPanel, pictures: Pictures) -> None:
    save(pictures, 1, prompt="<img src=x onerror=alert(1)> \" ' {{value}} ${1}")
    shown = view.look(*searched(panel))[panel.pictures]
    assert "<img src=x" not in shown
    assert shown.count("<img") == 1


def test_pictures_stand_under_their_day_and_without_a_prompt_are_called_by_task_and_time(
    view: LibraryView, panel: LibraryPanel, pictures: Pictures
) -> None:
    names = [save(pictures, seed, prompt="") for seed in (1, 2, 90_000)]  # the last one a day later
    shown = view.look(*searched(panel))[panel.pictures]
    days = re.findall(r"<h3[^>]*>([^<]*)</h3>", shown)
    assert days == sorted({name.split("/")[0] for name in names}, reverse=True)
    for name in names:
        hour, minute = name.split("/")[1][:2], name.split("/")[1][2:4]
        assert f'title="Text + image, {hour}:{minute}"' in shown
    (pictures.folder / "from-elsewhere.png").write_bytes((pictures.folder / names[0]).read_bytes())
    assert 'title="from-elsewhere.png"' in view.look(*searched(panel))[panel.pictures]


def test_deleting_can_be_undone_step_by_step(view: LibraryView, panel: LibraryPanel, pictures: Pictures) -> None:
    one, two, three = (save(pictures, seed) for seed in (1, 2, 3))
    first = view.delete([one], [], *searched(panel))
    second = view.delete([two, "gone.png"], first[panel.deletions], *searched(panel))
    assert "One picture was deleted" in second[panel.note]
    assert second[panel.undo]["visible"]
    assert [one in second[panel.pictures], two in second[panel.pictures], three in second[panel.pictures]] == [
        False,
        False,
        True,
    ]
    back = view.undo(second[panel.deletions], *searched(panel))
    assert two in back[panel.pictures]
    assert back[panel.undo]["visible"]
    last = view.undo(back[panel.deletions], *searched(panel))
    assert one in last[panel.pictures]
    assert not last[panel.undo]["visible"]


def test_a_heart_makes_a_favourite(view: LibraryView, panel: LibraryPanel, pictures: Pictures) -> None:
    one, two = save(pictures, 1), save(pictures, 2)
    view.like(SimpleNamespace(name=one, liked=True))  # type: ignore[arg-type]
    found = view.look_for(*searched(panel, favourites=True))[panel.pictures]
    assert one in found
    assert two not in found
    view.like(SimpleNamespace(name=one, liked=False))  # type: ignore[arg-type]
    assert view.look_for(*searched(panel, favourites=True))[panel.pictures] == ""


def pressed(view: LibraryView, hearts: dict[str, dict[str, Any]], name: str, act: int, *, liked: bool) -> Any:
    """Return the updates that follow a press on a heart, by the picture's name."""
    event = SimpleNamespace(name=name, liked=liked, act=act)
    return next(view.press(hearts, event))  # type: ignore[arg-type]


def test_of_presses_on_a_heart_the_newest_counts_in_whatever_order_they_come(
    view: LibraryView, pictures: Pictures
) -> None:
    one, two = save(pictures, 1), save(pictures, 2)
    hearts: dict[str, dict[str, Any]] = {}
    pressed(view, hearts, one, 1, liked=True)
    pressed(view, hearts, one, 4, liked=False)
    pressed(view, hearts, two, 2, liked=True)
    told = pressed(view, hearts, one, 3, liked=True)
    assert told == {one: {"act": 4, "liked": False}, two: {"act": 2, "liked": True}}
    assert (pictures.is_favourite(one), pictures.is_favourite(two)) == (False, True)
    pressed(view, hearts, NOWHERE[0], 5, liked=True)
    assert set(hearts) == {one, two}


def test_a_heart_that_could_not_be_kept_is_told_as_it_is(
    view: LibraryView, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = save(pictures, 1)

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pictures, "set_favourite", refused)
    event = SimpleNamespace(name=one, liked=True, act=7)
    came = view.press({}, event)  # type: ignore[arg-type]
    assert next(came) == {one: {"act": 7, "liked": False}}
    with pytest.raises(gr.Error, match="Permission denied"):
        next(came)


@pytest.mark.parametrize("ticked", [[], None, "text", [3], {"a": 1}])
def test_nothing_ticked_is_said(view: LibraryView, ticked: Any) -> None:
    with pytest.raises(Exception, match="Nothing is ticked"):
        view.kept(ticked)


def test_what_is_ticked_counts_once_and_has_an_end(view: LibraryView, panel: LibraryPanel, pictures: Pictures) -> None:
    name = save(pictures, 1)
    assert len(view.kept([name] * 20_000)) == 1
    many = [f"{number}.png" for number in range(MOST_TICKED + 1)]
    for act in (view.kept, lambda ticked: view.delete(ticked, [], *searched(panel))):
        with pytest.raises(Exception, match="At most 200 pictures"):
            act([name, *many])
    assert (pictures.folder / name).exists()


def test_of_what_is_ticked_what_is_gone_is_found(view: LibraryView, panel: LibraryPanel, pictures: Pictures) -> None:
    one, two = save(pictures, 1), save(pictures, 2)
    view.delete([two], [], *searched(panel))
    assert view.gone([one, two, 3, *NOWHERE]) == [two, *NOWHERE]
    assert view.gone(None) == []


def test_what_is_gone_already_is_said_so_and_leaves_nothing_to_undo(
    view: LibraryView, panel: LibraryPanel, pictures: Pictures
) -> None:
    name = save(pictures, 1)
    before = view.delete([name], [], *searched(panel))[panel.deletions]
    again = view.delete([name], before, *searched(panel))
    assert "no longer in the library" in again[panel.note]
    assert panel.deletions not in again and panel.undo not in again, "what was deleted before can be undone still"
    assert name in view.undo(before, *searched(panel))[panel.pictures]


def test_a_name_that_somebody_made_up_leads_nowhere(
    view: LibraryView, panel: LibraryPanel, pictures: Pictures, tmp_path: Path
) -> None:
    outside = pictures.folder.parent.parent / "outside.png"
    Image.new("L", (9, 9)).save(outside)
    (pictures.folder / "link.png").symlink_to(outside)
    with pytest.raises(Exception, match="no longer in the library"):
        view.kept(list(NOWHERE))
    view.delete(list(NOWHERE), [], *searched(panel))
    view.like(SimpleNamespace(name=NOWHERE[0], liked=True))  # type: ignore[arg-type]
    assert outside.exists()
    assert (pictures.folder / "link.png").is_symlink()
    assert not list(outside.parent.glob("*.favourite"))
    assert view.undo(["../../pictures"], *searched(panel))[panel.deletions] == []


def test_the_page_gets_copies_so_that_the_folder_is_served_to_nobody(view: LibraryView, pictures: Pictures) -> None:
    name = save(pictures, 1)
    (kept,) = view.kept([name])
    assert not Path(kept).is_relative_to(pictures.folder)
    assert Path(kept).read_bytes() == (pictures.folder / name).read_bytes()
