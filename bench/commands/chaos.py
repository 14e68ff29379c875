"""`python -m bench chaos`: what clients see while endpoints fail."""

from __future__ import annotations

from pathlib import Path

import click

from meshproxy.cli.parameters import Duration

from .. import charts
from ..chaos import GOAL, POLICIES, faults, panels, run, table
from ..interpreter import description, interpreter
from ..processes import ended_by_signals
from ..report import RESULTS
from .options import Names, chart_option, console, json_option, keep, keep_option, python_option, write_json


@click.command()
@click.option("--duration", "duration_s", type=Duration(), default="60s", show_default=True, help="Of each run.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=200, show_default=True, help="Requests/s.")
@click.option(
    "--policies",
    type=Names({name: name for name in POLICIES}),
    default=list(POLICIES),
    show_default=False,
    help=f"Of {', '.join(POLICIES)}; a run each.",
)
@python_option
@json_option
@chart_option
@keep_option
def chaos(
    duration_s: float,
    rate: float,
    policies: list[str],
    python: Path | None,
    json_file: Path | None,
    chart: Path | None,
    kept: bool,
) -> None:
    """Load five endpoints while one after the other is killed, hung, slowed and broken, and restored.

    Each fault lasts 8 sixtieths of the run; the policies' times are in sixtieths too.

    \b
    Example:
      python -m bench chaos --chart chaos.png
    """
    if kept or chart is not None:
        charts.require()
    with console.status("preparing a Python that has meshproxy"):
        python = interpreter(python)
    courses = []
    with ended_by_signals():
        for name in policies:
            with console.status(f"{name}: {duration_s:g} s of load"):
                courses.append(run(name, python, duration_s=duration_s, rate=rate))
    found = table(courses)
    console.print(found.rich())
    for course in courses:
        worst = max(failed / max(requests, 1) for failed, requests in map(course.errors, faults(duration_s)))
        if course.policies == "retries-and-ejection":
            console.print(f"at worst {worst:.2%} failed while an endpoint was down (goal: at most {GOAL:.1%})")
    about = f"{rate:g} requests/s for {duration_s:g} s a run; meshproxy on {description(python)}."
    data = {"about": about, "runs": [course.as_dict() for course in courses]}
    write_json(data, json_file)
    if chart is not None:
        charts.lines(chart, panels(courses))
    if kept:
        keep("chaos", f"{about}\n\n{found.markdown()}", data)
        charts.lines(RESULTS / "chaos.png", panels(courses))
