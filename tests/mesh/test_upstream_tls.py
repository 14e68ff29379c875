"""What DestinationRules say of TLS to upstreams, mode by mode and field by field."""

from __future__ import annotations

from typing import Any

import pytest

from meshproxy.mesh import remarks
from meshproxy.mesh.mutual_tls import WORKLOAD_SECRETS
from meshproxy.mesh.upstream_tls import ISTIO_ALPN
from meshproxy.snapshot import (
    CertificateValidationContext,
    Cluster,
    CommonTlsContext,
    Exact,
    FileSource,
    HttpProbe,
    InlineSource,
    Secret,
    Snapshot,
    SystemRoots,
    TlsCertificate,
    TrustedCa,
    UpstreamTlsContext,
)

from .support import (
    GATEWAY,
    mesh_of,
    only_cluster,
    problems_of,
    service_entry,
    sidecar_of,
    snapshot_of,
    virtual_service,
)

HOST = "a.default.svc.cluster.local"


def rule(settings: str, *, name: str = "r", host: str = "a", more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}}}
spec: {{host: {host}, trafficPolicy: {{tls: {settings}}}{more}}}
"""


def snapshot(*documents: str, service: str = service_entry("a"), subset: str = "") -> Snapshot:
    """What a gateway runs whose requests go to port 80 of service `a`."""
    destination = f"{{host: {HOST}, port: {{number: 80}}" + (f", subset: {subset}}}" if subset else "}")
    routes = virtual_service(f"- route: [{{destination: {destination}}}]")
    return snapshot_of(GATEWAY, service, routes, *documents)


def context(settings: str, **more: Any) -> UpstreamTlsContext:
    tls = only_cluster(snapshot(rule(settings), **more)).tls
    assert tls is not None
    return tls


def validation(settings: str, **more: Any) -> CertificateValidationContext | None:
    return context(settings, **more).common.validation_context


def secrets(settings: str) -> dict[str, Any]:
    return {one.name: one.source for one in snapshot(rule(settings)).secrets}


@pytest.mark.parametrize("settings", ["{}", "{mode: DISABLE}"])
def test_disabled_is_plain_text(settings: str) -> None:
    config = snapshot(rule(settings))

    assert only_cluster(config).tls is None
    assert config.secrets == ()


def test_without_a_word_of_it_there_is_no_tls() -> None:
    assert only_cluster(snapshot()).tls is None


def test_simple_believes_the_machines_authorities_and_expects_the_server_of_the_request() -> None:
    assert context("{mode: SIMPLE}") == UpstreamTlsContext(
        CommonTlsContext(validation_context=CertificateValidationContext("file-root:system")),
        auto_host_sni=True,
        auto_sni_san_validation=True,
    )
    assert secrets("{mode: SIMPLE}") == {"file-root:system": TrustedCa(SystemRoots())}


def test_authorities_and_revocation_lists_out_of_files() -> None:
    settings = "{mode: SIMPLE, caCertificates: /ca.pem, caCrl: /crl.pem}"

    assert secrets(settings) == {"file-root:/ca.pem~/crl.pem": TrustedCa(FileSource("/ca.pem"), FileSource("/crl.pem"))}
    assert validation(settings) == CertificateValidationContext("file-root:/ca.pem~/crl.pem")


def test_revocation_lists_of_the_machines_authorities() -> None:
    assert secrets("{mode: SIMPLE, caCrl: /crl.pem}") == {
        "file-root:system~/crl.pem": TrustedCa(SystemRoots(), FileSource("/crl.pem"))
    }


def test_a_server_name_that_is_given_is_asked_for_and_not_expected_in_the_certificate() -> None:
    tls = context("{mode: SIMPLE, sni: b.test}")

    assert (tls.sni, tls.auto_host_sni, tls.auto_sni_san_validation) == ("b.test", False, False)


def test_names_that_are_given_are_expected_in_place_of_the_requests() -> None:
    tls = context("{mode: SIMPLE, subjectAltNames: [b.test, 'spiffe://td/ns/x/sa/y']}")

    assert (tls.sni, tls.auto_host_sni, tls.auto_sni_san_validation) == ("", True, False)
    assert tls.common.validation_context == CertificateValidationContext(
        "file-root:system", (Exact("b.test"), Exact("spiffe://td/ns/x/sa/y"))
    )


def test_nothing_is_verified_where_nothing_is_to_be() -> None:
    settings = "{mode: SIMPLE, insecureSkipVerify: true}"
    tls = context(settings)

    assert tls == UpstreamTlsContext(CommonTlsContext(), auto_host_sni=True)
    assert secrets(settings) == {}


def test_mutual_shows_a_certificate_out_of_files() -> None:
    settings = "{mode: MUTUAL, clientCertificate: /a.pem, privateKey: /a.key, caCertificates: /ca.pem}"
    tls = context(settings)

    assert tls.common.tls_certificates == ("file-cert:/a.pem~/a.key",)
    assert (tls.auto_host_sni, tls.auto_sni_san_validation) == (True, True)
    assert secrets(settings) == {
        "file-cert:/a.pem~/a.key": TlsCertificate(FileSource("/a.pem"), FileSource("/a.key")),
        "file-root:/ca.pem": TrustedCa(FileSource("/ca.pem")),
    }


def test_mutual_without_verification_shows_its_certificate_all_the_same() -> None:
    tls = context("{mode: MUTUAL, clientCertificate: /a.pem, privateKey: /a.key, insecureSkipVerify: true}")

    assert tls.common == CommonTlsContext(("file-cert:/a.pem~/a.key",))


def test_istio_mutual_shows_the_workloads_own_certificate_and_names_the_cluster() -> None:
    config = snapshot(rule("{mode: ISTIO_MUTUAL}"))

    assert only_cluster(config).tls == UpstreamTlsContext(
        CommonTlsContext(
            ("default",),
            CertificateValidationContext("ROOTCA", trust_domains=("cluster.local",)),
            alpn_protocols=ISTIO_ALPN,
        ),
        sni=f"outbound_.80_._.{HOST}",
    )
    assert set(config.secrets) == set(WORKLOAD_SECRETS)


def test_istio_mutual_of_a_subset_names_that() -> None:
    tls = only_cluster(snapshot(rule("{mode: ISTIO_MUTUAL}", more=", subsets: [{name: v1}]"), subset="v1")).tls
    assert tls is not None
    assert tls.sni == f"outbound_.80_.v1_.{HOST}"


def test_istio_mutual_with_a_server_name_and_names_of_its_own() -> None:
    tls = context("{mode: ISTIO_MUTUAL, sni: b.test, subjectAltNames: ['spiffe://x/y']}")

    assert tls.sni == "b.test"
    assert tls.common.validation_context == CertificateValidationContext(
        "ROOTCA", (Exact("spiffe://x/y"),), trust_domains=("cluster.local",)
    )


WORKLOADS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.default.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 10.0.0.1, serviceAccount: one}
  - {address: 10.0.0.2, serviceAccount: two}
  - {address: 10.0.0.3}
  subjectAltNames: [c.test]
"""
ACCOUNTS = tuple(
    Exact(name)
    for name in ("c.test", "spiffe://cluster.local/ns/default/sa/one", "spiffe://cluster.local/ns/default/sa/two")
)


def test_istio_mutual_expects_the_service_accounts_of_the_endpoints_and_what_the_entry_lists() -> None:
    found = validation("{mode: ISTIO_MUTUAL}", service=WORKLOADS)
    assert found is not None
    assert found.match_subject_alt_names == ACCOUNTS


def test_the_names_of_a_service_entry_hold_besides_the_requests() -> None:
    tls = context("{mode: SIMPLE}", service=WORKLOADS)

    assert tls.auto_sni_san_validation
    assert tls.common.validation_context == CertificateValidationContext("file-root:system", ACCOUNTS)


def test_the_names_of_a_service_entry_give_way_to_those_of_the_rule() -> None:
    assert validation("{mode: SIMPLE, subjectAltNames: [d.test]}", service=WORKLOADS) == CertificateValidationContext(
        "file-root:system", (Exact("d.test"),)
    )


KUBERNETES = """
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {selector: {app: a}, ports: [{port: 80, name: http}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: a, labels: {app: a}}
spec: {address: 10.0.0.1, serviceAccount: one}
"""


def test_the_accounts_of_a_kubernetes_service_hold_for_mutual_tls_of_the_mesh_alone() -> None:
    assert validation("{mode: SIMPLE}", service=KUBERNETES) == CertificateValidationContext("file-root:system")
    found = validation("{mode: ISTIO_MUTUAL}", service=KUBERNETES)
    assert found is not None
    assert found.match_subject_alt_names == (Exact("spiffe://cluster.local/ns/default/sa/one"),)


def ports(cluster: Cluster) -> tuple[str, ...] | None:
    return cluster.tls.common.tls_certificates if cluster.tls is not None else None


def test_a_ports_settings_and_a_subsets_go_before_the_rules() -> None:
    at_port = ", portLevelSettings: [{port: {number: 80}, tls: {mode: ISTIO_MUTUAL}}]"
    document = rule("{mode: SIMPLE}").replace("{mode: SIMPLE}", "{mode: SIMPLE}" + at_port)
    assert ports(only_cluster(snapshot(document))) == ("default",)

    of_subset = ", subsets: [{name: v1, trafficPolicy: {tls: {mode: DISABLE}}}, {name: v2}]"
    document = rule("{mode: ISTIO_MUTUAL}", more=of_subset)
    assert ports(only_cluster(snapshot(document, subset="v1"))) is None
    assert ports(only_cluster(snapshot(document, subset="v2"))) == ("default",)


def test_a_port_whose_settings_say_nothing_of_it_has_none() -> None:
    at_port = ", portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]"
    document = rule("{mode: SIMPLE}").replace("{mode: SIMPLE}", "{mode: SIMPLE}" + at_port)
    assert only_cluster(snapshot(document)).tls is None


def test_where_a_secret_is_asked_for_is_known() -> None:
    (secret,) = snapshot(rule("{mode: SIMPLE, caCertificates: /ca.pem}")).secrets
    assert isinstance(secret, Secret) and secret.origin is not None
    assert (secret.origin.resource, secret.origin.path) == ("DestinationRule/r.default", "spec.trafficPolicy.tls")


def test_a_sidecar_speaks_it_too_and_not_to_its_own_app() -> None:
    config = sidecar_of(service_entry("a"), rule("{mode: SIMPLE}"))
    assert [one.name for one in config.clusters if one.tls] == [f"outbound|80||{HOST}"]
    assert [one.name for one in config.secrets] == ["file-root:system"]


def test_passed_through_requests_go_by_it_too() -> None:
    passing = rule("{mode: SIMPLE}").replace("tls:", "loadBalancer: {simple: PASSTHROUGH}, tls:")
    clusters = {one.name: one for one in sidecar_of(service_entry("a"), passing).clusters}
    assert clusters[f"outbound|80||{HOST}"].type == "DYNAMIC_FORWARD_PROXY"
    assert clusters[f"outbound|80||{HOST}"].tls is not None


GROUP = """
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: g}
spec:
  template: {}
  probe: {httpGet: {port: PORT, scheme: SCHEME}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: w, labels: {app: a}, annotations: {istio.io/autoRegistrationGroup: g}}
spec: {address: 10.0.0.1}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.default.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: a}}
"""


def probe(scheme: str, settings: str, port: int = 80) -> UpstreamTlsContext | None:
    group = GROUP.replace("SCHEME", scheme).replace("PORT", str(port))
    (endpoint,) = only_cluster(snapshot(rule(settings), service=group)).endpoints
    assert endpoint.health_check is not None
    assert isinstance(endpoint.health_check.probe, HttpProbe)
    return endpoint.health_check.probe.tls


def test_a_probe_by_https_takes_any_certificate() -> None:
    assert probe("HTTPS", "{mode: DISABLE}") == UpstreamTlsContext(CommonTlsContext(), auto_host_sni=True)
    assert probe("HTTPS", "{mode: SIMPLE}") == UpstreamTlsContext(CommonTlsContext(), auto_host_sni=True)


def test_an_endpoint_is_probed_as_it_is_asked() -> None:
    assert probe("HTTP", "{mode: DISABLE}") is None
    assert probe("HTTP", "{mode: SIMPLE}") == context("{mode: SIMPLE}")
    assert probe("HTTP", "{mode: SIMPLE}", port=81) is None


def secret(name: str, *keys: str, namespace: str = "istio-system") -> str:
    data = ", ".join(f"{key}: {key} of {name}" for key in keys)
    return f"""
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: {namespace}}}
stringData: {{{data}}}
"""


def test_a_credential_brings_certificate_and_authorities() -> None:
    config = snapshot(rule("{mode: MUTUAL, credentialName: c}"), secret("c", "tls.crt", "tls.key", "ca.crt", "ca.crl"))
    tls = only_cluster(config).tls

    assert tls is not None
    assert tls.common.tls_certificates == ("kubernetes://c",)
    assert tls.common.validation_context == CertificateValidationContext("kubernetes://c-cacert")
    sources = {one.name: one.source for one in config.secrets}
    pair, roots = sources["kubernetes://c"], sources["kubernetes://c-cacert"]
    assert isinstance(pair, TlsCertificate) and isinstance(pair.private_key, InlineSource)
    assert pair.private_key.text == "tls.key of c"
    assert isinstance(roots, TrustedCa) and isinstance(roots.crl, InlineSource)
    assert roots.crl.text == "ca.crl of c"


def test_a_simple_credential_is_one_of_authorities() -> None:
    config = snapshot(rule("{mode: SIMPLE, credentialName: c}"), secret("c-cacert", "cacert"))

    assert [one.name for one in config.secrets] == ["kubernetes://c-cacert"]
    tls = only_cluster(config).tls
    assert tls is not None and tls.common.tls_certificates == ()
    assert (tls.auto_host_sni, tls.auto_sni_san_validation) == (True, True)


def test_without_the_secret_there_is_tls_all_the_same() -> None:
    config = snapshot(rule("{mode: MUTUAL, credentialName: c}"), secret("c", "tls.crt", "tls.key", namespace="other"))

    assert config.secrets == ()
    tls = only_cluster(config).tls
    assert tls is not None and tls.common == CommonTlsContext(
        ("kubernetes://c",), CertificateValidationContext("kubernetes://c-cacert")
    )


SELECTED = ", exportTo: ['.'], workloadSelector: {matchLabels: {app: caller}}"


@pytest.mark.parametrize(("more", "given"), [("", []), (SELECTED, ["kubernetes://c-cacert"])])
def test_a_sidecar_is_given_a_secret_only_by_a_rule_for_workloads(more: str, given: list[str]) -> None:
    document = rule("{mode: SIMPLE, credentialName: c}", more=more)
    config = sidecar_of(service_entry("a"), document, secret("c", "ca.crt", namespace="default"))

    assert [one.name for one in config.secrets] == given
    (tls,) = [one.tls for one in config.clusters if one.tls]
    assert tls.common.validation_context == CertificateValidationContext("kubernetes://c-cacert")


@pytest.mark.parametrize(
    ("settings", "documents", "told"),
    [
        ("{mode: SIMPLE, credentialName: c}", (), "no Secret 'istio-system/c'"),
        ("{mode: SIMPLE, credentialName: c}", (secret("c", "tls.crt"),), "no authorities"),
        ("{mode: MUTUAL, credentialName: c}", (secret("c", "ca.crt"),), "has no certificate with its key"),
        ("{mode: SIMPLE, credentialName: c}", (secret("c", "ca.crt", namespace="default"),), "where the proxy is"),
        ("{mode: SIMPLE, credentialName: 'configmap://a/b'}", (), "ConfigMap"),
    ],
)
def test_a_credential_that_is_not_there_is_a_problem(settings: str, documents: tuple[str, ...], told: str) -> None:
    (problem,) = problems_of(GATEWAY, service_entry("a"), rule(settings), *documents)

    assert problem.path == "spec.trafficPolicy.tls.credentialName"
    assert told in problem.message


def test_a_credential_that_is_there_is_none() -> None:
    mutual = rule("{mode: MUTUAL, credentialName: c, insecureSkipVerify: true}")
    assert not problems_of(GATEWAY, service_entry("a"), mutual, secret("c", "tls.crt", "tls.key"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("{mode: SIMPLE, sni: b.test}", ["add subjectAltNames: [b.test]"]),
        ("{mode: SIMPLE, insecureSkipVerify: true, sni: b.test}", ["anybody on the way can be the endpoint"]),
        ("{mode: SIMPLE, sni: b.test, subjectAltNames: [b.test]}", []),
        ("{mode: SIMPLE}", []),
        ("{mode: ISTIO_MUTUAL, sni: b.test}", []),
    ],
)
def test_settings_that_prove_little_are_noted(settings: str, told: list[str]) -> None:
    notes = remarks(mesh_of(GATEWAY, service_entry("a"), rule(settings)))
    assert len(notes) == len(told)
    assert all(words in note.message for words, note in zip(told, notes, strict=True))


def test_a_credential_that_sidecars_are_not_given_is_noted() -> None:
    shown = secret("c", "ca.crt")
    (note,) = remarks(mesh_of(GATEWAY, service_entry("a"), rule("{mode: SIMPLE, credentialName: c}"), shown))
    assert "without a workloadSelector" in note.message
    selected = rule("{mode: SIMPLE, credentialName: c}", more=SELECTED)
    assert not remarks(mesh_of(GATEWAY, service_entry("a"), selected, shown))
