"""`python -m bench proxies`: meshproxy beside other proxies."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import click

from .. import charts, comparison, origin, wrk
from ..cases import CASES, Case
from ..comparison import STEADY
from ..interpreter import description, interpreter
from ..kept import Part, Place, written
from ..peers import MESHPROXY, PEERS, Peer
from ..processes import ended_by_signals
from ..proxies import detail, measure
from ..steady import measure_steady
from ..usage import Others
from .options import (
    Names,
    chart_option,
    console,
    disturbance,
    json_option,
    keep_option,
    progress_bar,
    python_option,
    resume_option,
    seconds_option,
)

_CASES: dict[str, Case | None] = {case.name: case for case in CASES} | {STEADY: None}
_PEERS = {peer.name.lower(): peer for peer in PEERS}


@click.command()
@click.option(
    "--cases", type=Names(_CASES), default=list(_CASES.values()), show_default=False, help=f"Of {', '.join(_CASES)}."
)
@click.option(
    "--only", type=Names(_PEERS), default=list(PEERS), show_default=False, help=f"Proxies of {', '.join(_PEERS)}."
)
@click.option("--rounds", type=click.IntRange(1), default=8, show_default=True)
@seconds_option
@python_option
@json_option
@chart_option
@keep_option
@resume_option
def proxies(
    cases: list[Case | None],
    only: list[Peer],
    rounds: int,
    seconds: float,
    python: Path | None,
    json_file: Path | None,
    chart: Path | None,
    kept: bool,
    resume: bool,
) -> None:
    """Compare meshproxy with other proxies, case by case: what a request costs, and how long it takes.

    All run one worker, configured alike, and are loaded in turn, round after round. What counts is the ratio of CPU
    time a request: it drifts least.

    \b
    Examples:
      python -m bench proxies --cases get-32,headers --only meshproxy,envoy --rounds 12
      python -m bench proxies --keep --resume
    """
    wrk.require()
    if kept or chart is not None:
        charts.require()
    with console.status("preparing a Python that has meshproxy and aiohttp"):
        python = interpreter(python)
    versions = {peer: version for peer in only if (version := peer.version(python))}
    for peer in only:
        if peer not in versions:
            console.print(f"[yellow]{peer.name} is not here[/]: {peer.how_to_get}")
    if not versions:
        raise click.ClickException("there is no proxy to measure")
    console.print(about := _about(versions, python, rounds, seconds))
    place = Place("proxies")
    known = place.parts() if kept else {}
    if resume:
        cases = [case for case in cases if not _is_known(case, known, about)]
    found: dict[str, Part] = {}
    others = Others()

    def add(name: str, data: dict[str, Any]) -> None:
        nonlocal others
        found[name] = known[name] = Part(about, others.share(), data)
        others = Others()
        if kept:
            place.keep(known, comparison.page(known))

    with ended_by_signals(), progress_bar() as progress:
        measured = [case for case in cases if case is not None]
        for result in measure(measured, list(versions), python, rounds=rounds, seconds=seconds, progress=progress):
            console.print(detail(result).rich())
            add(result.case.name, result.as_dict())
        if None in cases and MESHPROXY in versions:
            steady = measure_steady(list(versions), python, rounds=rounds, seconds=seconds, progress=progress)
            console.print(steady.table().rich())
            add(STEADY, steady.as_dict())
    if found:
        console.print(comparison.overview(found).rich())
    disturbance(max((part.others for part in found.values()), default=0.0))
    if json_file is not None:
        json_file.write_text(written(found))
    if chart is not None:
        comparison.draw(chart, found)
    if kept:
        comparison.draw(place.chart, known)


def _is_known(case: Case | None, known: dict[str, Part], about: str) -> bool:
    """Whether a case was measured before, with the same programs, as often, and here."""
    name = STEADY if case is None else case.name
    return name in known and known[name].about == about


def _about(versions: dict[Peer, str], python: Path, rounds: int, seconds: float) -> str:
    """What ran, and where: without it the figures say nothing."""
    proxies = ", ".join(f"{peer.name} {version}" for peer, version in versions.items())
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()} {platform.machine()}"
    return (
        f"{proxies}; meshproxy and aiohttp on {description(python)}; origin: {origin.name()}. "
        f"{rounds} rounds of {seconds:g} s on {machine}."
    )
