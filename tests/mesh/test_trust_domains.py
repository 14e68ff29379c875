"""A trust domain by each of its names: in policies, in what is believed, in what is expected."""

from __future__ import annotations

import pytest

from meshproxy.mesh import Trust
from meshproxy.mesh.trust_domains import domains, principals
from meshproxy.snapshot import AccessRule, Authenticated, OneOf, RbacPolicy, Snapshot

from .support import sidecar_of
from .test_auto_mtls import SERVICE, cluster_of, names, workload

TRUST = Trust("new.test", ("old.test",))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("new.test/ns/a/sa/b", ["new.test/ns/a/sa/b", "old.test/ns/a/sa/b"]),
        ("old.test/ns/a/sa/b", ["new.test/ns/a/sa/b", "old.test/ns/a/sa/b"]),
        ("cluster.local/ns/a/sa/b", ["new.test/ns/a/sa/b", "old.test/ns/a/sa/b"]),
        ("other.test/ns/a/sa/b", ["other.test/ns/a/sa/b"]),
        ("*.test/ns/a/sa/b", ["*.test/ns/a/sa/b"]),
        ("*w.test/ns/a/sa/b", ["*w.test/ns/a/sa/b", "old.test/ns/a/sa/b"]),
        ("*/ns/a/sa/b", ["*/ns/a/sa/b"]),
        ("*/sa/b", ["*/sa/b"]),
        ("new.test/ns/a/*", ["new.test/ns/a/*"]),
        ("new.test/ns/a/sa/*", ["new.test/ns/a/sa/*", "old.test/ns/a/sa/*"]),
        ("*", ["*"]),
    ],
)
def test_a_principal_is_meant_by_each_name_of_its_trust_domain(written: str, meant: list[str]) -> None:
    assert list(principals([written], TRUST)) == meant


def test_a_trust_domain_is_meant_by_each_of_its_names() -> None:
    assert list(domains(["old.test", "other.test", "new.test", "*.test"], TRUST)) == [
        "new.test",
        "old.test",
        "other.test",
        "*.test",
    ]


MESH_CONFIG = """
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec: {trustDomain: new.test, trustDomainAliases: [old.test]}
"""
POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p}
spec:
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/web]}}]
  - when: [{key: source.principal, notValues: [old.test/ns/default/sa/web]}]
"""


def policies(found: Snapshot) -> tuple[RbacPolicy, ...]:
    listener = next(one for one in found.listeners if one.address.port == 8080)
    [one] = listener.filter_chains[0].http.rbac
    assert one.rules is not None
    return one.rules.policies


def values(rule: AccessRule) -> list[str]:
    rules = rule.rules if isinstance(rule, OneOf) else (rule,)
    return [one.match.value for one in rules if isinstance(one, Authenticated)]


def test_policies_and_peers_know_the_names_of_the_mesh_config() -> None:
    found = sidecar_of(SERVICE, workload(), MESH_CONFIG, POLICY, workload="web-1", trust=Trust("new.test"))

    first, _ = policies(found)
    listener = next(one for one in found.listeners if one.address.port == 8080)
    tls = listener.filter_chains[0].tls
    assert values(first.principals[0]) == [
        "spiffe://new.test/ns/default/sa/web",
        "spiffe://old.test/ns/default/sa/web",
    ]
    assert tls is not None and tls.common.validation_context is not None
    assert tls.common.validation_context.trust_domains == ("new.test", "old.test")
    assert names(cluster_of(found)) == [
        "spiffe://new.test/ns/default/sa/web",
        "spiffe://old.test/ns/default/sa/web",
    ]


def test_the_mesh_config_can_turn_automatic_mutual_tls_off() -> None:
    off = MESH_CONFIG.replace("trustDomain: new.test, trustDomainAliases: [old.test]", "enableAutoMtls: false")

    assert cluster_of(sidecar_of(SERVICE, workload(), off, trust=Trust())).auto_tls is None
