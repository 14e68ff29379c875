"""What grows with the size of things: CPU time a request, memory, and the time to start.

A dimension is measured at all its sizes in turn, round after round, so that what counts, the ratio to the smallest,
holds while the machine drifts. The request is the worst that there is: for the last host, or the last route.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from subprocess import Popen
from typing import Any, Self

import click
from rich.progress import Progress

from . import wrk
from .charts import Panel, Series
from .meshes import GATEWAY_PORT, Resource, many_hosts, many_routes, two_routes, write
from .origin import origin
from .processes import Launch, free_port, started, wait_until_answering
from .report import Table, figure
from .usage import cpu_time, memory_bytes

_SECONDS = 1
_CONNECTIONS = 32
_ENDPOINTS = 1000


@dataclass(frozen=True)
class Load:
    """A gateway's configuration, the request to measure, and how many connections are idle meanwhile."""

    resources: list[Resource]
    host: str = "localhost"
    path: str = "/"
    idle: int = 0


@dataclass(frozen=True)
class Dimension:
    """Something that grows. `load` makes a size, given the origin's endpoints."""

    name: str
    sizes: tuple[int, ...]
    load: Callable[[Sequence[str], int], Load]
    goal: str = ""


DIMENSIONS = (
    Dimension(
        "virtual hosts",
        (10, 100, 1000, 10_000),
        lambda endpoints, size: Load(many_hosts(endpoints[:2], size), host=f"host-{size - 1}.test"),
        "10,000 cost a request at most 1.1 times what 10 cost",
    ),
    Dimension(
        "routes",
        (10, 100, 1000, 10_000),
        lambda endpoints, size: Load(many_routes(endpoints[:2], size), path=f"/exact-{size - 1}"),
        "1,000 cost a request at most 1.5 times what 10 cost",
    ),
    Dimension("endpoints", (2, 10, 100, 1000), lambda endpoints, size: Load(two_routes(endpoints[:size]))),
    Dimension(
        "idle connections",
        (0, 1000, 2500, 5000),
        lambda endpoints, size: Load(two_routes(endpoints[:2]), idle=size),
        "at most 25 KB each",
    ),
)

STARTED_WITH = 1000
START_GOAL = f"under 1 s with {STARTED_WITH:,} VirtualServices"


@dataclass(frozen=True)
class Point:
    """A dimension at one size."""

    size: int
    cpu_us: Sequence[float]
    """CPU microseconds a request, a figure a round."""
    memory_bytes: int
    """Of the gateway, before it was loaded."""


@dataclass(frozen=True)
class Growth:
    """A dimension at all its sizes."""

    dimension: Dimension
    points: Sequence[Point]

    def ratio(self, point: Point) -> float:
        """CPU time a request, to that of the smallest size: the median of the rounds' ratios."""
        return median(one / other for one, other in zip(point.cpu_us, self.points[0].cpu_us, strict=True))

    def kb_each(self, point: Point) -> float | None:
        """Memory that one more takes, in KB (1024 bytes), from the smallest size to this; None for the smallest."""
        smallest = self.points[0]
        if point is smallest:
            return None
        return (point.memory_bytes - smallest.memory_bytes) / (point.size - smallest.size) / 1024

    def table(self) -> Table:
        """A row a size."""
        rows = []
        for point in self.points:
            each = self.kb_each(point)
            rows.append(
                (
                    f"{point.size:,}",
                    figure(median(point.cpu_us)),
                    f"{self.ratio(point):.2f}",
                    figure(point.memory_bytes / 1024**2),
                    "" if each is None else figure(each),
                )
            )
        goal = f" (goal: {self.dimension.goal})" if self.dimension.goal else ""
        columns = (self.dimension.name, "CPU µs/request", "ratio to the smallest", "memory MB", "KB each")
        return Table(f"{self.dimension.name}{goal}", columns, rows)

    def panels(self) -> list[Panel]:
        """CPU time and memory, drawn."""
        sizes = [point.size for point in self.points]
        log = sizes[0] > 0
        cost = Series("", sizes, [self.ratio(point) for point in self.points])
        memory = Series("", sizes, [point.memory_bytes / 1024**2 for point in self.points])
        name = self.dimension.name
        return [
            Panel(f"CPU time a request: {name}", name, "ratio to the smallest", [cost], log),
            Panel(f"memory: {name}", name, "MB", [memory], log),
        ]

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        points = [
            {"size": one.size, "cpu_us": list(one.cpu_us), "memory_bytes": one.memory_bytes} for one in self.points
        ]
        return {"dimension": self.dimension.name, "points": points}

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        """Out of what `as_dict` made."""
        dimension = next(one for one in DIMENSIONS if one.name == data["dimension"])
        return cls(dimension, [Point(**one) for one in data["points"]])


def measure(dimension: Dimension, python: Path, *, rounds: int, progress: Progress) -> Growth:
    """All sizes of a dimension, loaded in turn."""
    bar = progress.add_task(f"{dimension.name}: starting", total=len(dimension.sizes) * (rounds + 1))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meshproxy-bench-")))
        upstream = stack.enter_context(origin(folder, _ENDPOINTS))
        loads = [dimension.load(upstream.endpoints, size) for size in dimension.sizes]
        gateways, memory = [], []
        for size, load in zip(dimension.sizes, loads, strict=True):
            gateways.append(stack.enter_context(running_gateway(load, folder / f"{size}", python)))
            stack.enter_context(_idle_connections(gateways[-1].port, load.idle))
            memory.append(memory_bytes(gateways[-1].process.pid))
            progress.advance(bar)
        costs: list[list[float]] = [[] for _ in loads]
        for number in range(rounds):
            for cost, gateway, load in zip(costs, gateways, loads, strict=True):
                progress.update(bar, description=f"{dimension.name}: round {number + 1} of {rounds}")
                cost.append(cpu_us(gateway, load))
                progress.advance(bar)
    points = zip(dimension.sizes, costs, memory, strict=True)
    return Growth(dimension, [Point(size, cost, held) for size, cost, held in points])


def start_times(python: Path, *, rounds: int, progress: Progress) -> list[float]:
    """Seconds from starting a gateway with `STARTED_WITH` VirtualServices until it is ready."""
    bar = progress.add_task("start to ready", total=rounds)
    times = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="meshproxy-bench-") as name:
            resources = many_hosts(["127.0.0.1:9", "127.0.0.2:9"], STARTED_WITH)
            with _started(resources, Path(name, "gateway"), python) as (_, _, seconds):
                times.append(seconds)
        progress.advance(bar)
    return times


@dataclass(frozen=True)
class RunningGateway:
    """A gateway to be loaded."""

    process: Popen[bytes]
    port: int


@contextmanager
def running_gateway(load: Load, folder: Path, python: Path) -> Iterator[RunningGateway]:
    """A gateway that is ready."""
    with _started(load.resources, folder, python) as (process, port, _):
        yield RunningGateway(process, port)


@contextmanager
def _started(resources: list[Resource], folder: Path, python: Path) -> Iterator[tuple[Popen[bytes], int, float]]:
    """A gateway that is ready, its port, and how many seconds that took."""
    folder.mkdir()
    port, admin_port, log = free_port(), free_port(), folder / "meshproxy.log"
    options = ["--publish", f"{GATEWAY_PORT}:127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin_port}"]
    command: list[str | Path] = [
        python,
        "-m",
        "meshproxy",
        "run",
        "-f",
        write(resources, folder / "mesh.yaml"),
        "--access-log",
        "off",
    ]
    begun = time.perf_counter()
    with started(Launch([*command, *options]), log) as process:
        wait_until_answering(process, admin_port, "/ready", log)
        yield process, port, time.perf_counter() - begun


def cpu_us(gateway: RunningGateway, load: Load, seconds: float = _SECONDS) -> float:
    """CPU microseconds a request, under load for a while."""
    before = cpu_time(gateway.process.pid)
    url = f"http://127.0.0.1:{gateway.port}{load.path}"
    # Spelled in any other way, wrk would send a Host of its own besides.
    report = wrk.run(url, seconds=seconds, connections=_CONNECTIONS, headers=[f"Host: {load.host}"])
    spent = cpu_time(gateway.process.pid).since(before)
    if report.errors:
        raise click.ClickException(f"{report.errors} of {report.requests} requests for {load.host}{load.path} failed")
    return 1e6 * (spent.user_s + spent.system_s) / report.requests


@contextmanager
def _idle_connections(port: int, count: int) -> Iterator[None]:
    """Connections that have had one answer, and may have another."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(contextlib.closing(socket.create_connection(("127.0.0.1", port))))
            connection.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        yield
