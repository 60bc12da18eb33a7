"""Reading what the browser or an API client uploaded, before anything has decoded it.

Listeners run with `preprocess=False`: Gradio's own components would open a file first, and fail on an unusual one with
messages of their own.
"""

from __future__ import annotations

import base64
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from gradio import route_utils
from gradio.route_utils import GradioMultiPartParser, GradioUploadFile
from gradio.utils import get_upload_folder, is_in_or_equal, is_static_file
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from ipa_app.errors import UserError
from ipa_app.messages import Message, english
from ipa_app.models.units import size_text
from ipa_app.options import wrong_value
from ipa_app.runtime import written_whole

LARGEST_PICTURE = 32 * 10**6
_MOST_SPARED = 256 * 10**6
"""Bytes of disk space that uploads leave free for results; on a small disk, a twentieth of it."""

_PICTURE = (
    'a picture, which gradio_client sends as handle_file(...), and others as {"path": ...} with the path that an '
    "upload to /gradio_api/upload gives back"
)
_DATA_URL = "a data URL in base64, such as data:image/png;base64,AAAA"
_NO_FILES = 'An upload has files in its fields "files"; curl sends one with -F files=@my_toy.png, including the @.'
_SERVED = "/gradio_api/file="
_MARK = {"_type": "gradio.FileData"}
_NAME_BYTES = 32
"""Bytes of a folder's name in hexadecimal: as many as in the SHA-256 hashes that Gradio uses."""


class _PageUploads(GradioMultiPartParser):
    """Reads uploads as Gradio does, but puts each upload from a page into a folder of its own.

    Gradio names folders by the hash of their content, so everybody who uploads the same picture shares one file, and
    loses it when the first of them deletes theirs. Programs never delete, and often send the same file with every call,
    so theirs are still stored once.
    """

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        file = self._current_part.file
        # Every browser sends the page's origin; programs send none.
        if isinstance(file, GradioUploadFile) and "origin" in self.headers:
            file.sha.update(secrets.token_bytes(_NAME_BYTES))

    async def parse(self) -> FormData:
        form = await super().parse()
        files = form.getlist("files")
        if not files or not all(isinstance(file, GradioUploadFile) for file in files):
            for file in self._files_to_close_on_error:
                file.close()
                Path(file.name).unlink(missing_ok=True)
            raise HTTPException(422, _NO_FILES)
        return form


def keep_uploads_apart() -> None:
    """Patch Gradio to store each page's uploads in files of their own, and to refuse uploads without files."""
    setattr(route_utils, GradioMultiPartParser.__name__, _PageUploads)


def keep_data(data: bytes, *, name: str) -> str:
    """Save data for one page among the uploads, in a file that no other page has, and return its path.

    Args:
        data: the file's content.
        name: the file's name.

    Raises:
        OSError: there is no room for it.
    """
    folder = Path(get_upload_folder()).absolute() / secrets.token_hex(_NAME_BYTES)
    folder.mkdir(parents=True)
    with written_whole(folder / name) as part:
        part.write_bytes(data)
    return str(folder / name)


def input_name(field: str) -> str:
    """Return the name of an input in sentences; inputs without a translation keep their API name."""
    key = f"input.{field}"
    return Message(key) if key in english().sentences else field


def file_path(payload: Any, *, field: str, most: int | None = LARGEST_PICTURE) -> str:
    """Return the uploaded file's path.

    Args:
        payload: what a File or Image component sends, a dict with "path". Gradio has checked that the path is among
            its uploads.
        field: the input's name for the message.
        most: the largest size in bytes; None if the caller checks it.

    Raises:
        UserError: there are several files or none in the payload, or the file is too large.
    """
    if isinstance(payload, list):
        if len(payload) > 1:
            raise UserError("upload.several", name=input_name(field))
        payload = payload[0] if payload else None
    path = payload.get("path") if isinstance(payload, dict) else None
    if not isinstance(path, str):
        raise UserError("upload.not_a_file", name=input_name(field))
    if most is not None and Path(path).stat().st_size > most:
        raise UserError("upload.too_large", name=input_name(field), size=size_text(most))
    return path


def sent_picture(payload: Any, *, field: str) -> dict[str, Any] | None:
    """Return a picture that a program sent in the form that Gradio requires, adding the "meta" mark if it is missing.

    Raises:
        UserError: it is not a picture; the message says how to send one.
    """
    if payload is None or payload == []:
        return None
    given = payload[0] if isinstance(payload, list) and len(payload) == 1 else payload
    if isinstance(given, list):
        raise UserError("upload.several", name=input_name(field))
    if not isinstance(given, dict) or not isinstance(given.get("path"), str):
        raise wrong_value(field, given, _PICTURE)
    # The other fields of a file's description are left to Gradio, and nothing here reads them.
    name = {"orig_name": given["orig_name"]} if isinstance(given.get("orig_name"), str) else {}
    return {"path": given["path"], **name, "meta": _MARK}


def is_address(path: str) -> bool:
    """Whether this is a web address, to be fetched."""
    return path[:8].lower().startswith(("http://", "https://"))


def served_file(address: str) -> str | None:
    """Return the path in a URL of a file that this app serves; None if there is no such file here.

    The host does not matter: whoever knows the path could have sent that.
    """
    try:
        path = unquote(urlsplit(address).path.partition(_SERVED)[2])
    except ValueError:  # no address
        return None
    return path if path and _is_known(path) and _is_file(path) else None


def served_address(path: str) -> str:
    """Return a URL by which `served_file` finds a file; it is of no use elsewhere."""
    return f"http://localhost{_SERVED}{quote(path)}"


def is_data_url(path: str) -> bool:
    """Whether this is a data URL, which contains the file itself."""
    return path[:5].lower() == "data:"


def embedded_file(url: str, *, field: str) -> bytes:
    """Return the content of a data URL.

    Args:
        url: a data URL, as `is_data_url` recognises it.
        field: the input's name for the message.

    Raises:
        UserError: it is not in base64.
    """
    head, _, data = url.partition(",")
    try:
        if not head.endswith(";base64"):
            raise ValueError("not base64")
        return base64.b64decode("".join(unquote(data).split()), validate=True)
    except ValueError:
        raise wrong_value(field, url, _DATA_URL).blaming(field) from None


def painted_files(sent: Any, *, field: str) -> dict[str, Any] | None:
    """Return the files that a painting area sent, as `imaging.masks` takes them; None if nothing was painted.

    Args:
        sent: the value of a gr.ImageEditor: files, as long as nothing listens to its strokes.
        field: the input's name for the message.

    Raises:
        UserError: as for `file_path`.
    """
    layers = [file_path(layer, field=field) for layer in (sent or {}).get("layers") or ()]
    return {"background": file_path(sent["background"], field=field), "layers": layers} if layers else None


def check_room(size: int) -> None:
    """Check that the disk has room for an upload, and some to spare: a full disk affects everybody.

    Args:
        size: the bytes that are still to come.

    Raises:
        OSError: there is no room; the same error as if it had been written.
    """
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    disk = shutil.disk_usage(folder)
    if disk.free < size + min(_MOST_SPARED, disk.total // 20):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def check_files(value: Any, *, field: str) -> None:
    """Check that all files in an input's value were uploaded and still exist.

    Args:
        value: the value of one input, of any content.
        field: the input's name for the message.

    Raises:
        UserError: a file was not uploaded, or is so old that it has been deleted.
    """
    for path in paths_in(value):
        if not _is_known(path):
            raise UserError("upload.not_uploaded", name=input_name(field)).blaming(field)
        if not _is_file(path):
            raise UserError("upload.gone", name=input_name(field)).blaming(field)


def paths_in(value: Any) -> Iterator[str]:
    """Yield the paths and URLs of all files in what was sent."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from paths_in(item)
    elif isinstance(value, dict):
        # With Gradio's mark or without it, as `file_path` accepts both.
        if isinstance(value.get("path"), str):
            yield value["path"]
        for item in value.values():
            yield from paths_in(item)


def _is_known(path: str) -> bool:
    """Whether a path is among the uploads or the app's own static files."""
    try:
        return is_in_or_equal(path, get_upload_folder()) or is_static_file(path)
    except (OSError, ValueError):  # too long, or with characters that no path can have
        return False


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False
