"""Runs meshproxy and Envoy on the same snapshots, between recording backends, and sends both the same bytes."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.request import urlopen

import trio

from meshproxy.envoy import Message as EnvoyMessage
from meshproxy.envoy import bootstrap
from meshproxy.proxy.upstream.cluster import Cluster
from meshproxy.proxy.upstream.host import HealthFlag
from meshproxy.proxy.worker import Worker
from meshproxy.snapshot import (
    Address,
    HttpConnectionManager,
    Listener,
    Pipe,
    Route,
    RouteAction,
    Snapshot,
    SocketAddress,
)

from ..envoy.binary import command
from ..proxy.secure import SecurePeer
from ..proxy.support import Answer as Response
from ..proxy.support import Client, Peer
from .compare import End, Headers, Message, Observation, Pair, headers_of
from .exchanges import DEFAULT_ANSWER, Answer, Case, Exchange
from .secure import contexts

_ANY_PORT = SocketAddress("127.0.0.1", 0)
_STARTED_S = 20.0
# With all their sockets they stay far below 1024 open files. While those of one Envoy wait for an answer that does not
# come, those of the other go on.
_CASES_AN_ENVOY = 20
_ENVOYS_AT_ONCE = 2
_CASES_AT_ONCE = 8
# How long Envoy lingers before it closes a connection that it has given up; by default a second.
_DELAYED_CLOSE = "0.05s"
_BOOTSTRAP = "bootstrap.json"
_PROBE = b"GET /probe HTTP/1.1\r\nhost: probe.invalid\r\n\r\n"


def judge(cases: Sequence[Case], folder: Path) -> list[tuple[Case, list[Pair]]]:
    """Carry out every exchange with both proxies. Envoy's bootstrap and its log are kept in folders of `folder`."""

    def judged(at: int) -> list[tuple[Case, list[Pair]]]:
        files = folder / f"{at}"
        files.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as sockets:
            return trio.run(_judge, cases[at : at + _CASES_AN_ENVOY], files, Path(sockets))

    # In loops of their own: that of one waits while its Envoy starts.
    with ThreadPoolExecutor(_ENVOYS_AT_ONCE) as threads:
        return [one for part in threads.map(judged, range(0, len(cases), _CASES_AN_ENVOY)) for one in part]


async def _judge(cases: Sequence[Case], folder: Path, sockets: Path) -> list[tuple[Case, list[Pair]]]:
    judged: list[tuple[Case, list[Pair]]] = []
    at_once = trio.CapacityLimiter(_CASES_AT_ONCE)
    benches = [_Bench(case, f"case{number}", sockets) for number, case in enumerate(cases)]

    async def carry_out(bench: _Bench, referee: Referee) -> None:
        async with at_once:
            judged.append((bench.case, [await bench.pair(exchange, referee) for exchange in bench.case.exchanges]))

    async with trio.open_nursery() as backends:
        for bench in benches:
            bench.start(backends)
        async with both([bench.snapshot for bench in benches], folder) as referee, trio.open_nursery() as exchanges:
            for bench in benches:
                exchanges.start_soon(carry_out, bench, referee)
        backends.cancel_scope.cancel()
    return judged


@dataclass(frozen=True)
class Referee:
    """Where both proxies listen, by the listener's name."""

    envoy: dict[str, SocketAddress]
    ours: dict[str, SocketAddress]
    admin: str
    """Where Envoy's admin pages are."""

    async def settled(self) -> None:
        """Envoy has ejected whom it had reason to: its main thread does that, some time after the response."""

        def look() -> None:
            with urlopen(f"http://{self.admin}/clusters") as page:
                page.read()

        await trio.to_thread.run_sync(look)


@asynccontextmanager
async def both(snapshots: Iterable[Snapshot], folder: Path, ill: Collection[Address] = ()) -> AsyncIterator[Referee]:
    """Both proxies, running all of these snapshots, whose names must be different.

    Both take endpoints at the addresses `ill` for unhealthy.
    """
    parts = list(snapshots)
    whole = Snapshot(
        tuple(listener for part in parts for listener in part.listeners),
        tuple(cluster for part in parts for cluster in part.clusters),
        tuple({secret.name: secret for part in parts for secret in part.secrets}.values()),
    )
    worker = Worker(whole, drain_time_s=0.2)
    for cluster in worker.clusters.values():
        for host in cluster.hosts:
            if host.address in ill:
                host.health_flags = HealthFlag.FAILED_ACTIVE_HC
        if isinstance(cluster, Cluster):
            cluster.refresh()
    with envoy(whole, folder, ill) as envoys:
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            yield Referee(envoys, worker.addresses, _admin_address(folder / _BOOTSTRAP).read_text())
            worker.stop()


@contextmanager
def envoy(snapshot: Snapshot, folder: Path, ill: Collection[Address] = ()) -> Iterator[dict[str, SocketAddress]]:
    """Envoy, running a snapshot; where it listens, by the listener's name."""
    config = folder / _BOOTSTRAP
    message = bootstrap(snapshot, admin=_ANY_PORT)
    config.write_text(json.dumps(_told_of_health(_hurried(message), ill), indent=1))
    with started(config, len(snapshot.listeners)) as listening:
        yield listening


@contextmanager
def started(config: Path, listeners: int) -> Iterator[dict[str, SocketAddress]]:
    """Envoy, running a bootstrap of so many listeners, with admin pages; where it listens, by the listener's name.

    When it does not start, its own error and the file of the bootstrap are told.
    """
    log, admin = config.with_name("envoy.log"), _admin_address(config)
    admin.unlink(missing_ok=True)
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command(config, "-l", "warning", "--admin-address-path", str(admin)),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        found = _listening(process, admin, listeners)
        assert found is not None, f"Envoy did not start by {config}:\n{log.read_text()}"
        yield found
    finally:
        process.kill()
        process.wait()


def _admin_address(config: Path) -> Path:
    """The file that tells where the admin pages are, of the Envoy that runs `config`."""
    return config.with_name("admin.address")


def _hurried(message: EnvoyMessage) -> EnvoyMessage:
    for listener in message["static_resources"]["listeners"]:
        for chain in listener["filter_chains"]:
            chain["filters"][0]["typed_config"]["delayed_close_timeout"] = _DELAYED_CLOSE
    return message


def _told_of_health(message: EnvoyMessage, ill: Collection[Address]) -> EnvoyMessage:
    for cluster in message["static_resources"]["clusters"]:
        for locality in cluster.get("load_assignment", {}).get("endpoints", ()):
            for endpoint in locality["lb_endpoints"]:
                where = endpoint["endpoint"]["address"].get("socket_address")
                if where and SocketAddress(where["address"], where["port_value"]) in ill:
                    endpoint["health_status"] = "UNHEALTHY"
    return message


def _listening(process: subprocess.Popen[bytes], admin: Path, count: int) -> dict[str, SocketAddress] | None:
    give_up = time.monotonic() + _STARTED_S
    while time.monotonic() < give_up and process.poll() is None:
        with suppress(OSError, ValueError):  # not there yet, or half written
            where = admin.read_text()
            with urlopen(f"http://{where}/ready") as ready:
                live = ready.read().strip() == b"LIVE"
            if live and len(found := _addresses(where)) == count:
                return found
        time.sleep(0.01)
    return None


def _addresses(admin: str) -> dict[str, SocketAddress]:
    with urlopen(f"http://{admin}/listeners?format=json") as page:
        statuses = json.load(page).get("listener_statuses", [])
    return {
        one["name"]: SocketAddress("127.0.0.1", one["local_address"]["socket_address"]["port_value"])
        for one in statuses
    }


class Recorder:
    """A backend: answers as told, and keeps every complete request. It listens at a Unix socket if it has a `path`, and
    speaks TLS if it has a context; then it records, as if they were headers, which server was asked for, and by whom.
    """

    def __init__(self, path: Path | None = None, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self.answer = DEFAULT_ANSWER
        self.first: list[Answer] = []
        self.received: list[Message] = []
        listening = socket.create_server(("127.0.0.1", 0)) if path is None else _unix_server(path)
        self._socket = trio.socket.from_stdlib_socket(listening)
        self.address = Pipe(str(path)) if path else SocketAddress(*self._socket.getsockname())

    async def run(self) -> None:
        """Accept connections until cancelled."""
        with self._socket:
            async with trio.open_nursery() as nursery:
                while True:
                    connection, _ = await self._socket.accept()
                    nursery.start_soon(self._serve, connection)

    async def _serve(self, accepted: trio.socket.SocketType) -> None:
        connection = Peer(accepted) if self._context is None else SecurePeer(accepted, self._context)
        with suppress(EOFError, OSError, trio.ClosedResourceError, trio.TooSlowError):
            told = await _secured(connection) if isinstance(connection, SecurePeer) else {}
            while await self._answer(connection, told):
                pass
        connection.close()

    async def _answer(self, connection: Peer, told: Headers) -> bool:
        head = await connection.read_until(b"\r\n\r\n")
        answer = self.first.pop(0) if self.first else self.answer
        if answer.interim:
            await connection.send(answer.interim)
        message = _request_head(head)
        message = replace(message, headers={**message.headers, **told})
        self.received.append(message if answer.early else await _whole(connection, message))
        for number, piece in enumerate(answer.pieces):
            if number:
                await trio.sleep(answer.pause_s)
            await connection.send(piece)
        if answer.end == "reset":
            connection.reset()
        elif answer.pieces and answer.pieces[-1].startswith(b"HTTP/1.1 101"):
            await _echo(connection)
        elif answer.early:
            await _whole(connection, message)
        if answer.end == "close" and isinstance(connection, SecurePeer):
            await connection.say_goodbye()
        return answer.end == "keep"


async def _secured(connection: SecurePeer) -> Headers:
    """What is recorded of a connection by TLS. Raises `ssl.SSLError` and `EOFError`."""
    await connection.handshake()
    shown = (connection.tls.getpeercert() or {}).get("subjectAltName", ())
    return {"(server)": (str(connection.asked_for),), "(client)": tuple(str(name[1]) for name in shown)}


def _unix_server(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    return listening


def _request_head(head: bytes) -> Message:
    """A request as it came, as far as its head tells of it."""
    line, *lines = head.decode("latin-1").split("\r\n")[:-2]
    return Message(line, headers_of(map(_field, lines), {}))


async def _whole(connection: Peer, request: Message) -> Message:
    """The request with its body, decoded."""
    if "transfer-encoding" not in request.headers:
        [length] = request.headers.get("content-length", ("0",))
        return replace(request, body=await connection.read(int(length)))
    body = b""
    while size := int((await connection.read_until(b"\r\n")).partition(b";")[0], 16):
        body += (await connection.read(size + 2))[:-2]
    trailers = []
    while (trailer := await connection.read_until(b"\r\n")) != b"\r\n":
        trailers.append(_field(trailer[:-2].decode("latin-1")))
    return replace(request, body=body, trailers=tuple(trailers))


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.strip(" \t")


async def _echo(connection: Peer) -> None:
    while data := await connection.read_some():
        await connection.send(data)
    await connection.send(b"bye")


class _Bench:
    """A case between its own backends."""

    def __init__(self, case: Case, name: str, sockets: Path) -> None:
        self.case = case
        self._name = name
        self._recorders = {
            backend: Recorder(sockets / name if backend == "unix" else None, context)
            for backend, context in contexts(case.backends).items()
        }
        self._ejects = any(cluster.outlier_detection for cluster in self.snapshot.clusters)

    def start(self, nursery: trio.Nursery) -> None:
        for recorder in self._recorders.values():
            nursery.start_soon(recorder.run)

    @property
    def snapshot(self) -> Snapshot:
        """The case's, with names that no other case has."""
        return _renamed(
            self.case.configuration({name: one.address for name, one in self._recorders.items()}), self._name
        )

    async def pair(self, exchange: Exchange, referee: Referee) -> Pair:
        listener = _listener_name(self._name, exchange.listener)
        if self._ejects:
            await referee.settled()
        ours = await self._observe(exchange, referee.ours[listener])
        return Pair(exchange, await self._observe(exchange, referee.envoy[listener]), ours)

    async def _observe(self, exchange: Exchange, proxy: SocketAddress) -> Observation:
        first = list(exchange.first)
        for name, recorder in self._recorders.items():
            recorder.answer, recorder.first, recorder.received = exchange.of.get(name, exchange.answer), first, []
        client = Client(trio.socket.socket())
        await client.socket.bind((exchange.client, 0))
        await client.socket.connect((proxy.host, proxy.port))
        here = {str(proxy): "<LISTENER>", ":".join(map(str, client.socket.getsockname())): "<CLIENT>"}
        try:
            return await self._exchange(client, exchange, here)
        finally:
            client.close()

    async def _exchange(self, client: Client, exchange: Exchange, here: dict[str, str]) -> Observation:
        responses: list[Message] = []
        tunnel = stray = b""
        end: End = "closed"
        try:
            await _send(client, [self._addressed(piece) for piece in exchange.pieces])
            for method in exchange.methods:
                await _read_response(client, method, responses, here)
            tunnel = await client.read(exchange.tunnel)
            if exchange.half_close:
                client.send_end()
                tunnel += await client.read_all()
        except (EOFError, OSError):
            pass
        except trio.TooSlowError:
            end = "silent"
        received = self._received(here)
        if end == "closed" and client.end is None:
            end, stray = await self._probe(client)
        return Observation(tuple(responses), received, tunnel, stray, end)

    def _addressed(self, piece: bytes) -> bytes:
        for name, recorder in self._recorders.items():
            if isinstance(recorder.address, SocketAddress):
                piece = piece.replace(b"<%b>" % name.encode(), b"%d" % recorder.address.port)
        return piece

    def _received(self, here: dict[str, str]) -> tuple[tuple[str, Message], ...]:
        return tuple(
            (name, replace(message, headers=headers_of(_flat(message), here)))
            for name, recorder in self._recorders.items()
            for message in recorder.received
        )

    async def _probe(self, client: Client) -> tuple[End, bytes]:
        """Whether the connection takes another request, and what comes before its answer."""
        for recorder in self._recorders.values():
            recorder.answer, recorder.first = DEFAULT_ANSWER, []
        try:
            await client.send(_PROBE)
            head = await client.read_until(b"\r\n\r\n")
        except (EOFError, OSError):
            return "closed", b""
        except trio.TooSlowError:
            return "silent", b""
        return "open", head[: head.find(b"HTTP/1.")]


async def _send(client: Client, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        if piece is not pieces[0]:
            await client.more()
        await client.send(piece)


async def _read_response(client: Client, method: str, responses: list[Message], here: dict[str, str]) -> None:
    """Read a response and the interim ones before it."""
    while True:
        message = _response(await client.response(method), here)
        responses.append(message)
        if not 100 <= message.status < 200 or message.status == 101:
            return


def _response(response: Response, here: dict[str, str]) -> Message:
    line = response.head.partition(b"\r\n")[0].decode("latin-1")
    headers = headers_of(response.headers, here)
    return Message(line, headers, response.body, tuple(response.trailers), response.whole)


def _flat(message: Message) -> list[tuple[str, str]]:
    return [(name, value) for name, values in message.headers.items() for value in values]


def _renamed(snapshot: Snapshot, name: str) -> Snapshot:
    """The snapshot with its listeners on any port, and with names of its own for them and for its clusters."""
    return Snapshot(
        tuple(
            _renamed_listener(listener, _listener_name(name, number), name)
            for number, listener in enumerate(snapshot.listeners)
        ),
        tuple(replace(cluster, name=f"{name}/{cluster.name}") for cluster in snapshot.clusters),
        snapshot.secrets,
    )


def _listener_name(name: str, number: int) -> str:
    return f"{name}.{number}"


def _renamed_listener(listener: Listener, own_name: str, name: str) -> Listener:
    chains = tuple(replace(chain, http=_renamed_manager(chain.http, name)) for chain in listener.filter_chains)
    return replace(listener, name=own_name, address=_ANY_PORT, filter_chains=chains)


def _renamed_manager(http: HttpConnectionManager, name: str) -> HttpConnectionManager:
    config = http.route_config
    hosts = tuple(
        replace(host, routes=tuple(_rerouted(route, name) for route in host.routes)) for host in config.virtual_hosts
    )
    authz = http.ext_authz and replace(http.ext_authz, cluster=f"{name}/{http.ext_authz.cluster}")
    return replace(http, route_config=replace(config, virtual_hosts=hosts), ext_authz=authz)


def _rerouted(route: Route, name: str) -> Route:
    if not isinstance(route.action, RouteAction):
        return route
    clusters = tuple(replace(one, cluster=f"{name}/{one.cluster}") for one in route.action.clusters)
    mirrors = tuple(replace(one, cluster=f"{name}/{one.cluster}") for one in route.action.mirrors)
    return replace(route, action=replace(route.action, clusters=clusters, mirrors=mirrors))
