"""A replica that draws several requests in a batch: a request that cannot join the batch waits at the replica."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest
from tests.engine.conftest import TIMEOUT_S, drawing
from tests.engine.test_cluster import ENDLESS, WISH, bundles, running_cluster

__all__ = ["bundles"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray: requirements-cluster.txt"),
]


@pytest.fixture(scope="module")
def cluster(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One replica, which leaves no files behind."""
    files = tmp_path_factory.mktemp("files")
    # Ray needs short paths for its own files.
    settings = {"IPA_REPLICAS": "1", "IPA_BATCH": "2", "IPA_STUCK_SECONDS": "6", "RAY_TMPDIR": "/tmp"}
    with running_cluster(bundles, **settings, TMPDIR=str(files)) as engine:
        assert list(files.glob("ipa-adapters-*"))
        yield engine
    assert not list(files.glob("ipa-adapters-*"))


def test_what_waits_there_for_another_one_is_not_taken_for_stuck(cluster: Engine) -> None:
    long = drawing(cluster.submit(GenerateRequest(**ENDLESS)))
    waiting = cluster.submit(GenerateRequest(**WISH, steps=2))
    assert waiting.result(TIMEOUT_S).notes == ()
    assert long.result(TIMEOUT_S).notes == ()
