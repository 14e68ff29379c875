"""Outlier detection and health checks as Envoy's messages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshproxy.envoy import Inexpressible, bootstrap
from meshproxy.envoy.clusters import cluster
from meshproxy.envoy.health import PROBE, health_checks, probe_socket
from meshproxy.snapshot import (
    CertificateValidationContext,
    Cluster,
    CommonTlsContext,
    Endpoint,
    ExecProbe,
    HeaderValue,
    HealthCheck,
    HttpProbe,
    OutlierDetection,
    Pipe,
    Probe,
    Snapshot,
    SocketAddress,
    TcpProbe,
    UpstreamTlsContext,
)

from .binary import complaints, needs_envoy

HERE, THERE = SocketAddress("127.0.0.1", 80), SocketAddress("127.0.0.2", 80)


def ejecting(**config: Any) -> Cluster:
    return Cluster("c", (Endpoint(HERE),), outlier_detection=OutlierDetection(**config))


def probed(*probes: Probe | None, **config: Any) -> Cluster:
    """A cluster of endpoints at `HERE`, which are probed so, or not at all."""
    checks = (None if probe is None else HealthCheck(probe, **config) for probe in probes)
    return Cluster("c", tuple(Endpoint(HERE, health_check=check) for check in checks))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {},
            {
                "consecutive_5xx": 5,
                "enforcing_consecutive_5xx": 100,
                "enforcing_success_rate": 0,
                "interval": "10s",
                "base_ejection_time": "30s",
                "max_ejection_time": "300s",
                "max_ejection_percent": 10,
            },
        ),
        ({"consecutive_5xx": 0}, {"consecutive_5xx": 0, "enforcing_consecutive_5xx": 0}),
        (
            {"consecutive_gateway_failure": 3},
            {"consecutive_gateway_failure": 3, "enforcing_consecutive_gateway_failure": 100},
        ),
        (
            {"split_external_local_origin_errors": True, "consecutive_local_origin_failure": 2},
            {
                "split_external_local_origin_errors": True,
                "consecutive_local_origin_failure": 2,
                "enforcing_local_origin_success_rate": 0,
            },
        ),
    ],
)
def test_outlier_detection(config: dict[str, Any], expected: dict[str, Any]) -> None:
    message = cluster(ejecting(**config), None)["outlier_detection"]
    assert {name: message[name] for name in expected} == expected


def test_error_codes_are_conditions_on_the_status() -> None:
    def matcher(*codes: int) -> Any:
        options = cluster(ejecting(error_codes=codes), None)["typed_extension_protocol_options"]
        [protocol] = options.values()
        return protocol["outlier_detection"]["error_matcher"]

    def condition(code: str) -> Any:
        return {"http_response_headers_match": {"headers": [{"name": ":status", "string_match": {"exact": code}}]}}

    assert matcher(404) == condition("404")
    assert matcher(404, 429) == {"or_match": {"rules": [condition("404"), condition("429")]}}


def test_a_cluster_without_either_says_nothing_of_it() -> None:
    message = cluster(Cluster("c", (Endpoint(HERE),)), None)
    assert not {"outlier_detection", "health_checks"} & message.keys()
    assert "health_check_config" not in str(message)


def test_a_health_check() -> None:
    headers = (HeaderValue("x", "50%"),)
    [message] = cluster(
        probed(HttpProbe(HERE, "/x", "h", headers), timeout_s=2, interval_s=3, healthy_threshold=4), None
    )["health_checks"]
    assert (message["timeout"], message["interval"], message["no_traffic_interval"]) == ("2s", "3s", "3s")
    assert (message["healthy_threshold"], message["unhealthy_threshold"]) == (4, 1)
    http = message["http_health_check"]
    assert http["path"] == "/x"
    assert http["request_headers_to_add"][0]["header"] == {"key": "x", "value": "50%%"}


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        (TcpProbe(HERE), None),
        (TcpProbe(replace(HERE, port=81)), {"port_value": 81}),
        (TcpProbe(THERE), {"address": {"socket_address": {"address": "127.0.0.2", "port_value": 80}}}),
        (TcpProbe(Pipe("/s")), {"address": {"pipe": {"path": "/s"}}}),
        (HttpProbe(HERE), {"hostname": "127.0.0.1:80"}),
        (HttpProbe(replace(HERE, port=81), host="h"), {"port_value": 81, "hostname": "h"}),
    ],
)
def test_where_an_endpoint_is_probed(probe: Probe, expected: dict[str, Any] | None) -> None:
    [group] = cluster(probed(probe), None)["load_assignment"]["endpoints"]
    [endpoint] = group["lb_endpoints"]
    assert endpoint["endpoint"].get("health_check_config") == expected


def test_endpoints_that_are_not_probed_are_left_alone() -> None:
    [group] = cluster(probed(TcpProbe(HERE), None), None)["load_assignment"]["endpoints"]
    assert [one["endpoint"].get("health_check_config") for one in group["lb_endpoints"]] == [
        None,
        {"disable_active_health_check": True},
    ]


def test_a_probe_that_passes_ends_no_ejection() -> None:
    both = replace(probed(TcpProbe(HERE)), outlier_detection=OutlierDetection())
    assert cluster(both, None)["outlier_detection"]["successful_active_health_check_uneject_host"] is False


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (probed(TcpProbe(HERE), HttpProbe(HERE)), "and these differ"),
        (probed(TcpProbe(HERE), initial_delay_s=1), "no initial delay"),
        (probed(ExecProbe(("ls", "-l"))), "Envoy runs no command, such as 'ls -l'"),
        (probed(TcpProbe(SocketAddress("a.test", 80))), "127.0.0.1:80 at a.test:80: Envoy looks up no name"),
    ],
)
def test_what_envoy_cannot_express_is_named(config: Cluster, told: str) -> None:
    with pytest.raises(Inexpressible, match=told):
        cluster(config, None)


ANY = UpstreamTlsContext(CommonTlsContext())
BY_REQUEST = UpstreamTlsContext(
    CommonTlsContext(validation_context=CertificateValidationContext("roots")),
    auto_host_sni=True,
    auto_sni_san_validation=True,
)


def by_tls(tls: UpstreamTlsContext | None, probe: UpstreamTlsContext | None, host: str = "h.test") -> Cluster:
    check = HealthCheck(HttpProbe(HERE, host=host, tls=probe))
    return Cluster("c", (Endpoint(HERE, health_check=check),), tls=tls)


@pytest.mark.parametrize(("tls", "probe"), [(None, None), (ANY, ANY)])
def test_probes_go_the_way_of_requests(tls: UpstreamTlsContext | None, probe: UpstreamTlsContext | None) -> None:
    config = by_tls(tls, probe)
    assert probe_socket(config) is None
    assert "transport_socket_match_criteria" not in health_checks(config)["health_checks"][0]


@pytest.mark.parametrize(
    ("tls", "probe", "name"),
    [
        (None, ANY, "envoy.transport_sockets.tls"),
        (ANY, None, "envoy.transport_sockets.raw_buffer"),
        (BY_REQUEST, ANY, "envoy.transport_sockets.tls"),
    ],
)
def test_probes_that_go_another_way_than_requests(
    tls: UpstreamTlsContext | None, probe: UpstreamTlsContext | None, name: str
) -> None:
    message = cluster(by_tls(tls, probe), None)
    assert message["health_checks"][0]["transport_socket_match_criteria"] == PROBE
    [match] = message["transport_socket_matches"]
    assert (match["match"], match["transport_socket"]["name"]) == (PROBE, name)


def test_probes_ask_for_the_server_that_they_name() -> None:
    socket = probe_socket(by_tls(BY_REQUEST, BY_REQUEST))
    assert socket is not None
    context = socket["typed_config"]
    validation = context["common_tls_context"]["combined_validation_context"]["default_validation_context"]
    assert context["sni"] == "h.test"
    assert {"san_type": "DNS", "matcher": {"exact": "h.test"}} in validation["match_typed_subject_alt_names"]


def test_probes_that_expect_the_name_of_an_address_have_no_words_in_envoy() -> None:
    with pytest.raises(Inexpressible, match="give one host"):
        probe_socket(by_tls(BY_REQUEST, BY_REQUEST, host=""))


@needs_envoy
def test_envoy_accepts_all_of_it(tmp_path: Path) -> None:
    here = HttpProbe(HERE, "/x?y", headers=(HeaderValue("x", "50%"), HeaderValue("user-agent", "us")))
    name = SocketAddress("localhost", 80)
    elsewhere = replace(here, address=THERE, host="h.test")
    configs = [
        ejecting(),
        ejecting(consecutive_5xx=0, consecutive_gateway_failure=1, max_ejection_percent=100),
        ejecting(split_external_local_origin_errors=True, interval_s=0.001, base_ejection_time_s=0.001),
        ejecting(base_ejection_time_s=900.0, max_ejection_time_s=900.0),
        ejecting(error_codes=(429,)),
        ejecting(error_codes=(404, 429, 500)),
        probed(here, elsewhere, None),
        probed(TcpProbe(HERE), TcpProbe(THERE), TcpProbe(Pipe("/s")), unhealthy_threshold=7),
        replace(probed(TcpProbe(HERE)), outlier_detection=OutlierDetection()),
        Cluster("c", (Endpoint(name, health_check=HealthCheck(TcpProbe(replace(name, port=9)))),), "STRICT_DNS"),
    ]
    snapshot = Snapshot(clusters=tuple(replace(one, name=f"c{number}") for number, one in enumerate(configs)))
    assert complaints(bootstrap(snapshot), tmp_path) == ""
