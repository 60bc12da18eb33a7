"""The identity of visitors, among whom the queue is fair."""

from __future__ import annotations

from gradio.context import LocalContext


def visitor() -> str | None:
    """Return a name for the visitor whose request is being handled; None outside a handler.

    It is the session of a page, or of a client that keeps one. Calls without a session count as one visitor per
    address.
    """
    request = LocalContext.request.get(None)
    if request is None:
        return None
    session = request.session_hash
    # For a caller without a session, Gradio uses the id of the call as the session.
    if session and session != LocalContext.event_id.get(None):
        return f"session {session}"
    return f"address {request.client.host}" if request.client else None
