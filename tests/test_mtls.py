"""Mutual TLS between two sidecars, as docs/mtls.md tells of it: real sockets, attacks, rotations."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshproxy.identity import (
    Authority,
    Credentials,
    Issued,
    SpiffeId,
    WorkloadIdentity,
    client,
    keys,
    spiffe,
    workload,
)
from meshproxy.identity.authority import create
from meshproxy.identity.credentials import show_in
from meshproxy.identity.signing_requests import parse_request
from meshproxy.mesh import Trust, find_workload, sidecar_snapshot
from meshproxy.proxy.worker import Worker
from meshproxy.snapshot import Snapshot, SocketAddress
from tests.test_policies import free_port

from .identity.support import leaf_certificate
from .mesh.support import mesh_of, problems_of
from .proxy.support import GET, LOCALHOST, OK, Answer, Backend, Gateway, Peer, _Lines, backend, until

DOCS = (Path(__file__).parents[1] / "docs" / "mtls.md").read_text()
WEB, SHOP, OTHER = (spiffe.parse(f"spiffe://cluster.local/ns/default/sa/{name}") for name in ("web", "shop", "other"))


def example(heading: str) -> str:
    """The YAML below a heading."""
    section = DOCS.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert found is not None, heading
    return found[1]


ACCEPTED, CALLED, ALLOWED = map(example, ("What a workload takes", "What a workload is called by", "Who may call"))


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    create(tmp_path / "ca", trust_domain="cluster.local", key_type="ecdsa", now=now())
    return Authority(tmp_path / "ca")


def signing(authority: Authority, identity: SpiffeId) -> client.Obtain:
    async def sign(request: bytes, current: Credentials | None) -> Issued:
        return authority.issue(parse_request(request).public_key, identity, now())

    return sign


def identity(authority: Authority, id: SpiffeId) -> WorkloadIdentity:
    return WorkloadIdentity(signing(authority, id), id, clock=now, chance=lambda: 0.5)


class Pair:
    """The sidecars of `web` and `shop`; `app` is what shop's stands before."""

    def __init__(self, web: Gateway, shop: Gateway, app: Backend, ports: dict[int, int]) -> None:
        self.web, self.shop, self.app = web, shop, app
        self._ports = ports

    def at(self, port: int) -> SocketAddress:
        """Where shop's sidecar listens for a port of the example."""
        return SocketAddress("127.0.0.1", self._ports[port])

    async def call(self, request: bytes = b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n") -> Answer:
        """What web's app gets when it asks its sidecar."""
        asking = await self.web.client(to=self.web.worker.addresses["127.0.0.1_0"])
        try:
            return await asking.request(request)
        finally:
            asking.close()

    @property
    def heads(self) -> list[bytes]:
        """The heads of the requests that came to the app."""
        return [head for received in self.app.received for head in received.split(b"\r\n\r\n") if head]


async def answering(connection: Peer) -> None:
    """An app that answers each request, for as long as somebody asks."""
    with suppress(EOFError):
        while True:
            with suppress(trio.TooSlowError):  # nobody has to ask all the time
                await connection.message()
                await connection.send(OK)


@asynccontextmanager
async def serving(config: Snapshot, one: WorkloadIdentity) -> AsyncIterator[Gateway]:
    """A worker. What it leaves behind is not looked at, as there is another beside it."""
    log = _Lines()
    worker = Worker(config, access_log=log, drain_time_s=0.5, identity=one)
    async with trio.open_nursery() as nursery:
        running = Gateway(worker, log)
        await nursery.start(running.run)
        yield running
        worker.stop()


@asynccontextmanager
async def pair(
    *documents: str,
    web: WorkloadIdentity,
    shop: WorkloadIdentity,
) -> AsyncIterator[Pair]:
    """The pair, with these resources beside those of the example, whose ports are any that are free."""
    ports = {port: free_port() for port in (9301, 9302, 9303)}
    # At once: in a port that is free, digits of another may stand.
    texts = [re.sub(r"\b930[123]\b", lambda found: str(ports[int(found[0])]), text) for text in (*documents, CALLED)]
    assert problems_of(*texts) == []
    mesh = mesh_of(*texts)
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(backend(answering))
        assert isinstance(app.address, SocketAddress)
        running = []
        for name, one in (("shop-1", shop), ("web-1", web)):
            config = sidecar_snapshot(
                mesh, workload=find_workload(mesh, name), app=app.address, outbound=LOCALHOST, trust=Trust()
            )
            running.append(await stack.enter_async_context(serving(config, one)))
        yield Pair(running[1], running[0], app, ports)


@asynccontextmanager
async def plain_pair(authority: Authority, *documents: str) -> AsyncIterator[Pair]:
    async with pair(*documents, web=identity(authority, WEB), shop=identity(authority, SHOP)) as both:
        yield both


def client_context(held: Credentials | None, *alpn: str) -> ssl.SSLContext:
    """A client that shows these credentials, and believes whatever server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if held is not None:
        show_in(context, held)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


async def secure_exchange(to: SocketAddress, context: ssl.SSLContext, request: bytes = GET) -> bytes:
    """What comes back by TLS; nothing when the server refuses."""
    stream = await trio.open_tcp_stream(to.host, to.port)
    tls = trio.SSLStream(stream, context, server_hostname="any.test", https_compatible=True)
    received = b""
    try:
        await tls.send_all(request[:-2] + b"connection: close\r\n\r\n")
        while more := await tls.receive_some(65536):
            received += bytes(more)
    except trio.BrokenResourceError:
        pass
    await trio.aclose_forcefully(stream)
    return received


async def plain_exchange(to: SocketAddress, request: bytes = GET) -> tuple[bytes, str]:
    """What comes back by plain text, and how the connection ends."""
    peer = Peer(trio.socket.socket())
    await peer.socket.connect((to.host, to.port))
    await peer.send(request[:-2] + b"connection: close\r\n\r\n")
    try:
        return await peer.read_all(), str(peer.end)
    finally:
        peer.close()


def held(authority: Authority, id: SpiffeId) -> Credentials:
    key = keys.generate()
    return Credentials(key, authority.issue(key.public_key(), id, now()))


def forged(
    authority: Authority, *names: x509.GeneralName, begins: datetime | None = None, ends: datetime | None = None
) -> Credentials:
    """What the CA would never sign, signed by its key."""
    key, signer = keys.generate(), authority._state.signer
    leaf = leaf_certificate(
        signer.certificate,
        signer.key,
        names,
        key=key,
        begins=begins or now() - timedelta(minutes=2),
        ends=ends or now() + timedelta(hours=1),
        usages=(ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    )
    return Credentials(key, Issued((leaf, signer.certificate), authority.trusted().roots))


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def fields_of(head: bytes) -> list[str]:
    return [line.decode() for line in head.split(b"\r\n")]


def client_certs(heads: Iterable[bytes]) -> list[str]:
    return [
        line.partition(": ")[2] for head in heads for line in fields_of(head) if line.startswith("x-forwarded-client")
    ]


async def test_a_call_goes_by_mutual_tls_and_the_app_is_told_who_called(authority: Authority) -> None:
    async with plain_pair(authority, ACCEPTED) as both:
        answer = await both.call(b"GET / HTTP/1.1\r\nhost: shop\r\nx-forwarded-client-cert: By=forged\r\n\r\n")

        assert (answer.status, answer.body) == (200, b"ok")
        [told] = client_certs(both.heads)
        assert re.fullmatch(rf'By={SHOP};Hash=[0-9a-f]{{64}};Subject="";URI={WEB}', told)


async def test_strict_takes_no_plain_text_permissive_both_and_disable_no_tls(authority: Authority) -> None:
    mesh_client = client_context(held(authority, WEB), "istio-http/1.1", "istio", "http/1.1")
    async with plain_pair(authority, ACCEPTED) as both:
        assert await plain_exchange(both.at(9301)) == (b"", "closed")
        assert b" 200 " in await secure_exchange(both.at(9301), mesh_client)
        assert b" 200 " in (await plain_exchange(both.at(9302)))[0]
        assert b" 200 " in await secure_exchange(both.at(9302), mesh_client)
        assert await secure_exchange(both.at(9302), client_context(held(authority, WEB))) == b""
        assert b" 200 " in (await plain_exchange(both.at(9303)))[0]
        assert await secure_exchange(both.at(9303), mesh_client) == b""
        assert [
            (await both.call(f"GET / HTTP/1.1\r\nhost: shop:{port}\r\n\r\n".encode())).status for port in (82, 83)
        ] == [
            200,
            200,
        ]

        assert len(client_certs(both.heads)) == 3  # those by TLS; the last call, to the port without, has none


async def test_what_plain_text_says_of_a_certificate_is_not_believed(authority: Authority) -> None:
    request = GET[:-2] + f"x-forwarded-client-cert: By={SHOP};URI={WEB}\r\n\r\n".encode()
    async with plain_pair(authority, ACCEPTED) as both:
        for port in (9302, 9303):
            assert b" 200 " in (await plain_exchange(both.at(port), request))[0]

        assert len(both.heads) == 2
        assert client_certs(both.heads) == []


@pytest.mark.parametrize(
    "attack",
    [
        "no certificate",
        "another CA",
        "another trust domain",
        "expired",
        "not yet",
        "revoked",
        "no SPIFFE ID",
        "two IDs",
        "the CA",
    ],
)
async def test_who_cannot_prove_an_identity_gets_no_byte(authority: Authority, tmp_path: Path, attack: str) -> None:
    shown: Credentials | None
    match attack:
        case "no certificate":
            shown = None
        case "another CA":
            create(tmp_path / "other", trust_domain="cluster.local", key_type="ecdsa", now=now())
            shown = held(Authority(tmp_path / "other"), WEB)
        case "another trust domain":
            shown = forged(authority, uri("spiffe://evil.test/ns/default/sa/web"))
        case "expired":
            shown = forged(authority, uri(str(WEB)), begins=now() - timedelta(2), ends=now() - timedelta(1))
        case "not yet":
            shown = forged(authority, uri(str(WEB)), begins=now() + timedelta(1), ends=now() + timedelta(2))
        case "revoked":
            shown = held(authority, WEB)
            authority.revoke(shown.issued.leaf, now())
        case "no SPIFFE ID":
            shown = forged(authority, x509.DNSName("web.default.svc.cluster.local"))
        case "two IDs":
            shown = forged(authority, uri(str(WEB)), uri(str(OTHER)))
        case _:
            signer = authority._state.signer
            shown = Credentials(signer.key, Issued((signer.certificate,), ()))
    async with plain_pair(authority, ACCEPTED) as both:
        assert await secure_exchange(both.at(9301), client_context(shown)) == b""
        assert both.app.received == []
        assert b" 200 " in await secure_exchange(both.at(9301), client_context(held(authority, WEB)))


@pytest.mark.parametrize("id", [OTHER, WEB])
async def test_another_server_of_the_mesh_than_the_called_one_gets_no_request(
    authority: Authority, id: SpiffeId
) -> None:
    async with pair(ACCEPTED, web=identity(authority, WEB), shop=identity(authority, id)) as both:
        answer = await both.call()
        [line] = await both.web.logged()

        assert (answer.status, line.flags) == (503, "URX,UF")
        assert "CERTIFICATE_VERIFY_FAILED" in line.details
        assert both.app.received == []


async def test_principals_and_server_names_decide_who_may_call(authority: Authority) -> None:
    async with plain_pair(authority, ACCEPTED, ALLOWED) as both:
        allowed = await both.call()
        other_method = await both.call(b"POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\n\r\n")
        other = await secure_exchange(both.at(9301), client_context(held(authority, OTHER)))
        plain, _ = await plain_exchange(both.at(9302))

        assert (allowed.status, other_method.status) == (200, 403)
        assert b" 403 " in other and b"RBAC: access denied" in other
        assert b" 403 " in plain


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ("{key: source.namespace, values: [default]}", 200),
        ("{key: source.namespace, values: [prod]}", 403),
        ("{key: source.principal, values: ['*/sa/web']}", 200),
        ("{key: source.principal, notValues: ['*/sa/web']}", 403),
        ("{key: connection.sni, values: ['outbound_.80_._.shop.default.svc.cluster.local']}", 200),
        ("{key: connection.sni, values: [shop.test]}", 403),
    ],
)
async def test_conditions_on_who_calls(authority: Authority, condition: str, status: int) -> None:
    rules = ALLOWED.partition("  rules:")[0] + f"  rules: [{{when: [{condition}]}}]\n"
    async with plain_pair(authority, ACCEPTED, rules) as both:
        assert (await both.call()).status == status


class Hurried:
    """A CA that signs at once, and a clock that leaps to the renewal of what it has signed once more was `answered`."""

    def __init__(self, authority: Authority, id: SpiffeId, answered: list[int]) -> None:
        self._sign = signing(authority, id)
        self._answered = answered
        self._before = 0
        self.signed = 0

    def clock(self) -> datetime:
        return now() + timedelta(days=0.6 if len(self._answered) > self._before + 1 else 0)

    async def __call__(self, request: bytes, current: Credentials | None) -> Issued:
        issued = await self._sign(request, current)
        self._before = len(self._answered)
        self.signed += 1
        return issued


ONE_BY_ONE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop}
spec: {host: shop, trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 2}}}}
"""


async def test_no_request_is_lost_through_a_hundred_rotations(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_MAX_SLEEP_S", 0.005)
    statuses: list[int] = []
    cas = {id: Hurried(authority, id, statuses) for id in (WEB, SHOP)}
    one, two = (WorkloadIdentity(ca, id, clock=ca.clock, chance=lambda: 0.5) for id, ca in cas.items())
    async with pair(ACCEPTED, ONE_BY_ONE, web=one, shop=two) as both:

        async def load() -> None:
            asking = await both.web.client(to=both.web.worker.addresses["127.0.0.1_0"])
            while min(ca.signed for ca in cas.values()) < 101:
                statuses.append((await asking.request(b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n")).status)
            asking.close()

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(load)
        shown = {re.search("Hash=([0-9a-f]*)", told)[1] for told in client_certs(both.heads)}  # type: ignore[index]

    assert set(statuses) == {200}
    assert len(statuses) > 50
    assert len(shown) > 10  # clients' certificates that were met


def looking(authority: Authority, id: SpiffeId, ca: client.Obtain | None = None) -> WorkloadIdentity:
    """An identity that hears of what its CA trusts and has revoked."""

    async def trusted() -> Issued:
        return authority.trusted()

    sign = ca or signing(authority, id)
    clock = ca.clock if isinstance(ca, Hurried) else now
    return WorkloadIdentity(sign, id, clock=clock, chance=lambda: 0.5, trusted=trusted)


async def test_a_certificate_that_is_revoked_is_refused_while_the_proxy_runs(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload, "_LOOK_S", 0.01)
    stolen, good = held(authority, WEB), held(authority, WEB)
    async with pair(ACCEPTED, web=identity(authority, WEB), shop=(shop := looking(authority, SHOP))) as both:
        assert b" 200 " in await secure_exchange(both.at(9301), client_context(stolen))

        authority.revoke(stolen.issued.leaf, now())
        await until(lambda: any(map(len, _lists(shop))))

        assert await secure_exchange(both.at(9301), client_context(stolen)) == b""
        assert b" 200 " in await secure_exchange(both.at(9301), client_context(good))


def _lists(one: WorkloadIdentity) -> tuple[x509.CertificateRevocationList, ...]:
    assert one.current is not None
    return one.current.issued.crls


async def test_a_root_is_replaced_and_no_request_is_lost(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "_LOOK_S", 0.01)
    monkeypatch.setattr(client, "_MAX_SLEEP_S", 0.005)
    statuses: list[int] = []
    cas = [Hurried(authority, id, statuses) for id in (WEB, SHOP)]
    web, shop = (looking(authority, id, ca) for id, ca in zip((WEB, SHOP), cas, strict=True))
    async with pair(ACCEPTED, ONE_BY_ONE, web=web, shop=shop) as both, trio.open_nursery() as nursery:

        async def load() -> None:
            asking = await both.web.client(to=both.web.worker.addresses["127.0.0.1_0"])
            while True:
                statuses.append((await asking.request(b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n")).status)

        def signers() -> set[bytes]:
            return {one.current.issued.chain[1].public_bytes(Encoding.DER) for one in (web, shop) if one.current}

        async def renewed() -> None:
            before = [ca.signed for ca in cas]
            await until(lambda: all(ca.signed > last + 1 for ca, last in zip(cas, before, strict=True)))

        nursery.start_soon(load)
        old = signers()
        authority.rotate_root(now())
        await renewed()
        authority.finish_rotation(now(), force=True)
        await renewed()
        count = len(statuses)
        await until(lambda: len(statuses) > count + 5)
        nursery.cancel_scope.cancel()

    assert set(statuses) == {200}
    assert not signers() & old
    assert all(one.current is not None and len(one.current.issued.roots) == 1 for one in (web, shop))
