"""What goes wrong with the Hugging Face Hub, each as one sentence that says what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,  # of whichever HTTP client the Hub's library uses
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ipa_app.errors import UserError
from ipa_app.messages import Message

OFFLINE = Message("download.why.offline")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """Turn what the Hub's library and the disk raise inside into a UserError about a repository.

    Raises:
        UserError: in place of every error of the Hub, the network or the disk.
    """
    try:
        yield
    # LocalEntryNotFoundError and HfHubHTTPError are OSErrors as well, and all of the Hub's are HTTPErrors.
    except (HfHubHTTPError, EntryNotFoundError) as error:
        raise UserError("download.failed", repo=repo, reason=_told_by_the_hub(error, repo)) from error
    except OfflineModeIsEnabled as error:
        raise UserError("download.failed", repo=repo, reason=OFFLINE) from error
    except HTTPError as error:
        raise UserError("download.failed", repo=repo, reason=_unreachable()) from error
    except OSError as error:
        raise UserError("download.failed", repo=repo, reason=_told_by_the_disk(error)) from error


def is_passing(error: HTTPError) -> bool:
    """Whether it is worth trying again at once: the connection broke, or the Hub is busy."""
    return not isinstance(error, HfHubHTTPError) or error.response.status_code in (408, 429, 500, 502, 503, 504)


def _told_by_the_hub(error: Exception, repo: str) -> Message:
    if isinstance(error, LocalEntryNotFoundError):
        return _unreachable()
    if isinstance(error, GatedRepoError):
        page = f"{constants.ENDPOINT}/{repo}"
        return Message("download.why.licence", page=page)
    if isinstance(error, RepositoryNotFoundError):
        return Message("download.why.no_repository")
    if isinstance(error, RevisionNotFoundError | EntryNotFoundError):
        return Message("download.why.no_version")
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if status in (401, 403):
        return Message("download.why.login")
    if status == 429:
        return Message("download.why.too_many_requests")
    return Message("download.why.hub_problem", status=status)


def _told_by_the_disk(error: OSError) -> Message:
    folder = constants.HF_HUB_CACHE
    if error.errno in _FULL:
        return Message("download.why.disk_full", folder=folder)
    if error.errno in _FORBIDDEN:
        return Message("download.why.cannot_write", folder=folder)
    return Message("download.why.disk", error=error.strerror or error, folder=folder)


def _unreachable() -> Message:
    return Message("download.why.unreachable", host=constants.ENDPOINT.partition("://")[2])
