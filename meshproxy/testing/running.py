"""A real gateway for tests, each endpoint that its configuration names replaced by a stand-in on a port of its own.

    with run_mesh(["policies/quickstart"]) as mesh:            # a thread of its own
        requests.get(mesh.url(80) + "/reviews")
    async with run_mesh(["policies/quickstart"]) as mesh:      # the test's own trio loop
        ...

Endpoints that are the gateway itself, as where one Gateway hands requests to another, stay so.

Nothing that fails is lost: what the answers of stand-ins raise comes out when the mesh is left, together with what the
test itself raises, if it does.
"""

from __future__ import annotations

import io
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import trio

from ..mesh import ROOT_NAMESPACE, analyse, build_mesh, gateway_snapshot
from ..proxy.upstream.cluster import Cluster as RunningCluster
from ..proxy.worker import Worker
from ..resources import load
from ..snapshot import Address, Endpoint, Listener, Snapshot, SocketAddress
from .material import stood_in
from .runner import Unusable
from .standins import Cluster, Received, StandIn

_LOCALHOST = "127.0.0.1"
_DRAIN_S = 1.0


class RunningMesh:
    """A gateway that runs, and its stand-ins.

    `urls` are the base URLs of the Gateways' ports, `backends` all stand-ins. Servers of HTTPS show certificates that
    are made for the test: `ca` is the authority to trust, in PEM.
    """

    def __init__(self, urls: Mapping[int, str], backends: Sequence[StandIn], ca: str = "") -> None:
        self.urls = dict(urls)
        self.backends = tuple(backends)
        self.ca = ca

    def url(self, port: int | None = None) -> str:
        """The base URL of a Gateway's port, such as `http://127.0.0.1:41234`; without a number, of the only one."""
        if port is None and len(self.urls) == 1:
            return next(iter(self.urls.values()))
        if port not in self.urls:
            known = ", ".join(map(str, sorted(self.urls))) or "none"
            raise LookupError(f"no Gateway port {'was named' if port is None else port}; there are {known}")
        return self.urls[port]

    def backend(self, name: str, *, subset: str | None = None, port: int | None = None) -> StandIn:
        """The one stand-in that `backends_of` finds. Raises `LookupError` when there are none or several."""
        found = self.backends_of(name, subset=subset, port=port)
        if len(found) != 1:
            known = "; ".join(map(_described, found or self.backends)) or "none"
            raise LookupError(f"{len(found)} backends are called {name!r}; there are: {known}")
        return found[0]

    def backends_of(self, name: str, *, subset: str | None = None, port: int | None = None) -> list[StandIn]:
        """The stand-ins of an endpoint's address (`127.0.0.1:9101`), or of a service by its host or its short name."""

        def leads(cluster: Cluster) -> bool:
            known = cluster.host == name or cluster.host.startswith(f"{name}.")
            return known and subset in (None, cluster.subset) and port in (None, cluster.port)

        return [one for one in self.backends if one.name == name or any(map(leads, one.clusters))]

    @property
    def received(self) -> list[Received]:
        """Every request that any stand-in received; those of one stand-in in order."""
        return [received for backend in self.backends for received in backend.received]


def _described(backend: StandIn) -> str:
    clusters = (f"{c.host}:{c.port}{f' subset {c.subset}' if c.subset else ''}" for c in backend.clusters)
    return f"{backend.name} ({', '.join(clusters)})"


def run_mesh(
    paths: Iterable[str | Path] = (),
    *,
    yaml: str = "",
    selector: Mapping[str, str] | None = None,
    namespace: str = ROOT_NAMESPACE,
) -> MeshRun:
    """A gateway of the resources in `paths`, and in the text `yaml`, to be entered with `with` or `async with`.

    `selector` are the labels of the gateway, as `meshproxy run --selector` has them. Raises `Unreadable`, and
    `Unusable` for resources that `meshproxy check` finds fault with.
    """
    sources = [*paths, *(["-"] if yaml else [])]
    loaded = load(sources, stdin=io.StringIO(yaml))
    mesh = build_mesh(loaded.resources)
    found = analyse(mesh, namespace=namespace, invalid=loaded.invalid, partial=loaded.partial)
    problems = [*loaded.problems, *found]
    if problems:
        raise Unusable(problems)
    return MeshRun(gateway_snapshot(mesh, selector=selector, namespace=namespace))


class MeshRun:
    """A gateway that can be run, once: `async with` in the loop of the test, `with` in a thread of its own.

    Leaving it raises what went wrong in it. If the test has raised too, both come out as a group, the test's own first.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._in_loop: AbstractAsyncContextManager[RunningMesh] | None = None
        self._thread: _Thread | None = None

    async def __aenter__(self) -> RunningMesh:
        _require_trio()
        self._in_loop = _running(self._snapshot)
        return await self._in_loop.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._in_loop is not None
        try:
            # What the test raises is its own affair: a nursery would wrap it in a group.
            await self._in_loop.__aexit__(None, None, None)
        except BaseException as failure:
            _raise_both(error, failure)

    def __enter__(self) -> RunningMesh:
        self._thread = _Thread(self._snapshot)
        return self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._thread is not None
        try:
            self._thread.stop()
        except BaseException as failure:
            _raise_both(error, failure)


def _require_trio() -> None:
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        reason = "`async with mesh(...)` needs a test on trio, as pytest-trio runs it; use `with mesh(...)` elsewhere"
        raise RuntimeError(reason) from None


def _raise_both(error: BaseException | None, failure: BaseException) -> NoReturn:
    """Raise what the test raised, if anything, and what its mesh did; a cancellation is nothing of the test's own."""
    if error is None or isinstance(error, trio.Cancelled):
        raise failure
    raise BaseExceptionGroup("both the test and its mesh failed", [error, failure]) from None


class _Thread:
    """A trio loop beside the test."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._started = threading.Event()
        self._mesh: RunningMesh | None = None
        self._error: BaseException | None = None
        self._stop: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="meshproxy", daemon=True)

    def start(self) -> RunningMesh:
        self._thread.start()
        self._started.wait()
        if self._mesh is None:
            self.stop()
        assert self._mesh is not None
        return self._mesh

    def stop(self) -> None:
        """End it, and raise what went wrong there."""
        with suppress(trio.RunFinishedError):
            self._stop()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:
            self._error = error
        finally:
            self._started.set()

    async def _main(self) -> None:
        stop = trio.Event()
        token = trio.lowlevel.current_trio_token()
        async with _running(self._snapshot) as mesh:
            self._stop = lambda: token.run_sync_soon(stop.set)
            self._mesh = mesh
            self._started.set()
            await stop.wait()


@asynccontextmanager
async def _running(snapshot: Snapshot) -> AsyncIterator[RunningMesh]:
    backends = _stand_ins(snapshot)
    secrets, ca = stood_in(snapshot)
    try:
        worker = Worker(replace(_on_free_ports(snapshot, backends), secrets=secrets), drain_time_s=_DRAIN_S)
        async with trio.open_nursery() as nursery:
            for backend in backends.values():
                nursery.start_soon(backend.serve)
            await nursery.start(worker.run)
            _lead_back(snapshot, worker, backends)
            yield RunningMesh(_urls(snapshot, worker), list(backends.values()), ca)
            nursery.cancel_scope.cancel()
    finally:
        for backend in backends.values():
            backend.close()
    _raise_errors([error for backend in backends.values() for error in backend.errors])


def _raise_errors(errors: Sequence[BaseException]) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup("answers of stand-ins failed", errors)


def _stand_ins(snapshot: Snapshot) -> dict[Address, StandIn]:
    """A stand-in for each address that clusters name and the gateway does not listen at."""
    leading: dict[Address, list[Cluster]] = {}
    for cluster in snapshot.clusters:
        _, port, subset, host = (cluster.name.split("|") + [""] * 3)[:4]
        for endpoint in cluster.endpoints:
            if _listener_at(snapshot, endpoint.address) is None:
                known = leading.setdefault(endpoint.address, [])
                known.append(Cluster(host, int(port) if port.isdigit() else 0, subset))
    return {address: StandIn(str(address), tuple(clusters)) for address, clusters in leading.items()}


def _listener_at(snapshot: Snapshot, address: Address) -> Listener | None:
    """The gateway's listener that an endpoint is; a machine's loopback address is the gateway's own."""
    if not isinstance(address, SocketAddress):
        return None
    own = ("0.0.0.0", "::", _LOCALHOST, "::1", "localhost")
    return next(
        (
            listener
            for listener in snapshot.listeners
            if listener.address.port == address.port and address.host in (*own, listener.address.host)
        ),
        None,
    )


def _on_free_ports(snapshot: Snapshot, backends: Mapping[Address, StandIn]) -> Snapshot:
    """The snapshot with listeners on ports that the system chooses, and stand-ins for its endpoints, which speak plain
    HTTP."""
    free = SocketAddress(_LOCALHOST, 0)
    clusters = (
        replace(cluster, type="STATIC", endpoints=_replaced(cluster.endpoints, backends), tls=None, auto_tls=None)
        for cluster in snapshot.clusters
    )
    return replace(
        snapshot,
        listeners=tuple(replace(listener, address=free) for listener in snapshot.listeners),
        clusters=tuple(clusters),
    )


def _replaced(endpoints: Iterable[Endpoint], backends: Mapping[Address, StandIn]) -> tuple[Endpoint, ...]:
    """Endpoints at their stand-ins; those that have none are the gateway's own, and wait until it listens.

    Nobody probes them: it is not the workloads that would answer.
    """
    return tuple(
        replace(one, address=backends[one.address].address, health_check=None)
        for one in endpoints
        if one.address in backends
    )


def _lead_back(snapshot: Snapshot, worker: Worker, backends: Mapping[Address, StandIn]) -> None:
    """Give clusters that lead to the gateway itself the addresses where it now listens."""
    for cluster in snapshot.clusters:
        found = [(one, _listener_at(snapshot, one.address)) for one in cluster.endpoints]
        own = [
            replace(one, address=worker.addresses[at.name], health_check=None) for one, at in found if at is not None
        ]
        running = worker.clusters.get(cluster.name)
        if own and isinstance(running, RunningCluster):
            running.update_hosts((*own, *_replaced(cluster.endpoints, backends)))


def _urls(snapshot: Snapshot, worker: Worker) -> dict[int, str]:
    """The base URL of each port; of several listeners of one port, the first one's."""
    urls: dict[int, str] = {}
    for listener in snapshot.listeners:
        scheme = "https" if any(chain.tls is not None for chain in listener.filter_chains) else "http"
        urls.setdefault(listener.address.port, f"{scheme}://{worker.addresses[listener.name]}")
    return urls
