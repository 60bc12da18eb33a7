"""The Library tab: everything that was ever made, to browse, search and continue from.

Opened pictures appear beside it, among the results, with the same buttons as new ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from ipa_app.engine.references import MOST_REFERENCES
from ipa_app.engine.tasks import TASKS
from ipa_app.errors import UserError
from ipa_app.library.index import Search
from ipa_app.library.pictures import Page, Pictures
from ipa_app.messages import Message
from ipa_app.ui.adapters import adapter_title
from ipa_app.ui.controls import AT_ONCE, CHECKED, LATEST, ONE_BY_ONE, Update
from ipa_app.ui.failures import explained, written
from ipa_app.ui.language.markup import known, status_note
from ipa_app.ui.library_pictures import (
    GONE,
    LIKED,
    MOST_TICKED,
    TICKED,
    UNTICK,
    laid_out,
    names_sent,
    pictures_box,
    ticked_names,
)
from ipa_app.ui.pictures import keep_files
from ipa_app.ui.references import Filling, Replaced
from ipa_app.ui.results import SHOW_RESULTS, show_earlier
from ipa_app.ui.studio import Studio, save_zip
from ipa_app.ui.tabs.shared import help_text

if TYPE_CHECKING:
    from ipa_app.ui.parts import Parts


ON_A_PAGE = 32
_READING_S = 0.4
"""Seconds for reading files that are not indexed yet before the page gets its response."""
_IS_OPEN = """(_, ...others) => {
    const tab = document.querySelector("#tab-library-button");
    return [tab?.getAttribute("aria-selected") === "true", ...others];
}"""
_FILTERS = ("task", "model", "adapter")


@dataclass(frozen=True, kw_only=True)
class LibraryPanel:
    """The tab.

    `search` holds the search controls by the fields of a `Search`. The states are per session: `offset` is the number
    of pictures before those that are shown, `deletions` holds the visitor's deletions, the latest last, and `hearts`
    the outcome of presses on hearts. Three components are hidden: through `is_open` the page sends whether the tab is
    open, through `ticked` the names of the ticked pictures, and receives those of them that are gone, and through
    `liked` it receives the outcome of presses.
    """

    tab: gr.Tab
    search: Mapping[str, Any]
    note: gr.HTML
    pictures: gr.HTML
    newer: gr.Button
    older: gr.Button
    show: gr.Button
    use: gr.Button
    delete: gr.Button
    undo: gr.Button
    timer: gr.Timer
    is_open: gr.JSON
    ticked: gr.JSON
    liked: gr.JSON
    hearts: gr.State
    offset: gr.State
    deletions: gr.State

    @property
    def outputs(self) -> list[Any]:
        """Every component that an update may name."""
        filters = [self.search[name] for name in _FILTERS]
        shown = [self.note, self.pictures, self.newer, self.older, self.undo]
        return [*filters, *shown, self.timer, self.offset, self.deletions]


def library_tab() -> LibraryPanel:
    """Lay out the tab, which is filled when it is opened."""
    with gr.Tab(Message("page.library.tab"), id="library", elem_id="tab-library") as tab:
        help_text(Message("page.library.help"))
        words = gr.Textbox(
            label=Message("page.library.words"),
            placeholder=Message("page.library.words_example"),
            elem_id="library-words",
            max_lines=1,
        )
        favourites = gr.Checkbox(label=Message("page.library.favourites"), elem_id="library-favourites")
        with gr.Accordion(Message("page.library.filters"), open=False, elem_id="library-filters"):
            filters = {name: _filter(name) for name in _FILTERS}
        note = gr.HTML("", padding=False, elem_id="library-note")
        with gr.Row(elem_classes="ipa-extras"):
            actions = {name: _button(name) for name in ("show", "use", "delete")}
            undo = _button("undo", visible=False)
        pictures = pictures_box()
        with gr.Row(elem_classes="ipa-extras"):
            pages = {name: _button(name, interactive=False) for name in ("newer", "older")}
        return LibraryPanel(
            tab=tab,
            search={"words": words, "favourites": favourites, **filters},
            note=note,
            pictures=pictures,
            **actions,
            **pages,
            undo=undo,
            timer=gr.Timer(1.0, active=False),
            is_open=gr.JSON(visible=False),
            ticked=gr.JSON(visible=False),
            liked=gr.JSON(visible=False),
            hearts=gr.State({}),
            offset=gr.State(0),
            deletions=gr.State([]),
        )


def _filter(name: str) -> gr.Radio:
    label = Message(f"page.library.filter.{name}")
    return gr.Radio(choices=[(_all(), "")], value="", label=label, elem_id=f"library-{name}")


def _button(name: str, **properties: Any) -> gr.Button:
    text = Message(f"page.library.{name}")
    return gr.Button(text, size="sm", min_width=90, elem_id=f"library-{name}", **properties)


def _all() -> Message:
    return Message("page.library.filter.all")


def connect_library(parts: Parts, *, studio: Studio) -> None:
    """Connect the tab, if there is a library."""
    panel, pictures = parts.library, studio.library
    if panel is None or pictures is None:
        return
    view = LibraryView(panel, pictures=pictures, studio=studio)
    inputs = [*panel.search.values(), panel.offset]

    def on(event: Callable[..., Any], handler: Callable[..., Any], *before: Any, js: str | None = None) -> Any:
        # Unchecked, as another page may have changed what the filters offer meanwhile.
        shared: dict[str, Any] = {"preprocess": False, **LATEST}
        return event(handler, [*before, *inputs], panel.outputs, js=js, **shared)

    looked = on(panel.tab.select, view.look)
    checked = looked.success(view.gone, panel.ticked, panel.ticked, js=TICKED, preprocess=False, **LATEST)
    checked.success(None, panel.ticked, None, js=GONE, **AT_ONCE)
    on(parts.results.history.change, view.look_again, panel.is_open, js=_IS_OPEN)
    on(panel.timer.tick, view.read_on)
    for name, each in panel.search.items():
        # Clearing and pasting text count as typing.
        on(each.change if name == "words" else each.input, view.look_for)
    on(panel.newer.click, view.newer)
    on(panel.older.click, view.older)
    on(panel.undo.click, view.undo, panel.deletions)
    deleting = [panel.ticked, panel.deletions, *inputs]
    deleted = panel.delete.click(view.delete, deleting, panel.outputs, js=TICKED, preprocess=False, **CHECKED)
    deleted.success(None, js=UNTICK, **AT_ONCE)
    pressed = panel.pictures.like(view.press, panel.hearts, panel.liked, trigger_mode="multiple", **CHECKED)
    for come in (pressed.success, pressed.failure):
        come(None, panel.liked, None, js=LIKED, **AT_ONCE)
    _connect_results(parts, panel, view=view)


def _connect_results(parts: Parts, panel: LibraryPanel, *, view: LibraryView) -> None:
    """Connect the buttons that show pictures of the library among the results, or use them as references."""
    results, references = parts.results, parts.panel.references

    def show(ticked: Any) -> Update:
        paths = view.kept(ticked)
        with explained():
            return show_earlier(results, paths, download=save_zip(paths) if len(paths) > 1 else paths[0])

    def opened(event: gr.EventData) -> Update:
        return show([event.name])

    def use(*, ticked: Any, over: Replaced) -> Update:
        with explained():
            if isinstance(ticked, list) and len(ticked) > MOST_REFERENCES:
                raise UserError("library.too_many_references", most=MOST_REFERENCES)
        filled = references.fill([Filling(path=path) for path in view.kept(ticked)], over=over)
        return {**filled, panel.note: status_note(Message("library.used"), css_class="ipa-help")}

    shown = list(vars(results).values())
    panel.pictures.select(opened, None, shown, **ONE_BY_ONE)
    panel.show.click(show, panel.ticked, shown, js=TICKED, **CHECKED)
    gr.on([panel.pictures.select, panel.show.click], None, js=SHOW_RESULTS, **AT_ONCE)
    used = [panel.note, *references.outputs]
    references.let_fill(panel.use.click, use, {"ticked": panel.ticked}, outputs=used, js=TICKED, **CHECKED)


class LibraryView:
    """The tab's event handlers, which return updates of the page."""

    def __init__(self, panel: LibraryPanel, *, pictures: Pictures, studio: Studio) -> None:
        self._panel = panel
        self._pictures = pictures
        self._studio = studio
        self._pressing = threading.Lock()

    def look(self, *searched: Any) -> Update:
        """Refresh the current page of pictures."""
        return self._shown(*searched)

    def look_again(self, is_open: Any, *searched: Any) -> Update:
        """Show new results too if the first page is open; on other pages change nothing."""
        return self._shown(*searched) if is_open is True and searched[-1] == 0 else gr.skip()

    def look_for(self, *searched: Any) -> Update:
        """Show the newest matches of the search."""
        return self._shown(*searched[:-1], 0)

    def newer(self, *searched: Any) -> Update:
        """Show the previous page of pictures."""
        return self._shown(*searched[:-1], searched[-1] - ON_A_PAGE)

    def older(self, *searched: Any) -> Update:
        """Show the next page of pictures."""
        return self._shown(*searched[:-1], searched[-1] + ON_A_PAGE)

    def read_on(self, *searched: Any) -> Update:
        """Index further files, and show new matches of the search; without a search, leave the pictures alone."""
        return self._shown(*searched) if any(searched[:-1]) else self._told(*self._found(*searched))

    def delete(self, ticked: Any, deletions: list[str], *searched: Any) -> Update:
        """Delete the ticked pictures."""
        with written():
            deletion = self._pictures.delete(ticked_names(ticked))
        update = self._shown(*searched)
        if not deletion.count:
            return {**update, self._panel.note: status_note(Message("library.gone"), css_class="ipa-help")}
        told = Message("library.deleted", count=deletion.count)
        return {
            **update,
            self._panel.note: status_note(told, css_class="ipa-help"),
            self._panel.undo: gr.update(visible=True),
            self._panel.deletions: [*deletions, deletion.id],
        }

    def gone(self, ticked: Any) -> list[str]:
        """Return the names of ticked pictures that are no longer in the library; the page may have kept them long."""
        return [name for name in names_sent(ticked)[:MOST_TICKED] if self._pictures.file(name) is None]

    def undo(self, deletions: list[str], *searched: Any) -> Update:
        """Restore the latest deletion."""
        with written():
            count = self._pictures.restore(deletions[-1]) if deletions else 0
        left = deletions[:-1]
        return {
            **self._shown(*searched),
            self._panel.note: status_note(Message("library.restored", count=count), css_class="ipa-help"),
            self._panel.undo: gr.update(visible=bool(left)),
            self._panel.deletions: left,
        }

    def like(self, event: gr.EventData) -> None:
        """Make a picture a favourite, or not."""
        with written():
            self._pictures.set_favourite(str(event.name), is_favourite=event.liked is True)

    def press(self, hearts: dict[str, dict[str, Any]], event: gr.EventData) -> Iterator[dict[str, dict[str, Any]]]:
        """Apply a press on a heart, unless a later press on the same heart overtook it, and yield the outcome.

        Args:
            hearts: the number of this visitor's latest press and its outcome, by picture; updated in place.
            event: the press.
        """
        name, failed = str(event.name), None
        act = event.act if isinstance(event.act, int | float) else 0
        with self._pressing:
            if act >= hearts.get(name, {"act": act})["act"]:
                try:
                    self.like(event)
                except gr.Error as error:
                    failed = error  # raised once the page has the outcome
                if self._pictures.file(name):
                    hearts[name] = {"act": act, "liked": self._pictures.is_favourite(name)}
        yield dict(hearts)
        if failed:
            raise failed

    def kept(self, ticked: Any) -> list[str]:
        """Return copies of the ticked files, for the page.

        Raises:
            gr.Error: none is ticked, or none of them exists any more.
        """
        with explained():
            kept = keep_files(path for path in map(self._pictures.file, ticked_names(ticked)) if path)
            if not kept:
                raise UserError("library.gone")
            return kept

    def _shown(self, *searched: Any) -> Update:
        panel, (search, page, offset) = self._panel, self._found(*searched)
        return {
            panel.pictures: self._laid_out(page),
            panel.newer: gr.update(interactive=offset > 0),
            panel.older: gr.update(interactive=offset + len(page.entries) < page.total),
            panel.offset: offset,
            **self._told(search, page, offset),
        }

    def _found(self, *searched: Any) -> tuple[Search, Page, int]:
        """Return the search, a page of its matches, and the page's offset."""
        sent, offset = zip(self._panel.search, searched[:-1], strict=True), searched[-1]
        search = Search(**{name: value for name, value in sent if type(value) is type(getattr(Search, name))})
        page = self._pictures.page(search, offset=max(0, offset), count=ON_A_PAGE, reading_s=_READING_S)
        if not page.entries and page.total:
            # The last page has been deleted meanwhile.
            offset = (page.total - 1) // ON_A_PAGE * ON_A_PAGE
            page = self._pictures.page(search, offset=offset, count=ON_A_PAGE)
        return search, page, max(0, offset) if page.entries else 0

    def _told(self, search: Search, page: Page, offset: int) -> Update:
        """Return the updates of the note and the filters."""
        panel = self._panel
        filters = {name: self._filter(name, chosen=getattr(search, name)) for name in _FILTERS}
        titles = (label for each in filters.values() for label, _ in each["choices"])
        return {
            panel.note: status_note(*_counted(page, offset=offset), css_class="ipa-help") + known(titles),
            panel.timer: gr.Timer(active=page.unread > 0),
            **{panel.search[name]: update for name, update in filters.items()},
        }

    def _filter(self, name: str, *, chosen: str) -> Update:
        """Offer all values in the library; the chosen one stays, even if no picture has it any more."""
        there = self._pictures.choices(name)
        values = there if chosen in ("", *there) else [*there, chosen]
        choices = [(_all(), ""), *((self._title(name, value), value) for value in values)]
        return gr.update(choices=choices, value=chosen, visible=len(choices) > 1)

    def _title(self, what: str, value: str) -> str:
        """Return the title of a task, a model or an adapter."""
        catalog = self._studio.catalog
        if what == "task":
            return Message(f"page.{value}.tab") if value in TASKS else value
        if what == "model":
            return catalog[value].title if value in catalog else value
        having = (entry for entry in catalog.values() if value in entry.adapters)
        return next((adapter_title(entry, value) for entry in having), value)

    def _laid_out(self, page: Page) -> str:
        small = ((entry, self._pictures.thumbnail(entry.name)) for entry in page.entries)
        return laid_out((entry, jpeg) for entry, jpeg in small if jpeg is not None)


def _counted(page: Page, *, offset: int) -> list[Message]:
    """Return which pictures are shown, out of how many, and why there may be more."""
    told = [Message("library.none_found")]
    if page.entries:
        first, last = offset + 1, offset + len(page.entries)
        told = [Message("library.found", first=first, last=last, count=page.total)]
    return [*told, *page.notes]
