"""The command line: `python -m bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from . import proxies as proxies_
from . import wrk
from .cases import CASES
from .interpreter import description, interpreter
from .peers import ENVOY, PEERS
from .processes import ended_by_signals

console = Console(highlight=False)


class Names(click.ParamType[list[Any]]):
    """Names out of some, separated by commas."""

    name = "name,..."

    def __init__(self, known: dict[str, Any]) -> None:
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        if isinstance(value, list):
            return value
        names = value.split(",")
        for name in names:
            if name not in self._known:
                self.fail(f"{name!r} is none of {', '.join(self._known)}", param, ctx)
        return [one for name, one in self._known.items() if name in names]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """What does the proxy cost?"""


python_option = click.option(
    "--python",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The Python that runs meshproxy and aiohttp; Debian's by default.",
)
json_option = click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures here.")
chart_option = click.option("--chart", type=click.Path(path_type=Path), help="Draw them here, as PNG.")


@main.command()
@click.option(
    "--cases",
    type=Names({case.name: case for case in CASES}),
    default=list(CASES),
    help=f"Of {', '.join(case.name for case in CASES)}.",
)
@click.option(
    "--only",
    type=Names({peer.name.lower(): peer for peer in PEERS}),
    default=list(PEERS),
    help=f"Of {', '.join(peer.name.lower() for peer in PEERS)}.",
)
@click.option("--rounds", type=click.IntRange(1), default=8, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=1, show_default=True, help="Of a round.")
@python_option
@json_option
@chart_option
def proxies(
    cases: list[Any],
    only: list[Any],
    rounds: int,
    seconds: int,
    python: Path | None,
    json_file: Path | None,
    chart: Path | None,
) -> None:
    """Compare meshproxy with other proxies, case by case."""
    wrk.require()
    with console.status("preparing Python"):
        python = interpreter(python)
    console.print(f"meshproxy and aiohttp run on {description(python)}")
    peers = []
    for peer in only:
        if version := peer.version(python):
            peers.append(peer)
            console.print(f"{peer.name} {version}")
        else:
            console.print(f"{peer.name} is not here: {peer.how_to_get}")
    if not peers:
        raise click.ClickException("no proxy to measure")
    reference = (ENVOY if ENVOY in peers else peers[0]).name
    results = []
    with ended_by_signals(), progress_bar() as progress:
        for upstream, result in proxies_.measure(
            cases, peers, python, rounds=rounds, seconds=seconds, progress=progress
        ):
            results.append(result)
            console.print(proxies_.detail(result, reference).rich())
    console.print(f"origin: {upstream.name}")
    console.print(proxies_.overview(results, reference).rich())
    if json_file:
        json_file.write_text(json.dumps([result.as_dict() for result in results], indent=1))


def progress_bar() -> Progress:
    """One line: what is done, how far we are, how long it still takes."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


if __name__ == "__main__":
    main(prog_name="python -m bench")
