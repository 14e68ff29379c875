"""Which mode of mutual TLS holds for a workload and its ports, by the levels of PeerAuthentications."""

from __future__ import annotations

import pytest

from meshproxy.mesh.peer_authentication import Mode, PeerAuthentications
from meshproxy.resources import PeerAuthentication

from .support import mesh_of


def policy(name: str, spec: str, *, namespace: str = "shop", created: str = "") -> str:
    stamp = f", creationTimestamp: '{created}'" if created else ""
    return f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: {namespace}{stamp}}}
spec: {spec}
"""


def mesh_wide(mode: str, **more: str) -> str:
    return policy("mesh", f"{{mtls: {{mode: {mode}}}}}", namespace="istio-system", **more)


def namespace_wide(mode: str, name: str = "all", **more: str) -> str:
    return policy(name, f"{{mtls: {{mode: {mode}}}}}", **more)


def of_web(mode: str, ports: str = "", name: str = "web", **more: str) -> str:
    port_level = f", portLevelMtls: {{{ports}}}" if ports else ""
    mtls = f", mtls: {{mode: {mode}}}" if mode else ""
    return policy(name, f"{{selector: {{matchLabels: {{app: web}}}}{mtls}{port_level}}}", **more)


def policies(*documents: str) -> PeerAuthentications:
    return PeerAuthentications(mesh_of(*documents).of(PeerAuthentication))


@pytest.mark.parametrize(
    ("documents", "mode"),
    [
        ((), "PERMISSIVE"),
        ((mesh_wide("STRICT"),), "STRICT"),
        ((mesh_wide("UNSET"),), "PERMISSIVE"),
        ((mesh_wide("STRICT"), namespace_wide("DISABLE")), "DISABLE"),
        ((mesh_wide("STRICT"), namespace_wide("UNSET")), "STRICT"),
        ((mesh_wide("STRICT"), policy("all", "{}")), "STRICT"),
        ((mesh_wide("STRICT"), policy("all", "{mtls: {}}")), "STRICT"),
        ((mesh_wide("DISABLE"), namespace_wide("PERMISSIVE"), of_web("STRICT")), "STRICT"),
        ((mesh_wide("DISABLE"), namespace_wide("STRICT"), of_web("UNSET")), "STRICT"),
        ((mesh_wide("DISABLE"), of_web("")), "DISABLE"),
        ((namespace_wide("STRICT", namespace="other"),), "PERMISSIVE"),
        ((of_web("STRICT", namespace="other"),), "PERMISSIVE"),
        ((of_web("STRICT", namespace="istio-system"),), "PERMISSIVE"),
        ((policy("api", "{selector: {matchLabels: {app: api}}, mtls: {mode: STRICT}}"),), "PERMISSIVE"),
        ((policy("all", "{selector: {matchLabels: {}}, mtls: {mode: STRICT}}"),), "STRICT"),
    ],
)
def test_the_narrowest_level_that_says_something_decides(documents: tuple[str, ...], mode: Mode) -> None:
    assert policies(*documents).of("shop", {"app": "web", "version": "v1"}).at(80) == mode


@pytest.mark.parametrize("level", [namespace_wide, lambda mode, **more: of_web(mode, **more)])
def test_of_several_of_a_level_the_oldest_counts(level: type[str]) -> None:
    young = level("DISABLE", name="a", created="2026-02-01T00:00:00Z")  # type: ignore[call-overload]
    old = level("STRICT", name="b", created="2026-01-01T00:00:00Z")  # type: ignore[call-overload]

    for documents in ((young, old), (old, young)):
        assert policies(*documents).of("shop", {"app": "web"}).at(80) == "STRICT"


def test_the_oldest_counts_even_if_it_says_nothing() -> None:
    old = namespace_wide("UNSET", name="b", created="2026-01-01T00:00:00Z")
    young = namespace_wide("STRICT", name="a", created="2026-02-01T00:00:00Z")

    assert policies(old, young).of("shop", {}).at(80) == "PERMISSIVE"


def test_ports_go_before_their_workload_and_unset_ones_inherit() -> None:
    found = policies(mesh_wide("DISABLE"), of_web("STRICT", "80: {mode: PERMISSIVE}, 81: {mode: UNSET}, 82: {}"))

    of = found.of("shop", {"app": "web"})

    assert [of.at(port) for port in (80, 81, 82, 83)] == ["PERMISSIVE", "STRICT", "STRICT", "STRICT"]


def test_ports_inherit_from_above_their_workload() -> None:
    found = policies(namespace_wide("STRICT"), of_web("", "80: {mode: DISABLE}, 81: {}"))

    of = found.of("shop", {"app": "web"})

    assert [of.at(port) for port in (80, 81, 82)] == ["DISABLE", "STRICT", "STRICT"]


def test_who_said_so_is_known() -> None:
    found = policies(mesh_wide("STRICT"), of_web("", "80: {mode: DISABLE}"))

    of = found.of("shop", {"app": "web"})

    assert [one.id if one else None for one in (of.said_by(80), of.said_by(81), found.of("x", {}).said_by(80))] == [
        "PeerAuthentication/web.shop",
        "PeerAuthentication/mesh.istio-system",
        "PeerAuthentication/mesh.istio-system",
    ]
    assert PeerAuthentications(()).of("x", {}).said_by(80) is None


def test_the_root_namespace_has_its_own_workloads_only_at_the_mesh_level() -> None:
    found = policies(mesh_wide("STRICT"), of_web("DISABLE", namespace="istio-system"))

    assert found.of("istio-system", {"app": "web"}).at(80) == "STRICT"
