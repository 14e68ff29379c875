"""What several commands have: options, the console, the progress bar, and where results go."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .. import wrk
from ..interpreter import interpreter
from ..kept import Part, Place, abouts, written
from ..report import README, RESULTS, Table, replaced

console = Console(highlight=False)

One = TypeVar("One")

# Envoy's cost a request has been seen to double on a busy machine, and ours to grow by a quarter.
_TELLING_SHARE = 0.1


class OutputType(click.Path):
    """A file to write, in a folder that is there: that it is not is told before a quarter of an hour is over."""

    name = "path"

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False, writable=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(str(super().convert(value, param, ctx)))
        if not path.parent.is_dir():
            self.fail(f"{str(path.parent)!r} is no folder", param, ctx)
        return path


python_option = click.option(
    "--python",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The Python that runs meshproxy; Debian's /usr/bin/python3 by default.",
)
json_option = click.option("--json", "json_file", type=OutputType(), help="Write all figures here.")
keep_option = click.option(
    "--keep",
    "kept",
    is_flag=True,
    help="Put the tables into bench/README.md, the rest into bench/results/, beside what is kept of other parts.",
)
resume_option = click.option(
    "--resume", is_flag=True, help="With --keep: leave out what is kept of the same programs, measured in the same way."
)
seconds_option = click.option(
    "--seconds", type=click.FloatRange(0.1), default=1.0, show_default=True, help="Of a round."
)
chart_option = click.option("--chart", type=OutputType(), help="Draw them here, as PNG.")


def rounded(rounds: int, seconds: float) -> str:
    """How often something was measured, for people."""
    return f"medians of {rounds} rounds of {seconds:g} s"


class Names(click.ParamType[list[One]], Generic[One]):
    """Names out of some, separated by commas."""

    name = "name,..."

    def __init__(self, known: dict[str, One]) -> None:
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[One]:
        if isinstance(value, list):
            return value
        names = value.split(",")
        for name in names:
            if name not in self._known:
                self.fail(f"{name!r} is none of {', '.join(self._known)}", param, ctx)
        return [one for name, one in self._known.items() if name in names]


def progress_bar() -> Progress:
    """One line: what is done, how far we are, how long it still takes."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True)


def disturbance(others: float) -> None:
    """Warn if other programs took a large share of the machine meanwhile."""
    if others > _TELLING_SHARE:
        console.print(f"[yellow]other programs took {others:.0%} of the machine: run this again when it is quiet[/]")


def prepared(python: Path | None) -> Path:
    """The Python that runs meshproxy, made ready for it. Raises `ClickException` where there is no wrk."""
    wrk.require()
    with console.status("preparing a Python that has meshproxy"):
        return interpreter(python)


def conclude(
    section: str, parts: Mapping[str, Part], tables: Sequence[Table], *, json_file: Path | None, kept: bool
) -> None:
    """Write what was measured where it is wanted, and warn if the machine had more to do."""
    disturbance(max(part.others for part in parts.values()))
    if json_file is not None:
        json_file.write_text(written(parts))
    if kept:
        markdown = "\n".join(table.markdown() for table in tables)
        Place(section).keep(parts, f"{abouts(parts)}\n{taken(parts)}\n\n{markdown}")


def taken(parts: Mapping[str, Part]) -> str:
    """How much of the machine others had, for people."""
    shares = ", ".join(f"{name} {part.others:.0%}" for name, part in parts.items())
    return f"Other programs took of the machine: {shares}."


def write_json(data: object, path: Path | None) -> None:
    """Write figures, if they are wanted."""
    if path is not None:
        path.write_text(json.dumps(data, indent=1) + "\n")


def keep(section: str, content: str, data: object) -> None:
    """Put a run's tables into `README.md`, and its figures into `results/`."""
    README.write_text(replaced(README.read_text(), section, content))
    write_json(data, RESULTS / f"{section}.json")
