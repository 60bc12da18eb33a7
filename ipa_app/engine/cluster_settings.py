"""The operator's settings for a cluster, and what must be set before Ray is imported. Ray is not imported here."""

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
        address: "local" for replicas on this machine alone, or the address of a running cluster; empty for none.
        replicas: number of replicas; 0 for one per GPU, or a single one if there is no GPU.
        batch: most pictures that a device draws in one batch, and most requests that a replica has at a time; 0 for
            the batch size that suits the model, and one request.
        patience: seconds that a replica may be silent on a request that it draws; after that it is killed as stuck.
        threads: CPU threads for each replica's model.
        device: a torch device for every replica; empty for the fastest available.
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
            UserError: a value is not a whole number of at least 1.
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
        """Whether the cluster is this machine alone, started and shut down by this process."""
        return self.address == LOCAL

    def share(self, replicas: int, *, gpus: int) -> dict[str, float]:
        """Return each replica's share of the cluster: a GPU, part of one if there are more replicas, or CPU cores.

        Args:
            replicas: number of replicas.
            gpus: how many the cluster has; Ray hides them from replicas that are given none.
        """
        if gpus and self.device != "cpu":
            return {"num_gpus": 1 / ceil(replicas / gpus)}
        return {"num_cpus": self.threads}

    def prepare(self, environment: MutableMapping[str, str]) -> None:
        """Set the variables that Ray reads when it is imported, here and in every process that it starts."""
        environment.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if self.is_local:
            # Ray's own switch for staying on 127.0.0.1, as it does on Windows and macOS. Elsewhere it opens its ports
            # to the network, even for a cluster of this machine alone.
            environment.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
            # Anyone who reaches those ports can run code: only this user may, even on this machine.
            environment.setdefault("RAY_AUTH_MODE", "token")
            # By default Ray lowers its workers' priority; drawing is as urgent here as in one process.
            environment.setdefault("RAY_worker_niceness", "0")
            # By default Serve checks its replicas ten times a second, at the cost of a fortieth of a core.
            environment.setdefault("RAY_SERVE_CONTROL_LOOP_INTERVAL_S", "1")
