"""`python -m bench proxies`: meshproxy beside other proxies."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import click

from .. import charts, origin, wrk
from ..cases import CASES, Case
from ..interpreter import description, interpreter
from ..peers import ENVOY, MESHPROXY, PEERS, Peer
from ..processes import ended_by_signals
from ..proxies import CaseResult, detail, measure, overview, ratios
from ..report import RESULTS
from ..steady import SteadyResult, measure_steady
from ..usage import Others
from .options import (
    Names,
    chart_option,
    console,
    disturbance,
    json_option,
    keep,
    keep_option,
    progress_bar,
    python_option,
    write_json,
)

_STEADY = "steady"
_CASES: dict[str, Case | None] = {case.name: case for case in CASES} | {_STEADY: None}
_PEERS = {peer.name.lower(): peer for peer in PEERS}


@click.command()
@click.option(
    "--cases", type=Names(_CASES), default=list(_CASES.values()), show_default=False, help=f"Of {', '.join(_CASES)}."
)
@click.option(
    "--only", type=Names(_PEERS), default=list(PEERS), show_default=False, help=f"Proxies of {', '.join(_PEERS)}."
)
@click.option("--rounds", type=click.IntRange(1), default=8, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=1, show_default=True, help="Of a round.")
@python_option
@json_option
@chart_option
@keep_option
def proxies(
    cases: list[Case | None],
    only: list[Peer],
    rounds: int,
    seconds: int,
    python: Path | None,
    json_file: Path | None,
    chart: Path | None,
    kept: bool,
) -> None:
    """Compare meshproxy with other proxies, case by case: what a request costs, and how long it takes.

    All run one worker, configured alike, and are loaded in turn, round after round. What counts is the ratio of CPU
    time a request: it drifts least.

    \b
    Example:
      python -m bench proxies --cases get-32,headers --only meshproxy,envoy --rounds 12
    """
    wrk.require()
    with console.status("preparing a Python that has meshproxy and aiohttp"):
        python = interpreter(python)
    versions = {peer: version for peer in only if (version := peer.version(python))}
    for peer in only:
        if peer not in versions:
            console.print(f"[yellow]{peer.name} is not here[/]: {peer.how_to_get}")
    if not versions:
        raise click.ClickException("there is no proxy to measure")
    peers = list(versions)
    reference = (ENVOY if ENVOY in peers else peers[0]).name
    console.print(about := _about(versions, python, rounds, seconds))
    others = Others()
    results: list[CaseResult] = []
    steady: SteadyResult | None = None
    with ended_by_signals(), progress_bar() as progress:
        measured = [case for case in cases if case is not None]
        for result in measure(measured, peers, python, rounds=rounds, seconds=seconds, progress=progress):
            results.append(result)
            console.print(detail(result, reference).rich())
        if None in cases and MESHPROXY in peers:
            steady = measure_steady(peers, python, rounds=rounds, seconds=seconds, progress=progress)
            console.print(steady.table(reference).rich())
    tables = [overview(results, reference)] if results else []
    for table in tables:
        console.print(table.rich())
    tables += [detail(result, reference) for result in results]
    if steady is not None:
        tables.append(steady.table(reference))
    about += disturbance(others.share())
    data = _data(about, results, steady)
    write_json(data, json_file)
    if chart is not None:
        _draw(chart, results, reference)
    if kept:
        keep("proxies", "\n".join([about, "", *(table.markdown() for table in tables)]), data)
        _draw(RESULTS / "proxies.png", results, reference)


def _about(versions: dict[Peer, str], python: Path, rounds: int, seconds: int) -> str:
    """What ran, and where: without it the figures say nothing."""
    proxies = ", ".join(f"{peer.name} {version}" for peer, version in versions.items())
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()} {platform.machine()}"
    return (
        f"{proxies}; meshproxy and aiohttp on {description(python)}; origin: {origin.name()}. "
        f"{rounds} rounds of {seconds} s on {machine}."
    )


def _data(about: str, results: list[CaseResult], steady: SteadyResult | None) -> dict[str, Any]:
    return {
        "about": about,
        "cases": [result.as_dict() for result in results],
        "steady": steady.as_dict() if steady is not None else None,
    }


def _draw(path: Path, results: list[CaseResult], reference: str) -> None:
    if results:
        names = list(results[0].rounds)
        values = {name: [ratios(result, name, reference).median for result in results] for name in names}
        charts.bars(
            path, f"CPU time a request, as a ratio to {reference}'s", [one.case.name for one in results], values
        )
