"""The shape of the hot path: what a small keep-alive GET takes, counted rather than timed.

The counts are exact and the same on every machine, so that what makes a request dearer is seen when it is made. Who
makes one cheaper writes the new number here.
"""

from __future__ import annotations

import gc
import inspect
import shutil
import socket
import ssl
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest
import trio

import meshproxy
from bench.meshes import GATEWAY_PORT, two_routes, write
from bench.origin import Origin, origin
from meshproxy.mesh import build_mesh, gateway_snapshot
from meshproxy.proxy.http.departures import Departures
from meshproxy.proxy.transport import Transport
from meshproxy.proxy.worker import Worker
from meshproxy.resources import load
from meshproxy.snapshot import (
    CertificateValidationContext,
    CircuitBreakers,
    CommonTlsContext,
    DownstreamTlsContext,
    InlineSource,
    OutlierDetection,
    Secret,
    Snapshot,
    SocketAddress,
    TlsCertificate,
    TrustedCa,
    UpstreamTlsContext,
)

from ..certificates import Ca
from ..cli.support import running
from .support import (
    GET,
    LOCALHOST,
    OK,
    answers,
    backend,
    cluster,
    gateway,
    silent,
    snapshot,
    until,
    unused_address,
)

# System calls of a request that is alone. The floor is two to receive, two to send, and a wait before each receipt.
SYSTEM_CALLS = {"recvfrom": 2, "sendto": 2, "epoll_wait": 6, "epoll_ctl": 2}

# Steps of trio's scheduler: once for the request, once for the answer.
TASK_STEPS = 2
# Times that a coroutine of ours is entered: begun, or gone on with after a wait. Each await is paid for.
COROUTINES = 16
# Times that any function of ours is entered, the coroutines among them; at most: comprehensions are functions until
# Python 3.12.
FUNCTIONS = 55
# Times that ours call one that is not: a builtin, a method, a function of the standard library or of trio; at most.
OTHERS = 57
# What TLS to the upstream adds to both, where the connection is kept; at most.
TLS_FUNCTIONS = 5
TLS_OTHERS = 7
# Bytes that a request has allocated at its fullest, beside the buffer that it is received into; at most.
PEAK_BYTES = 3_000

_WARM_UP = 20
_REQUESTS = 100
_OURS = str(Path(meshproxy.__file__).parent)
_SERVING = "Worker._serve"


async def _gets(client: trio.SocketStream, count: int, path: str = "/") -> None:
    for _ in range(count):
        await client.send_all(f"GET {path} HTTP/1.1\r\nhost: h.test\r\n\r\n".encode())
        assert (await client.receive_some()).startswith(b"HTTP/1.1 200 OK")


async def _answer(connection: trio.SocketStream) -> None:
    async for _ in connection:
        await connection.send_all(OK)


@asynccontextmanager
async def answering() -> AsyncIterator[SocketAddress]:
    """A backend of few words: the counts are of the gateway, but memory is the whole process's."""
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, _answer, 0, host="127.0.0.1"))
        yield SocketAddress("127.0.0.1", listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()


def _strace() -> str:
    """Why system calls cannot be counted here; empty if they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    allowed = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return "" if allowed.returncode == 0 else "strace may not trace here"


@pytest.mark.skipif(bool(_strace()), reason=_strace())
async def test_system_calls_of_a_request(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    # With -D the tracer is not in between: the process that is ended is the gateway.
    tracing = ["strace", "-D", "-qq", "-s", "64", "-o", str(trace)]
    async with answering() as address:
        mesh = write(two_routes([str(address)]), tmp_path / "mesh.yaml")
        options = ["-f", str(mesh), "--publish", "8080:127.0.0.1:0", "--access-log", "off"]
        with running(tmp_path, *options, prefix=tracing) as proxy:
            async with await trio.open_tcp_stream("127.0.0.1", proxy.ports[0]) as client:
                await _gets(client, _WARM_UP)
                await _gets(client, _REQUESTS, "/counted")
                await _gets(client, 1, "/end")
            proxy.stop()
    counted = [_calls(lines) for lines in _by_request(trace.read_text().splitlines())]
    assert len(counted) == _REQUESTS
    # Now and then a timer strikes between two requests: what nearly all of them take is what a request takes.
    [(usual, times)] = Counter(map(frozenset, map(Counter.items, counted))).most_common(1)
    assert dict(usual) == SYSTEM_CALLS
    assert times > _REQUESTS / 2


def _by_request(lines: Sequence[str]) -> Iterator[Sequence[str]]:
    """What was called from each receipt of a request until that of the next."""
    starts = [place for place, line in enumerate(lines) if line.startswith("recvfrom(") and '"GET /' in line]
    for start, end in pairwise(starts):
        if '"GET /counted ' in lines[start]:
            yield lines[start:end]


def _calls(lines: Sequence[str]) -> Counter[str]:
    return Counter(line.partition("(")[0] for line in lines)


def _mesh(address: SocketAddress, folder: Path, route: Mapping[str, Any] | None = None) -> Snapshot:
    """The mesh that the benchmark compares; `route` is what each route says besides."""
    *others, virtual_service = two_routes([str(address)])
    for one in virtual_service["spec"]["http"]:
        one |= route or {}
    loaded = load([str(write([*others, virtual_service], folder / "mesh.yaml"))])
    return gateway_snapshot(build_mesh(loaded.resources), publish={GATEWAY_PORT: LOCALHOST})


@asynccontextmanager
async def served(
    folder: Path, route: Mapping[str, Any] | None = None, **config: Any
) -> AsyncIterator[trio.SocketStream]:
    """A connection to a gateway without an access log, over which requests have gone; `config` is of its clusters.

    It runs what the benchmark compares: a mesh, with all that Istio gives one that says nothing of it, retries above
    all.
    """
    async with answering() as address, trio.open_nursery() as nursery:
        snapshot = _mesh(address, folder, route)
        clusters = tuple(replace(one, **config) for one in snapshot.clusters)
        worker = Worker(replace(snapshot, clusters=clusters))
        worker._departures = Departures(patience_s=60)  # on a busy machine a request may take as long as one that hangs
        await nursery.start(worker.run)
        [listening] = worker.addresses.values()
        async with await trio.open_tcp_stream("127.0.0.1", listening.port) as client:
            await _gets(client, _WARM_UP)
            yield client
        worker.stop()


async def _least(requests: Callable[[], Awaitable[None]]) -> _Calls:
    """What requests call, of several runs the one that calls least: on a busy machine, one may be woken in vain."""
    runs: list[_Calls] = []
    for _ in range(3):
        with _instrument(_Calls()) as calls:
            await requests()
        runs.append(calls)
    return min(runs, key=lambda calls: calls.functions)


async def _counted(folder: Path, route: Mapping[str, Any] | None = None, **config: Any) -> _Calls:
    async with served(folder, route, **config) as client:
        return await _least(partial(_gets, client, _REQUESTS))


async def test_awaits_and_calls_of_a_request(tmp_path: Path) -> None:
    calls = await _counted(tmp_path)

    assert calls.steps / _REQUESTS == TASK_STEPS
    assert calls.coroutines / _REQUESTS == COROUTINES
    # Once a second there is a date to be written.
    assert calls.functions // _REQUESTS <= FUNCTIONS
    assert calls.others // _REQUESTS <= OTHERS


async def test_a_request_that_goes_well_costs_outlier_detection_one_call(tmp_path: Path) -> None:
    without = await _counted(tmp_path)
    detecting = await _counted(tmp_path, outlier_detection=OutlierDetection())

    assert detecting.functions - without.functions == _REQUESTS


@pytest.mark.parametrize(
    "route",
    [{"timeout": "15s"}, {"retries": {"attempts": 2, "perTryTimeout": "2s"}}],
    ids=["of the request", "of a try"],
)
async def test_a_time_limit_that_is_kept_costs_six_calls_and_no_coroutine(
    tmp_path: Path, route: Mapping[str, Any]
) -> None:
    without = await _counted(tmp_path)
    limited = await _counted(tmp_path, route)

    assert limited.functions - without.functions == 6 * _REQUESTS
    assert limited.coroutines == without.coroutines


async def test_memory_that_a_request_takes_while_it_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The buffer is 64 KiB until it is known how much came: whatever else is taken at other times would hide behind it.
    monkeypatch.setattr(Transport.receive_some, "__defaults__", (512,))
    async with served(tmp_path) as client:
        tracemalloc.start()
        try:
            with _instrument(_Peak()) as peak:
                await _gets(client, _WARM_UP)
        finally:
            tracemalloc.stop()
    assert peak.bytes <= PEAK_BYTES


async def test_a_request_leaves_no_memory_behind(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        gc.collect()
        before = sys.getallocatedblocks()
        await _gets(client, _REQUESTS)
        gc.collect()
        # A list that has grown, or a counter that took a new block, is no leak: one block a request would be.
        assert (sys.getallocatedblocks() - before) / _REQUESTS < 0.5


async def test_a_request_leaves_nothing_to_the_garbage_collector(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        assert await _garbage(partial(_gets, client, 1)) == 0


async def test_nor_does_one_whose_body_is_passed_on_while_it_comes(tmp_path: Path) -> None:
    async with backend() as server, gateway(_mesh(cast(SocketAddress, server.address), tmp_path)) as running:
        [listening] = running.worker.addresses.values()
        client = await running.client(to=listening)

        async def upload() -> None:
            await client.send(b"POST / HTTP/1.1\r\nhost: h.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
            assert (await client.response()).status == 200

        assert await _garbage(upload) == 0


@pytest.mark.parametrize("limits", [CircuitBreakers(), CircuitBreakers(max_requests=9)], ids=["", "within limits"])
async def test_nor_does_one_that_has_been_tried_in_vain(tmp_path: Path, limits: CircuitBreakers) -> None:
    mesh = _mesh(unused_address(), tmp_path)
    clusters = tuple(replace(one, circuit_breakers=limits) for one in mesh.clusters)
    async with gateway(replace(mesh, clusters=clusters)) as running:
        [listening] = running.worker.addresses.values()
        client = await running.client(to=listening)

        async def failing() -> None:
            await client.send(GET)
            assert (await client.response()).status == 503

        assert await _garbage(failing) == 0


async def test_nor_does_one_whose_answer_is_no_http() -> None:
    async with backend(answers(b"HTTP/1.1 200 OK\r\nno field\r\n\r\n")) as server, gateway(snapshot(server)) as running:
        client = await running.client()

        async def failing() -> None:
            await client.send(GET)
            assert (await client.response()).status == 502

        assert await _garbage(failing) == 0


async def test_nor_does_what_is_no_request() -> None:
    async with gateway(snapshot(cluster(unused_address()))) as running:

        async def refused() -> None:
            with closing(await running.client()) as client:
                await client.send(GET.replace(b"\r\n\r\n", b"\r\nno field\r\n\r\n"))
                assert (await client.response()).status == 400
            await until(lambda: not running.connections)

        assert await _garbage(refused) == 0


@pytest.mark.parametrize("body", [b"0\r\n\r\n", b"5\r\nhello\r\n"], ids=["whole", "half"])
async def test_nor_does_one_whose_client_leaves(body: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nhost: h.test\r\ntransfer-encoding: chunked\r\n\r\n"
    async with backend(silent) as server, gateway(snapshot(server)) as running:

        async def leaving() -> None:
            with closing(await running.client()) as client:
                await client.send(head + body)
                await until(lambda: server.connections and server.connections[-1].received.endswith(body))
            await until(lambda: not running.connections)
            server.connections.clear()

        assert await _garbage(leaving) == 0


def _secured(server: Origin, authorities: str, **config: Any) -> Snapshot:
    """A gateway whose connections to the origin are secured."""
    host, _, port = server.secured[0].rpartition(":")
    tls = UpstreamTlsContext(CommonTlsContext(validation_context=CertificateValidationContext("roots")))
    one = snapshot(cluster(SocketAddress(host, int(port)), tls=tls, **config))
    return replace(one, secrets=(Secret("roots", TrustedCa(InlineSource("ca.crt", authorities))),))


@pytest.mark.parametrize("verified", [True, False])
async def test_handshakes_leave_nothing_to_the_garbage_collector(tmp_path: Path, verified: bool) -> None:
    with origin(tmp_path, 1) as server:
        authorities = server.roots.read_text() if verified else Ca().pem
        async with gateway(_secured(server, authorities, max_requests_per_connection=1)) as running:
            client = await running.client()

            async def secure() -> None:
                await client.send(GET)
                assert (await client.response()).status == (200 if verified else 503)

            assert await _garbage(secure) == 0


@pytest.mark.parametrize("trusted", [True, False])
async def test_handshakes_with_clients_leave_nothing_to_the_garbage_collector(trusted: bool) -> None:
    ca = Ca()
    pair = ca.issue("site.test")
    source = TlsCertificate(InlineSource("c", pair.chain), InlineSource("k", pair.key))
    config = snapshot(cluster(unused_address()))
    chains = tuple(
        replace(one, tls=DownstreamTlsContext(CommonTlsContext(("site",)))) for one in config.listeners[0].filter_chains
    )
    listeners = (replace(config.listeners[0], filter_chains=chains),)
    context = (ca if trusted else Ca()).client_context()

    def ask(address: SocketAddress) -> None:
        raw = socket.create_connection((address.host, address.port))
        with raw, suppress(ssl.SSLError), context.wrap_socket(raw, server_hostname="site.test") as secured:
            secured.sendall(GET)
            assert secured.recv(100).startswith(b"HTTP/1.1 503")

    async with gateway(replace(config, listeners=listeners, secrets=(Secret("site", source),))) as running:

        async def secure() -> None:
            await trio.to_thread.run_sync(ask, running.address)
            await until(lambda: not running.connections)

        assert await _garbage(secure) == 0


async def test_a_request_by_tls_costs_a_few_calls_more_and_no_coroutine(tmp_path: Path) -> None:
    async def counted(config: Snapshot) -> _Calls:
        async with gateway(config) as running:
            client = await running.client()

            async def requests() -> None:
                for _ in range(_REQUESTS):
                    await client.request(GET)

            await requests()
            return await _least(requests)

    with origin(tmp_path, 1) as server:
        host, _, port = server.endpoints[0].rpartition(":")
        plain = await counted(snapshot(cluster(SocketAddress(host, int(port)))))
        secure = await counted(_secured(server, server.roots.read_text()))
    assert secure.coroutines == plain.coroutines
    # Once a second there is a date to be written, in either.
    assert round((secure.functions - plain.functions) / _REQUESTS) <= TLS_FUNCTIONS
    assert round((secure.others - plain.others) / _REQUESTS) <= TLS_OTHERS


async def _garbage(request: Callable[[], Awaitable[None]]) -> int:
    """How many objects a few requests leave that only the collector can free."""
    await request()
    gc.collect()
    gc.disable()
    try:
        for _ in range(_WARM_UP):
            await request()
        return gc.collect()
    finally:
        gc.enable()


@contextmanager
def _instrument(instrument: Any) -> Iterator[Any]:
    trio.lowlevel.add_instrument(instrument)
    try:
        yield instrument
    finally:
        trio.lowlevel.remove_instrument(instrument)


class _Serving(trio.abc.Instrument):
    """Looks at the tasks that serve connections, and at no other: the test's own run in the same loop."""

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name.endswith(_SERVING):
            self.before()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name.endswith(_SERVING):
            self.after()

    def before(self) -> None:
        raise NotImplementedError

    def after(self) -> None:
        raise NotImplementedError


class _Calls(_Serving):
    """Steps, the functions and coroutines of ours that are entered, and the functions of others that ours call."""

    def __init__(self) -> None:
        self.steps = 0
        self.functions = 0
        self.coroutines = 0
        self.others = 0

    def before(self) -> None:
        self.steps += 1
        sys.setprofile(self._called)

    def after(self) -> None:
        sys.setprofile(None)

    def _called(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and _is_ours(frame):
            self.functions += 1
            self.coroutines += bool(frame.f_code.co_flags & inspect.CO_COROUTINE)
        elif event in ("call", "c_call"):
            self.others += _is_ours(frame.f_back if event == "call" else frame)


def _is_ours(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_code.co_filename.startswith(_OURS)


class _Peak(_Serving):
    """The most bytes that a step held beyond those at its beginning."""

    def __init__(self) -> None:
        self.bytes = 0
        self._before = 0

    def before(self) -> None:
        tracemalloc.reset_peak()
        self._before, _ = tracemalloc.get_traced_memory()

    def after(self) -> None:
        _, peak = tracemalloc.get_traced_memory()
        self.bytes = max(self.bytes, peak - self._before)
