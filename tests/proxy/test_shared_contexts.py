"""Clusters whose connections differ in nothing that OpenSSL is told share what is made for them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshproxy.identity import Authority
from meshproxy.identity.authority import create
from meshproxy.mesh.mutual_tls import WORKLOAD_SECRETS
from meshproxy.proxy.tls import contexts
from meshproxy.proxy.tls.client import UpstreamTls
from meshproxy.proxy.tls.secrets import Secrets
from meshproxy.snapshot import (
    WORKLOAD_CERTIFICATE,
    WORKLOAD_ROOTS,
    CertificateValidationContext,
    CommonTlsContext,
    Exact,
    UpstreamTlsContext,
)

from ..identity.support import credentials


def calling(name: str, *alpn: str) -> UpstreamTlsContext:
    validation = CertificateValidationContext(
        WORKLOAD_ROOTS, (Exact(f"spiffe://cluster.local/ns/a/sa/{name}"),), trust_domains=("cluster.local",)
    )
    return UpstreamTlsContext(CommonTlsContext((WORKLOAD_CERTIFICATE,), validation, alpn_protocols=alpn), sni=name)


def test_a_renewal_is_made_into_one_context_for_all_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path / "ca", trust_domain="cluster.local", key_type="ecdsa", now=datetime.now(UTC))
    authority = Authority(tmp_path / "ca")
    made = 0
    make = contexts.client_context

    def counted(common: CommonTlsContext, secrets: Secrets) -> object:
        nonlocal made
        made += 1
        return make(common, secrets)

    monkeypatch.setattr(contexts, "client_context", counted)
    secrets = Secrets(WORKLOAD_SECRETS)
    secrets.set_identity(credentials(authority, now=datetime.now(UTC)))
    services = [UpstreamTls.of(calling(f"service-{number}", "istio"), secrets, "a cluster") for number in range(50)]
    other = UpstreamTls.of(calling("service-1", "http/1.1"), secrets, "another")

    first = {id(one.contexts()) for one in services}
    secrets.set_identity(credentials(authority, now=datetime.now(UTC)))
    second = {id(one.contexts()) for one in services}

    assert len(first) == len(second) == 1
    assert first != second
    assert id(other.contexts()) not in second
    assert made <= 6  # two of each, and at most one more while one secret has changed and the other has not
