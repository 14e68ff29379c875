"""meshproxy beside other proxies: what a request costs each of them, case by case."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import median
from subprocess import Popen
from typing import Any, NamedTuple, Self

from rich.progress import Progress

from . import wrk
from .cases import SMALL, Case
from .meshes import ASKED_BY_TLS, SECURED, token
from .origin import Origin, origin
from .peers import ENVOY, Peer, Setup
from .processes import free_port, started, wait_until_answering
from .report import Table, figure
from .usage import cpu_time


class Round(NamedTuple):
    """A second or two of load on one proxy; `user_us` and `system_us` are CPU microseconds a request."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    user_us: float
    system_us: float
    errors: int

    @property
    def cpu_us(self) -> float:
        return self.user_us + self.system_us


@dataclass(frozen=True)
class Proxy:
    """A running peer."""

    peer: Peer
    process: Popen[bytes]
    port: int


@dataclass(frozen=True)
class CaseResult:
    """All rounds of a case, by the proxy's name."""

    case: Case
    rounds: dict[str, list[Round]]

    def as_dict(self) -> dict[str, object]:
        """As plain JSON values."""
        rounds = {name: [one._asdict() for one in several] for name, several in self.rounds.items()}
        case = {**asdict(self.case), "headers": [*self.case.headers]}
        return {"case": case, "rounds": rounds}

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        """Out of what `as_dict` made."""
        rounds = {name: [Round(**one) for one in several] for name, several in data["rounds"].items()}
        case = {**data["case"], "headers": tuple(data["case"]["headers"])}
        return cls(Case(**case), rounds)

    @property
    def reference(self) -> str:
        """The proxy that the others are compared with: Envoy, where it was there."""
        return ENVOY.name if ENVOY.name in self.rounds else next(iter(self.rounds))


def measure(
    cases: Iterable[Case], peers: Sequence[Peer], python: Path, *, rounds: int, seconds: float, progress: Progress
) -> Iterator[CaseResult]:
    """Run the cases, one after the other, each in interleaved rounds."""
    ordered = sorted(cases, key=lambda case: case.access_log)
    bar = progress.add_task("starting", total=len(ordered) * len(peers) * (rounds + 1))
    with tempfile.TemporaryDirectory(prefix="meshproxy-bench-") as name, origin(Path(name)) as upstream:
        for (access_log, mesh), alike in groupby(ordered, key=lambda case: (case.access_log, case.mesh)):
            folder = Path(name, mesh, "with-access-log" if access_log else "without-access-log")
            with running(peers, upstream, folder, access_log=access_log, python=python, mesh=mesh) as proxies:
                for case in alike:
                    measured: dict[str, list[Round]] = {peer.name: [] for peer in peers}
                    # The first round opens connections and fills caches; it does not count.
                    for number in range(rounds + 1):
                        for proxy in proxies:
                            what = f"{case.name}: round {number} of {rounds}, {proxy.peer.name}"
                            progress.update(bar, description=what)
                            one = measure_round(proxy, case, seconds if number else min(seconds, 1))
                            progress.advance(bar)
                            if number:
                                measured[proxy.peer.name].append(one)
                    yield CaseResult(case, measured)


@contextmanager
def running(
    peers: Iterable[Peer], upstream: Origin, folder: Path, *, access_log: bool, python: Path, mesh: str
) -> Iterator[list[Proxy]]:
    """The peers, all running and answering."""
    with ExitStack() as stack:
        proxies = []
        for peer in peers:
            files = folder / peer.name
            files.mkdir(parents=True)
            # nginx's workers are not us.
            folder.chmod(0o755)
            endpoints = upstream.secured if mesh in SECURED else upstream.endpoints
            setup = Setup(free_port(), free_port(), endpoints, files, access_log, python, mesh, upstream.roots)
            log = files / f"{peer.name}.log"
            process = stack.enter_context(started(peer.launch(setup), log))
            wait_until_answering(process, setup.port, SMALL, log, by_tls=mesh in ASKED_BY_TLS)
            proxies.append(Proxy(peer, process, setup.port))
        yield proxies


def measure_round(proxy: Proxy, case: Case, seconds: float) -> Round:
    """Load one proxy."""
    before = cpu_time(proxy.process.pid)
    report = wrk.run(
        f"{'https' if case.mesh in ASKED_BY_TLS else 'http'}://127.0.0.1:{proxy.port}{case.path}",
        seconds=seconds,
        connections=case.connections,
        method=case.method,
        headers=[one.replace("{token}", token()) for one in case.headers],
        body_bytes=case.body_bytes,
    )
    spent = cpu_time(proxy.process.pid).since(before)
    requests = max(case.answered(report), 1e-9)
    return Round(
        requests / report.seconds,
        report.p50_ms,
        report.p99_ms,
        1e6 * spent.user_s / requests,
        1e6 * spent.system_s / requests,
        report.errors,
    )


class Ratios(NamedTuple):
    """CPU time a request as a ratio to another proxy's, over the rounds."""

    median: float
    least: float
    most: float


def ratios(result: CaseResult, name: str) -> Ratios:
    """The ratios of `name` to the reference, each within a round: the machine has drifted least between those two."""
    pairs = zip(result.rounds[name], result.rounds[result.reference], strict=True)
    found = [one.cpu_us / max(other.cpu_us, 1e-9) for one, other in pairs]
    return Ratios(median(found), min(found), max(found))


def detail(result: CaseResult) -> Table:
    """Every proxy's figures in a case: medians over the rounds."""
    columns = ("proxy", "req/s", "p50 ms", "p99 ms", "CPU µs", "user", "system", "ratio", "range", "errors")
    fields = ("requests_per_s", "p50_ms", "p99_ms", "cpu_us", "user_us", "system_us")
    rows = []
    for name, rounds in result.rounds.items():
        ratio = ratios(result, name)
        figures = [figure(median(getattr(one, field) for one in rounds)) for field in fields]
        errors = sum(one.errors for one in rounds)
        rows.append((name, *figures, f"{ratio.median:.2f}", f"{ratio.least:.2f}-{ratio.most:.2f}", str(errors)))
    return Table(f"{result.case.name}: {result.case.what}", columns, rows)
