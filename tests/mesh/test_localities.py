"""Which endpoints a proxy prefers for where it is, and what share each locality has."""

from __future__ import annotations

from typing import Any

import pytest

from meshproxy.mesh.localities import Whereabouts, placed
from meshproxy.mesh.registry import ServiceEndpoint
from meshproxy.mesh.workloads import Workload, locality_of
from meshproxy.resources import LoadBalancerSettings, WorkloadEntry
from meshproxy.snapshot import UNKNOWN_LOCALITY, Locality, SocketAddress

from .support import GATEWAY, only_cluster, sidecar_of, snapshot_of, virtual_service

HERE = "us/a/1"
PLACES = ("eu/a/1", "us/b/1", "us/a/1", "asia", "us/a/2", "eu/b")


def endpoints(*places: str) -> list[ServiceEndpoint]:
    return [
        ServiceEndpoint(SocketAddress("192.0.2.1", port), locality=locality_of(place), weight=port)
        for port, place in enumerate(places, 1)
    ]


def labelled(*labels: dict[str, str]) -> list[ServiceEndpoint]:
    return [ServiceEndpoint(SocketAddress("192.0.2.1", port), own) for port, own in enumerate(labels, 1)]


def settings(**fields: Any) -> LoadBalancerSettings:
    return LoadBalancerSettings.model_validate(fields)


def priorities(
    those: list[ServiceEndpoint],
    setting: LoadBalancerSettings | None = None,
    here: str = HERE,
    ejects: bool = True,
    labels: dict[str, str] | None = None,
) -> list[list[int]]:
    """The numbers of the endpoints in each priority."""
    found = placed(those, setting, Whereabouts.of(labels or {}, locality_of(here)), ejects)
    ports = [[one.address.port for one in found.endpoints if one.priority == p] for p in range(9)]  # type: ignore[union-attr]
    return [sorted(one) for one in ports if one]


def test_with_outlier_detection_the_nearest_come_first() -> None:
    assert priorities(endpoints(*PLACES)) == [[3], [5], [2], [1, 4, 6]]
    assert priorities(endpoints(*PLACES), settings(localityLbSetting={})) == [[3], [5], [2], [1, 4, 6]]


def test_without_outlier_detection_nobody_stands_by() -> None:
    for setting in (None, settings(localityLbSetting={"failover": [{"from": "us", "to": "eu"}]})):
        found = placed(endpoints(*PLACES), setting, Whereabouts.of({}, locality_of(HERE)), ejects=False)
        assert {one.priority for one in found.endpoints} == {0}
        assert found.weights == ()


def test_what_is_switched_off_does_nothing() -> None:
    for setting in (
        {"enabled": False, "failover": [{"from": "us", "to": "eu"}]},
        {"enabled": False, "distribute": [{"from": "us", "to": {"eu": 100}}]},
    ):
        assert priorities(endpoints(*PLACES), settings(localityLbSetting=setting)) == [[1, 2, 3, 4, 5, 6]]


def test_priorities_have_no_gaps() -> None:
    assert priorities(endpoints("eu", "us/b")) == [[2], [1]]
    assert priorities(endpoints("eu", "asia")) == [[1, 2]]


def test_who_is_nowhere_prefers_those_that_are_nowhere_too() -> None:
    assert priorities(endpoints("", "us", ""), here="") == [[1, 3], [2]]


def test_a_failover_names_the_region_that_takes_over() -> None:
    setting = settings(localityLbSetting={"failover": [{"from": "eu", "to": "us"}, {"from": "us", "to": "asia"}]})
    assert priorities(endpoints(*PLACES), setting) == [[3], [5], [2], [4], [1, 6]]
    assert priorities(endpoints(*PLACES), setting, here="africa") == [[1, 2, 3, 4, 5, 6]]


def test_with_failover_localities_weigh_what_their_endpoints_do() -> None:
    setting = settings(localityLbSetting={"failover": [{"from": "us", "to": "asia"}]})
    found = placed(endpoints("us", "us", "asia"), setting, Whereabouts.of({}, locality_of("us")), ejects=True)
    assert [(one.locality.region, one.priority, one.weight) for one in found.weights] == [("us", 0, 3), ("asia", 1, 3)]


def test_failover_priority_goes_by_labels_from_the_first_that_differs() -> None:
    setting = settings(localityLbSetting={"failoverPriority": ["site", "rack"]})
    those = labelled({"site": "x", "rack": "1"}, {"site": "x", "rack": "2"}, {"site": "y", "rack": "1"}, {})
    assert priorities(those, setting, labels={"site": "x", "rack": "1"}) == [[1], [2], [3, 4]]


def test_failover_priority_may_ask_for_a_value() -> None:
    setting = settings(localityLbSetting={"failoverPriority": ["version=v1", "site"]})
    those = labelled({"version": "v2", "site": "x"}, {"version": "v1", "site": "x"}, {"version": "v1"})
    assert priorities(those, setting, labels={"version": "v2", "site": "x"}) == [[2], [3], [1]]


def test_another_network_comes_after_all_of_the_own() -> None:
    network = "topology.istio.io/network"
    setting = settings(localityLbSetting={"failoverPriority": [network, "site"]})
    those = labelled(
        {network: "b", "site": "x"}, {network: "a", "site": "y"}, {network: "a", "site": "x"}, {network: "b"}
    )
    assert priorities(those, setting, labels={network: "a", "site": "x"}) == [[3], [2], [1], [4]]


def test_failover_priority_by_place_knows_the_places_of_both() -> None:
    labels = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"]
    setting = settings(localityLbSetting={"failoverPriority": labels})
    those = [
        ServiceEndpoint(SocketAddress("192.0.2.1", port), workload.endpoint_labels, locality=workload.locality)
        for port, place in enumerate(("eu", "us/b", "us/a/9"), 1)
        for workload in [Workload.of(WorkloadEntry(address="192.0.2.1", locality=place))]
    ]
    assert priorities(those, setting) == [[3], [2], [1]]


def test_failover_priority_goes_before_failover() -> None:
    setting = settings(localityLbSetting={"failoverPriority": ["v"], "failover": [{"from": "us", "to": "eu"}]})
    those = [
        ServiceEndpoint(SocketAddress("192.0.2.1", port), {"v": version}, locality=Locality(region))
        for port, (version, region) in enumerate([("1", "asia"), ("1", "eu"), ("2", "us"), ("2", "asia")], 1)
    ]
    assert priorities(those, setting, here="us", labels={"v": "1"}) == [[2], [1], [3], [4]]


def test_without_labels_there_is_nothing_to_compare() -> None:
    setting = settings(localityLbSetting={"failoverPriority": ["site"]})
    assert priorities(labelled({"site": "x"}, {}), setting, here="") == [[1, 2]]


def test_a_setting_for_zones_keeps_to_the_region() -> None:
    for ejects in (True, False):
        assert priorities(endpoints(*PLACES), settings(zoneAwareLbSetting={}), ejects=ejects) == [[2, 3, 5], [1, 4, 6]]
    named = settings(zoneAwareLbSetting={"failover": [{"from": "us", "to": "asia"}]})
    assert priorities(endpoints(*PLACES), named) == [[2, 3, 5], [4], [1, 6]]
    off = settings(zoneAwareLbSetting={"enabled": False})
    assert priorities(endpoints(*PLACES), off) == [[1, 2, 3, 4, 5, 6]]


def distributed(here: str, *rules: dict[str, Any]) -> tuple[set[int], dict[str, int]]:
    """The endpoints that are left, and the weight of each locality."""
    setting = settings(localityLbSetting={"distribute": list(rules)})
    found = placed(endpoints(*PLACES), setting, Whereabouts.of({}, locality_of(here)), ejects=False)
    weights = {
        "/".join(filter(None, (one.locality.region, one.locality.zone, one.locality.sub_zone))): one.weight
        for one in found.weights
    }
    return {one.address.port for one in found.endpoints}, weights  # type: ignore[union-attr]


def test_distribute_gives_localities_their_shares_and_leaves_out_the_others() -> None:
    rule = {"from": "us/*", "to": {"us/a/1": 70, "asia": 20, "eu/a/*": 10}}
    assert distributed(HERE, rule) == ({1, 3, 4}, {"us/a/1": 70, "asia": 20, "eu/a/1": 10})


def test_localities_of_one_share_have_parts_of_it_by_their_endpoints_rounded_up() -> None:
    ports, weights = distributed(HERE, {"from": "*", "to": {"us": 50, "eu": 50}})
    assert ports == {1, 2, 3, 5, 6}
    assert weights == {"us/b/1": 10, "us/a/1": 15, "us/a/2": 25, "eu/a/1": 8, "eu/b": 43}


def test_a_locality_has_the_share_of_the_first_name_that_covers_it() -> None:
    ports, weights = distributed(HERE, {"from": "*", "to": {"eu/a/1": 70, "eu/*": 30}})
    assert ports == {1, 6}
    assert weights == {"eu/a/1": 70, "eu/b": 30}


def test_the_first_rule_that_fits_distributes() -> None:
    rules = ({"from": "us/b", "to": {"asia": 100}}, {"from": "us/a/*", "to": {"eu/b": 100}})
    assert distributed(HERE, *rules)[0] == {6}


def test_where_no_rule_fits_every_locality_weighs_what_its_endpoints_do() -> None:
    ports, weights = distributed("africa", {"from": "us", "to": {"us": 100}})
    assert ports == {1, 2, 3, 4, 5, 6}
    assert weights["us/a/2"] == 5


@pytest.mark.parametrize(
    ("entry", "locality"),
    [
        ({"locality": "us/a/1"}, Locality("us", "a", "1")),
        ({"locality": "us.x"}, Locality("us.x")),
        ({"locality": "us", "labels": {"istio-locality": "eu.b"}}, Locality("us")),
        ({"labels": {"istio-locality": "eu.b.2"}}, Locality("eu", "b", "2")),
        ({}, UNKNOWN_LOCALITY),
    ],
)
def test_a_workload_is_where_it_says_or_where_its_label_does(entry: dict[str, Any], locality: Locality) -> None:
    workload = Workload.of(WorkloadEntry.model_validate({"address": "192.0.2.1", **entry}))
    assert workload.locality == locality


WORLD = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 10.0.0.1, locality: eu/x}
  - {address: 10.0.0.2, locality: us/x, weight: 3}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec: {host: a.example, trafficPolicy: {loadBalancer: {zoneAwareLbSetting: {}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: near, labels: {app: near}}
spec: {address: 10.0.0.9, locality: us/y}
"""


def standing_by(cluster_endpoints: Any) -> list[str]:
    return [one.address.host for one in cluster_endpoints if one.priority]


def test_a_gateway_is_where_it_is_told_to_be() -> None:
    route = virtual_service("- route: [{destination: {host: a.example}}]")
    for place, expected in ((Locality("us"), ["10.0.0.1"]), (Locality("eu"), ["10.0.0.2"]), (UNKNOWN_LOCALITY, [])):
        cluster = only_cluster(snapshot_of(GATEWAY, WORLD, route, locality=place))
        assert standing_by(cluster.endpoints) == expected


def test_a_sidecar_is_where_its_workload_is_unless_told_otherwise() -> None:
    for options, expected in (({}, ["10.0.0.1"]), ({"locality": Locality("eu")}, ["10.0.0.2"])):
        snapshot = sidecar_of(WORLD, workload="near", **options)
        [cluster] = [one for one in snapshot.clusters if one.name == "outbound|80||a.example"]
        assert standing_by(cluster.endpoints) == expected
