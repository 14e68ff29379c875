"""`python -m bench`."""

from __future__ import annotations

import click

from .commands.access import access
from .commands.all import all
from .commands.balancers import balancers
from .commands.chaos import chaos
from .commands.load import load
from .commands.pair import pair
from .commands.policies import policies
from .commands.profile import profile
from .commands.proxies import proxies
from .commands.scale import scale
from .commands.tls import tls


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """What does the proxy cost? Load, and comparisons with other proxies."""


for command in (proxies, load, scale, policies, chaos, profile, balancers, access, tls, pair, all):
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="python -m bench")
