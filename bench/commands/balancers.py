"""`python -m bench balancers`: what the choice of an endpoint costs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import click

from ..interpreter import description, interpreter
from ..kept import Part, Place, abouts, written
from ..processes import ended_by_signals
from ..report import Table, figure
from ..usage import Others
from .options import console, disturbance, json_option, keep_option, python_option

_PROGRAM = Path(__file__).parents[1] / "balancing_program.py"
_GOAL_US = 3.0


@click.command()
@python_option
@json_option
@keep_option
def balancers(python: Path | None, json_file: Path | None, kept: bool) -> None:
    """Time the making of rings and tables, which each change of hosts does, and the choice of a host.

    By the wall clock, the best of several: on a machine that does nothing else.
    """
    with console.status("preparing a Python that has meshproxy"):
        python = interpreter(python)
    others = Others()
    with ended_by_signals(), console.status("making rings and tables"):
        told = subprocess.run([python, "-P", _PROGRAM], stdout=subprocess.PIPE, check=True).stdout
    part = Part(f"meshproxy on {description(python)}.", others.share(), {"rows": json.loads(told)})
    console.print((table := _table(part)).rich())
    disturbance(part.others)
    if json_file is not None:
        json_file.write_text(written({"balancers": part}))
    if kept:
        parts = {"balancers": part}
        about = f"{abouts(parts)} Other programs took {part.others:.0%} of the machine."
        Place("balancers").keep(parts, f"{about}\n\n{table.markdown()}")


def _table(part: Part) -> Table:
    rows = [(name, f"{hosts:,}", figure(made), figure(chosen)) for name, hosts, made, chosen in part.data["rows"]]
    title = f"What a choice costs; goal: under {_GOAL_US:g} µs"
    return Table(title, ("policy", "hosts", "made in ms", "a choice in µs"), rows)
