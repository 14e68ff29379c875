"""Twice as many resources take twice the work, from the files to the routes that run. Counted in calls, not in time."""

from __future__ import annotations

import cProfile
from collections.abc import Callable
from pathlib import Path

import pytest

from meshproxy.mesh import Trust, analyse, build_mesh, find_workload, gateway_snapshot, remarks, sidecar_snapshot
from meshproxy.proxy.routing.router import Router
from meshproxy.resources import load
from meshproxy.snapshot import SocketAddress

from .mesh.support import GATEWAY, service_entry, virtual_service
from .proxy.made import Backend

RULE = """
- match: [{{uri: {{prefix: /a{n}/}}}}, {{uri: {{exact: /b{n}}}, headers: {{x: {{exact: y}}}}}}]
  route: [{{destination: {{host: s{n}}}}}]
"""


def a_host_each(count: int) -> list[str]:
    return [virtual_service(RULE.format(n=n), name=f"vs{n}", hosts=f"h{n}.example.com") for n in range(count)]


def one_host(count: int) -> list[str]:
    return [virtual_service(RULE.format(n=n), name=f"vs{n}", hosts="h.example.com") for n in range(count)]


def one_virtual_service(count: int) -> list[str]:
    return [virtual_service("".join(RULE.format(n=n) for n in range(count)), hosts="h.example.com")]


@pytest.mark.parametrize("written", [a_host_each, one_host, one_virtual_service])
def test_work_grows_as_the_configuration_does(written: Callable[[int], list[str]], tmp_path: Path) -> None:
    calls = []
    for count in (50, 100):
        file = tmp_path / f"{count}.yaml"
        file.write_text("\n---\n".join([GATEWAY, *(service_entry(f"s{n}") for n in range(count)), *written(count)]))
        calls.append(calls_to_start(file))

    assert calls[1] < 2.2 * calls[0]


def calls_to_start(file: Path) -> int:
    profile = cProfile.Profile()
    with profile:
        loaded = load([file])
        mesh = build_mesh(loaded.resources)
        problems = analyse(mesh)
        snapshot = gateway_snapshot(mesh)
        Router(snapshot.listeners[0].filter_chains[0].http.route_config, lambda host, route: Backend())
    assert not loaded.problems and not problems
    return sum(entry.callcount for entry in profile.getstats())


WORKLOAD = """
apiVersion: v1
kind: Service
metadata: {{name: s{n}}}
spec: {{selector: {{app: a{n}}}, ports: [{{name: http, port: 80, targetPort: 9000}}]}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: w{n}}}
spec: {{address: 10.0.0.{n}, labels: {{app: a{n}}}, serviceAccount: a{n}}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: p{n}}}
spec: {{selector: {{matchLabels: {{app: a{n}}}}}, mtls: {{mode: STRICT}}}}
"""


def test_so_does_the_work_for_workloads_that_have_identities(tmp_path: Path) -> None:
    calls = []
    for count in (50, 100):
        file = tmp_path / f"{count}.yaml"
        file.write_text("\n---\n".join(WORKLOAD.format(n=n) for n in range(count)))
        profile = cProfile.Profile()
        with profile:
            mesh = build_mesh(load([file]).resources)
            told = (*analyse(mesh), *remarks(mesh))
            outbound, app = SocketAddress("127.0.0.1", 15001), SocketAddress("127.0.0.1", 9001)
            sidecar_snapshot(mesh, workload=find_workload(mesh, "w0"), app=app, outbound=outbound, trust=Trust())
        assert not told
        calls.append(sum(entry.callcount for entry in profile.getstats()))

    assert calls[1] < 2.2 * calls[0]
