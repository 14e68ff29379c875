"""`python -m bench scale`: cost and memory against size."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import click

from .. import charts
from ..interpreter import description
from ..kept import Part, Place, abouts, in_order, written
from ..processes import ended_by_signals
from ..scale import DIMENSIONS, START_GOAL, Dimension, Growth, measure, start_times
from ..usage import Others
from .options import (
    Names,
    chart_option,
    console,
    disturbance,
    json_option,
    keep_option,
    prepared,
    progress_bar,
    python_option,
    resume_option,
    taken,
)

_START = "start"
_OF: dict[str, Dimension | None] = {one.name.replace(" ", "-"): one for one in DIMENSIONS} | {_START: None}


@click.command()
@click.option("--of", type=Names(_OF), default=list(_OF.values()), show_default=False, help=f"Of {', '.join(_OF)}.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@python_option
@json_option
@chart_option
@keep_option
@resume_option
def scale(
    of: list[Dimension | None],
    rounds: int,
    python: Path | None,
    json_file: Path | None,
    chart: Path | None,
    kept: bool,
    resume: bool,
) -> None:
    """Tell what CPU time a request, memory and start-up cost as the configuration grows.

    \b
    Example:
      python -m bench scale --of virtual-hosts,routes --chart scale.png
    """
    if kept or chart is not None:
        charts.require()
    python = prepared(python)
    about = f"meshproxy on {description(python)}; medians of {rounds} rounds."
    place = Place("scale")
    known = place.parts() if kept else {}
    found: dict[str, Part] = {}
    with ended_by_signals(), progress_bar() as progress:
        for name, dimension in _OF.items():
            if dimension not in of or (resume and name in known and known[name].about == about):
                continue
            others = Others()
            if dimension is None:
                data = {"start_s": start_times(python, rounds=rounds, progress=progress)}
            else:
                data = measure(dimension, python, rounds=rounds, progress=progress).as_dict()
            found[name] = known[name] = Part(about, others.share(), data)
            console.print(_start_line(found[name]) if dimension is None else Growth.of(data).table().rich())
            if kept:
                place.keep(known, _page(known))
    disturbance(max((part.others for part in found.values()), default=0.0))
    if json_file is not None:
        json_file.write_text(written(found))
    if chart is not None:
        _draw(chart, found)
    if kept:
        _draw(place.chart, known)


def _page(parts: dict[str, Part]) -> str:
    """All that was measured, as a section of `README.md`."""
    parts = in_order(parts, _OF)
    tables = [Growth.of(part.data).table().markdown() for name, part in parts.items() if name != _START]
    start = [_start_line(parts[_START])] if _START in parts else []
    return "\n".join([abouts(parts), taken(parts), "", *tables, *start])


def _draw(path: Path, parts: dict[str, Part]) -> None:
    grown = [Growth.of(part.data) for name, part in in_order(parts, _OF).items() if name != _START]
    if grown:
        charts.lines(path, [panel for one in grown for panel in one.panels()])


def _start_line(part: Part) -> str:
    seconds: list[float] = part.data["start_s"]
    told = f"{median(seconds):.2f} s, from {min(seconds):.2f} to {max(seconds):.2f}"
    return f"From start to ready: {told} (goal: {START_GOAL})"
