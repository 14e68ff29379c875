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
- `identity` has the options by which those get theirs; `authorities` finds the CA that they name.
- `parameters` reads what people type: addresses, ports, durations, labels.

Exit codes: 0 when all went well, 1 when there is something for the user to mend, 2 when the command could not be
carried out at all: a file that cannot be read, an option that makes no sense.
"""

from __future__ import annotations

import gc
from importlib import import_module

import click

from .. import __version__

COMMANDS = ("ca", "check", "explain", "export", "fields", "run", "schema", "sidecar", "test", "token")
"""Each is the function of its name, in the module of its name."""


class _Commands(click.Group):
    """Commands that are imported when they are asked for: nobody waits for what only others need."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order in which help lists them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, if there is one."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f".{cmd_name}", __name__), cmd_name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
