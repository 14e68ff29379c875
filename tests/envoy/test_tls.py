"""Secrets and TLS, written out for Envoy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshproxy.envoy import Inexpressible, bootstrap
from meshproxy.envoy.clusters import cluster
from meshproxy.envoy.tls import common_tls_context, secret
from meshproxy.snapshot import (
    CertificateValidationContext,
    Cluster,
    CommonTlsContext,
    Endpoint,
    Exact,
    FileSource,
    InlineSource,
    Prefix,
    Secret,
    Snapshot,
    SocketAddress,
    Suffix,
    SystemRoots,
    TlsCertificate,
    TrustedCa,
    UpstreamTlsContext,
    WorkloadCertificate,
    WorkloadRoots,
)

from ..certificates import Ca
from .binary import complaints, needs_envoy

HERE = SocketAddress("127.0.0.1", 80)
VERSIONS = {"tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            TlsCertificate(FileSource("/a.crt"), FileSource("/a.key")),
            {"tls_certificate": {"certificate_chain": {"filename": "/a.crt"}, "private_key": {"filename": "/a.key"}}},
        ),
        (
            TrustedCa(InlineSource("ca.crt", "-----"), FileSource("/crl")),
            {"validation_context": {"trusted_ca": {"inline_string": "-----"}, "crl": {"filename": "/crl"}}},
        ),
        (
            TrustedCa(SystemRoots()),
            {"validation_context": {"trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"}}},
        ),
    ],
)
def test_secrets(source: Any, expected: dict[str, Any]) -> None:
    assert secret(Secret("s", source)) == {"name": "s", **expected}


@pytest.mark.parametrize("source", [WorkloadCertificate(), WorkloadRoots()])
def test_the_workloads_own_identity_is_no_static_secret(source: Any) -> None:
    with pytest.raises(Inexpressible, match="secret 'default': it is the workload's own identity"):
        secret(Secret("default", source))


def sans(kind: str, matcher: dict[str, str]) -> dict[str, Any]:
    return {"san_type": kind, "matcher": matcher}


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (CommonTlsContext(), {}),
        (
            CommonTlsContext(("cert",), alpn_protocols=("istio", "http/1.1")),
            {"tls_certificate_sds_secret_configs": [{"name": "cert"}], "alpn_protocols": ["istio", "http/1.1"]},
        ),
        (
            CommonTlsContext(validation_context=CertificateValidationContext("roots")),
            {
                "combined_validation_context": {
                    "default_validation_context": {},
                    "validation_context_sds_secret_config": {"name": "roots"},
                }
            },
        ),
        (
            CommonTlsContext(
                validation_context=CertificateValidationContext(
                    match_subject_alt_names=(Exact("a.b"), Suffix(".c")),
                    verify_certificate_spki=("spki",),
                    verify_certificate_hash=("hash",),
                )
            ),
            {
                "validation_context": {
                    "verify_certificate_spki": ["spki"],
                    "verify_certificate_hash": ["hash"],
                    "match_typed_subject_alt_names": [
                        sans(kind, matcher)
                        for kind in ("DNS", "URI", "IP_ADDRESS", "EMAIL")
                        for matcher in ({"exact": "a.b"}, {"suffix": ".c"})
                    ],
                }
            },
        ),
        (
            CommonTlsContext(validation_context=CertificateValidationContext(trust_domains=("td",))),
            {"validation_context": {"match_typed_subject_alt_names": [sans("URI", {"prefix": "spiffe://td/"})]}},
        ),
    ],
)
def test_what_both_sides_say(context: CommonTlsContext, expected: dict[str, Any]) -> None:
    assert common_tls_context(context) == {**VERSIONS, **expected}


def test_versions_and_cipher_suites() -> None:
    context = CommonTlsContext(minimum_version="TLSv1_0", maximum_version="TLSv1_2", cipher_suites=("A", "B"))
    assert common_tls_context(context) == {
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_0",
            "tls_maximum_protocol_version": "TLSv1_2",
            "cipher_suites": ["A", "B"],
        }
    }


def test_a_cluster_whose_requests_tell_which_server_is_asked_for() -> None:
    tls = UpstreamTlsContext(CommonTlsContext(), auto_host_sni=True, auto_sni_san_validation=True)
    message = cluster(Cluster("c", (Endpoint(HERE),), tls=tls), None)

    assert "sni" not in message["transport_socket"]["typed_config"]
    [options] = message["typed_extension_protocol_options"].values()
    assert options["upstream_http_protocol_options"] == {"auto_sni": True, "auto_san_validation": True}


def test_a_cluster_that_asks_for_one_server() -> None:
    tls = UpstreamTlsContext(CommonTlsContext(), sni="a.b")
    message = cluster(Cluster("c", (Endpoint(HERE),), tls=tls), None)

    assert message["transport_socket"]["typed_config"]["sni"] == "a.b"
    [options] = message["typed_extension_protocol_options"].values()
    assert "upstream_http_protocol_options" not in options


def test_a_cluster_with_tls_to_those_endpoints_that_are_known_to_take_it() -> None:
    endpoints = (Endpoint(HERE, tls_mode="istio"), Endpoint(SocketAddress("127.0.0.1", 81)))
    message = cluster(Cluster("c", endpoints, auto_tls=UpstreamTlsContext(CommonTlsContext(), sni="a.b")), None)

    [secure, plain] = message["transport_socket_matches"]
    assert (secure["match"], plain["match"]) == ({"tlsMode": "istio"}, {})
    [locality] = message["load_assignment"]["endpoints"]
    assert [one.get("metadata") for one in locality["lb_endpoints"]] == [
        {"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio"}}},
        None,
    ]


def test_tls_to_all_and_to_some_endpoints_is_not_both() -> None:
    tls = UpstreamTlsContext(CommonTlsContext())
    with pytest.raises(Inexpressible, match="TLS of cluster 'c'"):
        cluster(Cluster("c", (Endpoint(HERE),), tls=tls, auto_tls=tls), None)


def test_a_secret_that_is_not_there_has_no_words_in_envoy() -> None:
    tls = UpstreamTlsContext(CommonTlsContext(validation_context=CertificateValidationContext("kubernetes://c-cacert")))
    with pytest.raises(Inexpressible, match="secret 'kubernetes://c-cacert', to which TLS of cluster 'c' refers"):
        bootstrap(Snapshot((), (Cluster("c", (Endpoint(HERE),), tls=tls),)))


@needs_envoy
def test_envoy_accepts_all_of_it(tmp_path: Path) -> None:
    ca = Ca()
    shown = ca.issue("a.b")
    chain, key = shown.write(tmp_path)
    (tmp_path / "ca.pem").write_text(ca.pem)
    (tmp_path / "crl.pem").write_text(ca.crl())
    secrets = (
        Secret("cert", TlsCertificate(FileSource(str(chain)), FileSource(str(key)))),
        Secret("inline", TlsCertificate(InlineSource("tls.crt", shown.chain), InlineSource("tls.key", shown.key))),
        Secret("roots", TrustedCa(FileSource(str(tmp_path / "ca.pem")), FileSource(str(tmp_path / "crl.pem")))),
        Secret("system", TrustedCa(SystemRoots())),
    )
    names = (Exact("a.b"), Prefix("spiffe://"), Suffix(".c"))
    validations = (
        CertificateValidationContext("roots", names, trust_domains=("td",)),
        CertificateValidationContext("system", trust_domains=("td",)),
        CertificateValidationContext("roots", verify_certificate_hash=("ab" * 32,)),
        None,
    )
    endpoints = (Endpoint(HERE, tls_mode="istio"), Endpoint(SocketAddress("127.0.0.1", 81)))
    clusters = []
    for place, validation in enumerate(validations):
        common = CommonTlsContext(("cert",) if place % 2 else ("inline",), validation, alpn_protocols=("istio",))
        auto = UpstreamTlsContext(common, auto_host_sni=True, auto_sni_san_validation=validation is not None)
        clusters += [
            Cluster(f"auto{place}", endpoints, tls=auto),
            Cluster(f"named{place}", endpoints, tls=UpstreamTlsContext(common, sni="a.b")),
            Cluster(f"some{place}", endpoints, auto_tls=UpstreamTlsContext(common, sni="a.b")),
            Cluster(f"forward{place}", (), type="DYNAMIC_FORWARD_PROXY", tls=auto),
        ]
    assert complaints(bootstrap(Snapshot((), tuple(clusters), secrets)), tmp_path) == ""
