"""`python -m bench all`: everything that `README.md` shows."""

from __future__ import annotations

from pathlib import Path

import click

from .access import access
from .balancers import balancers
from .options import python_option, resume_option
from .pair import pair
from .policies import policies
from .profile import profile
from .proxies import proxies
from .scale import scale
from .tls import tls


@click.command()
@python_option
@resume_option
@click.pass_context
def all(context: click.Context, python: Path | None, resume: bool) -> None:
    """Run all but load and chaos, and put what they find into bench/README.md and bench/results/.

    With --resume, go on where a run was broken off.
    """
    for command in (proxies, scale):
        context.invoke(command, python=python, kept=True, resume=resume)
    for command in (policies, access, tls, pair, balancers, profile):
        context.invoke(command, python=python, kept=True)
