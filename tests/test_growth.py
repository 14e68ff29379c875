"""Twice as many resources take twice the work, from the files to the routes that run. Counted in calls, not in time."""

from __future__ import annotations

import cProfile
from collections.abc import Callable
from pathlib import Path

import pytest

from meshproxy.mesh import analyse, build_mesh, gateway_snapshot
from meshproxy.proxy.routing.router import Router
from meshproxy.resources import load

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
