"""Which endpoints a proxy calls by mutual TLS when nobody says so: those that are known to take it."""

from __future__ import annotations

import pytest

from meshproxy.mesh import Trust, needs_of_identity
from meshproxy.snapshot import WORKLOAD_CERTIFICATE, WORKLOAD_ROOTS, Cluster, HttpProbe, Snapshot

from .support import GATEWAY, sidecar_of, snapshot_of, virtual_service
from .test_mutual_tls import destination_rule, policy

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""
CLUSTER = "outbound|80||web.default.svc.cluster.local"


def workload(number: int = 1, *, account: str = "web", label: str = "", extra: str = "") -> str:
    labels = f"app: web, n: '{number}'" + (f", security.istio.io/tlsMode: {label}" if label else "")
    who = f", serviceAccount: {account}" if account else ""
    return f"""
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: web-{number}{extra}}}
spec: {{address: 10.0.0.{number}, labels: {{{labels}}}{who}}}
"""


def called(*documents: str, trust: Trust | None = Trust()) -> Cluster:  # noqa: B008
    """The cluster of `web` at a sidecar."""
    return cluster_of(sidecar_of(SERVICE, *documents, trust=trust))


def cluster_of(found: Snapshot, name: str = CLUSTER) -> Cluster:
    return next(one for one in found.clusters if one.name == name)


def names(cluster: Cluster) -> list[str]:
    assert cluster.auto_tls is not None
    validation = cluster.auto_tls.common.validation_context
    assert validation is not None
    return [one.value for one in validation.match_subject_alt_names]


def modes(cluster: Cluster) -> list[str]:
    return [one.tls_mode for one in cluster.endpoints]


def test_workloads_with_an_identity_are_called_by_mutual_tls() -> None:
    found = sidecar_of(SERVICE, workload(), trust=Trust())
    cluster = cluster_of(found)

    assert cluster.tls is None
    assert cluster.auto_tls is not None
    assert cluster.auto_tls.common.tls_certificates == (WORKLOAD_CERTIFICATE,)
    assert cluster.auto_tls.common.validation_context is not None
    assert cluster.auto_tls.common.validation_context.trusted_ca == WORKLOAD_ROOTS
    assert cluster.auto_tls.common.validation_context.trust_domains == ("cluster.local",)
    assert cluster.auto_tls.sni == "outbound_.80_._.web.default.svc.cluster.local"
    assert names(cluster) == ["spiffe://cluster.local/ns/default/sa/web"]
    assert modes(cluster) == ["istio"]
    assert [secret.name for secret in found.secrets] == [WORKLOAD_CERTIFICATE, WORKLOAD_ROOTS]


@pytest.mark.parametrize(
    ("account", "label", "mode"),
    [("web", "", "istio"), ("", "", ""), ("", "istio", "istio"), ("web", "disabled", ""), ("web", "istio", "istio")],
)
def test_the_label_goes_before_the_service_account(account: str, label: str, mode: str) -> None:
    cluster = called(workload(account=account, label=label), workload(2))

    assert modes(cluster) == [mode, "istio"]


def test_a_workload_that_names_no_account_is_the_default_one() -> None:
    assert names(called(workload(account="", label="istio"))) == ["spiffe://cluster.local/ns/default/sa/default"]


def test_the_identities_of_all_endpoints_will_do_in_all_trust_domains() -> None:
    cluster = called(workload(), workload(2, account="web-next"), trust=Trust("a.test", ("b.test",)))

    assert names(cluster) == [
        "spiffe://a.test/ns/default/sa/web",
        "spiffe://a.test/ns/default/sa/web-next",
        "spiffe://b.test/ns/default/sa/web",
        "spiffe://b.test/ns/default/sa/web-next",
    ]


def test_endpoints_differ_within_a_cluster() -> None:
    off = policy("{selector: {matchLabels: {n: '2'}}, mtls: {mode: DISABLE}}")

    cluster = called(off, workload(), workload(2), workload(3, account=""))

    assert modes(cluster) == ["istio", "", ""]


@pytest.mark.parametrize(
    ("spec", "mode"),
    [
        ("{mtls: {mode: DISABLE}}", ""),
        ("{mtls: {mode: PERMISSIVE}}", "istio"),
        ("{mtls: {mode: STRICT}}", "istio"),
        ("{selector: {matchLabels: {app: web}}, portLevelMtls: {8080: {mode: DISABLE}}}", ""),
        (
            "{selector: {matchLabels: {app: web}}, mtls: {mode: DISABLE}, portLevelMtls: {8080: {mode: STRICT}}}",
            "istio",
        ),
    ],
)
def test_peer_authentication_tells_what_an_endpoint_takes(spec: str, mode: str) -> None:
    cluster = called(policy(spec), workload())

    assert (modes(cluster), cluster.auto_tls is not None) == ([mode], bool(mode))


@pytest.mark.parametrize("mode", ["DISABLE", "SIMPLE", "ISTIO_MUTUAL"])
def test_a_destination_rule_decides_where_it_says_something(mode: str) -> None:
    cluster = called(workload(), destination_rule(f"trafficPolicy: {{tls: {{mode: {mode}}}}}"))

    assert cluster.auto_tls is None
    assert (cluster.tls is not None) == (mode != "DISABLE")


def test_without_an_identity_all_is_called_in_plain_text_but_what_takes_none() -> None:
    assert called(workload(), trust=None).auto_tls is None

    strict = sidecar_of(SERVICE, workload(), policy("{mtls: {mode: STRICT}}"), trust=None)

    assert cluster_of(strict).auto_tls is not None
    [need] = needs_of_identity(strict)
    assert need.startswith(f"{CLUSTER} takes mutual TLS alone (PeerAuthentication, STRICT), by <stdin>:")


ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec:
  hosts: [out.test]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.9, serviceAccount: out}]
"""


@pytest.mark.parametrize(("location", "secure"), [("", False), ("MESH_EXTERNAL", False), ("MESH_INTERNAL", True)])
def test_what_is_outside_of_the_mesh_is_called_in_plain_text(location: str, secure: bool) -> None:
    entry = ENTRY + (f"  location: {location}\n" if location else "")

    cluster = cluster_of(sidecar_of(entry, trust=Trust()), "outbound|80||out.test")

    assert (cluster.auto_tls is not None) == secure


def test_a_gateway_does_as_a_sidecar_does() -> None:
    routes = virtual_service("- route: [{destination: {host: web.default.svc.cluster.local}}]")

    found = snapshot_of(GATEWAY, routes, SERVICE, workload(), trust=Trust())

    assert names(cluster_of(found)) == ["spiffe://cluster.local/ns/default/sa/web"]
    assert [secret.name for secret in found.secrets] == [WORKLOAD_CERTIFICATE, WORKLOAD_ROOTS]


def test_passthrough_is_by_mutual_tls_where_all_endpoints_take_it() -> None:
    rule = destination_rule("trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}")

    assert called(workload(), workload(2), rule).tls is not None
    assert called(workload(), workload(2, account=""), rule).tls is None


def test_a_probe_of_what_an_endpoint_serves_goes_the_way_of_requests() -> None:
    group = """
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: web}
spec: {template: {}, probe: {httpGet: {port: 8080}}}
"""
    annotated = ", annotations: {istio.io/autoRegistrationGroup: web}"

    cluster = called(group, workload(extra=annotated), workload(2, account="", extra=annotated))

    probes = [one.health_check.probe for one in cluster.endpoints if one.health_check is not None]
    assert [one.tls for one in probes if isinstance(one, HttpProbe)] == [cluster.auto_tls, None]
