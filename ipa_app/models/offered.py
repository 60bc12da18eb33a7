"""The models that may be requested, whether they are held in this process or in others. No PyTorch in here."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.adapter_set import AdapterSet
from ipa_app.models.catalog import Catalog
from ipa_app.models.entry import ModelEntry
from ipa_app.models.state import ModelState
from ipa_app.models.units import size_text

logger = logging.getLogger(__name__)


class Models(ABC):
    """The models' interface for the page, the API and the engine. All methods may be called from any thread.

    Attributes:
        adapters: those that belong to no model.
    """

    def __init__(self, catalog: Mapping[str, ModelEntry], *, adapters: AdapterSet | None = None) -> None:
        """Offer models.

        Args:
            catalog: the models that may be requested.
            adapters: those that belong to no model; none by default, until somebody adds one.
        """
        self.adapters = adapters or AdapterSet()
        self._catalog = catalog if isinstance(catalog, Catalog) else Catalog(catalog)

    @property
    def catalog(self) -> Catalog:
        """The models that may be requested, by name, and what is left out."""
        return self._catalog

    def entry(self, name: str) -> ModelEntry:
        """Return a model's catalogue entry, with all adapters that it can currently draw with.

        Raises:
            UserError: there is no such model (the message lists those there are), or why it is left out.
        """
        if isinstance(name, str) and name in self._catalog.left_out:
            raise UserError(self._catalog.left_out[name])
        if not isinstance(name, str) or name not in self._catalog:
            raise UserError("model.unknown", name=repr(str(name)[:80]), names=", ".join(self._catalog))
        return self.adapters.offered(self._catalog[name])

    def leave_out(self, name: str, sentence: Message) -> None:
        """Remove a model from those that may be requested.

        Args:
            name: of the model.
            sentence: why, for those who request it.
        """
        logger.warning("A model is left out: %s", sentence)
        others = {other: entry for other, entry in self._catalog.items() if other != name}
        self._catalog = Catalog(others, left_out={**self._catalog.left_out, name: sentence})

    def check_available(self, name: str) -> None:
        """Check that a model is ready or can be loaded at once.

        Raises:
            UserError: there is no such model, it must be downloaded first, or it is being downloaded.
        """
        entry, state = self.entry(name), self.state(name)
        if state.phase == "downloading":
            raise UserError("model.still_downloading", title=entry.title, doing=state.message)
        if self.needs_download(name):
            size = size_text(entry.download_bytes)
            raise UserError("model.not_downloaded", title=entry.title, size=size)

    @abstractmethod
    def state(self, name: str) -> ModelState:
        """Return the state of a model.

        Raises:
            UserError: there is no such model.
        """

    @abstractmethod
    def needs_download(self, name: str) -> bool:
        """Whether a model's parts must be downloaded before it can be loaded.

        Raises:
            UserError: there is no such model.
        """

    @abstractmethod
    def start(self, name: str) -> None:
        """Start loading a model in the background, unless it is loaded or on its way. A failed one is tried again.

        Raises:
            UserError: there is no such model, or it must be downloaded first.
        """

    @abstractmethod
    def download(self, name: str) -> None:
        """Start downloading a model's missing parts in the background; it is loaded afterwards.

        Other models keep working meanwhile. What an earlier download has fetched is not fetched again.

        Raises:
            UserError: there is no such model.
        """

    @abstractmethod
    def cancel(self, name: str) -> None:
        """Stop a model's download, if there is one; what has arrived is kept for the next.

        Raises:
            UserError: there is no such model.
        """
