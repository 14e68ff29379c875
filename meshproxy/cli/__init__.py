"""What did the person ask for? The `meshproxy` command.

- `run` runs a gateway, `sidecar` a proxy beside an app.
- `check` tells what is wrong with a configuration.
- `explain` tells what becomes of a request, and why; `explanation` presents it.
- `export` writes what a proxy would run as another proxy's configuration.
- `test` runs unit tests of routing.
- `ca` is the certificate authority.
- `fields` tells which fields are honoured.
- `schema` writes JSON Schema, for editors.
- `token` makes tokens for development, and looks into any.
- `serving` is what the commands that serve have in common, `app` the app beside a sidecar.
- `configuration` reads and checks files, for every command that takes them.
- `parameters` reads what people type: addresses, ports, durations, labels.

Exit codes: 0 when all went well, 1 when there is something for the user to mend, 2 when the command could not be
carried out at all: a file that cannot be read, an option that makes no sense.
"""

from __future__ import annotations

import gc

import click

from .. import __version__
from .ca import ca
from .check import check
from .explain import explain
from .export import export
from .fields import fields
from .run import run
from .schema import schema
from .sidecar import sidecar
from .test import test
from .token import token


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="meshproxy")
def main() -> None:
    """A service mesh in one pip install: your Istio YAML, enforced on this machine.

    \b
    Check a folder of YAML, then run it as an ingress gateway, its port 80 on local port 8080:
      meshproxy check policies/quickstart
      meshproxy run -f policies/quickstart --publish 80:8080
    """
    # What a command reads and makes, it keeps to its end, or until it serves. Measured, the search for garbage among it
    # was half of the time that a thousand VirtualServices took to start, and two thirds with ten thousand.
    gc.disable()


main.add_command(check)
main.add_command(explain)
main.add_command(run)
main.add_command(sidecar)
main.add_command(export)
main.add_command(test)
main.add_command(ca)
main.add_command(fields)
main.add_command(schema)
main.add_command(token)
