"""WorkloadGroups: what their entries have of them, and how they are probed by whom."""

from __future__ import annotations

from typing import Any

import pytest

from meshproxy.mesh import remarks
from meshproxy.snapshot import (
    Endpoint,
    ExecProbe,
    HeaderValue,
    HealthCheck,
    HttpProbe,
    Pipe,
    Probe,
    Snapshot,
    SocketAddress,
    TcpProbe,
)

from .support import APP, GATEWAY, mesh_of, sidecar_of, snapshot_of, virtual_service
from .test_sidecar import service

AGENT = HeaderValue("user-agent", "istio-probe/1.0")
ROUTE = virtual_service("- route: [{destination: {host: a.default.svc.cluster.local}}]")


def group(
    probe: str = "", *, template: str = "labels: {app: a}", metadata: str = "", namespace: str = "default"
) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {{name: g, namespace: {namespace}}}
spec: {{template: {{{template}}}, {metadata}{f"probe: {{{probe}}}" if probe else ""}}}
"""


def entry(spec: str = "address: 10.0.0.1", *, name: str = "w", of: str = "g", labels: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}, labels: {{{labels}}}, annotations: {{istio.io/autoRegistrationGroup: {of}}}}}
spec: {{{spec}}}
"""


def endpoints(*documents: str) -> tuple[Endpoint, ...]:
    """Of service `a`, as a gateway has them."""
    [found] = snapshot_of(GATEWAY, ROUTE, *documents).clusters
    return found.endpoints


def check(probe: str, spec: str = "address: 10.0.0.1") -> HealthCheck | None:
    [endpoint] = endpoints(service(), group(probe), entry(spec))
    return endpoint.health_check


def test_an_entry_has_what_it_leaves_out_of_its_group() -> None:
    template = "labels: {app: a, tier: x}, ports: {http: 8080}, weight: 3"
    found = endpoints(service(), group(template=template), entry(), entry("address: 10.0.0.2, weight: 5", name="x"))
    assert [(str(one.address), one.weight) for one in found] == [("10.0.0.1:8080", 3), ("10.0.0.2:8080", 5)]


def test_of_labels_the_entrys_own_go_first_then_those_of_the_groups_metadata() -> None:
    template = "labels: {app: t, v: t, w: t}"
    made = group(template=template, metadata="metadata: {labels: {app: m, v: m}}, ")
    selecting = service(selector="app: a, v: m, w: t")
    assert endpoints(selecting, made, entry("address: 10.0.0.1, labels: {app: a}"))
    assert endpoints(selecting, made, entry(labels="app: a"))
    assert not endpoints(service(selector="app: t"), made, entry())


def test_an_entry_belongs_to_the_group_that_it_names_in_its_namespace() -> None:
    ours = entry("address: 10.0.0.1, labels: {app: a}")
    for made in (group("tcpSocket: {port: 1}", namespace="other"), group("tcpSocket: {port: 1}").replace("g,", "h,")):
        [endpoint] = endpoints(service(), made, ours)
        assert endpoint.health_check is None


def test_a_group_without_a_probe_checks_nothing() -> None:
    [endpoint] = endpoints(service(), group(), entry())
    assert endpoint.health_check is None


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        ("tcpSocket: {port: 90}", TcpProbe(SocketAddress("10.0.0.1", 90))),
        ("tcpSocket: {port: 90, host: h.test}", TcpProbe(SocketAddress("h.test", 90))),
        ("httpGet: {port: 90}", HttpProbe(SocketAddress("10.0.0.1", 90), "/", "", (AGENT,))),
        ("httpGet: {port: 90, path: up, scheme: HTTP}", HttpProbe(SocketAddress("10.0.0.1", 90), "/up", "", (AGENT,))),
        (
            "httpGet: {port: 90, path: '/a?b', host: 10.0.0.7, httpHeaders: "
            "[{name: Host, value: h.test}, {name: X-A, value: 1%}, {name: User-Agent, value: me}]}",
            HttpProbe(
                SocketAddress("10.0.0.7", 90),
                "/a?b",
                "h.test",
                (HeaderValue("user-agent", "me"), HeaderValue("x-a", "1%")),
            ),
        ),
    ],
)
def test_probes(probe: str, expected: Probe) -> None:
    assert check(probe) == HealthCheck(expected)


def test_a_workload_at_a_unix_socket_is_probed_there() -> None:
    found = check("tcpSocket: {port: 1}", "address: 'unix:///run/a.sock'")
    assert found == HealthCheck(TcpProbe(Pipe("/run/a.sock")))


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ("", {}),
        (
            "initialDelaySeconds: 1, timeoutSeconds: 2, periodSeconds: 3, successThreshold: 4, failureThreshold: 5, ",
            {
                "initial_delay_s": 1,
                "timeout_s": 2,
                "interval_s": 3,
                "healthy_threshold": 4,
                "unhealthy_threshold": 5,
            },
        ),
        (
            "initialDelaySeconds: 0, timeoutSeconds: 0, periodSeconds: 0, successThreshold: 0, failureThreshold: 0, ",
            {"timeout_s": 1, "interval_s": 10, "healthy_threshold": 1, "unhealthy_threshold": 1},
        ),
    ],
)
def test_times_and_thresholds(times: str, expected: dict[str, Any]) -> None:
    assert check(f"{times}tcpSocket: {{port: 1}}") == HealthCheck(TcpProbe(SocketAddress("10.0.0.1", 1)), **expected)


def beside(probe: str) -> Snapshot:
    """What the sidecar of the group's workload runs."""
    return sidecar_of(service(), group(probe), entry(), workload="w")


def own_check(probe: str) -> HealthCheck | None:
    [found] = [one for one in beside(probe).clusters if one.name.startswith("inbound")]
    [endpoint] = found.endpoints
    return endpoint.health_check


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        ("tcpSocket: {port: 80}", TcpProbe(APP)),
        ("tcpSocket: {port: 81}", TcpProbe(SocketAddress("10.0.0.1", 81))),
        ("httpGet: {port: 80}", HttpProbe(APP, "/", "", (AGENT,))),
        ("exec: {command: [ls, -l]}", ExecProbe(("ls", "-l"))),
    ],
)
def test_a_sidecar_probes_the_app_beside_it(probe: str, expected: Probe) -> None:
    assert own_check(probe) == HealthCheck(expected)


def test_nobody_else_runs_the_command() -> None:
    assert check("exec: {command: [ls]}") is None
    [outbound] = [one for one in beside("exec: {command: [ls]}").clusters if one.name.startswith("outbound")]
    assert [endpoint.health_check for endpoint in outbound.endpoints] == [None]


def test_probes_that_are_not_carried_out_are_told() -> None:
    def told(*documents: str) -> list[str]:
        return [note.message for note in remarks(mesh_of(*documents))]

    assert told(group("tcpSocket: {port: 1}"), entry()) == []
    assert told(group(), entry()) == []
    [lonely] = told(group("tcpSocket: {port: 1}"))
    assert lonely.startswith("WorkloadGroup/g.default probes nobody")
    [command] = told(group("exec: {command: [ls]}"), entry())
    assert command.startswith("WorkloadGroup/g.default: exec is run by the sidecars")
    [astray] = told(entry(of="h"))
    assert astray == "there is no WorkloadGroup 'h' in namespace 'default', of which WorkloadEntry/w.default is to be"
