"""What an operator says of a cluster, and what has to be said before Ray is imported. No Ray in here."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from math import ceil

from ipa_app.runtime import whole_number

CLUSTER_VARIABLE = "IPA_CLUSTER"
LOCAL = "local"

_STUCK_S = 600


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """How requests are drawn on many devices.

    Attributes:
        address: "local" for replicas on this machine alone, or that of a cluster that runs; empty for none.
        replicas: how many there are to be; 0 for one to each GPU, and one where there are none.
        batch: most pictures that a device draws in one batch, and most requests that a replica has at a time; 0 for
            what suits the model, of one request.
        patience: seconds for which nothing may be heard of a request that is drawn; what is stuck for longer is ended.
        threads: that each replica's model takes.
        device: a torch device for every replica; empty for the fastest there is.
    """

    address: str
    replicas: int
    batch: int
    patience: int
    threads: int
    device: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ClusterSettings:
        """Read the settings.

        Raises:
            UserError: a value is no whole number of at least 1.
        """
        return cls(
            address=environment.get(CLUSTER_VARIABLE, "").strip(),
            replicas=whole_number(environment, "IPA_REPLICAS", 0),
            batch=whole_number(environment, "IPA_BATCH", 0),
            patience=whole_number(environment, "IPA_STUCK_SECONDS", _STUCK_S),
            threads=whole_number(environment, "OMP_NUM_THREADS", 1),
            device=environment.get("IPA_DEVICE", "").strip(),
        )

    @property
    def requests_at_once(self) -> int:
        """How many requests a replica has at a time."""
        return max(1, self.batch)

    @property
    def is_local(self) -> bool:
        """Whether the cluster is this machine alone, begun and ended by this process."""
        return self.address == LOCAL

    def share(self, replicas: int, *, gpus: int) -> dict[str, float]:
        """Return what of the cluster is each replica's: a GPU, a part of one where there are more replicas, or cores.

        Args:
            replicas: how many there are to be.
            gpus: how many the cluster has; Ray hides them from those who are given none.
        """
        if gpus and self.device != "cpu":
            return {"num_gpus": 1 / ceil(replicas / gpus)}
        return {"num_cpus": self.threads}

    def prepare(self, environment: MutableMapping[str, str]) -> None:
        """Set what Ray reads when it is imported, here and in every process that it begins."""
        environment.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if self.is_local:
            # Ray's own way to keep to 127.0.0.1, as it does on Windows and macOS. Elsewhere it opens its ports to the
            # network, also for a cluster that is this machine alone.
            environment.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
            # Whoever reaches those ports can have code run: nobody but this user may, on this machine either.
            environment.setdefault("RAY_AUTH_MODE", "token")
            # By itself Ray lets everything else go first; drawing is as urgent here as in one process.
            environment.setdefault("RAY_worker_niceness", "0")
            # Serve looks after its replicas ten times a second by itself, for a fortieth of a core that they draw on.
            environment.setdefault("RAY_SERVE_CONTROL_LOOP_INTERVAL_S", "1")
