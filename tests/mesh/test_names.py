"""Names of services and gateways, and who sees what."""

from __future__ import annotations

import pytest

from meshproxy.mesh.names import Visibility, cluster_name, fqdn, gateway_name, is_ip_address, short_names, with_port


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("reviews", "reviews.prod.svc.cluster.local"),
        ("Reviews", "reviews.prod.svc.cluster.local"),
        ("reviews.test", "reviews.test"),
        ("api.example.com", "api.example.com"),
        ("*", "*"),
        ("*.example.com", "*.example.com"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
    ],
)
def test_only_a_name_without_a_dot_is_completed(host: str, expected: str) -> None:
    assert fqdn(host, "prod") == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gw", "prod/gw"),
        ("./gw", "prod/gw"),
        ("test/gw", "test/gw"),
        ("gw.test", "test/gw"),
        ("gw.test.svc.cluster.local", "test/gw"),
        ("mesh", "mesh"),
    ],
)
def test_a_gateway_is_named_by_namespace_and_name(name: str, expected: str) -> None:
    assert gateway_name(name, "prod") == expected


def test_a_cluster_is_named_by_direction_port_subset_and_host() -> None:
    assert cluster_name("reviews.prod.svc.cluster.local", 80, "v1") == "outbound|80|v1|reviews.prod.svc.cluster.local"
    assert cluster_name("a.com", 443) == "outbound|443||a.com"


@pytest.mark.parametrize("text", ["1.2.3.4", "::1", "fe80::1"])
def test_addresses_are_told_from_names(text: str) -> None:
    assert is_ip_address(text)


@pytest.mark.parametrize("text", ["", "a", "1.2.3.4.5", "a.b.c4", "localhost", "s1", "1.2.3.4:80"])
def test_names_are_told_from_addresses(text: str) -> None:
    assert not is_ip_address(text)


@pytest.mark.parametrize(
    ("export_to", "seen_from"),
    [
        ([], {"own", "other", "third"}),
        (["*"], {"own", "other", "third"}),
        (["."], {"own"}),
        (["other"], {"other"}),
        ([".", "other"], {"own", "other"}),
        (["~"], set()),
    ],
)
def test_export_to_says_which_namespaces_see_a_resource(export_to: list[str], seen_from: set[str]) -> None:
    visibility = Visibility.of(export_to, "own")
    assert {namespace for namespace in ("own", "other", "third") if visibility.includes(namespace)} == seen_from


def test_two_resources_overlap_if_some_namespace_sees_both() -> None:
    everybody, own, other, nobody = (Visibility.of(e, "own") for e in (["*"], ["."], ["other"], ["~"]))
    assert everybody.overlaps(own) and own.overlaps(everybody) and own.overlaps(own)
    assert not own.overlaps(other) and not nobody.overlaps(everybody) and not everybody.overlaps(nobody)


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("a.prod.svc.cluster.local", ["a.prod.svc.cluster.local.", "a", "a.prod", "a.prod.svc"]),
        ("a.test.svc.cluster.local", ["a.test.svc.cluster.local.", "a.test", "a.test.svc"]),
        ("a.b.prod.svc.cluster.local", ["a.b.prod.svc.cluster.local.", "a.b.prod", "a.b.prod.svc"]),
        ("*.prod.svc.cluster.local", ["*.prod.svc.cluster.local.", "*.prod", "*.prod.svc"]),
        ("a.svc.cluster.local", ["a.svc.cluster.local."]),
        ("a.prod", ["a.prod."]),
        ("api.example.com", ["api.example.com."]),
    ],
)
def test_a_service_has_the_short_names_that_dns_would_complete(host: str, names: list[str]) -> None:
    assert list(short_names(host, "prod")) == names


def test_an_ipv6_address_is_in_brackets_before_a_port() -> None:
    assert (with_port("a.b", 80), with_port("fd00::1", 81)) == ("a.b:80", "[fd00::1]:81")
