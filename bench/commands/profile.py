"""`python -m bench profile`: where a request's time goes."""

from __future__ import annotations

from pathlib import Path

import click

from .. import profiling, wrk
from ..cases import CASES
from ..interpreter import description, interpreter
from ..processes import ended_by_signals
from .options import console, json_option, keep, keep_option, python_option, write_json

_CASES = {case.name: case for case in CASES if not case.access_log}


@click.command()
@click.option("--case", "name", type=click.Choice(list(_CASES)), default=CASES[0].name, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1), default=5.0, show_default=True)
@python_option
@json_option
@keep_option
def profile(name: str, seconds: float, python: Path | None, json_file: Path | None, kept: bool) -> None:
    """Tell where a request's time goes: samples of meshproxy under load, by the part of it that was running."""
    wrk.require()
    with console.status("preparing a Python that has meshproxy"):
        python = interpreter(python)
    case = _CASES[name]
    with ended_by_signals(), console.status(f"sampling for {seconds:g} s"):
        found = profiling.parts(profiling.sample(case, seconds, python))
    table = profiling.table(found, f"{case.name}: where meshproxy's time goes, on {description(python)}")
    console.print(table.rich())
    data = [part._asdict() for part in found]
    write_json(data, json_file)
    if kept:
        keep("profile", table.markdown(), data)
