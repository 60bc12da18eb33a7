"""Who asks: the visitors among whom the queue is fair."""

from __future__ import annotations

from gradio.context import LocalContext


def visitor() -> str | None:
    """Return what names the visitor whose request is being handled; None outside of a handler.

    It is the session of a page, or of a client that keeps one. Calls without a session are one visitor's where they
    come from one address.
    """
    request = LocalContext.request.get(None)
    if request is None:
        return None
    session = request.session_hash
    # Gradio takes the number of the call for the session of a caller who has none.
    if session and session != LocalContext.event_id.get(None):
        return f"session {session}"
    return f"address {request.client.host}" if request.client else None
