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

OFFLINE = "downloading is switched off here (HF_HUB_OFFLINE): please unset it, or put the files into the cache"
UNREACHABLE = "{host} cannot be reached: please check the internet connection and try again"
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
        raise UserError(f"{repo} could not be downloaded: {_told_by_the_hub(error, repo)}.") from error
    except OfflineModeIsEnabled as error:
        raise UserError(f"{repo} could not be downloaded: {OFFLINE}.") from error
    except HTTPError as error:
        raise UserError(f"{repo} could not be downloaded: {_unreachable()}.") from error
    except OSError as error:
        raise UserError(f"{repo} could not be downloaded: {_told_by_the_disk(error)}.") from error


def is_passing(error: HTTPError) -> bool:
    """Whether it is worth trying again at once: the connection broke, or the Hub is busy."""
    return not isinstance(error, HfHubHTTPError) or error.response.status_code in (408, 429, 500, 502, 503, 504)


def _told_by_the_hub(error: Exception, repo: str) -> str:
    if isinstance(error, LocalEntryNotFoundError):
        return _unreachable()
    if isinstance(error, GatedRepoError):
        page = f"{constants.ENDPOINT}/{repo}"
        return f"its owner wants the licence accepted first: please accept it at {page} and run `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such repository, or it is private: please run `hf auth login` if you may see it"
    if isinstance(error, RevisionNotFoundError | EntryNotFoundError):
        return "the Hub no longer has this version of it: please look for a newer release of this app"
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if status in (401, 403):
        return "the Hub wants you to log in: please run `hf auth login`"
    if status == 429:
        return "the Hub has had too many requests from here: please wait some minutes and try again"
    return f"the Hub has a problem (error {status}): please try again later"


def _told_by_the_disk(error: OSError) -> str:
    folder = constants.HF_HUB_CACHE
    if error.errno in _FULL:
        return f"the disk of {folder} is full: please make room there, or let HF_HOME name a folder on a larger disk"
    if error.errno in _FORBIDDEN:
        return f"{folder} cannot be written to: please let HF_HOME name a folder that can"
    return f"{error.strerror or error}: please check the disk of {folder}"


def _unreachable() -> str:
    return UNREACHABLE.format(host=constants.ENDPOINT.partition("://")[2])
