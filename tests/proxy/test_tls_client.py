"""TLS to upstreams, as a client of a cluster meets it: what is asked for, what is verified, and what is told."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trio
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshproxy.proxy.tls.client import TlsClient, UpstreamTls
from meshproxy.proxy.tls.errors import TlsFailed
from meshproxy.proxy.tls.secrets import MissingSecret
from meshproxy.proxy.tls.transport import TlsTransport
from meshproxy.proxy.transport import connect
from meshproxy.snapshot import CertificateValidationContext, CommonTlsContext, Exact, UpstreamTlsContext

from ..certificates import DAY, NOW, Ca, Pair
from .secure import SecureBackend, secure_backend, server_context
from .support import backend, silent

CA = Ca()
OTHER = Ca("another root")
SERVER = CA.issue("example.com", "127.0.0.1", "spiffe://cluster.local/ns/default/sa/a")


def client_context(trusted: Ca = CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=trusted.pem)
    return context


def upstream(context: ssl.SSLContext | None = None, names: tuple[str, ...] = (), **config: Any) -> UpstreamTls:
    validation = CertificateValidationContext("roots", tuple(map(Exact, names)))
    made = client_context() if context is None else context
    return UpstreamTls(UpstreamTlsContext(CommonTlsContext(validation_context=validation), **config), lambda: made, "c")


AUTO: dict[str, Any] = {"auto_host_sni": True, "auto_sni_san_validation": True}


async def secured(server: SecureBackend, client: TlsClient) -> TlsTransport:
    return await client.secure(await connect(server.address))


async def refused(server: SecureBackend, client: TlsClient) -> TlsFailed:
    with pytest.raises(TlsFailed) as caught:
        await secured(server, client)
    return caught.value


@pytest.mark.parametrize(
    ("config", "authority", "asked_for"),
    [
        ({"sni": "other.test"}, b"example.com", "other.test"),
        ({}, b"example.com", None),
        (AUTO, b"example.com:443", "example.com"),
        (AUTO, b"127.0.0.1:443", None),
        (
            {"sni": "outbound_.80_.v1_.a.default.svc.cluster.local"},
            b"x",
            "outbound_.80_.v1_.a.default.svc.cluster.local",
        ),
    ],
)
async def test_the_server_that_is_asked_for(config: dict[str, Any], authority: bytes, asked_for: str | None) -> None:
    async with secure_backend(server_context(SERVER)) as server:
        transport = await secured(server, upstream(**config).client(authority))
        await transport.send(b"GET / HTTP/1.1\r\n\r\n")
        assert (await transport.receive()).startswith(b"HTTP/1.1 200")
        transport.close()

        assert server.names == [asked_for]


REFUSED = [
    (CA.issue("example.com", expires=NOW - DAY), "X509_verify_cert: certificate has expired", "has expired"),
    (OTHER.issue("example.com"), "X509_verify_cert: unable to get local issuer certificate", "none of the authorities"),
    (
        CA.issue("other.test"),
        "verify SAN list, expected SANs: [example.com], certificate SANs: [other.test]",
        "other.test",
    ),
    (CA.issue(common_name="example.com"), "certificate SANs: []", "no name at all"),
    (CA.issue("example.com", uses=[ExtendedKeyUsageOID.CLIENT_AUTH]), "X509_verify_cert: ", "extended key usage"),
]


@pytest.mark.parametrize(("shown", "reason", "text"), REFUSED)
async def test_a_certificate_that_will_not_do_is_refused(
    shown: Pair, reason: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with secure_backend(server_context(shown)) as server:
        client = upstream(**AUTO).client(b"example.com")
        error = await refused(server, client)

        assert error.reason.startswith(
            "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: "
        )
        assert reason in error.reason
        assert text in str(error)
        assert [record.message for record in caplog.records] == [f"c: {error}"]


async def test_the_same_trouble_is_logged_once_until_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    good, bad = client_context(), client_context(OTHER)
    contexts = iter([bad, bad, good, bad])
    config = UpstreamTlsContext(CommonTlsContext())
    client = UpstreamTls(config, lambda: next(contexts), "c").client()
    async with secure_backend(server_context(SERVER)) as server:
        for expected in ("fails", "fails", "works", "fails"):
            if expected == "works":
                (await secured(server, client)).close()
            else:
                await refused(server, client)

    assert len(caplog.records) == 2


@pytest.mark.parametrize("names", [("example.com",), ("nobody.test", "spiffe://cluster.local/ns/default/sa/a")])
async def test_a_certificate_with_one_of_the_names_will_do(names: tuple[str, ...]) -> None:
    async with secure_backend(server_context(SERVER)) as server:
        (await secured(server, upstream(names=names).client(b"whatever"))).close()


async def test_a_certificate_without_any_of_the_names_is_refused() -> None:
    async with secure_backend(server_context(SERVER)) as server:
        error = await refused(server, upstream(names=("nobody.test",)).client(b"example.com"))

    assert "verify cert failed: SAN matcher, certificate SANs are [example.com, 127.0.0.1, spiffe" in error.reason
    assert "has none of the names nobody.test" in str(error)


async def test_without_verification_every_certificate_will_do() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    config = UpstreamTlsContext(CommonTlsContext(), auto_host_sni=True)
    async with secure_backend(server_context(OTHER.issue("whatever", expires=NOW - DAY))) as server:
        (await secured(server, UpstreamTls(config, lambda: context, "c").client(b"example.com"))).close()


async def test_where_key_material_is_missing_nothing_is_sent() -> None:
    def contexts() -> ssl.SSLContext:
        raise MissingSecret("there is no secret 'roots'")

    async with backend(silent) as server:
        with pytest.raises(TlsFailed, match="'roots'") as caught:
            await (
                UpstreamTls(UpstreamTlsContext(CommonTlsContext()), contexts, "c")
                .client()
                .secure(await connect(server.address))
            )

        assert caught.value.reason == "TLS_error:Secret is not supplied by SDS"
        peer = await server.connected()
        assert await peer.ended() == "closed"
        assert peer.received == b""


async def test_a_peer_that_speaks_no_tls() -> None:
    async def plain(peer: Any) -> None:
        await peer.read_some()
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with backend(plain) as server:
        with pytest.raises(TlsFailed, match="does not speak TLS") as caught:
            await upstream().client().secure(await connect(server.address))

    assert (
        caught.value.reason == "TLS_error:|268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER:TLS_error_end"
    )


@pytest.mark.parametrize("reset", [False, True])
async def test_a_peer_that_leaves_in_the_midst_of_the_handshake(reset: bool) -> None:
    async def leaves(peer: Any) -> None:
        await peer.read_some()
        if reset:
            peer.reset()

    async with backend(leaves) as server:
        with pytest.raises(TlsFailed, match=r"the peer closed the connection|the connection broke") as caught:
            await upstream().client().secure(await connect(server.address))

    assert "Connection reset by peer" in caught.value.reason


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_connection_goes_on_with_what_an_earlier_one_has_agreed_on(version: ssl.TLSVersion) -> None:
    context = server_context(SERVER)
    context.maximum_version = version
    client = upstream(**AUTO).client(b"example.com")
    async with secure_backend(context) as server:
        for _ in range(3):
            await exchanged(await secured(server, client))

        assert [peer.tls.session_reused for peer in server.peers] == [False, True, True]


async def exchanged(transport: TlsTransport) -> None:
    """Ask once and close: what a server tells of sessions comes with its first answer."""
    await transport.send(b"GET / HTTP/1.1\r\n\r\n")
    await transport.receive()
    transport.close()


async def test_a_server_without_sessions_is_not_asked_for_one_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[ssl.SSLObject] = []
    copied: Any = ssl.SSLObject.session

    def session(tls: ssl.SSLObject) -> Any:
        asked.append(tls)
        return copied.fget(tls)

    monkeypatch.setattr(ssl.SSLObject, "session", property(session, copied.fset))
    context = server_context(SERVER)
    context.num_tickets = 0
    client = upstream(**AUTO).client(b"example.com")
    async with secure_backend(context) as server:
        for _ in range(10):
            await exchanged(await secured(server, client))

        assert len(asked) == 3
        context.num_tickets = 2
        for _ in range(60):
            await exchanged(await secured(server, client))

        assert server.peers[-1].tls.session_reused


async def test_another_servers_session_is_not_gone_on_with() -> None:
    tls = upstream(**AUTO)
    async with secure_backend(server_context(CA.issue("a.test", "b.test"))) as server:
        for name in (b"a.test", b"b.test"):
            await exchanged(await secured(server, tls.client(name)))

        assert [peer.tls.session_reused for peer in server.peers] == [False, False]


async def test_key_material_that_has_changed_begins_new_sessions() -> None:
    contexts = [client_context()]
    client = UpstreamTls(UpstreamTlsContext(CommonTlsContext()), lambda: contexts[-1], "c").client()
    async with secure_backend(server_context(SERVER)) as server:
        await exchanged(await secured(server, client))
        contexts.append(client_context())
        await exchanged(await secured(server, client))

        assert [peer.tls.session_reused for peer in server.peers] == [False, False]


async def test_a_session_ends_with_the_certificate_that_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    client = upstream(**AUTO).client(b"example.com")
    async with secure_backend(server_context(CA.issue("example.com", expires=NOW + DAY))) as server:
        await exchanged(await secured(server, client))
        monkeypatch.setattr("meshproxy.proxy.tls.client.time.time", lambda: (NOW + 2 * DAY).timestamp())
        await exchanged(await secured(server, client))

        assert [peer.tls.session_reused for peer in server.peers] == [False, False]


async def test_one_who_gives_up_the_handshake_leaves_nothing_open() -> None:
    async with backend(silent) as server:
        transport = await connect(server.address)
        with trio.move_on_after(0.05) as scope:
            await upstream().client().secure(transport)

        assert scope.cancelled_caught
        assert await (await server.connected()).ended() in ("closed", "reset")
