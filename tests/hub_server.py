"""A fake Hugging Face Hub: as much of its HTTP API as a download needs, with every failure on demand."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/revision/(?P<revision>.+)")
_FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass
class FakeHub:
    """What the server serves, and a record of what was requested.

    Attributes:
        repos: files and their content by repository; all are at the commit COMMIT.
        url: of the server.
        cut_after: by path, the number of bytes after which the connection is cut, once.
        spoiled: by path, how many more times the content is sent with one byte changed.
        refusals: by repository, the status and Hub error code every request about it is answered with.
        pause_s: wait in seconds before each 64 KiB of content.
        held_after: by path, the number of bytes after which the content waits for `goes_on`.
        goes_on: when set, no content waits any more.
        sent: bytes of content sent, by path.
        begun: path and first byte of every transfer begun.
        asked: method and path of every request.
    """

    repos: dict[str, dict[str, bytes]]
    url: str = ""
    cut_after: dict[str, int] = field(default_factory=dict)
    spoiled: Counter[str] = field(default_factory=Counter)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    pause_s: float = 0.0
    held_after: dict[str, int] = field(default_factory=dict)
    goes_on: threading.Event = field(default_factory=threading.Event)
    sent: Counter[str] = field(default_factory=Counter)
    begun: list[tuple[str, int]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve a fake Hub on a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.goes_on.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:  # noqa: N802 - the base class calls it so
        self.answer()

    def do_GET(self) -> None:  # noqa: N802
        self.answer()

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        if match := _API.fullmatch(path):
            self.tell(match["repo"], match["revision"])
        elif match := _FILE.fullmatch(path):
            self.give(match["repo"], match["path"])
        else:
            self.refuse(404, "EntryNotFound")

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def tell(self, repo: str, revision: str) -> None:
        if repo in self.hub.refusals or repo not in self.hub.repos:
            return self.refuse(*self.hub.refusals.get(repo, (404, "RepoNotFound")))
        if revision not in (COMMIT, "main"):
            return self.refuse(404, "RevisionNotFound")
        siblings = [_sibling(path, content) for path, content in self.hub.repos[repo].items()]
        body = json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def give(self, repo: str, path: str) -> None:
        content = self.hub.repos.get(repo, {}).get(path)
        if repo in self.hub.refusals or content is None:
            return self.refuse(*self.hub.refusals.get(repo, (404, "EntryNotFound")))
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("ETag", f'"{etag(path, content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content) - begin))
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            self.pour(path, content, begin=begin)
        return None

    def pour(self, path: str, content: bytes, *, begin: int) -> None:
        """Send the content, with whatever failures are set for it."""
        self.hub.begun.append((path, begin))
        if self.hub.spoiled[path] > 0:
            self.hub.spoiled[path] -= 1
            content = content[:-1] + bytes([content[-1] ^ 1])
        end = min(len(content), self.hub.cut_after.get(path, len(content)))
        for start in range(begin, end, 2**16):
            time.sleep(self.hub.pause_s)
            if start >= self.hub.held_after.get(path, end):
                self.hub.goes_on.wait()
            piece = content[start : min(start + 2**16, end)]
            self.hub.sent[path] += len(piece)  # counted before the recipient of the last piece can look
            try:
                self.wfile.write(piece)
            except OSError:
                self.hub.sent[path] -= len(piece)
                break
        if end < len(content):
            del self.hub.cut_after[path]
            self.close_connection = True


def etag(path: str, content: bytes) -> str:
    """Return the Hub's ETag of a file: SHA-256 for weights, the git blob hash for small files."""
    if path.endswith(".safetensors"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def _sibling(path: str, content: bytes) -> dict[str, object]:
    told: dict[str, object] = {"rfilename": path, "size": len(content), "blobId": etag("", content)}
    if path.endswith(".safetensors"):
        told["lfs"] = {"sha256": etag(path, content), "size": len(content), "pointerSize": 130}
    return told
