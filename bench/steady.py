"""Latency at a rate that all can bear: half of what meshproxy reaches at most, by the load generator's open loop."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import trio
from rich.progress import Progress

from .cases import CASES, SMALL
from .load import generate, target
from .origin import origin
from .peers import MESHPROXY, Peer
from .proxies import Proxy, measure_round, running
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
    """All rounds, by the proxy's name."""

    rate: float
    rounds: dict[str, list[Latency]]

    def as_dict(self) -> dict[str, object]:
        """As plain JSON values."""
        rounds = {name: [one._asdict() for one in several] for name, several in self.rounds.items()}
        return {"rate": self.rate, "rounds": rounds}

    def table(self, reference: str) -> Table:
        """Every proxy's latencies."""
        rows = []
        for name, rounds in self.rounds.items():
            ratios = [one.p99_ms / other.p99_ms for one, other in zip(rounds, self.rounds[reference], strict=True)]
            rows.append(
                (
                    name,
                    figure(median(one.p50_ms for one in rounds)),
                    figure(median(one.p99_ms for one in rounds)),
                    f"{median(ratios):.2f}",
                    f"{min(ratios):.2f} - {max(ratios):.2f}",
                    str(sum(one.errors for one in rounds)),
                )
            )
        title = f"steady: {self.rate:,.0f} requests/s, half of meshproxy's peak; goal: p99 ≤ {GOAL} times {reference}'s"
        return Table(title, ("proxy", "p50 ms", "p99 ms", f"p99: ratio to {reference}", "range", "errors"), rows)


def measure_steady(
    peers: Sequence[Peer], python: Path, *, rounds: int, seconds: int, progress: Progress
) -> SteadyResult:
    """Find meshproxy's peak, then load every proxy at half of it, in interleaved rounds. meshproxy is among `peers`."""
    bar = progress.add_task("steady: meshproxy's peak", total=_PEAK_ROUNDS + rounds * len(peers))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meshproxy-bench-")))
        upstream = stack.enter_context(origin(folder))
        proxies = stack.enter_context(running(peers, upstream, folder, access_log=False, python=python))
        ours = next(one for one in proxies if one.peer is MESHPROXY)
        peaks = []
        for _ in range(_PEAK_ROUNDS):
            peaks.append(measure_round(ours, CASES[0], seconds).requests_per_s)
            progress.advance(bar)
        rate = median(peaks) / 2
        measured: dict[str, list[Latency]] = {peer.name: [] for peer in peers}
        for number in range(rounds):
            for proxy in proxies:
                progress.update(bar, description=f"steady: round {number + 1} of {rounds}, {proxy.peer.name}")
                measured[proxy.peer.name].append(_latency(proxy, rate, seconds))
                progress.advance(bar)
        return SteadyResult(rate, measured)


def _latency(proxy: Proxy, rate: float, seconds: int) -> Latency:
    aim = target(f"http://127.0.0.1:{proxy.port}{SMALL}")
    outcome = trio.run(lambda: generate(aim, rate=rate, duration_s=seconds, connections=_CONNECTIONS, timeout_s=10.0))
    latencies = outcome.latencies
    return Latency(latencies.percentile(50) / 1e3, latencies.percentile(99) / 1e3, outcome.error_count)
