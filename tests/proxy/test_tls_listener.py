"""Listeners that speak TLS, in a running proxy with real clients."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshproxy.proxy.tls import secrets
from meshproxy.proxy.tls import server as tls_server
from meshproxy.snapshot import (
    CertificateValidationContext,
    ClientCertDetails,
    CommonTlsContext,
    DirectResponseAction,
    DownstreamTlsContext,
    Exact,
    FileSource,
    FilterChain,
    FilterChainMatch,
    HttpConnectionManager,
    InlineSource,
    Listener,
    Route,
    RouteConfiguration,
    RouteMatch,
    Secret,
    Snapshot,
    Suffix,
    TlsCertificate,
    TrustedCa,
    VirtualHost,
)
from meshproxy.telemetry.prometheus import render

from ..certificates import Ca, Pair
from .support import GET, LOCALHOST, OK, Backend, Gateway, Peer, answers, backend, gateway, snapshot, until

CA = Ca()
SITE = CA.issue("site.test", "spiffe://cluster.local/ns/edge/sa/gateway")


def certificate(name: str, pair: Pair) -> Secret:
    return Secret(name, TlsCertificate(InlineSource("tls.crt", pair.chain), InlineSource("tls.key", pair.key)))


SECRETS = (certificate("site", SITE), Secret("ca", TrustedCa(InlineSource("ca.crt", CA.pem))))


def tls(*names: str, required: bool = False, **validation: Any) -> DownstreamTlsContext:
    context = CertificateValidationContext(**validation) if validation else None
    return DownstreamTlsContext(CommonTlsContext(names or ("site",), context), required)


def secured(server: Backend, context: DownstreamTlsContext | None = None, **http: Any) -> Snapshot:
    """What is a plain proxy otherwise, with TLS."""
    plain = snapshot(server, **http)
    (listener,) = plain.listeners
    chains = tuple(replace(chain, tls=context or tls()) for chain in listener.filter_chains)
    return replace(plain, listeners=(replace(listener, filter_chains=chains),), secrets=SECRETS)


def says(word: str) -> HttpConnectionManager:
    route = Route("", RouteMatch(), DirectResponseAction(200, word.encode()))
    return HttpConnectionManager(RouteConfiguration(word, (VirtualHost("all", ("*",), (route,)),)))


def chained(*chains: FilterChain, secrets: Iterable[Secret] = SECRETS) -> Snapshot:
    return Snapshot((Listener("http", LOCALHOST, chains),), (), tuple(secrets))


def by_name(*names: str, certificate: str = "site") -> FilterChain:
    return FilterChain(says(names[0]), FilterChainMatch(names), tls(certificate))


class Client:
    """A TLS client, with OpenSSL and trio's own streams."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self.stream = stream
        self.received = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def response(self) -> bytes:
        """A whole one, by its content-length."""
        while b"\r\n\r\n" not in self.received:
            await self._more()
        head, _, _ = self.received.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        whole = len(head) + 4 + length
        while len(self.received) < whole:
            await self._more()
        found, self.received = self.received[:whole], self.received[whole:]
        return found

    async def _more(self) -> None:
        data = await self.stream.receive_some(65536)
        if not data:
            raise EOFError(self.received)
        self.received += data

    async def get(self, request: bytes = GET) -> bytes:
        await self.send(request)
        return await self.response()

    async def close(self) -> None:
        await trio.aclose_forcefully(self.stream)


async def connected(proxy: Gateway, context: ssl.SSLContext | None = None, name: str = "site.test") -> Client:
    with trio.fail_after(10):
        raw = await trio.open_tcp_stream(proxy.address.host, proxy.address.port)
        stream = trio.SSLStream(raw, context or CA.client_context(), server_hostname=name, https_compatible=True)
        try:
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
    return Client(stream)


async def fetched(proxy: Gateway, context: ssl.SSLContext | None = None, name: str = "site.test") -> bytes:
    """The response to one request on a connection of its own."""
    client = await connected(proxy, context, name)
    try:
        with trio.fail_after(10):
            return await client.get()
    finally:
        await client.close()


async def refused(proxy: Gateway, context: ssl.SSLContext | None = None, name: str = "site.test") -> None:
    with pytest.raises((trio.BrokenResourceError, EOFError)):
        await fetched(proxy, context, name)


def lenient(context: ssl.SSLContext | None = None) -> ssl.SSLContext:
    """Any name will do."""
    context = context or CA.client_context()
    context.check_hostname = False
    return context


def metric(proxy: Gateway, name: str) -> float:
    for line in render(proxy.worker.metrics).decode().splitlines():
        if line.startswith(f"envoy_listener_{name}_total{{"):
            return float(line.split()[-1])
    raise KeyError(name)


async def test_requests_by_tls_are_of_the_scheme_https() -> None:
    async with backend(answers(OK)) as server, gateway(secured(server)) as proxy:
        assert (await fetched(proxy)).endswith(b"ok")
        assert b"x-forwarded-proto: https\r\n" in server.connections[0].received
        assert metric(proxy, "ssl_handshake") == metric(proxy, "ssl_no_certificate") == 1


async def test_requests_follow_each_other_and_may_come_together() -> None:
    async with backend(answers(OK)) as server, gateway(secured(server)) as proxy:
        client = await connected(proxy)
        for _ in range(3):
            assert (await client.get()).endswith(b"ok")
        await client.send(GET * 3)
        for _ in range(3):
            assert (await client.response()).endswith(b"ok")
        await client.close()


async def test_large_bodies_go_both_ways() -> None:
    body = bytes(range(256)) * 12_000  # 3 MB

    async def echo(peer: Peer) -> None:
        head = await peer.read_until(b"\r\n\r\n")
        assert b"content-length: %d" % len(body) in head.lower()
        got = await peer.read(len(body))
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(got) + got)

    async with backend(echo) as server, gateway(secured(server)) as proxy:
        client = await connected(proxy)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                client.send, b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % len(body) + body
            )
            with trio.fail_after(30):
                response = await client.response()
        assert response.endswith(body)
        await client.close()


async def test_a_body_that_ends_with_the_connection_is_told_from_one_that_breaks_off() -> None:
    async def until_close(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    async with backend(until_close) as server, gateway(secured(server)) as proxy:
        client = await connected(proxy)
        await client.send(b"GET / HTTP/1.0\r\nhost: h\r\n\r\n")
        with suppress(EOFError):
            while True:
                await client._more()  # ends with close_notify, or this would be a BrokenResourceError
        assert client.received.endswith(b"all of it")
        await client.close()


async def test_the_chain_for_the_server_that_is_asked_for_answers_with_its_own_certificate() -> None:
    shown = (certificate("a", CA.issue("a.test")), certificate("b", CA.issue("*.b.test")))
    chains = (by_name("a.test", certificate="a"), by_name("*.b.test", certificate="b"))
    async with gateway(chained(*chains, secrets=shown)) as proxy:
        assert (await fetched(proxy, name="a.test")).endswith(b"a.test")
        assert (await fetched(proxy, name="x.b.test")).endswith(b"*.b.test")
        await refused(proxy, lenient(), "c.test")
        assert metric(proxy, "no_filter_chain_match") == 1


async def test_tls_and_plain_text_go_by_one_port() -> None:
    chains = (
        FilterChain(says("secret"), FilterChainMatch(transport_protocol="tls"), tls()),
        FilterChain(says("plain"), FilterChainMatch(transport_protocol="raw_buffer")),
    )
    async with gateway(chained(*chains)) as proxy:
        assert (await fetched(proxy)).endswith(b"secret")
        assert (await proxy.exchange(GET)).body == b"plain"
        client = await proxy.client()
        for byte in GET:
            await client.send(bytes([byte]))
        assert (await client.response("GET")).body == b"plain"


async def test_the_protocols_that_a_client_offers_choose_a_chain() -> None:
    match = FilterChainMatch(transport_protocol="tls", application_protocols=("istio",))
    chains = (
        FilterChain(says("mesh"), match, tls()),
        FilterChain(says("other"), FilterChainMatch(transport_protocol="tls"), tls()),
    )
    async with gateway(chained(*chains)) as proxy:
        offering = CA.client_context()
        offering.set_alpn_protocols(["h2", "istio"])
        assert (await fetched(proxy, offering)).endswith(b"mesh")
        assert (await fetched(proxy)).endswith(b"other")


@pytest.mark.parametrize("chains", [1, 2])
async def test_what_is_not_tls_is_turned_away(chains: int) -> None:
    running = [FilterChain(says("x"), tls=tls())] if chains == 1 else [by_name("a.test"), by_name("b.test")]
    async with gateway(chained(*running)) as proxy:
        client = await proxy.client()
        await client.send(GET)
        await client.ended()
        assert not client.received.startswith(b"HTTP")
        assert metric(proxy, "ssl_connection_error" if chains == 1 else "no_filter_chain_match") == 1


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"])
@pytest.mark.parametrize("chains", [1, 2])
async def test_who_does_not_go_on_is_turned_away_in_time(
    chains: int, said: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    running = [FilterChain(says("x"), tls=tls())] if chains == 1 else [by_name("a.test"), by_name("b.test")]
    async with gateway(chained(*running)) as proxy:
        client = await proxy.client()
        await client.send(said)
        began = trio.current_time()
        await client.ended()
        assert 14 < trio.current_time() - began < 20


async def test_a_client_that_leaves_at_once_leaves_nothing_behind() -> None:
    for running in ([FilterChain(says("x"), tls=tls())], [by_name("a.test"), by_name("b.test")]):
        async with gateway(chained(*running)) as proxy:
            for said in (b"", b"\x16\x03\x01\x02\x00\x01"):
                client = await proxy.client()
                await client.send(said)
                client.close()
            await until(lambda: proxy.worker.metrics.listeners["http"].connections == 2)
            await until(lambda: proxy.worker.metrics.listeners["http"].connections_active == 0)


async def test_a_server_is_told_of_the_clients_certificate(tmp_path: Path) -> None:
    details = ClientCertDetails(uri=True)
    http: dict[str, Any] = {"forward_client_cert": "SANITIZE_SET", "client_cert_details": details}
    pair = CA.issue("spiffe://cluster.local/ns/a/sa/b")
    async with backend(answers(OK)) as server, gateway(secured(server, tls(trusted_ca="ca"), **http)) as proxy:
        await fetched(proxy, CA.client_context(pair, tmp_path))
        der = pair.certificate.public_bytes(Encoding.DER)
        assert (
            b"x-forwarded-client-cert: By=spiffe://cluster.local/ns/edge/sa/gateway;Hash=%b;URI=spiffe://cluster.local/ns/a/sa/b\r\n"
            % hashlib.sha256(der).hexdigest().encode()
        ) in server.connections[0].received
        await fetched(proxy)
        assert b"x-forwarded-client-cert" not in server.connections[-1].received.split(b"\r\n\r\n")[-2]


async def test_who_has_to_show_a_certificate_and_does_not_gets_no_answer(tmp_path: Path) -> None:
    async with gateway(chained(FilterChain(says("in"), tls=tls(required=True, trusted_ca="ca")))) as proxy:
        assert (await fetched(proxy, CA.client_context(CA.issue("c.test"), tmp_path))).endswith(b"in")
        await refused(proxy)
        await refused(proxy, CA.client_context(Ca("other").issue("c.test"), tmp_path))
        assert metric(proxy, "ssl_fail_verify_no_cert") == metric(proxy, "ssl_fail_verify_error") == 1


def spki(pair: Pair) -> str:
    key = pair.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


def sum_of(pair: Pair) -> str:
    return hashlib.sha256(pair.certificate.public_bytes(Encoding.DER)).hexdigest()


GOOD, BAD = CA.issue("good.test", "spiffe://cluster.local/ns/a/sa/good"), CA.issue("bad.test")


@pytest.mark.parametrize(
    "validation",
    [
        {"match_subject_alt_names": (Exact("good.test"),)},
        {"match_subject_alt_names": (Exact("x"), Suffix("/sa/good"))},
        {"verify_certificate_hash": (sum_of(GOOD).upper(),)},
        {"verify_certificate_hash": (":".join(sum_of(GOOD)[at : at + 2] for at in range(0, 64, 2)),)},
        {"verify_certificate_spki": (spki(GOOD),)},
        {"verify_certificate_spki": (spki(GOOD),), "verify_certificate_hash": ("00" * 32,)},
        {"trust_domains": ("cluster.local",)},
    ],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_certificate_has_to_be_as_it_is_asked_for(
    validation: dict[str, Any], version: ssl.TLSVersion, tmp_path: Path
) -> None:
    context = tls(required=True, trusted_ca="ca", **validation)
    async with gateway(chained(FilterChain(says("in"), tls=context))) as proxy:
        showing = CA.client_context(GOOD, tmp_path)
        showing.maximum_version = version
        assert (await fetched(proxy, showing)).endswith(b"in")
        await refused(proxy, CA.client_context(BAD, tmp_path))
        assert metric(proxy, "ssl_fail_verify_error") == 1


async def resumed(proxy: Gateway, context: ssl.SSLContext, first: Client) -> tuple[bytes, bool]:
    """The response on a connection that goes on with the session of `first`, and whether it could."""
    raw = await trio.open_tcp_stream(proxy.address.host, proxy.address.port)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = first.stream._ssl_object.session
    again = context.wrap_bio(incoming, outgoing, server_hostname="site.test", session=session)
    answer = b""
    async with raw:
        with trio.fail_after(10):
            while True:
                try:
                    again.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await raw.send_all(outgoing.read())
                    incoming.write(await raw.receive_some())
            again.write(GET)
            await raw.send_all(outgoing.read())
            while not answer.endswith(b"in"):
                data = await raw.receive_some()
                if not data:
                    raise EOFError(answer)
                incoming.write(data)
                with suppress(ssl.SSLWantReadError):
                    answer += again.read(65536)
    return answer, bool(again.session_reused)


SESSIONS = [{"trust_domains": ("cluster.local",)}, {"match_subject_alt_names": (Exact("good.test"),)}, {}]


@pytest.mark.parametrize("validation", SESSIONS)
async def test_a_session_goes_on_and_is_verified_as_the_first_was(validation: dict[str, Any], tmp_path: Path) -> None:
    context = tls(required=True, trusted_ca="ca", **validation)
    async with gateway(chained(FilterChain(says("in"), tls=context))) as proxy:
        showing = CA.client_context(GOOD, tmp_path)
        first = await connected(proxy, showing)
        await first.get()
        _, reused = await resumed(proxy, showing, first)
        assert reused
        assert metric(proxy, "ssl_session_reused") == 1
        await first.close()


@pytest.mark.parametrize("validation", SESSIONS)
async def test_a_session_does_not_outlive_the_certificate_that_it_began_with(
    validation: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Later:
            return cls.fromtimestamp(GOOD.certificate.not_valid_after_utc.timestamp() + 1, tz)

    context = tls(required=True, trusted_ca="ca", **validation)
    async with gateway(chained(FilterChain(says("in"), tls=context))) as proxy:
        showing = CA.client_context(GOOD, tmp_path)
        first = await connected(proxy, showing)
        await first.get()
        monkeypatch.setattr(tls_server, "datetime", Later)
        with pytest.raises((trio.BrokenResourceError, EOFError)):
            await resumed(proxy, showing, first)
        assert metric(proxy, "ssl_fail_verify_error") == 1
        await first.close()


async def test_files_that_change_serve_new_connections_and_old_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "_LOOK_S", 0.01)
    chain, key = CA.issue("old.test").write(tmp_path)
    secret = Secret("site", TlsCertificate(FileSource(str(chain)), FileSource(str(key))))
    async with gateway(chained(FilterChain(says("in"), tls=tls()), secrets=(secret,))) as proxy:
        [running] = proxy.worker.secrets
        first = running.material
        old = await connected(proxy, name="old.test")
        CA.issue("new.test").write(tmp_path)
        await until(lambda: running.material is not first and running.trouble is None)
        assert (await fetched(proxy, name="new.test")).endswith(b"in")
        assert (await old.get()).endswith(b"in")
        key.write_text("broken")
        await until(lambda: running.trouble)
        assert (await fetched(proxy, name="new.test")).endswith(b"in")
        await old.close()


async def test_a_connection_that_is_idle_ends_when_the_proxy_drains() -> None:
    async with gateway(chained(FilterChain(says("in"), tls=tls()))) as proxy:
        client = await connected(proxy)
        await client.get()
        await until(lambda: all(one.idle for one in proxy.connections))
        proxy.worker.stop()
        with trio.fail_after(10):
            assert await client.stream.receive_some() == b""
            await proxy.stopped.wait()
        await client.close()


async def test_a_client_that_resets_in_the_middle_leaves_nothing_behind() -> None:
    async with backend(answers(OK)) as server, gateway(secured(server)) as proxy:
        client = await connected(proxy)
        await client.get()
        client.stream.transport_stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await client.close()
        await until(lambda: proxy.worker.metrics.listeners["http"].connections_active == 0)


async def test_the_admin_page_tells_of_certificates_and_of_what_is_wrong_with_files(tmp_path: Path) -> None:
    chain, key = CA.issue("site.test", "spiffe://d/w").write(tmp_path)
    file = Secret("file", TlsCertificate(FileSource(str(chain)), FileSource(str(key))))
    config = chained(FilterChain(says("in"), tls=tls("file")), secrets=(file, *SECRETS))
    async with gateway(config, admin=True) as proxy:
        key.write_text("broken")
        proxy.worker.secrets.look()
        client = await proxy.client(to=proxy.admin)
        told = (await client.request(b"GET /certs HTTP/1.1\r\nhost: h\r\n\r\n")).body.decode()
        certificates = {one["name"]: one for one in json.loads(told)["certificates"]}
        [shown] = certificates["file"]["cert_chain"]
        assert shown["path"] == str(chain)
        assert shown["subject_alt_names"] == [{"dns": "site.test"}, {"uri": "spiffe://d/w"}]
        assert shown["days_until_expiration"] in ("6", "7")
        assert "is no private key in PEM" in certificates["file"]["trouble"]
        [authority] = certificates["ca"]["ca_cert"]
        assert authority["path"] == "<inline>"
        assert "PRIVATE KEY-----\\n" not in told
