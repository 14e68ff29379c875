"""Clusters whose connections are secured: requests by TLS, what comes of handshakes that fail, and of bad ends."""

from __future__ import annotations

import os
import random
import re
import ssl
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from meshproxy.proxy.upstream.host import HealthFlag
from meshproxy.snapshot import (
    Address,
    CertificateValidationContext,
    Cluster,
    CommonTlsContext,
    Endpoint,
    FileSource,
    HealthCheck,
    HttpProbe,
    InlineSource,
    OutlierDetection,
    RetryPolicy,
    Route,
    RouteAction,
    RouteMatch,
    Secret,
    Snapshot,
    SocketAddress,
    TlsCertificate,
    TrustedCa,
    UpstreamTlsContext,
    WeightedCluster,
)

from ..certificates import Ca, Pair
from .secure import SecureBackend, SecurePeer, secure_backend, server_context
from .support import CLUSTER, GET, Gateway, Peer, Script, answers, backend, cluster, gateway, silent, snapshot, until

CA = Ca()
OTHER = Ca("another root")
SERVER = CA.issue("h.test", "localhost", "127.0.0.1")
ROOTS = Secret("roots", TrustedCa(InlineSource("ca.crt", CA.pem)))
TRUSTING = CommonTlsContext(validation_context=CertificateValidationContext("roots"))
BY_AUTHORITY = UpstreamTlsContext(TRUSTING, auto_host_sni=True, auto_sni_san_validation=True)
RESET = "upstream connect error or disconnect/reset before headers. reset reason: "
BEFORE = "upstream_reset_before_response_started"
VERIFY_FAILED = f"{BEFORE}{{remote_connection_failure|TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_"  # noqa: E501


def secured(
    *addresses: Address | SecureBackend,
    tls: UpstreamTlsContext = BY_AUTHORITY,
    secrets: tuple[Secret, ...] = (ROOTS,),
    routes: tuple[Route, ...] = (),
    **config: Any,
) -> Snapshot:
    """A gateway in front of one cluster, whose connections are secured."""
    return replace(snapshot(cluster(*addresses, tls=tls, **config), routes=routes), secrets=secrets)


async def test_requests_go_by_tls_and_connections_are_kept() -> None:
    async with secure_backend(server_context(SERVER)) as server, gateway(secured(server)) as proxy:
        client = await proxy.client()
        for _ in range(3):
            answer = await client.request(GET)
            assert (answer.status, answer.body) == (200, b"ok")
        assert server.names == ["h.test"]
        assert len(server.connections) == 1
        assert server.received[0].count(b"GET / HTTP/1.1\r\n") == 3
        assert [line.details for line in await proxy.logged(3)] == ["via_upstream"] * 3


async def test_large_bodies_in_both_directions() -> None:
    body = os.urandom(3_000_000)

    async def echo(peer: Peer) -> None:
        message = await peer.message()
        data = message.partition(b"\r\n\r\n")[2]
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(data))
        await peer.send(data)

    async with secure_backend(server_context(SERVER), echo) as server, gateway(secured(server)) as proxy:
        client = await proxy.client()
        async with trio.open_nursery() as nursery:
            head = b"POST / HTTP/1.1\r\nhost: h.test\r\ncontent-length: %d\r\n\r\n" % len(body)
            nursery.start_soon(client.send, head + body)
            answer = await client.response("POST")
        assert (answer.status, answer.body) == (200, body)
        assert server.names == ["h.test"]


@pytest.mark.parametrize(
    ("shown", "details"),
    [
        (OTHER.issue("h.test"), "X509_verify_cert:_unable_to_get_local_issuer_certificate:TLS_error_end}"),
        (
            CA.issue("other.test"),
            "verify_SAN_list,_expected_SANs:_[h.test],_certificate_SANs:_[other.test]:TLS_error_end}",
        ),
    ],
)
async def test_a_peer_that_is_not_verified_gets_no_request_and_the_client_503_UF(shown: Pair, details: str) -> None:
    async with secure_backend(server_context(shown)) as server, gateway(secured(server)) as proxy:
        answer = await proxy.exchange(GET)
        assert (answer.status, answer.body.decode()) == (503, f"{RESET}remote connection failure")
        (line,) = await proxy.logged()
        assert (line.flags, line.details) == ("UF", VERIFY_FAILED + details)
        assert server.received == [b""]
        assert proxy.hosts[0].connect_failures == 1


async def test_a_handshake_that_takes_too_long_is_503_UF(mock_clock: trio.testing.MockClock) -> None:
    async with backend(silent) as server, gateway(secured(server.address, connect_timeout_s=3.0)) as proxy:
        client = await proxy.client()
        await client.send(GET)
        peer = await server.connected()
        await until(lambda: peer.received)  # the handshake has begun
        mock_clock.jump(3.1)
        answer = await client.response()
        assert (answer.status, answer.body.decode()) == (503, f"{RESET}connection timeout")
        (line,) = await proxy.logged()
        assert (line.flags, line.details) == ("UF", f"{BEFORE}{{connection_timeout}}")
        assert await peer.ended() in ("closed", "reset")


async def test_missing_key_material_is_503_UF_and_never_plain_text() -> None:
    async with backend(silent) as server, gateway(secured(server.address, secrets=())) as proxy:
        answer = await proxy.exchange(GET)
        assert answer.status == 503
        (line,) = await proxy.logged()
        details = "remote_connection_failure|TLS_error:Secret_is_not_supplied_by_SDS"
        assert (line.flags, line.details) == ("UF", f"{BEFORE}{{{details}}}")
        assert (await server.connected()).received == b""


async def test_a_server_that_wants_a_certificate_which_nobody_shows() -> None:
    """By TLS 1.3 the client learns only after the handshake that it will not do."""
    async with secure_backend(server_context(SERVER, clients=CA)) as server, gateway(secured(server)) as proxy:
        answer = await proxy.exchange(GET)
        assert (answer.status, answer.body.decode()) == (503, f"{RESET}connection termination")
        (line,) = await proxy.logged()
        assert (line.flags, line.details) == ("UC", f"{BEFORE}{{connection_termination}}")


def mutual(shown: Pair) -> tuple[UpstreamTlsContext, tuple[Secret, ...]]:
    """TLS where this end shows a certificate too."""
    pair = TlsCertificate(InlineSource("tls.crt", shown.chain), InlineSource("tls.key", shown.key))
    common = replace(TRUSTING, tls_certificates=("own",))
    return replace(BY_AUTHORITY, common=common), (ROOTS, Secret("own", pair))


async def test_a_certificate_that_the_server_accepts_is_shown() -> None:
    tls, secrets = mutual(CA.issue("spiffe://cluster.local/ns/default/sa/me"))
    async with (
        secure_backend(server_context(SERVER, clients=CA)) as server,
        gateway(secured(server, tls=tls, secrets=secrets)) as proxy,
    ):
        assert (await proxy.exchange(GET)).status == 200
        shown = server.peers[0].tls.getpeercert()
        assert shown is not None
        assert shown["subjectAltName"] == (("URI", "spiffe://cluster.local/ns/default/sa/me"),)


async def test_handshakes_that_fail_speak_against_a_host() -> None:
    outliers = OutlierDetection(consecutive_5xx=2, max_ejection_percent=100)
    async with secure_backend(server_context(OTHER.issue("h.test"))) as server:
        config = secured(server, outlier_detection=outliers)
        async with gateway(config) as proxy:
            client = await proxy.client()
            for _ in range(2):
                assert (await client.request(GET)).status == 503
            assert proxy.hosts[0].health_flags == HealthFlag.FAILED_OUTLIER_CHECK
            assert (await client.request(GET)).body == b"no healthy upstream"


async def metrics(proxy: Gateway) -> dict[str, float]:
    """What the proxy counts of handshakes with endpoints."""
    client = await proxy.client(to=proxy.admin)
    answer = await client.request(b"GET /stats/prometheus HTTP/1.1\r\nhost: a\r\n\r\n")
    found = re.findall(
        r"^envoy_cluster_(\S*(?:ssl|secrets)\S*)_total\{[^}]*\} (\S+)$", answer.body.decode(), re.MULTILINE
    )
    return {name.removeprefix("ssl_"): float(value) for name, value in found if float(value)}


async def test_handshakes_are_counted_by_envoys_names() -> None:
    closing = answers(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    async with (
        secure_backend(server_context(SERVER), closing) as server,
        gateway(secured(server), admin=True) as proxy,
    ):
        client = await proxy.client()
        for host in (b"h.test", b"h.test", b"other.test"):
            await client.request(b"GET / HTTP/1.1\r\nhost: " + host + b"\r\n\r\n")
        assert await metrics(proxy) == {"handshake": 2, "session_reused": 1, "fail_verify_san": 1}


@pytest.mark.parametrize(
    ("shown", "secrets", "counter"),
    [
        (OTHER.issue("h.test"), (ROOTS,), "fail_verify_error"),
        (SERVER, (), "client_ssl_socket_factory_upstream_context_secrets_not_ready"),
    ],
)
async def test_handshakes_that_fail_are_counted_for_what_they_failed_by(
    shown: Pair, secrets: tuple[Secret, ...], counter: str
) -> None:
    async with (
        secure_backend(server_context(shown)) as server,
        gateway(secured(server, secrets=secrets), admin=True) as proxy,
    ):
        assert (await proxy.exchange(GET)).status == 503
        assert await metrics(proxy) == {counter: 1}


async def test_a_retry_goes_to_another_host_that_can_be_verified() -> None:
    policy = RetryPolicy(("connect-failure",), num_retries=3, previous_hosts=True, host_selection_max_attempts=5)
    route = Route("", RouteMatch(), RouteAction((WeightedCluster(CLUSTER),), retry_policy=policy))
    async with (
        secure_backend(server_context(OTHER.issue("h.test"))) as bad,
        secure_backend(server_context(SERVER)) as good,
        gateway(secured(bad, good, routes=(route,), lb_policy="ROUND_ROBIN")) as proxy,
    ):
        client = await proxy.client()
        assert [(await client.request(GET)).status for _ in range(4)] == [200] * 4
        assert not any(bad.received)


async def test_a_certificate_is_read_again_when_its_files_have_changed(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    first, second = (CA.issue(f"spiffe://cluster.local/ns/default/sa/{name}") for name in ("a", "b"))
    chain, key = first.write(tmp_path, "own")
    own = Secret("own", TlsCertificate(FileSource(str(chain)), FileSource(str(key))))
    tls, _ = mutual(first)
    seen: list[str] = []

    async def script(peer: Peer) -> None:
        assert isinstance(peer, SecurePeer)
        certificate = peer.tls.getpeercert() or {}
        seen.append(str(certificate["subjectAltName"][0][1])[-1])
        await answers(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")(peer)

    context = server_context(SERVER, clients=CA)
    context.options |= ssl.OP_NO_TICKET
    async with (
        secure_backend(context, script) as server,
        gateway(secured(server, tls=tls, secrets=(ROOTS, own))) as proxy,
    ):
        client = await proxy.client()
        await client.request(GET)
        second.write(tmp_path, "own")
        for _ in range(5):  # the worker looks every few seconds
            mock_clock.jump(1.0)
            await trio.testing.wait_all_tasks_blocked()
        await client.request(GET)

    assert seen == ["a", "b"]


def until_close(goodbye: bool) -> Script:
    """Answer with a body that ends with the connection, which ends with a `close_notify` or without."""

    async def script(peer: Peer) -> None:
        assert isinstance(peer, SecurePeer)
        await peer.message()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        if goodbye:
            await peer.say_goodbye()

    return script


async def test_a_body_that_ends_with_the_connection() -> None:
    async with secure_backend(server_context(SERVER), until_close(True)) as server, gateway(secured(server)) as proxy:
        answer = await proxy.exchange(GET)
        assert (answer.status, answer.body, answer.whole) == (200, b"hello", True)


async def test_a_body_that_is_cut_off_is_not_taken_for_whole() -> None:
    """Whoever can cut a connection must not be able to shorten what it brings: RFC 9112, section 9.8."""
    async with secure_backend(server_context(SERVER), until_close(False)) as server, gateway(secured(server)) as proxy:
        answer = await proxy.exchange(GET)
        assert (answer.status, answer.body, answer.whole) == (200, b"hello", False)
        (line,) = await proxy.logged()
        assert (line.flags, line.details) == ("UPE", "upstream_reset_after_response_started{protocol_error}")


UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"
ANSWERS = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
    UNTIL_CLOSE,
]


def pieces(chance: random.Random, data: bytes) -> list[bytes]:
    """`data` cut at random places; one in three is cut before each byte."""
    count = len(data) if chance.randrange(3) == 0 else chance.randrange(1, 6)
    ends = sorted({*chance.sample(range(1, len(data) + 1), min(count, len(data))), len(data)})
    return [data[start:end] for start, end in pairwise([0, *ends])]


@pytest.mark.parametrize("seed", range(8))
async def test_an_answer_is_the_same_however_it_is_cut_into_records_and_packets(seed: int) -> None:
    """Records end within lines, packets within records, and the end may come with the last of it."""
    chance = random.Random(seed)
    given: list[bytes] = []

    async def script(peer: Peer) -> None:
        assert isinstance(peer, SecurePeer)
        while await peer.message():
            given.append(chance.choice(ANSWERS))
            for record in pieces(chance, given[-1]):
                peer.tls.write(record)
            if given[-1] is UNTIL_CLOSE:
                peer.end_records()
            for packet in pieces(chance, peer.enciphered()):
                await Peer.send(peer, packet)
                await trio.lowlevel.checkpoint()
            if given[-1] is UNTIL_CLOSE or b"close" in given[-1]:
                return

    async with secure_backend(server_context(SERVER), script) as server, gateway(secured(server)) as proxy:
        client = await proxy.client()
        for _ in range(12):
            answer = await client.request(GET)
            assert (answer.status, answer.body, answer.whole) == (200, b"hello", True)
        assert len(given) == 12


async def test_a_tunnel_ends_with_its_connection_however_that_ends() -> None:
    async def upgraded(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nbye")

    async with secure_backend(server_context(SERVER), upgraded) as server, gateway(secured(server)) as proxy:
        client = await proxy.client()
        await client.send(b"GET / HTTP/1.1\r\nhost: h.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        assert (await client.read_all()).endswith(b"\r\n\r\nbye")
        assert client.end == "closed"


async def test_a_name_that_is_looked_up_is_not_the_server_that_is_asked_for() -> None:
    async with secure_backend(server_context(SERVER)) as server:
        assert isinstance(server.address, SocketAddress)
        address = SocketAddress("localhost", server.address.port)
        async with gateway(secured(address, type="STRICT_DNS")) as proxy:
            assert (await proxy.exchange(GET)).status == 200
            assert server.names == ["h.test"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_forward_proxy_asks_for_the_server_of_each_request(host: str) -> None:
    async with secure_backend(server_context(SERVER)) as server:
        assert isinstance(server.address, SocketAddress)
        forwarding = secured(type="DYNAMIC_FORWARD_PROXY")
        async with gateway(forwarding) as proxy:
            authority = f"{host}:{server.address.port}".encode()
            answer = await proxy.exchange(b"GET / HTTP/1.1\r\nhost: " + authority + b"\r\n\r\n")
            assert answer.status == 200
            assert server.names == [host if host == "localhost" else None]


async def test_a_health_check_by_tls() -> None:
    skip = UpstreamTlsContext(CommonTlsContext())
    async with secure_backend(server_context(OTHER.issue("whatever"))) as server:
        check = HealthCheck(HttpProbe(server.address, "/healthz", tls=skip))
        config = Cluster(CLUSTER, (Endpoint(server.address, health_check=check),), tls=BY_AUTHORITY)
        async with gateway(replace(snapshot(config), secrets=(ROOTS,))) as proxy:
            assert proxy.hosts[0].healthy
            assert b"GET /healthz HTTP/1.1\r\n" in server.received[0]


async def test_a_health_check_by_tls_that_cannot_verify_its_peer() -> None:
    async with secure_backend(server_context(OTHER.issue("whatever"))) as server:
        check = HealthCheck(HttpProbe(server.address, tls=BY_AUTHORITY))
        config = Cluster(CLUSTER, (Endpoint(server.address, health_check=check),), tls=BY_AUTHORITY)
        async with gateway(replace(snapshot(config), secrets=(ROOTS,))) as proxy:
            assert proxy.hosts[0].health_flags == HealthFlag.FAILED_ACTIVE_HC
            assert server.received == [b""]
