"""Requests a second, latency, and CPU time a request of the programs that listen on some ports.

    python -m bench.cpu_per_request NAME=PORT [NAME=PORT ...] [--rounds 8] [--seconds 2] [--connections 32]

The programs are loaded in turn, round after round, because a machine's speed drifts: compare the medians of one run,
as ratios to the first program named. Needs wrk, and `ss` from iproute2; counts every process that listens on the port.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
from dataclasses import dataclass

from rich.console import Console
from rich.progress import track
from rich.table import Table


@dataclass(frozen=True)
class Measurement:
    """One round of one program."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """CPU microseconds a request, user and system."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="example: python -m bench.cpu_per_request envoy=10000 meshproxy=8080 --path /reviews",
    )
    parser.add_argument("programs", nargs="+", metavar="NAME=PORT")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--path", default="/")
    arguments = parser.parse_args()
    programs = {name: int(port) for name, _, port in (text.partition("=") for text in arguments.programs)}
    rounds: dict[str, list[Measurement]] = {name: [] for name in programs}
    for _ in track(range(arguments.rounds), "rounds"):
        for name, port in programs.items():
            url = f"http://127.0.0.1:{port}{arguments.path}"
            rounds[name].append(measure(url, port, arguments.connections, arguments.seconds))
    show(rounds)


def measure(url: str, port: int, connections: int, seconds: int) -> Measurement:
    """Load a program for some seconds."""
    processes = listening_processes(port)
    before = cpu_seconds(processes)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent = cpu_seconds(processes) - before
    requests = int(_find(r"(\d+) requests in", report))
    return Measurement(
        requests_per_second=float(_find(r"Requests/sec:\s+([\d.]+)", report)),
        p50_ms=_milliseconds(_find(r"50%\s+(\S+)", report)),
        p99_ms=_milliseconds(_find(r"99%\s+(\S+)", report)),
        cpu_us=1e6 * spent / max(requests, 1),
    )


def listening_processes(port: int) -> list[int]:
    """The ids of the processes that listen on a TCP port."""
    listing = subprocess.run(["ss", "-ltnpH", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    return sorted({int(pid) for pid in re.findall(r"pid=(\d+)", listing)})


def cpu_seconds(processes: list[int]) -> float:
    """User and system time that the processes have used so far."""
    ticks = 0
    for process in processes:
        with open(f"/proc/{process}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def show(rounds: dict[str, list[Measurement]]) -> None:
    """Medians over the rounds, and each program's CPU time as a ratio to the first one's."""
    table = Table()
    for column in ("program", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "ratio", "range"):
        table.add_column(column, justify="left" if column == "program" else "right")
    first = next(iter(rounds.values()))
    for name, measurements in rounds.items():
        ratios = [one.cpu_us / other.cpu_us for one, other in zip(measurements, first, strict=True)]
        table.add_row(
            name,
            f"{statistics.median(one.requests_per_second for one in measurements):.0f}",
            f"{statistics.median(one.p50_ms for one in measurements):.2f}",
            f"{statistics.median(one.p99_ms for one in measurements):.2f}",
            f"{statistics.median(one.cpu_us for one in measurements):.1f}",
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f} - {max(ratios):.2f}",
        )
    Console().print(table)


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"wrk said something unexpected:\n{text}")
    return found[1]


def _milliseconds(text: str) -> float:
    for unit, factor in (("us", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 6e4)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)


if __name__ == "__main__":
    main()
