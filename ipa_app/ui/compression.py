"""Compression of responses: of the page and its configuration, and of Gradio's scripts and styles.

Gradio compresses by file extension, which the page and API responses do not have. And it would compress the hundred
scripts of a first visit anew for every visitor.
"""

from __future__ import annotations

import functools
from pathlib import Path

import brotli
from gradio.route_utils import BUILD_PATH_LIB
from starlette._utils import get_route_path
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

_LEVEL = 6
_ENDINGS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_KEPT = "public, max-age=31536000, immutable"
"""Safe for good, as a script that changes has another name."""


class Compression(GZipMiddleware):
    """Compresses responses to paths without an extension. Events are never held back; pictures and archives stay."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and "." not in get_route_path(scope):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def assets_route() -> Route:
    """Return the route of Gradio's scripts and styles, which are compressed once and cached."""
    files = {path.name: path for path in Path(BUILD_PATH_LIB).iterdir()}

    def asset(request: Request) -> Response:
        path = files.get(request.path_params["name"])
        if path is None:
            return Response(status_code=404)
        headers = {"Cache-Control": _KEPT, "Vary": "Accept-Encoding"}
        if path.suffix not in _ENDINGS or "br" not in request.headers.get("accept-encoding", ""):
            return FileResponse(path, headers=headers)
        headers["Content-Encoding"] = "br"
        return Response(_compressed(path), media_type=_ENDINGS[path.suffix], headers=headers)

    return Route("/assets/{name}", asset)


@functools.cache
def _compressed(path: Path) -> bytes:
    return brotli.compress(path.read_bytes(), mode=brotli.MODE_TEXT, quality=_LEVEL)
