"""`python -m bench tls`: what TLS to the endpoints costs."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import click

from ..cases import TLS_CASES
from ..interpreter import description
from ..kept import Part
from ..peers import ENVOY, MESHPROXY
from ..processes import ended_by_signals
from ..proxies import CaseResult, measure, ratios
from ..report import Table, figure
from ..usage import Others
from .options import (
    conclude,
    console,
    json_option,
    keep_option,
    prepared,
    progress_bar,
    python_option,
    rounded,
    seconds_option,
)


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=8, show_default=True)
@seconds_option
@python_option
@json_option
@keep_option
def tls(rounds: int, seconds: float, python: Path | None, json_file: Path | None, kept: bool) -> None:
    """Tell what it costs to ask endpoints by TLS, beside Envoy, which runs what is exported of the same mesh.

    \b
    Example:
      python -m bench tls --rounds 12
    """
    python = prepared(python)
    peers = [peer for peer in (MESHPROXY, ENVOY) if peer.version(python)]
    about = f"meshproxy on {description(python)}; {rounded(rounds, seconds)}."
    others = Others()
    with ended_by_signals(), progress_bar() as progress:
        found = list(measure(TLS_CASES, peers, python, rounds=rounds, seconds=seconds, progress=progress))
    parts = {"tls": Part(about, others.share(), {"cases": [one.as_dict() for one in found]})}
    table = compared(found)
    console.print(table.rich())
    conclude("tls", parts, [table], json_file=json_file, kept=kept)


def compared(results: list[CaseResult]) -> Table:
    """What a request costs each proxy, case by case, and how many there were in a second."""
    names = list(results[0].rounds)
    rows = []
    for result in results:
        cells = [
            figure(median(getattr(one, field) for one in result.rounds[name]))
            for name in names
            for field in ("cpu_us", "requests_per_s")
        ]
        ratio = ratios(result, names[0])
        errors = sum(one.errors for rounds in result.rounds.values() for one in rounds)
        rows.append((f"{result.case.name}: {result.case.what}", *cells, f"{ratio.median:.2f}", str(errors)))
    columns = [column for name in names for column in (f"{name}, µs", "requests/s")]
    return Table("CPU time a request", ("case", *columns, f"{names[0]} to {results[0].reference}", "errors"), rows)
