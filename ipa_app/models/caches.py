"""Caches of a model's work, so that it need not be repeated for the next request."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from diffusers.models.modeling_outputs import AutoencoderKLOutput

from ipa_app.adapter.image_prompt import ImagePrompt

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

CACHED_PROMPTS = 64
"""Most image prompts kept per model."""
LEAST_PROMPTS = 4
_CACHED_BYTES = 256 * 2**20
_CACHED_POSTERIORS = 8


class Recent(Generic[Key, Value]):
    """A thread-safe cache of the most recently used values."""

    def __init__(self, limit: int) -> None:
        """Keep at most `limit` values."""
        self._limit = limit
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Count the values that are kept."""
        return len(self._values)

    def get(self, key: Key) -> Value | None:
        """Return a value, which becomes the latest used, or None."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Keep a value; if there are too many, the least recently used are evicted."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while self._are_too_many():
                self._values.popitem(last=False)

    def _are_too_many(self) -> bool:
        return len(self._values) > self._limit


class PromptCache(Recent[tuple[str, str], ImagePrompt]):
    """The image prompts used last, by the hashes of the picture and of the adapter.

    A prompt of 16 tokens takes 1 MB in half precision for SD 1.5 with its 16 layers, 11 MB for SDXL with its 70.
    """

    def __init__(self, limit: int = CACHED_PROMPTS, *, most_bytes: int = _CACHED_BYTES) -> None:
        """Keep at most `limit` prompts; fewer, but at least `LEAST_PROMPTS`, if they take more than `most_bytes`."""
        super().__init__(limit)
        self._most_bytes = most_bytes

    def _are_too_many(self) -> bool:
        return super()._are_too_many() or (len(self) > LEAST_PROMPTS and self._take_too_much())

    def _take_too_much(self) -> bool:
        return sum(prompt.num_bytes for prompt in self._values.values()) > self._most_bytes


class Posteriors(Recent[Hashable, AutoencoderKLOutput]):
    """The VAE's latent distributions of the pictures encoded last, before sampling.

    The next stroke of a mask, another seed and each picture of a batch start from the same picture. The distribution of
    a picture of 512 pixels each way takes 320 KB in single precision.
    """

    def __init__(self, limit: int = _CACHED_POSTERIORS) -> None:
        """Keep the distributions of at most `limit` pictures."""
        super().__init__(limit)
