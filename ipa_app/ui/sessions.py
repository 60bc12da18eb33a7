"""What the server keeps of each visitor while the page is open: the values of its states, and no more than that.

Gradio describes every component of the page for each new session, and again after each event, for links to a page as it
stands, which are not offered here. On this page that is 50 ms, in the thread that answers everybody, and 0.8 MB that
stay. A call of the API without a session is one as well.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
from gradio.routes import App
from gradio.state_holder import SessionState, StateHolder

MOST_SESSIONS = 1000


class Session(SessionState):
    """One visitor's states."""

    def __init__(self, blocks: gr.Blocks) -> None:
        """Begin one.

        Args:
            blocks: the page.
        """
        # Those that are named by `blocks` would be described.
        super().__init__(cast(gr.Blocks, SimpleNamespace(default_config=blocks.default_config, blocks=())))

    def _update_config(self, key: int) -> None:
        """Describe nothing."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Describe nothing."""


class Sessions(StateHolder):
    """The sessions of all visitors. Where there are too many, one whose page is closed goes, or else the least used."""

    @classmethod
    def take_over(cls, app: App, page: gr.Blocks) -> None:
        """Keep the sessions of a served page from now on."""
        sessions, before = cls(), app.state_holder
        sessions.session_data, sessions.time_last_used = before.session_data, before.time_last_used
        sessions.set_blocks(page)
        app.state_holder = sessions

    def __getitem__(self, session_id: str) -> SessionState:
        """Return a session, which begins when it is first asked for."""
        if session_id not in self.session_data:
            self.session_data[session_id] = Session(self.blocks)
        return super().__getitem__(session_id)

    def update(self, session_id: str) -> None:
        """Note that a session is used, and let another one go where there are too many; its states are told."""
        if len(self.session_data) > self.capacity:
            others = [(name, session.is_closed) for name, session in self.session_data.items() if name != session_id]
            gone = next((name for name, is_closed in others if is_closed), others[0][0])
            self.delete_state(gone)
            self.session_data.move_to_end(gone, last=False)
        super().update(session_id)
