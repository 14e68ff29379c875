"""Latency at a rate that all can bear: half of what meshproxy reaches at most, by the load generator's open loop."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Self

import trio
from rich.progress import Progress

from .cases import CASES, SMALL
from .load import generate, target
from .meshes import TWO_ROUTES
from .origin import origin
from .peers import ENVOY, MESHPROXY, Peer
from .proxies import Proxy, Ratios, measure_round, running
from .report import Table, figure

GOAL = 1.5
"""meshproxy's p99 should be at most so many times Envoy's."""
_CONNECTIONS = 32
_PEAK_ROUNDS = 3


class Latency(NamedTuple):
    """One round of one proxy."""

    p50_ms: float
    p99_ms: float
    errors: int


@dataclass(frozen=True)
class SteadyResult:
    """All rounds, by the proxy's name; none for those that do not reach the rate."""

    rate: float
    rounds: dict[str, list[Latency]]

    def as_dict(self) -> dict[str, object]:
        """As plain JSON values."""
        rounds = {name: [one._asdict() for one in several] for name, several in self.rounds.items()}
        return {"rate": self.rate, "rounds": rounds}

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        """Out of what `as_dict` made."""
        rounds = {name: [Latency(**one) for one in several] for name, several in data["rounds"].items()}
        return cls(data["rate"], rounds)

    @property
    def reference(self) -> str:
        """The proxy that the others are compared with: Envoy, where it was there."""
        return ENVOY.name if self.rounds.get(ENVOY.name) else MESHPROXY.name

    def ratios(self, name: str) -> Ratios | None:
        """Those of its p99 to the reference's, each within a round; None where it does not reach the rate."""
        pairs = zip(self.rounds[name], self.rounds[self.reference], strict=False)
        found = [one.p99_ms / other.p99_ms for one, other in pairs]
        return Ratios(median(found), min(found), max(found)) if found else None

    def table(self) -> Table:
        """Every proxy's latencies."""
        rows = []
        for name, rounds in self.rounds.items():
            ratio = self.ratios(name)
            if ratio is None:
                rows.append((name, "-", "-", "-", "does not reach the rate", "-"))
                continue
            p50, p99 = (figure(median(getattr(one, field) for one in rounds)) for field in ("p50_ms", "p99_ms"))
            errors = sum(one.errors for one in rounds)
            rows.append((name, p50, p99, f"{ratio.median:.2f}", f"{ratio.least:.2f}-{ratio.most:.2f}", str(errors)))
        what = f"{self.rate:,.0f} requests/s, half of meshproxy's peak; goal: p99 ≤ {GOAL} times {self.reference}'s"
        return Table(f"steady: {what}", ("proxy", "p50 ms", "p99 ms", "p99 ratio", "range", "errors"), rows)


def measure_steady(
    peers: Sequence[Peer], python: Path, *, rounds: int, seconds: float, progress: Progress
) -> SteadyResult:
    """Find meshproxy's peak, then load every proxy that bears it at half of it, in interleaved rounds.

    meshproxy is among `peers`.
    """
    bar = progress.add_task("steady: peaks", total=(_PEAK_ROUNDS + rounds) * len(peers))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meshproxy-bench-")))
        upstream = stack.enter_context(origin(folder))
        proxies = stack.enter_context(
            running(peers, upstream, folder, access_log=False, python=python, mesh=TWO_ROUTES)
        )
        peaks: dict[str, list[float]] = {peer.name: [] for peer in peers}
        for _ in range(_PEAK_ROUNDS):
            for proxy in proxies:
                peaks[proxy.peer.name].append(measure_round(proxy, CASES[0], seconds).requests_per_s)
                progress.advance(bar)
        rate = median(peaks[MESHPROXY.name]) / 2
        measured: dict[str, list[Latency]] = {peer.name: [] for peer in peers}
        for number in range(rounds):
            for proxy in proxies:
                progress.update(bar, description=f"steady: round {number + 1} of {rounds}, {proxy.peer.name}")
                if median(peaks[proxy.peer.name]) > rate:
                    measured[proxy.peer.name].append(_latency(proxy, rate, seconds))
                progress.advance(bar)
        return SteadyResult(rate, measured)


def _latency(proxy: Proxy, rate: float, seconds: float) -> Latency:
    aim = target(f"http://127.0.0.1:{proxy.port}{SMALL}")
    outcome = trio.run(lambda: generate(aim, rate=rate, duration_s=seconds, connections=_CONNECTIONS, timeout_s=10.0))
    latencies = outcome.latencies
    return Latency(latencies.percentile(50) / 1e3, latencies.percentile(99) / 1e3, outcome.error_count)
