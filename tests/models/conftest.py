from __future__ import annotations

from tests.hub_fixtures import cache, hub, hub_entry, real_entry  # noqa: F401 - fixtures are found by being here
