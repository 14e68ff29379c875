"""What clients see of five endpoints that are killed, hung, slowed and broken one after the other, and restored.

The endpoints are servers of ours, in the event loop of the load generator; meshproxy is a process of its own, whose
admin pages tell when it ejects an endpoint and when it lets one return.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import trio

from . import charts
from .load import Outcome, generate, target
from .meshes import GATEWAY_PORT, Resource, destination_rule, gateway, service, to_service, virtual_service, write
from .pacing import now
from .processes import Launch, free_port, started, wait_until_answering
from .report import Table

ENDPOINTS = 5
GOAL = 0.001
"""With retries and ejection, at most this share of the requests should fail while an endpoint is down."""

Mood = Literal["well", "killed", "hung", "slowed", "failing"]

_LOOK_S = 0.02
_SLOW_S = 1.0
_TIMEOUT_S = 2.0
_CONNECTIONS = 128
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n"
_FAILED = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


@dataclass(frozen=True)
class Fault:
    """What happens to an endpoint from `start_s` to `end_s` after the load has begun."""

    mood: Mood
    endpoint: int
    start_s: float
    end_s: float


def faults(duration_s: float) -> list[Fault]:
    """One after the other, each on another endpoint, with quiet in between."""
    moods: tuple[Mood, ...] = ("killed", "hung", "slowed", "failing")
    unit = duration_s / 60
    return [Fault(mood, place, unit * (6 + 12 * place), unit * (14 + 12 * place)) for place, mood in enumerate(moods)]


_WITHOUT_RETRIES: Resource = {**to_service(), "retries": {"attempts": 0}}
"""Istio tries again what could not connect, unless it is told not to."""

Policies = Callable[[float], tuple[Resource, Resource | None]]


def _none(unit_s: float) -> tuple[Resource, Resource | None]:
    return _WITHOUT_RETRIES, None


def _ejection(unit_s: float) -> tuple[Resource, Resource | None]:
    settings = {
        "consecutive5xxErrors": 3,
        "interval": _duration(unit_s / 2),
        "baseEjectionTime": _duration(2 * unit_s),
        "maxEjectionPercent": 40,
    }
    return _WITHOUT_RETRIES, destination_rule({"outlierDetection": settings})


def _retries_and_ejection(unit_s: float) -> tuple[Resource, Resource | None]:
    route, rule = _ejection(unit_s)
    retries = {"attempts": 3, "perTryTimeout": "250ms", "retryOn": "5xx,reset,connect-failure"}
    return {**route, "retries": retries, "timeout": "1500ms"}, rule


def _duration(seconds: float) -> str:
    return f"{max(round(1000 * seconds), 1)}ms"


POLICIES: dict[str, Policies] = {
    "none": _none,
    "ejection": _ejection,
    "retries-and-ejection": _retries_and_ejection,
}
"""What the mesh says, by name: a route and the service's policy; times in units of a 60th of the run."""


class Endpoint:
    """A server in whatever mood it is put. Killed, it listens no more and drops its connections."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._port = free_port()
        self._mood: Mood = "well"
        self._changed = trio.Event()
        self._alive = trio.CancelScope()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listen."""
        self._alive = trio.CancelScope()
        listeners = await trio.open_tcp_listeners(self._port, host="127.0.0.1", backlog=1024)
        self._nursery.start_soon(self._serve, listeners)

    async def be(self, mood: Mood) -> None:
        """Be in this mood from now on; what waits for a better one goes on."""
        before, self._mood = self._mood, mood
        self._changed.set()
        self._changed = trio.Event()
        if mood == "killed":
            self._alive.cancel()
        elif before == "killed":
            await self.start()

    async def _serve(self, listeners: list[trio.SocketListener]) -> None:
        with self._alive:
            await trio.serve_listeners(self._answer, listeners)

    async def _answer(self, connection: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            while await connection.receive_some():  # a proxy sends a small request in one piece
                while self._mood == "hung":
                    await self._changed.wait()
                if self._mood == "slowed":
                    await trio.sleep(_SLOW_S)
                await connection.send_all(_FAILED if self._mood == "failing" else _OK)


@dataclass
class Course:
    """What was seen of one run. Times are in seconds after the load has begun."""

    policies: str
    duration_s: float
    requests: list[tuple[float, str]] = field(default_factory=list)
    """When each was due, and its error, empty if there was none."""
    ejected: list[tuple[float, frozenset[int]]] = field(default_factory=list)
    """Which endpoints were, at each look."""
    outcome: Outcome = field(default_factory=lambda: Outcome(0.0))

    def errors(self, fault: Fault | None = None) -> tuple[int, int]:
        """How many requests failed, and of how many: those due during a fault, or all."""
        start, end = (fault.start_s, fault.end_s) if fault else (0.0, float("inf"))
        due = [error for at, error in self.requests if start <= at < end]
        return sum(map(bool, due)), len(due)

    def ejected_after_s(self, fault: Fault) -> float | None:
        """From the beginning of a fault until its endpoint was ejected; None if it was not."""
        times = (at for at, those in self.ejected if fault.start_s <= at < fault.end_s and fault.endpoint in those)
        return next((at - fault.start_s for at in times), None)

    def returned_after_s(self, fault: Fault) -> float | None:
        """From the end of a fault until its endpoint was back for good; None if it had not been ejected."""
        if self.ejected_after_s(fault) is None:
            return None
        times = [at for at, those in self.ejected if at >= fault.end_s and fault.endpoint in those]
        return max(times[-1] - fault.end_s, 0.0) if times else 0.0

    def errors_by_second(self) -> charts.Series:
        """The failures in each 60th of the run."""
        unit = self.duration_s / 60
        counts = [0] * 60
        for at, error in self.requests:
            counts[min(int(at / unit), 59)] += bool(error)
        return charts.Series(self.policies, [unit * place for place in range(60)], counts)

    def ejected_by_time(self) -> charts.Series:
        """How many endpoints were ejected, whenever that changed."""
        points = [(0.0, 0)]
        for at, those in self.ejected:
            if len(those) != points[-1][1]:
                points += [(at, points[-1][1]), (at, len(those))]
        points.append((self.duration_s, points[-1][1]))
        return charts.Series(self.policies, [at for at, _ in points], [count for _, count in points])

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        failed, requests = self.errors()
        return {
            "policies": self.policies,
            "requests": requests,
            "errors": failed,
            "by_kind": dict(self.outcome.errors),
            "faults": [
                {
                    "fault": fault.mood,
                    "errors": self.errors(fault)[0],
                    "requests": self.errors(fault)[1],
                    "ejected_after_s": self.ejected_after_s(fault),
                    "returned_after_s": self.returned_after_s(fault),
                }
                for fault in faults(self.duration_s)
            ],
        }


def run(policies: str, python: Path, *, duration_s: float, rate: float) -> Course:
    """One run, with these policies. Raises `ClickException` where meshproxy does not start."""
    with tempfile.TemporaryDirectory(prefix="meshproxy-bench-") as folder:
        return trio.run(_run, policies, python, Path(folder), duration_s, rate)


async def _run(policies: str, python: Path, folder: Path, duration_s: float, rate: float) -> Course:
    course = Course(policies, duration_s)
    async with trio.open_nursery() as nursery:
        endpoints = [Endpoint(nursery) for _ in range(ENDPOINTS)]
        for endpoint in endpoints:
            await endpoint.start()
        port, admin, log = free_port(), free_port(), folder / "meshproxy.log"
        with started(_launch(policies, python, folder, endpoints, duration_s, port, admin), log) as process:
            await trio.to_thread.run_sync(wait_until_answering, process, port, "/", log)
            begun = now()
            nursery.start_soon(_look, course, endpoints, admin, begun)
            for fault in faults(duration_s):
                nursery.start_soon(_befall, fault, endpoints[fault.endpoint])
            course.outcome = await generate(
                target(f"http://127.0.0.1:{port}/"),
                rate=rate,
                duration_s=duration_s,
                connections=_CONNECTIONS,
                timeout_s=_TIMEOUT_S,
                finished=lambda due, error: course.requests.append((due - begun, error)),
            )
        nursery.cancel_scope.cancel()
    return course


def _launch(
    policies: str,
    python: Path,
    folder: Path,
    endpoints: Sequence[Endpoint],
    duration_s: float,
    port: int,
    admin: int,
) -> Launch:
    route, rule = POLICIES[policies](duration_s / 60)
    resources = [gateway(), service([one.address for one in endpoints]), virtual_service("routes", ["*"], [route])]
    mesh = write([*resources, *([rule] if rule else [])], folder / "mesh.yaml")
    options = ["-f", str(mesh), "--publish", f"{GATEWAY_PORT}:127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    return Launch([python, "-m", "meshproxy", "run", *options, "--access-log", "off"])


async def _befall(fault: Fault, endpoint: Endpoint) -> None:
    await trio.sleep(fault.start_s)
    await endpoint.be(fault.mood)
    await trio.sleep(fault.end_s - fault.start_s)
    await endpoint.be("well")


async def _look(course: Course, endpoints: Sequence[Endpoint], admin: int, begun: float) -> None:
    """Ask the admin pages again and again who is ejected."""
    while True:
        [hosts] = (await _clusters(admin)).values()
        those = (
            place
            for place, endpoint in enumerate(endpoints)
            if "failed_outlier_check" in hosts[endpoint.address]["health_flags"]
        )
        course.ejected.append((now() - begun, frozenset(those)))
        await trio.sleep(_LOOK_S)


async def _clusters(admin: int) -> dict[str, Any]:
    async with await trio.open_tcp_stream("127.0.0.1", admin) as connection:
        await connection.send_all(b"GET /clusters?format=json HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        answer = b"".join([piece async for piece in connection])
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return found


def table(courses: Sequence[Course]) -> Table:
    """Faults by policies: what failed, and how soon the endpoint was ejected and was back."""
    rows = []
    for course in courses:
        for fault in faults(course.duration_s):
            eject, back = course.ejected_after_s(fault), course.returned_after_s(fault)
            rows.append((f"{course.policies}: {fault.mood}", *_shares(course, fault), _seconds(eject), _seconds(back)))
        rows.append((f"{course.policies}: all", *_shares(course, None), "", ""))
    columns = ("policies: an endpoint is", "requests", "failed", "%", "ejected after s", "back after s")
    return Table(f"What clients see while one of {ENDPOINTS} endpoints is down", columns, rows)


def _shares(course: Course, fault: Fault | None) -> tuple[str, str, str]:
    failed, requests = course.errors(fault)
    return f"{requests:,}", f"{failed:,}", f"{100 * failed / max(requests, 1):.2f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def panels(courses: Sequence[Course]) -> list[charts.Panel]:
    """The timelines: what failed, and how many endpoints were ejected."""
    told = ", ".join(f"{one.mood} {one.start_s:g} - {one.end_s:g}" for one in faults(courses[0].duration_s))
    errors = [course.errors_by_second() for course in courses]
    ejected = [course.ejected_by_time() for course in courses]
    unit = courses[0].duration_s / 60
    return [
        charts.Panel("requests that failed", told, f"in {unit:g} s", errors, log_x=False),
        charts.Panel("endpoints ejected", "s", "of 5", ejected, log_x=False),
    ]
