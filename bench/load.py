"""A load generator: an open loop at a fixed rate, over connections that are kept alive.

A request goes out on a free connection the moment that it is due; where all are busy, on the first that gets free.
It counts from when it was due (see `pacing`). One that has no answer in time is a timeout, whether or not it could be
sent. So every request that was due is either in the histogram or among the errors; those that timed out are in both.
"""

from __future__ import annotations

import gc
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import trio

from meshproxy.proxy.http.failures import Failure
from meshproxy.proxy.http.http1_bodies import BodyError, decoder
from meshproxy.proxy.http.http1_codec import HeadLimits, ResponseHead, ResponseHeads, request_head
from meshproxy.proxy.transport import LOST, Transport, connect
from meshproxy.snapshot import SocketAddress

from .histogram import Histogram
from .pacing import Schedule, Timer, now

PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)
_HEADROOM_S = 0.05
_TOLD_EVERY_S = 0.5
_LIMITS = HeadLimits(max_bytes=256 * 1024, max_fields=1000)


@dataclass(frozen=True)
class Target:
    """Where requests go, and what they are: always the same bytes."""

    address: SocketAddress
    method: bytes
    request: bytes


@dataclass
class Outcome:
    """What came of it. Latencies are in microseconds."""

    rate: float
    """Requests a second that were due."""
    latencies: Histogram = field(default_factory=Histogram)
    own_delays: Histogram = field(default_factory=Histogram)
    """How late we were ourselves in finding that a request is due: what is less than that was not measured."""
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    """By kind: `connect`, `timeout`, `reset`, `protocol`, `status 4xx`, `status 5xx`."""
    requests: int = 0
    seconds: float = 0.0
    """From the first request to the end of the last."""

    @property
    def error_count(self) -> int:
        return sum(self.errors.values())

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values, times in milliseconds."""
        return {
            "rate": self.rate,
            "requests": self.requests,
            "seconds": self.seconds,
            "latency_ms": {f"p{percent:g}": self.latencies.percentile(percent) / 1e3 for percent in PERCENTILES}
            | {"max": self.latencies.max / 1e3, "mean": self.latencies.sum / max(self.latencies.count, 1) / 1e3},
            "own_delay_ms": {"p50": self.own_delays.percentile(50) / 1e3, "p99": self.own_delays.percentile(99) / 1e3},
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "errors": dict(self.errors),
        }


def target(url: str, method: str = "GET", headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> Target:
    """What to send, and where; a name is looked up once. Raises `ValueError`."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{url!r} is not a URL such as http://127.0.0.1:8080/path; TLS is not spoken here")
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"{parts.hostname}: {error.strerror}") from error
    address = SocketAddress(str(found[0][4][0]), int(found[0][4][1]))
    fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    authority = next((value for name, value in fields if name == b"host"), parts.netloc.encode())
    fields = [one for one in fields if one[0] != b"host"]
    if body or method in ("POST", "PUT", "PATCH"):
        fields.append((b"content-length", str(len(body)).encode()))
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    head = request_head(method.encode(), path.encode(), authority, fields)
    return Target(address, method.encode(), head + body)


async def generate(
    target: Target,
    *,
    rate: float,
    duration_s: float,
    connections: int,
    timeout_s: float,
    told: Callable[[int], None] = lambda _: None,
    finished: Callable[[float, str], None] = lambda due, error: None,
) -> Outcome:
    """Send `rate` requests a second for so long.

    `told` is called from time to time with how many are over, `finished` for each with when it was due and its error.
    """
    generator = _Generator(target, timeout_s, finished)
    clients = [_Client(target) for _ in range(connections)]
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(client.try_to_connect, timeout_s)
    generator.schedule = Schedule(now() + _HEADROOM_S, rate, max(round(rate * duration_s), 1))
    gc.collect()
    gc.disable()  # a pause of ours would count as the server's
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(generator.tell, told)
            async with trio.open_nursery() as running:
                running.start_soon(generator.pace)
                for client in clients:
                    running.start_soon(generator.run, client)
            nursery.cancel_scope.cancel()
    finally:
        gc.enable()
        for client in clients:
            client.close()
    outcome = generator.outcome
    outcome.rate = rate
    outcome.seconds = now() - generator.schedule.start
    return outcome


class _Generator:
    """Hands out requests as they become due, and counts what becomes of them."""

    schedule: Schedule

    def __init__(self, target: Target, timeout_s: float, finished: Callable[[float, str], None]) -> None:
        self._timeout_s = timeout_s
        self._finished = finished
        self._due = 0
        self._taken = 0
        self._free = trio.lowlevel.ParkingLot()
        self.outcome = Outcome(0.0)

    async def pace(self) -> None:
        """Find what is due, and wake as many free connections."""
        timer = Timer()
        delays, schedule = self.outcome.own_delays, self.schedule
        try:
            while self._due < schedule.total:
                due = schedule.due(self._due)
                await timer.wait_until(due)
                time = now()
                delays.record(int(1e6 * (time - due)))
                before, self._due = self._due, max(schedule.due_by(time), self._due + 1)
                self._free.unpark(count=self._due - before)
        finally:
            timer.close()
            self._free.unpark_all()

    async def run(self, client: _Client) -> None:
        """Send one request after the other, until none is left."""
        outcome = self.outcome
        while (due := await self._next()) is not None:
            left = due + self._timeout_s - now()
            error = "timeout"
            if left > 0:
                with trio.move_on_after(left) as scope:
                    error = await self._exchange(client)
                if scope.cancelled_caught:
                    error = "timeout"
                    client.close()
            outcome.requests += 1
            if error:
                outcome.errors[error] += 1
            if not error or error == "timeout" or error.startswith("status"):
                outcome.latencies.record(int(1e6 * (now() - due)))
            self._finished(due, error)

    async def _next(self) -> float | None:
        """When the next request is due, or was; waits for that. None when there are no more."""
        while self._taken >= self._due:
            if self._due >= self.schedule.total:
                return None
            await self._free.park()
        self._taken += 1
        return self.schedule.due(self._taken - 1)

    async def _exchange(self, client: _Client) -> str:
        """One request and its answer; the error's kind if it was one."""
        try:
            await client.connect()
        except OSError:
            return "connect"
        try:
            status = await client.exchange()
        except LOST:
            client.close()
            return "reset"
        except (Failure, BodyError):
            client.close()
            return "protocol"
        self.outcome.statuses[status] += 1
        return f"status {status // 100}xx" if status >= 400 else ""

    async def tell(self, told: Callable[[int], None]) -> None:
        while True:
            await trio.sleep(_TOLD_EVERY_S)
            told(self.outcome.requests)


class _Client:
    """One connection, opened again when the server has closed it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._transport: Transport | None = None
        self._heads = ResponseHeads(_LIMITS)
        self._buffer = b""

    async def try_to_connect(self, timeout_s: float) -> None:
        """Connect before it counts. If that fails, so will the request that needs it."""
        with trio.move_on_after(timeout_s):
            try:
                await self.connect()
            except OSError:
                self.close()

    async def connect(self) -> None:
        """Have a connection that is good for a request. Raises `OSError`."""
        if self._transport is not None and self._transport.waiter.ready:
            self.close()  # the server has closed it, or said something that it was not asked
        if self._transport is None:
            self._transport = await connect(self._target.address)

    async def exchange(self) -> int:
        """Send the request, and read the answer to its end; its status.

        Raises `LOST` when the connection breaks, `Failure` or `BodyError` when what comes is no HTTP.
        """
        transport = self._transport
        assert transport is not None, "connect comes first"
        await transport.send(self._target.request)
        head = await self._read_head(transport)
        if head.framing:
            await self._read_body(transport, head.framing)
        if not head.keep_alive:
            self.close()
        return head.status

    def close(self) -> None:
        self._buffer = b""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    async def _read_head(self, transport: Transport) -> ResponseHead:
        """The head of the final answer, those of interim ones skipped."""
        buffer = b""
        while True:
            data = await transport.receive()
            if not data:
                raise ConnectionResetError("closed without an answer")
            buffer += data
            while found := self._heads.read(buffer, self._target.method):
                head, end = found
                buffer = buffer[end:]
                if head.status >= 200:
                    self._buffer = buffer
                    return head

    async def _read_body(self, transport: Transport, framing: int) -> None:
        body = decoder(framing)
        body.feed(self._buffer)
        while not body.finished:
            data = await transport.receive()
            if data:
                body.feed(data)
                continue
            try:
                body.end_of_stream()
            except BodyError as error:
                raise ConnectionResetError("closed in the middle of an answer") from error
