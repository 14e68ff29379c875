"""`python -m bench scale`: cost and memory against size."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import click

from .. import charts, wrk
from ..interpreter import description, interpreter
from ..processes import ended_by_signals
from ..report import RESULTS
from ..scale import DIMENSIONS, START_GOAL, Dimension, Growth, measure, start_times
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

_START = "start"
_OF: dict[str, Dimension | None] = {one.name.replace(" ", "-"): one for one in DIMENSIONS} | {_START: None}


@click.command()
@click.option("--of", type=Names(_OF), default=list(_OF.values()), show_default=False, help=f"Of {', '.join(_OF)}.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@python_option
@json_option
@chart_option
@keep_option
def scale(
    of: list[Dimension | None],
    rounds: int,
    python: Path | None,
    json_file: Path | None,
    chart: Path | None,
    kept: bool,
) -> None:
    """Tell what CPU time a request, memory and start-up cost as the configuration grows.

    \b
    Example:
      python -m bench scale --of virtual-hosts,routes --chart scale.png
    """
    wrk.require()
    with console.status("preparing a Python that has meshproxy"):
        python = interpreter(python)
    others = Others()
    found: list[Growth] = []
    ready_s: list[float] = []
    with ended_by_signals(), progress_bar() as progress:
        for dimension in of:
            if dimension is None:
                ready_s = start_times(python, rounds=rounds, progress=progress)
                console.print(_start_line(ready_s))
            else:
                found.append(measure(dimension, python, rounds=rounds, progress=progress))
                console.print(found[-1].table().rich())
    about = f"meshproxy on {description(python)}; medians of {rounds} rounds.{disturbance(others.share())}"
    data = {"about": about, "growth": [one.as_dict() for one in found], "start_s": ready_s}
    write_json(data, json_file)
    panels = [panel for one in found for panel in one.panels()]
    if chart is not None:
        charts.lines(chart, panels)
    if kept:
        start = [_start_line(ready_s)] if ready_s else []
        keep("scale", "\n".join([about, "", *(one.table().markdown() for one in found), *start]), data)
        charts.lines(RESULTS / "scale.png", panels)


def _start_line(seconds: list[float]) -> str:
    least, most = min(seconds), max(seconds)
    return f"From start to ready: {median(seconds):.2f} s, from {least:.2f} to {most:.2f} (goal: {START_GOAL})"
