"""`python -m bench pair`: what two sidecars cost a request, by mutual TLS and without."""

from __future__ import annotations

from pathlib import Path

import click

from ..interpreter import description
from ..kept import Part
from ..pairs import measure
from ..peers import ENVOY, MESHPROXY
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
from .tls import compared


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=8, show_default=True)
@seconds_option
@python_option
@json_option
@keep_option
def pair(rounds: int, seconds: float, python: Path | None, json_file: Path | None, kept: bool) -> None:
    """Tell what two sidecars cost a request, by mutual TLS and without, beside two Envoys.

    \b
    Example:
      python -m bench pair --rounds 12
    """
    python = prepared(python)
    peers = [peer for peer in (MESHPROXY, ENVOY) if peer.version(python)]
    about = f"meshproxy on {description(python)}; CPU of both sidecars of a pair; {rounded(rounds, seconds)}."
    others = Others()
    with ended_by_signals(), progress_bar() as progress:
        found = list(measure(peers, python, rounds=rounds, seconds=seconds, progress=progress))
    parts = {"pair": Part(about, others.share(), {"cases": [one.as_dict() for one in found]})}
    table = compared(found)
    console.print(table.rich())
    conclude("pair", parts, [table], json_file=json_file, kept=kept)
