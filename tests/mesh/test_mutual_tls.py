"""What a sidecar's inbound listener takes, and PeerAuthentications that would come to nothing."""

from __future__ import annotations

import pytest

from meshproxy.mesh import Trust, find_workload, needs_of_identity, remarks, sidecar_snapshot
from meshproxy.snapshot import (
    WORKLOAD_CERTIFICATE,
    WORKLOAD_ROOTS,
    CertificateValidationContext,
    ClientCertDetails,
    FilterChain,
    FilterChainMatch,
    Listener,
    SocketAddress,
)

from .support import APP, OUTBOUND, mesh_of, problems_of

WEB = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: http-admin, port: 81, targetPort: 8081}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web-1, labels: {app: web}}
spec: {address: 127.0.0.1, serviceAccount: web}
"""


def policy(spec: str, *, name: str = "p", namespace: str = "default", created: str = "2026-01-01T00:00:00Z") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '{created}'}}
spec: {spec}
"""


def destination_rule(spec: str, host: str = "web") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {host}}}
spec: {{host: {host}, {spec}}}
"""


def inbound(*documents: str, trust: Trust | None = Trust(), port: int = 8080) -> Listener:  # noqa: B008
    mesh = mesh_of(WEB, *documents)
    found = sidecar_snapshot(mesh, workload=find_workload(mesh, "web-1"), app=APP, outbound=OUTBOUND, trust=trust)
    return next(one for one in found.listeners if one.address == SocketAddress("127.0.0.1", port))


STRICT = policy("{mtls: {mode: STRICT}}")
PERMISSIVE = policy("{mtls: {mode: PERMISSIVE}}")
DISABLE = policy("{mtls: {mode: DISABLE}}")
FROM_MESH = FilterChainMatch(
    (), "tls", ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")
)


def is_plain(chain: FilterChain) -> bool:
    return chain.tls is None and chain.http.forward_client_cert == "SANITIZE"


def is_mutual(chain: FilterChain) -> bool:
    return (
        chain.tls is not None
        and chain.tls.require_client_certificate
        and chain.tls.common.tls_certificates == (WORKLOAD_CERTIFICATE,)
        and chain.http.forward_client_cert == "APPEND_FORWARD"
        and chain.http.client_cert_details == ClientCertDetails(subject=True, uri=True, dns=True)
    )


def test_strict_takes_tls_alone() -> None:
    [chain] = inbound(STRICT).filter_chains

    assert is_mutual(chain)
    assert chain.match == FilterChainMatch(transport_protocol="tls")


@pytest.mark.parametrize("documents", [(), (PERMISSIVE,)])
def test_permissive_takes_tls_of_the_mesh_and_plain_http(documents: tuple[str, ...]) -> None:
    secured, plain = inbound(*documents).filter_chains

    assert is_mutual(secured)
    assert secured.match == FROM_MESH
    assert is_plain(plain)
    assert plain.match == FilterChainMatch(transport_protocol="raw_buffer")
    assert secured.http.route_config == plain.http.route_config


@pytest.mark.parametrize(("documents", "trust"), [((DISABLE,), Trust()), ((PERMISSIVE,), None), ((), None)])
def test_plain_http_alone_needs_no_look_at_what_comes(documents: tuple[str, ...], trust: Trust | None) -> None:
    [chain] = inbound(*documents, trust=trust).filter_chains

    assert is_plain(chain)
    assert chain.match == FilterChainMatch()


def test_each_port_has_its_own_mode() -> None:
    of_web = policy(
        "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {8081: {mode: DISABLE}}}"
    )

    assert is_mutual(inbound(of_web).filter_chains[0])
    assert is_plain(inbound(of_web, port=8081).filter_chains[0])


def test_clients_are_of_the_trust_domain_or_of_its_other_names() -> None:
    [chain] = inbound(STRICT, trust=Trust("mesh.test", ("old.test",))).filter_chains

    assert chain.tls is not None
    assert chain.tls.common.validation_context == CertificateValidationContext(
        WORKLOAD_ROOTS, trust_domains=("mesh.test", "old.test")
    )


def test_without_a_ca_strict_stays_what_it_is_and_says_where_it_is_written() -> None:
    mesh = mesh_of(WEB, policy("{selector: {matchLabels: {app: web}}, portLevelMtls: {8081: {mode: STRICT}}}"))
    found = sidecar_snapshot(mesh, workload=find_workload(mesh, "web-1"), app=APP, outbound=OUTBOUND)

    need, *_ = needs_of_identity(found)

    assert need == ("the listener 127.0.0.1_8081 takes mutual TLS alone, by <stdin>:19 (PeerAuthentication/p.default)")


ON_WEB = "selector: {matchLabels: {app: web}}"


@pytest.mark.parametrize(
    ("documents", "path", "message"),
    [
        (
            (STRICT, policy("{mtls: {mode: DISABLE}}", name="q", created="2026-01-02T00:00:00Z")),
            "",
            "PeerAuthentication/p.default is for all of namespace 'default' too, and only that counts",
        ),
        (
            (policy(f"{{{ON_WEB}, mtls: {{mode: STRICT}}}}", namespace="istio-system"),),
            "spec.selector",
            "has no effect in 'istio-system', whose policies are for the whole mesh",
        ),
        (
            (policy("{selector: {matchLabels: {app: wbe}}, mtls: {mode: STRICT}}"),),
            "spec.selector",
            "no workload in namespace 'default' has the labels that it selects, so that nothing would enforce it",
        ),
        (
            (policy("{mtls: {mode: STRICT}}", namespace="shop"),),
            "metadata.namespace",
            "there is no workload in namespace 'shop'",
        ),
        (
            (policy(f"{{{ON_WEB}, portLevelMtls: {{80: {{mode: STRICT}}}}}}"),),
            'spec.portLevelMtls["80"]',
            "no service leads to port 80 of the workloads that it selects; their own ports are 8080, 8081",
        ),
        (
            (STRICT, destination_rule("trafficPolicy: {tls: {mode: DISABLE}}")),
            "spec.trafficPolicy.tls.mode",
            "the endpoints of web.default.svc.cluster.local take mutual TLS of the mesh alone",
        ),
        (
            (
                policy(f"{{{ON_WEB}, portLevelMtls: {{8081: {{mode: STRICT}}}}}}"),
                destination_rule("trafficPolicy: {portLevelSettings: [{port: {number: 81}, tls: {mode: DISABLE}}]}"),
            ),
            "spec.trafficPolicy.portLevelSettings[0].tls.mode",
            "write ISTIO_MUTUAL, or leave tls out",
        ),
    ],
)
def test_what_comes_to_nothing_is_a_problem(documents: tuple[str, ...], path: str, message: str) -> None:
    [problem] = problems_of(WEB, *documents)

    assert (problem.path, message in problem.message) == (path, True), problem


@pytest.mark.parametrize(
    "documents",
    [
        (policy("{mtls: {mode: STRICT}}", namespace="istio-system"),),
        (policy(f"{{{ON_WEB}, portLevelMtls: {{8080: {{mode: STRICT}}}}}}"),),
        (STRICT, policy("{mtls: {mode: DISABLE}}", name="q", namespace="istio-system")),
        (PERMISSIVE, destination_rule("trafficPolicy: {tls: {mode: DISABLE}}")),
        (
            policy(f"{{{ON_WEB}, portLevelMtls: {{8081: {{mode: STRICT}}}}}}"),
            destination_rule("trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}"),
        ),
    ],
)
def test_what_is_well_has_no_problem(documents: tuple[str, ...]) -> None:
    assert problems_of(WEB, *documents) == []


def notes_of(*documents: str) -> list[str]:
    return [note.message for note in remarks(mesh_of(*documents))]


def test_a_workload_that_nobody_knows_to_take_mutual_tls_is_noted() -> None:
    nobody_knows = WEB.replace(", serviceAccount: web", "")

    assert notes_of(nobody_knows, STRICT) == [
        "WorkloadEntry/web-1.default takes mutual TLS alone (PeerAuthentication/p.default), and is called in plain "
        "text: it is not known to have a sidecar; give it a serviceAccount, or the label "
        "security.istio.io/tlsMode: istio"
    ]
    assert notes_of(nobody_knows.replace("app: web}}", "app: web, security.istio.io/tlsMode: istio}}"), STRICT) == []
    assert notes_of(WEB, STRICT) == []
    assert notes_of(nobody_knows) == []


def test_a_workload_whose_label_says_that_it_takes_none_is_noted() -> None:
    disabled = WEB.replace("app: web}}", "app: web, security.istio.io/tlsMode: disabled}}")

    [note] = notes_of(disabled, STRICT)

    assert "its label security.istio.io/tlsMode says that it takes none" in note


def test_a_service_outside_of_the_mesh_in_front_of_a_strict_workload_is_noted() -> None:
    outside = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web}
spec:
  hosts: [web.test]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: STATIC
  workloadSelector: {labels: {app: web}}
"""

    assert [note for note in notes_of(WEB, outside, STRICT) if "MESH_EXTERNAL" in note] == [
        "WorkloadEntry/web-1.default takes mutual TLS alone, and is called in plain text by ServiceEntry/web.default: "
        "its location is MESH_EXTERNAL, as it is without any; write MESH_INTERNAL"
    ]
    assert notes_of(WEB, outside + "  location: MESH_INTERNAL\n", STRICT) == []


def test_a_policy_that_does_not_hold_for_a_workload_that_it_selects_is_noted() -> None:
    young = policy(f"{{{ON_WEB}, mtls: {{mode: DISABLE}}}}", name="young", created="2026-01-02T00:00:00Z")
    old = policy(f"{{{ON_WEB}, mtls: {{mode: STRICT}}}}", name="old")

    assert notes_of(WEB, young, old) == [
        "PeerAuthentication/young.default does not hold for WorkloadEntry/web-1.default, which "
        "PeerAuthentication/old.default selects too: the oldest alone counts"
    ]
