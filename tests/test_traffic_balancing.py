"""The examples of balancing in docs/traffic.md do what the page says of them."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import requests
import yaml

from meshproxy.mesh import remarks
from meshproxy.mesh.localities import Whereabouts, placed
from meshproxy.mesh.registry import ServiceEndpoint
from meshproxy.mesh.workloads import locality_of
from meshproxy.resources import DestinationRule
from meshproxy.snapshot import Cluster, Locality, SlowStart, SocketAddress
from meshproxy.testing.plugin import MeshStarter
from meshproxy.testing.running import RunningMesh

from .mesh.support import GATEWAY, mesh_of, only_cluster, sidecar_of, snapshot_of, virtual_service
from .test_traffic import DOCS


def examples(heading: str) -> list[str]:
    """The YAML between a heading of any level and the next."""
    _, *parts = re.split(r"^#+ (.+)$", DOCS, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    return re.findall(r"^```yaml\n(.*?)^```$", sections[heading], re.MULTILINE | re.DOTALL)


def example(heading: str) -> str:
    """The only YAML under a heading."""
    [only] = examples(heading)
    return only


SERVICE = example("Balancing")
ROUTE = virtual_service("- route: [{destination: {host: reviews}}]", hosts="'*'")


def gateway(rule: str) -> str:
    return "\n---\n".join((GATEWAY, ROUTE, SERVICE, rule))


def met(mesh: RunningMesh, *headers: dict[str, str], path: str = "/") -> list[str]:
    """The endpoints that requests with these headers meet."""
    return [requests.get(mesh.url() + path, headers=one, timeout=5).text.strip() for one in headers]


def counts(mesh: RunningMesh, number: int) -> list[int]:
    """How many of so many requests each endpoint meets, in the order of the endpoints."""
    counter = Counter(met(mesh, *[{}] * number))
    return [counter[f"10.0.0.{endpoint}:80"] for endpoint in (1, 2, 3)]


def cluster(rule: str, locality: str = "") -> Cluster:
    return only_cluster(snapshot_of(gateway(rule), locality=locality_of(locality)))


@pytest.mark.parametrize("heading", ["Least request", "Round robin"])
def test_turns_go_by_weight(heading: str, mesh: MeshStarter) -> None:
    with mesh(yaml=gateway(example(heading))) as running:
        assert counts(running, 40) == pytest.approx([10, 10, 20], abs=1)


def test_chance_minds_no_weights(mesh: MeshStarter) -> None:
    with mesh(yaml=gateway(example("Random"))) as running:
        assert min(counts(running, 300)) > 60


def test_passthrough_is_for_sidecars() -> None:
    rule = example("Passthrough")
    assert snapshot_of(gateway(rule)).clusters == ()
    [note] = remarks(mesh_of(rule))
    assert "PASSTHROUGH is for sidecars" in note.message
    found = {one.name: one for one in sidecar_of(SERVICE, rule).clusters}
    assert found["outbound|80||reviews.default.svc.cluster.local"].type == "DYNAMIC_FORWARD_PROXY"


HASHING = [examples("Consistent hashing")[0], example("Ring hash"), example("Maglev")]


@pytest.mark.parametrize("rule", HASHING)
def test_one_user_meets_one_endpoint(rule: str, mesh: MeshStarter) -> None:
    users = [{"x-user": str(number)} for number in range(60)]
    with mesh(yaml=gateway(rule)) as running:
        first = met(running, *users)
        assert met(running, *users) == first
    assert len(set(first)) == 3


def test_a_client_without_the_cookie_is_given_one(mesh: MeshStarter) -> None:
    with mesh(yaml=gateway(examples("Consistent hashing")[1])) as running, requests.Session() as client:
        answer = client.get(running.url(), timeout=5)
        value, _, told = answer.headers["set-cookie"].partition("; ")
        again = requests.get(running.url(), headers={"cookie": value}, timeout=5)
    assert value.startswith('affinity="')
    assert told == "Max-Age=3600; Path=/; SameSite=Lax; Secure; HttpOnly"
    assert again.text == answer.text
    assert "set-cookie" not in again.headers


def test_localities_have_their_shares() -> None:
    rule = example("Shares")
    weights = {one.locality: one.weight for one in cluster(rule, "us-east/b/7").locality_weights}
    assert weights == {Locality("us-east", "a"): 70, Locality("us-east", "b"): 20, Locality("us-west", "a"): 10}


def test_requests_fail_over() -> None:
    policy = DestinationRule.model_validate(yaml.safe_load(example("Failover"))["spec"]).traffic_policy
    assert policy is not None and policy.outlier_detection is not None
    places = ("us-west/a", "us-east/b", "us-east/a", "eu")
    endpoints = [
        ServiceEndpoint(SocketAddress("192.0.2.1", port), locality=locality_of(place))
        for port, place in enumerate(places)
    ]
    here = Whereabouts.of({}, locality_of("us-east/a"))
    found = placed(endpoints, policy.load_balancer, here, ejects=True).endpoints
    assert [(one.locality.region, one.locality.zone) for one in sorted(found, key=lambda one: one.priority)] == [
        ("us-east", "a"),
        ("us-east", "b"),
        ("us-west", "a"),
        ("eu", ""),
    ]


def test_requests_stay_in_the_region() -> None:
    found = cluster(example("Zones"), "us-east/a")
    assert {one.locality.region: one.priority for one in found.endpoints} == {"us-east": 0, "us-west": 1}


def test_new_endpoints_warm_up() -> None:
    assert cluster(example("Warming up")).slow_start == SlowStart(60, 1, 10)


def test_a_name_has_one_address_at_a_time() -> None:
    [found] = snapshot_of("\n---\n".join((GATEWAY, ROUTE, example("Names")))).clusters
    assert found.type == "LOGICAL_DNS"
