"""What did the person ask for? The `meshproxy` command.

- `run` runs a gateway.
- `check` tells what is wrong with a configuration.
- `configuration` reads and checks files, for every command that takes them.
- `parameters` reads what people type: addresses, ports, durations, labels.

Exit codes: 0 when all went well, 1 when there is something for the user to mend, 2 when the command could not be
carried out at all: a file that cannot be read, an option that makes no sense.
"""

from __future__ import annotations

import click

from .. import __version__
from .check import check
from .run import run


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="meshproxy")
def main() -> None:
    """A service mesh in one pip install: your Istio YAML, enforced on this machine.

    \b
    Check a folder of YAML, then run it as an ingress gateway, its port 80 on local port 8080:
      meshproxy check policies/quickstart
      meshproxy run -f policies/quickstart --publish 80:8080
    """


main.add_command(check)
main.add_command(run)
