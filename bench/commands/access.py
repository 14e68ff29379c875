"""`python -m bench access`: what tokens and policies cost."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from statistics import median

import click

from ..cases import ACCESS_CASES
from ..interpreter import description
from ..kept import Part
from ..peers import ENVOY, MESHPROXY, Peer
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

_PROGRAM = Path(__file__).parents[1] / "access_program.py"
_TOKEN_GOAL_US, _POLICIES_GOAL_US = 5, 20
_DECISIONS, _BESIDE = "decisions", "beside-envoy"


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=8, show_default=True)
@seconds_option
@python_option
@json_option
@keep_option
def access(rounds: int, seconds: float, python: Path | None, json_file: Path | None, kept: bool) -> None:
    """Time decisions about tokens and policies, and what they cost a request, beside Envoy.

    Decisions are timed by the wall clock, the best of several: on a machine that does nothing else. Requests are
    counted in CPU time; Envoy runs what `meshproxy export envoy` makes of the same mesh.
    """
    python = prepared(python)
    peers = [peer for peer in (MESHPROXY, ENVOY) if peer.version(python)]
    about = f"meshproxy on {description(python)}; {rounded(rounds, seconds)}."
    with ended_by_signals():
        others = Others()
        with console.status("deciding"):
            told = subprocess.run([python, "-P", _PROGRAM], stdout=subprocess.PIPE, check=True).stdout
        decisions = Part(about, others.share(), {"rows": json.loads(told)})
        console.print((decided := _decisions(decisions)).rich())
        beside = _beside(peers, python, rounds, seconds, about)
        console.print((compared := _compared(beside)).rich())
    parts = {_DECISIONS: decisions, _BESIDE: beside}
    conclude("access", parts, [decided, compared], json_file=json_file, kept=kept)


def _beside(peers: list[Peer], python: Path, rounds: int, seconds: float, about: str) -> Part:
    others = Others()
    with progress_bar() as progress:
        found = list(measure(ACCESS_CASES, peers, python, rounds=rounds, seconds=seconds, progress=progress))
    return Part(about, others.share(), {"cases": [one.as_dict() for one in found]})


def _decisions(part: Part) -> Table:
    rows = []
    for what, rules, microseconds in part.data["rows"]:
        goal = _POLICIES_GOAL_US if rules else _TOKEN_GOAL_US
        rows.append((f"{rules:,} rules by {what}" if rules else what, f"< {goal}", figure(microseconds)))
    return Table("What a decision takes", ("decision", "goal in µs", "µs"), rows)


def _compared(part: Part) -> Table:
    """What a request costs each proxy, and how much more than where nothing is decided."""
    results = [CaseResult.of(one) for one in part.data["cases"]]
    names = list(results[0].rounds)
    rows = []
    for result in results:
        costs = [median(one.cpu_us for one in result.rounds[name]) for name in names]
        more = [
            figure(cost - median(one.cpu_us for one in results[0].rounds[name])) if result is not results[0] else ""
            for cost, name in zip(costs, names, strict=True)
        ]
        cells = [cell for pair in zip(map(figure, costs), more, strict=True) for cell in pair]
        rows.append((f"{result.case.name}: {result.case.what}", *cells, f"{ratios(result, names[0]).median:.2f}"))
    columns = [column for name in names for column in (f"{name}, µs", "more")]
    reference = results[0].reference
    return Table("CPU time a request", ("case", *columns, f"{names[0]} to {reference}"), rows)
