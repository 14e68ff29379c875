"""A running worker between scripted backends and raw clients, all in the test's own event loop.

- `backend`: a server that does what its script says and remembers every byte it received.
- `gateway`: a `Worker` for a snapshot; when it is left, nothing may have leaked.
- `Client`: a connection to a gateway on which a test sends bytes and reads responses, with a parser of its own.

Nothing here sleeps to wait: `until` looks at a condition again and again, and gives up in real time, so that it works
on a mock clock too.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self

import trio
import trio.testing

from meshproxy.identity import WorkloadIdentity
from meshproxy.proxy.http.http1_server import Http1ServerConnection
from meshproxy.proxy.readiness import readiness
from meshproxy.proxy.upstream.cluster import Cluster as RunningCluster
from meshproxy.proxy.upstream.forward_proxy import ForwardProxy
from meshproxy.proxy.upstream.host import Host
from meshproxy.proxy.worker import Worker
from meshproxy.snapshot import (
    Address,
    Cluster,
    Endpoint,
    FilterChain,
    HttpConnectionManager,
    Listener,
    Pipe,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    Snapshot,
    SocketAddress,
    VirtualHost,
    WeightedCluster,
)
from meshproxy.telemetry.access_log import AccessLog

PATIENCE_S = 5.0
LOCALHOST = SocketAddress("127.0.0.1", 0)
CLUSTER = "outbound|80||backend.test"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nhost: h.test\r\n\r\n"


async def until(condition: Callable[[], object]) -> None:
    """Let the others run until `condition` holds."""
    deadline = time.perf_counter() + PATIENCE_S
    while not condition():
        assert time.perf_counter() < deadline, f"in vain: {condition}"
        await trio.lowlevel.checkpoint()


def _patience() -> AbstractContextManager[object]:
    """A limit to a single wait; a test that turns the clock itself has none."""
    on_mock_clock = isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
    return nullcontext() if on_mock_clock else trio.fail_after(PATIENCE_S)


End = Literal["closed", "reset"]


class Peer:
    """One end of a connection that the test holds. `received` is all that came, whether it was read or not."""

    open: ClassVar[set[Peer]] = set()
    """All that have not been closed: the test's own part of the process's file descriptors."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self.socket = sock
        self.received = b""
        self.end: End | None = None
        """How the other side ended the connection, once that has been read."""
        self._read = 0
        self._receiving = trio.Lock()
        Peer.open.add(self)

    async def send(self, data: bytes) -> None:
        while data:
            data = data[await self.socket.send(data) :]

    def send_now(self, data: bytes) -> None:
        """Send it before anybody else runs."""
        assert os.write(self.socket.fileno(), data) == len(data)

    async def more(self) -> bool:
        """Receive something, or wait until another task has; False at the end of the connection."""
        had = len(self.received)
        async with self._receiving:
            if self.end is None and len(self.received) == had:
                await self._receive()
        return len(self.received) > had

    async def _receive(self) -> None:
        try:
            with _patience():
                data = await self.socket.recv(65536)
        except ConnectionError:
            self.end = "reset"
        else:
            self.received += data
            if not data:
                self.end = "closed"

    async def read_until(self, marker: bytes) -> bytes:
        """All up to and including `marker`. Raises `EOFError`."""
        while (at := self.received.find(marker, self._read)) < 0:
            if not await self.more():
                raise EOFError(f"no {marker!r} in {self.received[self._read :]!r}, {self.end}")
        return self._take(at + len(marker) - self._read)

    async def read(self, count: int) -> bytes:
        """As many bytes; fewer when there are no more."""
        while len(self.received) - self._read < count and await self.more():
            pass
        return self._take(min(count, len(self.received) - self._read))

    async def read_some(self) -> bytes:
        """What has come, at least a byte; `b""` at the end."""
        while len(self.received) == self._read and await self.more():
            pass
        return self._take(len(self.received) - self._read)

    async def read_all(self) -> bytes:
        """What comes until the other side ends the connection."""
        while await self.more():
            pass
        return self._take(len(self.received) - self._read)

    def _take(self, count: int) -> bytes:
        self._read += count
        return self.received[self._read - count : self._read]

    async def message(self) -> bytes:
        """One head and its body, by Content-Length or chunked."""
        head = await self.read_until(b"\r\n\r\n")
        fields = _fields(head)
        if b"transfer-encoding" in fields:
            return head + await self.chunks()
        return head + await self.read(int(fields.get(b"content-length", 0)))

    async def chunks(self) -> bytes:
        """A chunked body, as it is on the wire."""
        body = b""
        while True:
            line = await self.read_until(b"\r\n")
            body += line
            if size := int(line, 16):
                body += await self.read(size + 2)
                continue
            while line != b"\r\n":
                line = await self.read_until(b"\r\n")
                body += line
            return body

    async def ended(self) -> End:
        """Wait for the other side to end the connection; what it still sends is only recorded."""
        await self.read_all()
        assert self.end is not None
        return self.end

    def send_end(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        Peer.open.discard(self)
        self.socket.close()

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


def _fields(head: bytes) -> dict[bytes, bytes]:
    lines = head.split(b"\r\n")[1:-2]
    return {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}


Script = Callable[[Peer], Awaitable[None]]
"""What a backend does with a connection, which is closed when it returns."""


@dataclass
class Backend:
    """A scripted server; `connections` in the order they were accepted."""

    address: Address
    connections: list[Peer] = field(default_factory=list)

    @property
    def received(self) -> list[bytes]:
        """What each connection received."""
        return [connection.received for connection in self.connections]

    async def connected(self, count: int = 1) -> Peer:
        """Wait for as many connections; the last of them."""
        await until(lambda: len(self.connections) >= count)
        return self.connections[count - 1]


def answers(*responses: bytes) -> Script:
    """Answer one request after the other on each connection, the last response again and again."""

    async def script(connection: Peer) -> None:
        index = 0
        with suppress(EOFError):
            while True:
                await connection.message()
                await connection.send(responses[min(index, len(responses) - 1)])
                index += 1

    return script


def answers_and_closes(response: bytes) -> Script:
    """Answer one request, and close the connection."""

    async def script(connection: Peer) -> None:
        await connection.message()
        await connection.send(response)

    return script


class Holding:
    """A backend's script that answers when the test says so, in the order in which the requests came."""

    def __init__(self, response: bytes = OK) -> None:
        self._response = response
        self._held: list[trio.Event] = []
        self.paths: list[str] = []
        """Of the requests that have come."""

    async def __call__(self, connection: Peer) -> None:
        while True:
            message = await connection.message()
            self.paths.append(message.split(b" ")[1].decode())
            self._held.append(event := trio.Event())
            await event.wait()
            await connection.send(self._response)

    @property
    def held(self) -> int:
        """How many requests wait for their answers."""
        return len(self._held)

    async def answer(self, count: int = 1) -> None:
        """Answer the oldest requests that have not been, waiting for them to come."""
        for _ in range(count):
            await until(lambda: self._held)
            self._held.pop(0).set()


async def silent(connection: Peer) -> None:
    """Read whatever comes, and never answer."""
    await connection.ended()


@asynccontextmanager
async def backend(script: Script = answers(OK), bind: Address = LOCALHOST) -> AsyncIterator[Backend]:  # noqa: B008
    """A backend that listens until it is left."""
    listening = _listening(bind)
    server = Backend(_address_of(listening))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_accept, server, listening, script, nursery)
        try:
            yield server
        finally:
            nursery.cancel_scope.cancel()


async def _accept(server: Backend, listening: trio.socket.SocketType, script: Script, nursery: trio.Nursery) -> None:
    with listening:
        while True:
            sock, _ = await listening.accept()
            connection = Peer(sock)
            server.connections.append(connection)
            nursery.start_soon(_run, script, connection)


async def _run(script: Script, connection: Peer) -> None:
    try:
        with suppress(EOFError, OSError, trio.ClosedResourceError):
            await script(connection)
    finally:
        connection.close()


def _listening(bind: Address) -> trio.socket.SocketType:
    if isinstance(bind, SocketAddress):
        family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
        listening = socket.create_server((bind.host, bind.port), family=family, backlog=1024)
    else:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(bind.path)
        listening.listen(1024)
    return trio.socket.from_stdlib_socket(listening)


def _address_of(listening: trio.socket.SocketType) -> Address:
    name = listening.getsockname()
    return Pipe(name) if isinstance(name, str) else SocketAddress(*name[:2])


@contextmanager
def unreachable() -> Iterator[SocketAddress]:
    """An address where connecting takes for ever: with a full backlog the kernel answers no further SYN."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = SocketAddress(*full.getsockname()[:2])
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex((address.host, address.port))
        yield address


def unused_address() -> SocketAddress:
    """An address where nobody listens, and that nobody is given meanwhile: it stays bound."""
    return SocketAddress(*_UNUSED.getsockname()[:2])


_UNUSED = socket.socket()
_UNUSED.bind(("127.0.0.1", 0))
atexit.register(_UNUSED.close)


def cluster(*addresses: Address | Backend, name: str = CLUSTER, **config: Any) -> Cluster:
    endpoints = (one.address if isinstance(one, Backend) else one for one in addresses)
    return Cluster(name, tuple(Endpoint(address) for address in endpoints), **config)


def forward(name: str = CLUSTER, match: RouteMatch = RouteMatch()) -> Route:  # noqa: B008
    return Route("", match, RouteAction((WeightedCluster(name),)))


def snapshot(
    *clusters: Cluster | Backend,
    routes: Sequence[Route] = (),
    listener: SocketAddress = LOCALHOST,
    **http: Any,
) -> Snapshot:
    """A listener; without `routes` all goes to the first cluster. `http` are fields of the connection manager."""
    running = tuple(cluster(one) if isinstance(one, Backend) else one for one in clusters)
    host = VirtualHost("all", ("*",), tuple(routes or [forward(running[0].name)]))
    manager = HttpConnectionManager(RouteConfiguration("routes", (host,)), **http)
    return Snapshot((Listener("http", listener, (FilterChain(manager),)),), running)


class LogLine(NamedTuple):
    """A line of the access log, in its default format."""

    method: str
    path: str
    protocol: str
    status: int
    flags: str
    received: int
    sent: int
    duration: int
    service_time: str
    forwarded_for: str
    user_agent: str
    request_id: str
    authority: str
    upstream: str
    details: str

    @classmethod
    def parse(cls, line: str) -> Self:
        matched = _LOG_LINE.fullmatch(line)
        assert matched, line
        numbers = ("status", "received", "sent", "duration")
        fields: dict[str, Any] = {
            name: int(text) if name in numbers else text for name, text in matched.groupdict().items()
        }
        return cls(**fields)


_LOG_LINE = re.compile(
    r'\[\S+Z\] "(?P<method>\S+) (?P<path>\S+) (?P<protocol>\S+)" (?P<status>\d+) (?P<flags>\S+) (?P<received>\d+) '
    r'(?P<sent>\d+) (?P<duration>\d+) (?P<service_time>\S+) "(?P<forwarded_for>[^"]*)" "(?P<user_agent>[^"]*)" '
    r'"(?P<request_id>[^"]*)" "(?P<authority>[^"]*)" "(?P<upstream>[^"]*)" (?P<details>\S+)\n'
)


class _Lines(AccessLog):
    """An access log that a test can read at once."""

    def __init__(self) -> None:
        super().__init__(lambda text: None)
        self.lines: list[str] = []

    def append(self, line: str) -> None:
        self.lines.append(line)


class Gateway:
    """A running worker."""

    def __init__(self, worker: Worker, log: _Lines) -> None:
        self.worker = worker
        self._log = log
        self._clients: list[Client] = []
        self.stopped = trio.Event()
        """`run` has returned."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await self.worker.run(task_status=task_status)
        self.stopped.set()

    @property
    def address(self) -> SocketAddress:
        return self.worker.addresses["http"]

    @property
    def admin(self) -> SocketAddress:
        return self.worker.addresses["admin"]

    async def logged(self, count: int = 1) -> list[LogLine]:
        """The lines of the access log, of which there must come to be as many, and no more."""
        await until(lambda: len(self._log.lines) >= count)
        await self.settled()
        assert len(self._log.lines) == count, self._log.lines
        return self.log_lines

    @property
    def log_lines(self) -> list[LogLine]:
        return [LogLine.parse(line) for line in self._log.lines]

    async def logged_at_least(self, count: int) -> None:
        """Wait for as many lines, whatever else is under way."""
        await until(lambda: len(self._log.lines) >= count)

    async def client(self, *, receive_buffer: int = 0, to: SocketAddress | None = None) -> Client:
        """A new connection to it, or to its admin pages."""
        address = to or self.address
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        sock = trio.socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client = Client(sock)
        self._clients.append(client)
        await sock.connect((address.host, address.port))
        return client

    async def exchange(self, data: bytes, method: str = "GET") -> Answer:
        """The response to one request on a connection of its own, which stays open."""
        client = await self.client()
        await client.send(data)
        return await client.response(method)

    @property
    def hosts(self) -> list[Host]:
        """Those of all clusters."""
        return [host for one in self.worker.clusters.values() for host in one.hosts]

    @property
    def connections(self) -> Collection[Http1ServerConnection]:
        """The downstream connections that it serves."""
        return self.worker._connections

    async def settled(self) -> None:
        """Wait until no request is under way."""
        await until(self._is_settled)

    def _is_settled(self) -> bool:
        return (
            not any(host.active for host in self.hosts)
            and all(host.connections == host.idle_count for host in self.hosts)
            and not any(one.stats.requests_active for one in self.worker.clusters.values())
            and all(self._gave_back(one) for one in self.worker.clusters.values())
            and not self.worker._departures
        )

    def _gave_back(self, cluster: RunningCluster | ForwardProxy) -> bool:
        """Whether only idle connections count for a cluster's limits."""
        breakers = {name: one.active for name, one in cluster.stats.breakers.items()}
        idle = sum(host.connections for host in cluster.hosts)
        return breakers in ({}, {"cx": idle, "rq_pending": 0, "rq": 0})

    def _leaks(self) -> str:
        active = {name: one.stats.requests_active for name, one in self.worker.clusters.items()}
        limits = {name: one.stats.breakers for name, one in self.worker.clusters.items()}
        return f"{self.hosts}, active {active}, limits {limits}, waiting {self.worker._departures}"


@asynccontextmanager
async def gateway(
    config: Snapshot,
    *,
    drain_time_s: float = 5.0,
    admin: bool = False,
    started: bool = True,
    identity: WorkloadIdentity | None = None,
) -> AsyncIterator[Gateway]:
    """A worker, stopped when it is left; it must have given back everything by then.

    With `started=False` it is not waited for: it listens, and may still be looking up names.
    """
    log = _Lines()
    readiness()  # opens its own descriptor once, for as long as the event loop runs
    descriptors = _descriptors()
    errors = _Errors()
    logging.getLogger("meshproxy").addHandler(errors)
    worker = Worker(
        config, admin=LOCALHOST if admin else None, access_log=log, drain_time_s=drain_time_s, identity=identity
    )
    async with trio.open_nursery() as nursery:
        running = Gateway(worker, log)
        if started:
            await nursery.start(running.run)
        else:
            nursery.start_soon(running.run)
            await until(lambda: worker.addresses)
        try:
            yield running
        except BaseException:
            nursery.cancel_scope.cancel()
            raise
        finally:
            logging.getLogger("meshproxy").removeHandler(errors)
            for client in running._clients:
                client.close()
        assert not errors.records, errors.records
        with suppress(AssertionError):
            await running.settled()
        assert running._is_settled(), running._leaks()
        hosts = running.hosts
        worker.stop()
    assert not worker._connections, worker._connections
    assert not any(host.idle_count or host.connections for host in hosts), hosts
    await until(lambda: _descriptors() <= descriptors)


class _Errors(logging.Handler):
    """What the proxy reports as faults of its own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())


def _descriptors() -> int:
    """How many file descriptors are open that the test does not hold itself."""
    return len(os.listdir("/proc/self/fd")) - len(Peer.open)


@dataclass
class Answer:
    """A response. `end` is how the connection ended while it was read; `whole` tells that its body was complete."""

    head: bytes
    body: bytes
    trailers: list[tuple[str, str]]
    end: End | None
    whole: bool

    @property
    def status(self) -> int:
        return int(self.head.split(b" ")[1])

    @property
    def version(self) -> str:
        return self.head.split(b" ")[0].decode()

    @property
    def headers(self) -> list[tuple[str, str]]:
        return _pairs(self.head.split(b"\r\n")[1:-2])

    def header(self, name: str) -> str | None:
        values = [value for field_name, value in self.headers if field_name == name]
        assert len(values) < 2, self.headers
        return values[0] if values else None


def _pairs(lines: Iterable[bytes]) -> list[tuple[str, str]]:
    return [(name.decode(), value.strip().decode("latin-1")) for name, _, value in (x.partition(b":") for x in lines)]


class Client(Peer):
    """A client's connection."""

    async def response(self, method: str = "GET") -> Answer:
        """The next response, as far as it comes."""
        head = await self.read_until(b"\r\n\r\n")
        answer = Answer(head, b"", [], None, True)
        fields = _fields(head)
        if method == "HEAD" or answer.status in (204, 304) or answer.status < 200:
            return answer
        if b"transfer-encoding" in fields:
            await self._chunked(answer)
        elif b"content-length" in fields:
            length = int(fields[b"content-length"])
            answer.body = await self.read(length)
            answer.whole = len(answer.body) == length
        else:
            answer.body = await self.read_all()
            answer.whole = self.end == "closed"
        answer.end = self.end
        return answer

    async def _chunked(self, answer: Answer) -> None:
        try:
            while size := int(await self.read_until(b"\r\n"), 16):
                piece = await self.read(size + 2)
                answer.body += piece[:size]
            while (line := await self.read_until(b"\r\n")) != b"\r\n":
                answer.trailers += _pairs([line])
        except EOFError:
            answer.whole = False

    async def request(self, data: bytes, method: str = "GET") -> Answer:
        await self.send(data)
        return await self.response(method)


_VARYING = (
    (re.compile(rb"\bdate: [^\r]+ GMT"), b"date: <DATE>"),
    (re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"), b"<UUID>"),
    (re.compile(rb"(?<=x-envoy-upstream-service-time: )\d+"), b"<MS>"),
)


def stable(data: bytes) -> bytes:
    """With what differs from run to run replaced: `<DATE>`, `<UUID>`, `<MS>`."""
    for pattern, replacement in _VARYING:
        data = pattern.sub(replacement, data)
    return data
