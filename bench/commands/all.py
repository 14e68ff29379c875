"""`python -m bench all`: everything that `README.md` shows."""

from __future__ import annotations

from pathlib import Path

import click

from .options import python_option
from .profile import profile
from .proxies import proxies
from .scale import scale


@click.command()
@python_option
@click.pass_context
def all(context: click.Context, python: Path | None) -> None:
    """Run proxies, scale and profile, and put what they find into bench/README.md and bench/results/."""
    for command in (proxies, scale, profile):
        context.invoke(command, python=python, kept=True)
