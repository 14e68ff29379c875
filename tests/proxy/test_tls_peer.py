"""What a peer has shown is known at either end, chain and all."""

from __future__ import annotations

import ssl
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshproxy.identity import Authority, Credentials, certificates
from meshproxy.identity.authority import create
from meshproxy.identity.credentials import show_in
from meshproxy.proxy.tls.peer import shown_chain

from ..identity.support import credentials


@pytest.fixture
def held(tmp_path: Path) -> Credentials:
    create(tmp_path / "ca", trust_domain="cluster.local", key_type="ecdsa", now=datetime.now(UTC))
    return credentials(Authority(tmp_path / "ca"), now=datetime.now(UTC))


def shaken(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a connection, in memory."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = server.wrap_bio(there, back, server_side=True), client.wrap_bio(back, there)
    for _ in range(3):
        for end in reversed(ends):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_chain_is_known_at_both_ends(held: Credentials, version: ssl.TLSVersion) -> None:
    contexts = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in contexts:
        context.check_hostname = False
        context.maximum_version = version
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=certificates.to_pem(held.issued.roots).decode())
        show_in(context, held)

    ends = shaken(*contexts)

    expected = [one.public_bytes(Encoding.DER) for one in held.issued.chain]
    assert len(expected) == 2
    assert [shown_chain(end) for end in ends] == [expected, expected]


def test_who_shows_none_has_none(held: Credentials) -> None:
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    show_in(server, held)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE

    end, _ = shaken(server, client)

    assert shown_chain(end) == []
