"""`ca serve` on real sockets: our client, curl and openssl, and those who mean harm."""

from __future__ import annotations

import json
import logging
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing

from meshproxy.identity import (
    Authority,
    Credentials,
    IdentityError,
    NotVerified,
    Refused,
    RemoteCa,
    certificates,
    keys,
    obtain,
    write_credentials,
)
from meshproxy.identity.authority import create
from meshproxy.identity.client import Unreachable
from meshproxy.identity.protocol import PATH
from meshproxy.identity.server import CaServer
from meshproxy.identity.signing_requests import signing_request

from .support import NOW, RATINGS, REVIEWS, authority_certificate, credentials, needs_openssl

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


class Clock:
    """The time of day, as told."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Serving:
    """A running `ca serve`."""

    authority: Authority
    port: int
    clock: Clock
    stopped: trio.Event
    server: CaServer

    def client(self, token: str | None = None) -> RemoteCa:
        return RemoteCa("127.0.0.1", "cluster.local", self.authority.trusted().roots, self.port, token)

    async def join(self, token: str) -> Credentials:
        return await obtain(self.client(token), REVIEWS, None, self.clock)

    async def raw(self, sent: bytes) -> bytes:
        """What comes back for these bytes over TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=certificates.to_pem(self.authority.trusted().roots).decode())
        stream = await trio.open_ssl_over_tcp_stream("localhost", self.port, ssl_context=context, https_compatible=True)
        await stream.send_all(sent)
        received = b""
        while piece := await stream.receive_some():
            received += piece
        await stream.aclose()
        return received


@asynccontextmanager
async def serving(authority: Authority) -> AsyncIterator[Serving]:
    clock, stopped = Clock(), trio.Event()
    server = CaServer(authority, ["localhost"], clock)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, listeners, stopped)
        yield Serving(authority, listeners[0].socket.getsockname()[1], clock, stopped, server)
        stopped.set()


async def connected(ca: Serving, count: int) -> None:
    """Wait until the server has so many connections."""
    while ca.server._connections.total() != count:
        await trio.lowlevel.checkpoint()


def post(body: bytes, *fields: bytes, path: str = PATH) -> bytes:
    head = b"POST %b HTTP/1.1\r\nhost: ca\r\ncontent-length: %d\r\n" % (path.encode(), len(body))
    return head + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1])


async def test_a_workload_joins_with_a_token_and_renews_with_its_certificate(authority: Authority) -> None:
    async with serving(authority) as ca:
        first = await ca.join(authority.tokens.make(REVIEWS, NOW))
        second = await obtain(ca.client(), REVIEWS, first, ca.clock)
    assert certificates.spiffe_id(second.issued.leaf) == REVIEWS
    assert not keys.fits(second.key, first.issued.leaf.public_key())
    assert second.issued.roots == authority.trusted().roots
    assert second.issued.crls == authority.trusted().crls


async def test_a_token_that_many_use_at_once_admits_one(authority: Authority) -> None:
    token = authority.tokens.make(REVIEWS, NOW)
    admitted, refused = [], []

    async def join(ca: Serving) -> None:
        try:
            admitted.append(await ca.join(token))
        except Refused as error:
            refused.append(error.status)

    async with serving(authority) as ca, trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(join, ca)
    assert len(admitted) == 1
    assert refused == [401] * 7


async def test_a_request_for_somebody_else_is_refused_and_logged(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    token = authority.tokens.make(REVIEWS, NOW)
    async with serving(authority) as ca:
        with pytest.raises(Refused, match=r"the join token is that of .*/reviews, and the signing request asks for"):
            await obtain(ca.client(token), RATINGS, None, ca.clock)
        mine = await ca.join(token)
        with pytest.raises(Refused, match=r"the present certificate is that of .*/reviews") as refused:
            await obtain(ca.client(), RATINGS, mine, ca.clock)
    assert refused.value.status == 403
    assert "refused 127.0.0.1: the join token is that of" in caplog.text
    assert "refused 127.0.0.1: the present certificate is that of" in caplog.text


async def test_neither_log_nor_answer_tells_a_token(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "meshproxy")
    token = authority.tokens.make(REVIEWS, NOW)
    async with serving(authority) as ca:
        await ca.join(token)
        with pytest.raises(Refused) as refused:
            await ca.join(token)
    assert "signed" in caplog.text and "by a join token" in caplog.text
    assert token not in caplog.text + str(refused.value) + repr(ca.client(token))


async def test_a_revoked_certificate_is_not_renewed(authority: Authority) -> None:
    async with serving(authority) as ca:
        mine = await ca.join(authority.tokens.make(REVIEWS, NOW))
        authority.revoke(mine.issued.leaf, NOW)
        with pytest.raises(Refused, match="has been revoked"):
            await obtain(ca.client(), REVIEWS, mine, ca.clock)


async def test_a_certificate_of_another_ca_is_refused_in_the_handshake(authority: Authority, tmp_path: Path) -> None:
    create(tmp_path / "other", trust_domain="cluster.local", key_type="ecdsa", now=NOW)
    foreign = credentials(Authority(tmp_path / "other"))
    async with serving(authority) as ca:
        with pytest.raises(IdentityError):
            await obtain(ca.client(), REVIEWS, foreign, ca.clock)


async def test_rotations_in_another_process_are_served_at_once_and_old_workloads_stay_in(authority: Authority) -> None:
    async with serving(authority) as ca:
        old_client = ca.client()
        mine = await ca.join(authority.tokens.make(REVIEWS, NOW))
        Authority(authority.directory).rotate_root(NOW)
        renewed = await obtain(old_client, REVIEWS, mine, ca.clock)
        assert len(renewed.issued.roots) == 2
        Authority(authority.directory).finish_rotation(NOW, force=True)
        again = await obtain(old_client, REVIEWS, renewed, ca.clock)
        assert again.issued.roots == renewed.issued.roots[:1]
        with pytest.raises(IdentityError):
            await obtain(ca.client(), REVIEWS, mine, ca.clock)


async def test_the_servers_own_certificate_is_renewed_at_half_of_its_life(authority: Authority) -> None:
    issued = []
    async with serving(authority) as ca:
        for hours in (13, 12, 0):
            ca.clock.now = NOW - timedelta(hours=hours)
            await ca.raw(post(b""))
            issued.append(len(list(authority._record)))
    assert issued == [1, 1, 2]


async def test_a_ca_that_cannot_sign_says_so_to_its_log_alone(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    token = authority.tokens.make(REVIEWS, NOW)
    async with serving(authority) as ca:
        await ca.join(authority.tokens.make(REVIEWS, NOW))
        record = authority.directory / "issued.jsonl"
        record.unlink()
        record.mkdir()
        with pytest.raises(Refused, match=r"\(503\): the CA cannot sign at present; its log says why"):
            await ca.join(token)
        record.rmdir()
        await ca.join(authority.tokens.make(REVIEWS, NOW))
    assert "issued.jsonl" in caplog.text


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (post(b"", path="/"), 404),
        (b"GET /v1/certificates HTTP/1.1\r\nhost: ca\r\n\r\n", 405),
        (post(signing_request(keys.generate(), REVIEWS)), 401),
        (post(b"x", b"authorization: Bearer x"), 401),
        (post(b"x", b"authorization: Basic eDp4"), 401),
        (b"POST /v1/certificates HTTP/1.1\r\nhost: ca\r\ncontent-length: 99999999\r\n\r\n", 413),
        (post(b"x" * 20_000), 413),
        (
            b"POST /v1/certificates HTTP/1.1\r\nhost: ca\r\ntransfer-encoding: chunked\r\n\r\n"
            + b"400\r\n" + b"x" * 1024 + b"\r\n" * 1 + (b"400\r\n" + b"x" * 1024 + b"\r\n") * 17 + b"0\r\n\r\n",
            413,
        ),
        (b"POST /v1/certificates HTTP/1.1\r\nhost: ca\r\nx: " + b"x" * 20_000, 431),
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: ca\r\ncontent-length: x\r\n\r\n", 400),
    ],
)  # fmt: skip
async def test_what_is_no_good_request_gets_its_status_and_a_reason(
    authority: Authority, sent: bytes, expected: int
) -> None:
    async with serving(authority) as ca:
        answer = await ca.raw(sent)
        assert status(answer) == expected
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        await ca.join(authority.tokens.make(REVIEWS, NOW))


async def test_somebody_who_is_refused_too_often_must_wait_and_workloads_renew_meanwhile(authority: Authority) -> None:
    async with serving(authority) as ca:
        mine = await ca.join(authority.tokens.make(REVIEWS, NOW))
        guess = post(b"x", b"authorization: Bearer guess")
        answers = [await ca.raw(guess) for _ in range(12)]
        assert [status(one) for one in answers] == [401] * 10 + [429] * 2
        assert b"retry-after: " in answers[-1]
        await obtain(ca.client(), REVIEWS, mine, ca.clock)


async def test_who_says_nothing_is_given_up_on(
    authority: Authority, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "meshproxy")
    async with serving(authority) as ca:
        silent = await trio.open_tcp_stream("127.0.0.1", ca.port)
        await ca.join(authority.tokens.make(REVIEWS, NOW))
        mock_clock.jump(30)
        assert await silent.receive_some() == b""
        await silent.aclose()
    assert "gave up on 127.0.0.1" in caplog.text


async def test_one_address_has_only_so_many_connections(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr("meshproxy.identity.server._MAX_CONNECTIONS_OF_ONE", 2)
    async with serving(authority) as ca:
        silent = [await trio.open_tcp_stream("127.0.0.1", ca.port) for _ in range(2)]
        await connected(ca, 2)
        with pytest.raises(Unreachable):
            await ca.join(authority.tokens.make(REVIEWS, NOW))
        for one in silent:
            await one.aclose()
        await connected(ca, 0)
        await ca.join(authority.tokens.make(REVIEWS, NOW))


async def test_plain_text_and_broken_handshakes_harm_nobody(authority: Authority) -> None:
    async with serving(authority) as ca:
        for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b""):
            stream = await trio.open_tcp_stream("127.0.0.1", ca.port)
            if sent:
                await stream.send_all(sent)
            await stream.aclose()
        await ca.join(authority.tokens.make(REVIEWS, NOW))


async def test_a_fault_of_ours_costs_one_connection(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    token = authority.tokens.make(REVIEWS, NOW)
    async with serving(authority) as ca:
        with monkeypatch.context() as fault:
            fault.setattr("meshproxy.identity.server.admit", lambda *_, **__: 1 / 0)
            with pytest.raises(Unreachable):
                await ca.join(token)
        await ca.join(token)
    assert "ZeroDivisionError" in caplog.text


async def test_what_is_being_answered_when_it_stops_is_answered(authority: Authority) -> None:
    async with serving(authority) as ca:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=certificates.to_pem(authority.trusted().roots).decode())
        stream = await trio.open_ssl_over_tcp_stream("localhost", ca.port, ssl_context=context, https_compatible=True)
        await stream.do_handshake()
        ca.stopped.set()
        await stream.send_all(post(b"x"))
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 401")
        await stream.aclose()


async def test_a_server_that_is_not_the_ca_is_not_believed(authority: Authority, tmp_path: Path) -> None:
    """A workload of the mesh has a certificate by the same root; its identity is another."""
    impostor = credentials(authority, RATINGS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    write_credentials(tmp_path / "ratings", impostor)
    context.load_cert_chain(tmp_path / "ratings" / "cert-chain.pem", tmp_path / "ratings" / "key.pem")
    received = []

    async def serve(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, context, server_side=True)
        try:
            await tls.do_handshake()
            received.append(await tls.receive_some())
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        port = listeners[0].socket.getsockname()[1]
        ca = RemoteCa("127.0.0.1", "cluster.local", authority.trusted().roots, port, "token")
        with pytest.raises(NotVerified, match=r"shows the certificate of .*/ratings; expected is .*/meshproxy-ca"):
            await obtain(ca, REVIEWS, None, Clock())
        nursery.cancel_scope.cancel()
    assert b"token" not in b"".join(received)


async def test_a_ca_of_other_roots_is_not_believed(authority: Authority, tmp_path: Path) -> None:
    create(tmp_path / "other", trust_domain="cluster.local", key_type="ecdsa", now=NOW)
    roots = Authority(tmp_path / "other").trusted().roots
    async with serving(authority) as ca:
        with pytest.raises(NotVerified, match=r"is not one that the given roots vouch for: .*; compare --ca-root"):
            await obtain(replace(ca.client("token"), roots=roots), REVIEWS, None, ca.clock)


async def test_a_ca_that_is_not_there_is_told() -> None:
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        root = authority_certificate(keys.generate())
        told = f"127.0.0.1:{port} cannot be reached: .*: Connection refused; see that `meshproxy ca serve` runs"
        with pytest.raises(Unreachable, match=told):
            await obtain(RemoteCa("127.0.0.1", "cluster.local", (root,), port), REVIEWS, None, Clock())


@needs_curl
@needs_openssl
async def test_curl_and_openssl_join_and_renew(authority: Authority, tmp_path: Path) -> None:
    """As docs/identity.md has it."""

    async def run(*command: str | Path) -> str:
        finished = await trio.run_process(
            [str(one) for one in command], capture_stdout=True, stderr=subprocess.DEVNULL, cwd=tmp_path, check=False
        )
        return finished.stdout.decode()

    root = authority.directory / "root-cert.pem"
    token = authority.tokens.make(REVIEWS, NOW)
    await run(
        "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-keyout", "key.pem", "-subj", "/", "-addext", f"subjectAltName=URI:{REVIEWS}", "-out", "csr.pem",
    )  # fmt: skip
    async with serving(authority) as ca:
        url = f"https://localhost:{ca.port}{PATH}"
        ask = ("curl", "-s", "--cacert", root, "--data-binary", "@csr.pem", url)
        joined = json.loads(await run(*ask, "-H", f"Authorization: Bearer {token}"))
        (tmp_path / "chain.pem").write_text(joined["certificateChain"])
        renewed = json.loads(await run(*ask, "--cert", "chain.pem", "--key", "key.pem"))
        refused = json.loads(await run(*ask, "-H", f"Authorization: Bearer {token}"))
    assert joined["identity"] == renewed["identity"] == str(REVIEWS)
    assert joined["certificateChain"] != renewed["certificateChain"]
    assert "the join token is not valid" in refused["error"]
    verified = await run("openssl", "verify", "-CAfile", root, "-untrusted", "chain.pem", "chain.pem")
    assert verified == "chain.pem: OK\n"
