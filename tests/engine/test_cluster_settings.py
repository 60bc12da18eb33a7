"""An operator's cluster settings, and the example files to copy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ipa_app.engine.cluster_settings import ClusterSettings
from ipa_app.errors import UserError

DEPLOY = Path(__file__).parents[2] / "deploy"


def settings(**environment: str) -> ClusterSettings:
    return ClusterSettings.from_environment(environment)


def test_by_default_there_is_no_cluster() -> None:
    assert not settings().address
    assert not settings(IPA_CLUSTER=" ").address


def test_a_number_that_is_none_is_said_by_its_variable() -> None:
    with pytest.raises(UserError, match="IPA_REPLICAS is '0'; it must be a whole number of at least 1"):
        settings(IPA_CLUSTER="local", IPA_REPLICAS="0")


@pytest.mark.parametrize(
    ("replicas", "gpus", "share"),
    [(2, 2, {"num_gpus": 1}), (1, 4, {"num_gpus": 1}), (3, 2, {"num_gpus": 0.5}), (2, 0, {"num_cpus": 3})],
)
def test_every_replica_sees_a_gpu_where_there_is_one(replicas: int, gpus: int, share: dict[str, float]) -> None:
    assert settings(OMP_NUM_THREADS="3").share(replicas, gpus=gpus) == share


def test_who_wants_processors_has_them() -> None:
    assert settings(OMP_NUM_THREADS="3", IPA_DEVICE="cpu").share(2, gpus=2) == {"num_cpus": 3}


@pytest.mark.parametrize(("address", "is_local"), [("local", True), ("auto", False), ("10.0.0.1:6379", False)])
def test_ray_keeps_to_this_machine_where_it_is_the_whole_cluster(address: str, is_local: bool) -> None:
    environment = {"RAY_AUTH_MODE": "token"}
    settings(IPA_CLUSTER=address).prepare(environment)
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" in environment) is is_local


def manifest() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))


def test_the_front_of_the_manifest_deploys_to_a_port_that_the_head_s_service_has() -> None:
    cluster, front, _ = manifest()
    (head,) = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"]
    (container,) = front["spec"]["template"]["spec"]["containers"]
    ports = {port["containerPort"] for port in head["ports"]}
    named = re.findall(rf"{cluster['metadata']['name']}-head-svc:(\d+)", " ".join(container["args"]))
    assert {int(port) for port in named} == ports == {6379, 8265}
    assert "deploy/serve.yaml" in " ".join(container["args"])


def test_every_pod_of_the_manifest_may_write_what_the_image_s_user_writes() -> None:
    cluster, front, _ = manifest()
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"], front["spec"]]
    user = re.search(r"useradd --uid (\d+) --gid (\d+)", (DEPLOY.parent / "Dockerfile").read_text(encoding="utf-8"))
    assert user
    for group in groups:
        assert group["template"]["spec"]["securityContext"] == {"fsGroup": int(user.group(2))}


def test_the_manifest_has_a_gpu_for_every_replica() -> None:
    cluster, *_ = manifest()
    (group,) = cluster["spec"]["workerGroupSpecs"]
    (application,) = yaml.safe_load((DEPLOY / "serve.yaml").read_text(encoding="utf-8"))["applications"]
    (deployment,) = application["deployments"]
    assert group["replicas"] == deployment["num_replicas"]


def test_the_front_of_the_manifest_has_what_kuberay_gives_its_own_nodes() -> None:
    pod = manifest()[1]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    (shared,) = (volume for volume in pod["volumes"] if volume["name"] == mounted["/dev/shm"])  # noqa: S108
    assert shared["emptyDir"]["medium"] == "Memory"
    # The front is healthy even if no replica answers: it must not be restarted for that.
    assert container["readinessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["livenessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/metrics"
