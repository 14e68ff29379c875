"""Mutual TLS held against Envoy: which clients are let in, and what the app is told of their certificates."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshproxy.cli.export import with_credentials
from meshproxy.identity import Authority, Credentials, Issued, certificates, keys, spiffe, write_credentials
from meshproxy.identity.authority import create
from meshproxy.mesh import Trust, find_workload, sidecar_snapshot
from meshproxy.snapshot import (
    CertificateValidationContext,
    ClientCertDetails,
    Cluster,
    CommonTlsContext,
    DownstreamTlsContext,
    Endpoint,
    FileSource,
    FilterChain,
    HttpConnectionManager,
    Listener,
    RouteConfiguration,
    Secret,
    Snapshot,
    SocketAddress,
    TlsCertificate,
    TrustedCa,
    VirtualHost,
)

from ..envoy.binary import needs_envoy
from ..identity.support import leaf_certificate
from ..mesh.support import mesh_of, service_entry
from ..proxy.support import LOCALHOST, Backend, backend
from ..test_mtls import answering, client_context, forged, held, plain_exchange, secure_exchange, uri
from .exchanges import forward
from .referee import both

pytestmark = needs_envoy

MESH = """
apiVersion: v1
kind: Service
metadata: {name: shop}
spec:
  selector: {app: shop}
  ports: [{name: http, port: 80, targetPort: 9301}, {name: http-2, port: 82, targetPort: 9302}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: shop-1}
spec: {address: 127.0.0.1, labels: {app: shop}, serviceAccount: shop}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: shop}
spec:
  selector: {matchLabels: {app: shop}}
  mtls: {mode: STRICT}
  portLevelMtls: {9302: {mode: PERMISSIVE}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: shop}
spec:
  action: DENY
  rules:
  - from: [{source: {principals: ['*/sa/banned']}}]
  - when: [{key: connection.sni, values: [banned.test]}]
"""
SHOP, WEB, BANNED = (spiffe.parse(f"spiffe://cluster.local/ns/default/sa/{name}") for name in ("shop", "web", "banned"))
REQUEST = b"GET / HTTP/1.1\r\nhost: shop\r\nx-forwarded-client-cert: By=forged;URI=spiffe://x\r\n\r\n"


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    create(tmp_path / "ca", trust_domain="cluster.local", key_type="ecdsa", now=now())
    return Authority(tmp_path / "ca")


class Seen(NamedTuple):
    """What became of a request: the status, and what the app was told of the client's certificate."""

    status: bytes
    told: tuple[bytes, ...]


async def seen(to: SocketAddress, app: Backend, context: ssl.SSLContext | None) -> Seen:
    mark = next(_MARKS)
    request = REQUEST[:-2] + b"x-mark: %d\r\n\r\n" % mark
    received = (
        (await plain_exchange(to, request))[0] if context is None else await secure_exchange(to, context, request)
    )
    heads = (head for received in app.received for head in received.split(b"\r\n\r\n"))
    lines = next((found for head in heads if b"x-mark: %d" % mark in (found := head.split(b"\r\n"))), [])
    fields = (line.partition(b": ") for line in lines)
    told = tuple(value for name, _, value in fields if name.lower() == b"x-forwarded-client-cert")
    return Seen(received.partition(b"\r\n")[0], told)


_MARKS = itertools.count(1)


def clients(authority: Authority, folder: Path) -> Iterator[tuple[str, ssl.SSLContext | None]]:
    create(folder / "other", trust_domain="cluster.local", key_type="ecdsa", now=now())
    revoked = held(authority, WEB)
    authority.revoke(revoked.issued.leaf, now())
    alpn = ("istio-http/1.1", "istio", "http/1.1")
    yield "plain", None
    yield "no certificate", client_context(None, *alpn)
    yield "web", client_context(held(authority, WEB), *alpn)
    yield "web without ALPN", client_context(held(authority, WEB))
    yield "web by ALPN of others", client_context(held(authority, WEB), "http/1.1")
    yield "banned", client_context(held(authority, BANNED), *alpn)
    yield "another CA", client_context(held(Authority(folder / "other"), WEB), *alpn)
    yield "another trust domain", client_context(forged(authority, uri("spiffe://evil.test/ns/default/sa/web")), *alpn)
    yield "no SPIFFE ID", client_context(forged(authority, x509.DNSName("cluster.local")), *alpn)
    yield (
        "expired",
        client_context(forged(authority, uri(str(WEB)), begins=now() - timedelta(2), ends=now() - timedelta(1))),
    )
    yield "revoked", client_context(revoked, *alpn)


def anywhere(snapshot: Snapshot) -> Snapshot:
    """The same on ports that are free."""
    return replace(snapshot, listeners=tuple(replace(one, address=LOCALHOST) for one in snapshot.listeners))


async def test_the_same_clients_are_let_in_and_told_of(authority: Authority, tmp_path: Path) -> None:
    write_credentials(tmp_path / "shop", held(authority, SHOP))
    shown = dict(clients(authority, tmp_path))
    write_credentials(tmp_path / "shop", held(authority, SHOP))  # with the list of what has been revoked
    async with backend(answering) as app:
        assert isinstance(app.address, SocketAddress)
        mesh = mesh_of(MESH, service_entry("other"))
        found = sidecar_snapshot(
            mesh, workload=find_workload(mesh, "shop-1"), app=app.address, outbound=LOCALHOST, trust=Trust()
        )
        config = anywhere(with_credentials(found, tmp_path / "shop"))
        async with both([config], tmp_path) as referee:
            pairs = {
                (listener, name): [await seen(side[listener], app, context) for side in (referee.ours, referee.envoy)]
                for listener in ("127.0.0.1_9301", "127.0.0.1_9302")
                for name, context in shown.items()
            }

    assert {where: ours for where, (ours, _) in pairs.items()} == {
        where: theirs for where, (_, theirs) in pairs.items()
    }
    ok = {where for where, (ours, _) in pairs.items() if ours.status == b"HTTP/1.1 200 OK"}
    assert ok == {
        ("127.0.0.1_9301", "web"),
        ("127.0.0.1_9301", "web without ALPN"),
        ("127.0.0.1_9301", "web by ALPN of others"),
        ("127.0.0.1_9302", "plain"),
        ("127.0.0.1_9302", "web"),
    }
    assert pairs["127.0.0.1_9301", "banned"][0].status == b"HTTP/1.1 403 Forbidden"
    assert pairs["127.0.0.1_9302", "plain"][0].told == ()


SUBJECTS = {
    "plain": x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a client")]),
    "odd": x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ' a,b+c"d\\e<f>g;h=i#j '),
            x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@b.test"),
            x509.NameAttribute(NameOID.COMMON_NAME, "#Zoë"),
        ]
    ),
    "several": x509.Name(
        [
            x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, "a")]),
            x509.RelativeDistinguishedName(
                [
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, "o"),
                    x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "u"),
                ]
            ),
            x509.RelativeDistinguishedName([x509.NameAttribute(x509.ObjectIdentifier("1.2.3.4"), "x")]),
        ]
    ),
    "none": x509.Name([]),
}
NAMES: dict[str, tuple[x509.GeneralName, ...]] = {
    "plain": (x509.DNSName("a.test"), x509.DNSName("*.b.test")),
    "odd": (uri("spiffe://a/b"), uri("https://c.test/?x=1"), x509.DNSName("a.test")),
    "several": (x509.RFC822Name("a@b.test"),),
    "none": (uri("spiffe://a/b"),),
}


def certificate_of(authority: Authority, kind: str) -> Credentials:
    """A client's certificate that no mesh would issue."""
    signer, key = authority._state.signer, keys.generate()
    made = leaf_certificate(
        signer.certificate,
        signer.key,
        NAMES[kind],
        key=key,
        usages=(ExtendedKeyUsageOID.CLIENT_AUTH,),
        begins=now() - timedelta(minutes=2),
        ends=now() + timedelta(hours=1),
    )
    builder = x509.CertificateBuilder().subject_name(SUBJECTS[kind]).issuer_name(made.issuer)
    builder = builder.public_key(key.public_key()).serial_number(made.serial_number)
    builder = builder.not_valid_before(made.not_valid_before_utc).not_valid_after(made.not_valid_after_utc)
    for extension in made.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return Credentials(key, Issued((builder.sign(signer.key, hashes.SHA256()), signer.certificate), ()))


def listeners(everything: ClientCertDetails) -> Iterator[Listener]:
    tls = DownstreamTlsContext(CommonTlsContext(("own",), CertificateValidationContext("roots")))
    for details in (ClientCertDetails(), everything):
        for mode in ("SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"):
            for edge in (True, False):
                manager = HttpConnectionManager(
                    RouteConfiguration("r", (VirtualHost("all", ("*",), (forward("app"),)),)),
                    use_remote_address=edge,
                    forward_client_cert=mode,
                    client_cert_details=details,
                )
                name = f"{mode}, {'all' if details == everything else 'the least'}, {'edge' if edge else 'inside'}"
                yield Listener(name, LOCALHOST, (FilterChain(manager, tls=tls),))
                yield Listener(f"{name}, plain", LOCALHOST, (FilterChain(manager),))


async def test_certificates_are_told_of_in_the_same_words(authority: Authority, tmp_path: Path) -> None:
    write_credentials(tmp_path / "own", held(authority, SHOP))
    folder = tmp_path / "own"
    secrets = (
        Secret("own", TlsCertificate(FileSource(str(folder / "cert-chain.pem")), FileSource(str(folder / "key.pem")))),
        Secret("roots", TrustedCa(FileSource(str(folder / "root-cert.pem")))),
    )
    shown = {kind: client_context(certificate_of(authority, kind)) for kind in SUBJECTS} | {
        "nobody": client_context(None)
    }
    async with backend(answering) as app:
        config = Snapshot(
            tuple(listeners(ClientCertDetails(subject=True, cert=True, uri=True, dns=True))),
            (Cluster("app", (Endpoint(app.address),)),),
            secrets,
        )
        async with both([config], tmp_path) as referee:
            pairs = {}
            for listener in config.listeners:
                contexts = {"plain": None} if listener.name.endswith("plain") else shown
                for name, context in contexts.items():
                    sides = [referee.ours[listener.name], referee.envoy[listener.name]]
                    pairs[listener.name, name] = [await seen(side, app, context) for side in sides]

    assert len(pairs) == 20 * 6
    assert {where: ours for where, (ours, _) in pairs.items()} == {
        where: theirs for where, (_, theirs) in pairs.items()
    }
    assert all(ours.status == b"HTTP/1.1 200 OK" for ours, _ in pairs.values())


async def test_sidecars_of_both_kinds_call_each_other(authority: Authority, tmp_path: Path) -> None:
    accounts = {"shop-1": SHOP, "web-1": WEB}
    for account, id in accounts.items():
        write_credentials(tmp_path / account, held(authority, id))
        (tmp_path / f"{account}-proxies").mkdir()
    mesh = mesh_of(MESH, WEB_WORKLOAD)
    async with backend(answering) as app:
        assert isinstance(app.address, SocketAddress)
        shop, web = (
            anywhere(
                with_credentials(
                    sidecar_snapshot(
                        mesh, workload=find_workload(mesh, name), app=app.address, outbound=LOCALHOST, trust=Trust()
                    ),
                    tmp_path / name,
                )
            )
            for name in accounts
        )
        found = {}
        async with both([shop], tmp_path / "shop-1-proxies") as servers:
            for server, addresses in (("ours", servers.ours), ("Envoy's", servers.envoy)):
                calling = _calling(web, addresses["127.0.0.1_9301"])
                async with both([calling], tmp_path / "web-1-proxies") as callers:
                    for client, those in (("ours", callers.ours), ("Envoy's", callers.envoy)):
                        found[client, server] = await seen(those["127.0.0.1_0"], app, None)

    sum_of = certificates.fingerprint(certificates.read_certificates(tmp_path / "web-1" / "cert-chain.pem")[0])
    told = f'By={SHOP};Hash={sum_of.replace(":", "").lower()};Subject="";URI={WEB}'.encode()
    assert found == dict.fromkeys(found, Seen(b"HTTP/1.1 200 OK", (told,)))
    assert len(found) == 4


WEB_WORKLOAD = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web-1}
spec: {address: 127.0.0.1, labels: {app: web}, serviceAccount: web}
"""


def _calling(web: Snapshot, shop: SocketAddress) -> Snapshot:
    """The client's sidecar, with the server's where it really is."""
    clusters = tuple(
        replace(one, endpoints=tuple(replace(endpoint, address=shop) for endpoint in one.endpoints))
        for one in web.clusters
    )
    return replace(web, clusters=clusters)
