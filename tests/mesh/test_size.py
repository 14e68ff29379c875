"""A thousand VirtualServices are ordinary."""

from __future__ import annotations

import pytest

from meshproxy.mesh import Mesh, analyse, build_mesh, gateway_snapshot

from .support import GATEWAY, mesh_of, service_entry, virtual_service

RULES = """
- match: [{{uri: {{prefix: /a{n}}}}}, {{uri: {{exact: /b{n}}}, headers: {{x: {{exact: y}}}}}}]
  route: [{{destination: {{host: s{m}}}}}]
- match: [{{uri: {{prefix: /c{n}}}}}]
  redirect: {{uri: /}}
"""


@pytest.fixture(scope="module", params=["a host each", "one host", "hosts of the gateway"])
def thousand(request: pytest.FixtureRequest) -> Mesh:
    host = "example.com" if request.param == "one host" else "h{}.example.com"
    listed = ", ".join(host.format(n) for n in range(1000)) if "gateway" in request.param else "'*'"
    return mesh_of(
        GATEWAY.replace("'*'", listed),
        *(service_entry(f"s{m}") for m in range(50)),
        *(virtual_service(RULES.format(n=f"{n}/", m=n % 50), name=f"vs{n}", hosts=host.format(n)) for n in range(1000)),
    )


def test_a_thousand_virtual_services_build_and_are_checked(thousand: Mesh) -> None:
    snapshot = gateway_snapshot(build_mesh(thousand.resources))
    hosts = snapshot.listeners[0].filter_chains[0].http.route_config.virtual_hosts
    assert sum(len(host.routes) for host in hosts) == 3000
    assert analyse(build_mesh(thousand.resources)) == ()
