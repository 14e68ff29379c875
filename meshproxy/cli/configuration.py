"""Reads and checks files, for every command that takes them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import click

from ..mesh import ROOT_NAMESPACE, Mesh, analyse, build_mesh, remarks
from ..resources import Note, Problem, Unreadable, load
from .parameters import LocalityParameter

EXIT_PROBLEMS = 1
EXIT_UNUSABLE = 2


@dataclass(frozen=True)
class Configuration:
    """What the files say, and what is wrong with it, in the order of the files."""

    mesh: Mesh
    problems: tuple[Problem, ...]
    notes: tuple[Note, ...]

    def with_more(self, problems: Iterable[Problem], notes: Iterable[Note]) -> Configuration:
        """The same with what a command has found besides."""
        return replace(self, problems=(*self.problems, *problems), notes=(*self.notes, *notes))


namespace_option = click.option(
    "--namespace",
    default=ROOT_NAMESPACE,
    show_default=True,
    help="Where the gateway itself runs; it decides which resources exportTo shows it.",
)


locality_option = click.option(
    "--locality",
    type=LocalityParameter(),
    help="Where the proxy runs, for DestinationRules that mind it. A sidecar is where its WorkloadEntry says.",
)


def read(
    paths: Sequence[str], namespace: str = ROOT_NAMESPACE, labels: Mapping[str, str] | None = None
) -> Configuration:
    """Load files, folders and `-`, and check them for a gateway of `namespace` with `labels`.

    Exits with 2 when one is unreadable.
    """
    try:
        loaded = load(paths, stdin=sys.stdin.buffer)
    except Unreadable as error:
        for path, reason in error.failures:
            click.echo(f"meshproxy: cannot read {path}: {reason}", err=True)
        sys.exit(EXIT_UNUSABLE)
    mesh = build_mesh(loaded.resources)
    found = analyse(mesh, namespace=namespace, labels=labels, invalid=loaded.invalid, partial=loaded.partial)
    problems = [*loaded.problems, *found]
    notes = (*loaded.notes, *remarks(mesh))
    return Configuration(mesh, tuple(sorted(problems, key=lambda problem: problem.position)), notes)


def count(number: int, thing: str) -> str:
    """`1 problem`, `2 problems`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
