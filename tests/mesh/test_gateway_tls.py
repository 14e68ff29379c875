"""Gateway servers with TLS become filter chains, and what they name becomes secrets."""

from __future__ import annotations

import pytest

from meshproxy.snapshot import (
    CertificateValidationContext,
    DownstreamTlsContext,
    Exact,
    FileSource,
    FilterChain,
    InlineSource,
    Secret,
    Snapshot,
    TlsCertificate,
    TrustedCa,
    WorkloadCertificate,
    WorkloadRoots,
)

from .support import problems_of, snapshot_of


def gateway(*servers: str, name: str = "gw", selector: str = "{}") -> str:
    listed = "".join(f"  - {server}\n" for server in servers)
    return f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: istio-system}}
spec:
  selector: {selector}
  servers:
{listed}"""


def https(hosts: str, tls: str, name: str = "https", port: int = 443, more: str = "") -> str:
    return f"{{port: {{number: {port}, name: {name}, protocol: HTTPS}}, hosts: [{hosts}], tls: {{{tls}}}{more}}}"


def http(hosts: str, tls: str = "", port: int = 80, name: str = "http") -> str:
    return f"{{port: {{number: {port}, name: {name}, protocol: HTTP}}, hosts: [{hosts}], tls: {{{tls}}}}}"


def secret(name: str, texts: str, namespace: str = "istio-system") -> str:
    return (
        f"{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: {namespace}}}, stringData: {{{texts}}}}}"
    )


def service(host: str, gateway: str = "istio-system/gw", name: str = "vs") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec: {{hosts: [{host}], gateways: [{gateway}], http: [{{directResponse: {{status: 200}}}}]}}
"""


WEB = secret("web", "tls.crt: chain, tls.key: key")
SIMPLE = "mode: SIMPLE, credentialName: web"


def chains(snapshot: Snapshot) -> list[FilterChain]:
    [listener] = snapshot.listeners
    return list(listener.filter_chains)


def context(*documents: str) -> DownstreamTlsContext:
    [chain] = chains(snapshot_of(*documents))
    assert chain.tls is not None
    return chain.tls


def test_each_server_has_a_filter_chain_for_the_names_that_its_clients_ask_for() -> None:
    servers = https("'*/a.test', ns/b.test", SIMPLE, "a"), https("'*.c.test'", SIMPLE, "c")
    snapshot = snapshot_of(gateway(*servers), WEB, service("x.c.test"))

    first, second = chains(snapshot)
    assert first.match.server_names == ("a.test", "b.test")
    assert second.match.server_names == ("*.c.test",)
    assert second.http.route_config.name == "https.443.c.gw.istio-system"
    assert [host.domains for host in second.http.route_config.virtual_hosts] == [("x.c.test",)]
    assert [host.name for host in first.http.route_config.virtual_hosts] == ["blackhole:443"]
    assert first.origin is not None
    assert first.origin.path == "spec.servers[0]"


def test_a_server_for_all_hosts_is_for_every_client() -> None:
    [chain] = chains(snapshot_of(gateway(https("'*', a.test", SIMPLE)), WEB))
    assert chain.match.server_names == ()


def test_certificates_come_from_the_secrets_of_the_proxys_namespace() -> None:
    snapshot = snapshot_of(gateway(https("a.test", SIMPLE)), WEB)
    [chain] = chains(snapshot)
    assert chain.tls is not None
    assert chain.tls.common.tls_certificates == ("kubernetes://web",)
    assert chain.tls.common.validation_context is None
    parts = (
        InlineSource(f"{name} of Secret/web.istio-system", text)
        for name, text in (("tls.crt", "chain"), ("tls.key", "key"))
    )
    assert snapshot.secrets == (Secret("kubernetes://web", TlsCertificate(*parts)),)
    assert snapshot.secrets[0].origin is not None
    assert snapshot.secrets[0].origin.resource == "Secret/web.istio-system"


@pytest.mark.parametrize(
    ("secrets", "authority", "crl"),
    [
        ((secret("web", "tls.crt: c, tls.key: k, ca.crt: own, ca.crl: list"),), "own", "list"),
        ((secret("web", "cert: c, key: k, cacert: own"),), "own", None),
        ((WEB, secret("web-cacert", "ca.crt: other")), "other", None),
        ((secret("web", "tls.crt: c, tls.key: k, ca.crt: own"), secret("web-cacert", "cacert: other")), "other", None),
    ],
)
@pytest.mark.parametrize("mode", ["MUTUAL", "OPTIONAL_MUTUAL"])
def test_clients_are_verified_by_the_authorities_beside_the_certificate(
    secrets: tuple[str, ...], authority: str, crl: str | None, mode: str
) -> None:
    settings = f"mode: {mode}, credentialName: web, subjectAltNames: [a, b]"
    snapshot = snapshot_of(gateway(https("a.test", settings)), *secrets)
    [chain] = chains(snapshot)
    assert chain.tls is not None
    assert chain.tls.require_client_certificate is (mode == "MUTUAL")
    names = Exact("a"), Exact("b")
    assert chain.tls.common.validation_context == CertificateValidationContext("kubernetes://web-cacert", names)
    source = snapshot.secrets[1].source
    assert isinstance(source, TrustedCa)
    assert isinstance(source.trusted_ca, InlineSource)
    assert source.trusted_ca.text == authority
    assert (source.crl.text if isinstance(source.crl, InlineSource) else None) == crl
    assert chain.http.forward_client_cert == "SANITIZE_SET"


def test_files_are_secrets_that_are_read_again() -> None:
    settings = "mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /a, caCrl: /r"
    snapshot = snapshot_of(gateway(https("a.test", settings), https("b.test", settings, "b")))
    assert snapshot.secrets == (
        Secret("file-cert:/c~/k", TlsCertificate(FileSource("/c"), FileSource("/k"))),
        Secret("file-root:/a~/r", TrustedCa(FileSource("/a"), FileSource("/r"))),
    )
    assert snapshot.secrets[0].origin is not None
    assert snapshot.secrets[0].origin.path == "spec.servers[0].tls"


def test_several_certificates_are_shown_as_suits_the_client() -> None:
    files = "[{serverCertificate: /r, privateKey: /rk}, {serverCertificate: /e, privateKey: /ek}]"
    found = context(gateway(https("a.test", f"mode: SIMPLE, tlsCertificates: {files}")))
    assert found.common.tls_certificates == ("file-cert:/r~/rk", "file-cert:/e~/ek")
    named = "mode: SIMPLE, credentialNames: [web, other]"
    found = context(gateway(https("a.test", named)), WEB, secret("other", "tls.crt: c, tls.key: k"))
    assert found.common.tls_certificates == ("kubernetes://web", "kubernetes://other")


def test_the_mesh_is_its_own_authority() -> None:
    snapshot = snapshot_of(gateway(https("a.test", "mode: ISTIO_MUTUAL")))
    [chain] = chains(snapshot)
    assert chain.tls is not None
    assert chain.tls.require_client_certificate
    assert chain.tls.common.validation_context == CertificateValidationContext(
        "ROOTCA", trust_domains=("cluster.local",)
    )
    assert snapshot.secrets == (Secret("default", WorkloadCertificate()), Secret("ROOTCA", WorkloadRoots()))


@pytest.mark.parametrize(
    ("settings", "versions"),
    [
        ("", ("TLSv1_2", "TLSv1_3")),
        ("minProtocolVersion: TLSV1_3", ("TLSv1_3", "TLSv1_3")),
        ("minProtocolVersion: TLS_AUTO, maxProtocolVersion: TLSV1_2", ("TLSv1_2", "TLSv1_2")),
        ("maxProtocolVersion: TLSV1_1", ("TLSv1_1", "TLSv1_1")),
        ("minProtocolVersion: TLSV1_0", ("TLSv1_0", "TLSv1_3")),
    ],
)
def test_versions_are_those_that_are_asked_for(settings: str, versions: tuple[str, str]) -> None:
    common = context(gateway(https("a.test", f"{SIMPLE}, {settings}")), WEB).common
    assert (common.minimum_version, common.maximum_version) == versions


def test_cipher_suites_and_what_pins_a_certificate_are_passed_on() -> None:
    pins = f"verifyCertificateHash: ['{'ab' * 32}'], verifyCertificateSpki: ['{'A' * 43}=']"
    settings = f"mode: MUTUAL, credentialName: web, cipherSuites: [AES128-SHA], {pins}"
    common = context(gateway(https("a.test", settings)), secret("web", "tls.crt: c, tls.key: k, ca.crt: a")).common
    assert common.cipher_suites == ("AES128-SHA",)
    assert common.validation_context is not None
    assert common.validation_context.verify_certificate_hash == ("ab" * 32,)
    assert common.validation_context.verify_certificate_spki == ("A" * 43 + "=",)


def test_plain_requests_are_redirected_where_a_server_asks_for_it() -> None:
    documents = (
        gateway(http("a.test, '*.b.test'", "httpsRedirect: true"), http("c.test", name="other")),
        service("a.test", name="a"),
        service("x.b.test", name="b"),
        service("c.test", name="c"),
    )
    [chain] = chains(snapshot_of(*documents))
    found = {host.domains: (host.require_tls, len(host.routes)) for host in chain.http.route_config.virtual_hosts}
    assert found == {
        ("a.test",): (True, 1),
        ("x.b.test",): (True, 1),
        ("*.b.test",): (True, 0),
        ("c.test",): (False, 1),
    }


@pytest.mark.parametrize(
    ("servers", "place", "said"),
    [
        (
            (http("a.test", port=443), https("b.test", SIMPLE)),
            1,
            "port 443 speaks HTTP for Gateway/gw.istio-system in ",
        ),
        ((https("b.test", SIMPLE), http("a.test", port=443)), 1, "port 443 speaks HTTPS for "),
        ((https("a.test", SIMPLE, "a"), https("'*/a.test', b.test", SIMPLE, "b")), 1, "has a.test on port 443 too"),
        (
            (http("a.test", "httpsRedirect: true"), http("a.test", "httpsRedirect: true", name="b")),
            1,
            "has a.test on port 80",
        ),
    ],
)
def test_servers_that_cannot_share_a_port_are_told_of_and_the_later_is_left_out(
    servers: tuple[str, ...], place: int, said: str
) -> None:
    [problem] = problems_of(gateway(*servers), WEB)
    assert problem.path == f"spec.servers[{place}]"
    assert said in problem.message
    assert len(chains(snapshot_of(gateway(*servers), WEB))) == 1


def test_gateways_of_different_workloads_do_not_conflict() -> None:
    one = gateway(http("a.test", port=443), selector="{a: b}")
    other = gateway(https("a.test", SIMPLE), selector="{c: d}", name="other")
    assert problems_of(one, other, WEB) == []


@pytest.mark.parametrize(
    ("settings", "secrets", "path", "said"),
    [
        (SIMPLE, (), "credentialName", "no Secret 'istio-system/web'; there are none"),
        (SIMPLE, (secret("wep", "tls.crt: c, tls.key: k"),), "credentialName", "known are istio-system/wep"),
        (
            SIMPLE,
            (secret("web", "tls.crt: c, tls.key: k", "default"),),
            "credentialName",
            "there is default/web; Secrets are looked for where the proxy is, in 'istio-system'",
        ),
        (
            SIMPLE,
            (secret("web", "tls.crt: c, tls.kye: k"),),
            "credentialName",
            "give tls.crt and tls.key; it has tls.crt, tls.kye",
        ),
        (
            "mode: MUTUAL, credentialName: web",
            (WEB,),
            "credentialName",
            "Secret/web.istio-system has no authorities to verify peers by: give ca.crt, or a Secret web-cacert",
        ),
        (
            "mode: SIMPLE, credentialName: 'kubernetes://x/web'",
            (WEB,),
            "credentialName",
            "of another namespace than the proxy",
        ),
        ("mode: SIMPLE, credentialName: 'configmap://x/web'", (WEB,), "credentialName", "from Secrets only"),
        ("mode: SIMPLE, credentialNames: [web, x]", (WEB,), "credentialNames[1]", "no Secret 'istio-system/x'"),
    ],
)
def test_a_secret_that_is_not_there_is_told_of(settings: str, secrets: tuple[str, ...], path: str, said: str) -> None:
    problems = problems_of(gateway(https("a.test", settings)), *secrets)
    assert [problem.path for problem in problems] == [f"spec.servers[0].tls.{path}"]
    assert said in problems[0].message


@pytest.mark.parametrize("name", ["kubernetes://web", "kubernetes-gateway://istio-system/web", "sds://web"])
def test_a_secret_may_be_named_as_istio_names_it(name: str) -> None:
    assert problems_of(gateway(https("a.test", f"mode: SIMPLE, credentialName: '{name}'")), WEB) == []
