"""`python -m bench policies`: what traffic policies cost."""

from __future__ import annotations

from pathlib import Path

import click

from ..interpreter import description
from ..kept import Part
from ..policies import Costs, measure
from ..processes import ended_by_signals
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
def policies(rounds: int, seconds: float, python: Path | None, json_file: Path | None, kept: bool) -> None:
    """Tell what retries, timeouts, circuit breakers and outlier detection cost a request that goes well.

    \b
    Example:
      python -m bench policies --rounds 12
    """
    python = prepared(python)
    others = Others()
    with ended_by_signals(), progress_bar() as progress:
        costs = measure(python, rounds=rounds, seconds=seconds, progress=progress)
    about = f"meshproxy on {description(python)}; {rounded(rounds, seconds)}."
    part = Part(about, others.share(), costs.as_dict())
    table = Costs.of(part.data).table()
    console.print(table.rich())
    conclude("policies", {"policies": part}, [table], json_file=json_file, kept=kept)
