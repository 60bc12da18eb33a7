"""Networks are built one at a time, whoever builds them."""

from __future__ import annotations

import threading

ONE_AT_A_TIME = threading.RLock()
"""Held while a network is built. While from_pretrained() runs, diffusers has torch build every module of the process
without weights, whatever thread builds it; and two loads that overlap would leave it so for ever."""
