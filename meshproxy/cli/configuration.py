"""Reads and checks files, for every command that takes them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from ..mesh import ROOT_NAMESPACE, Mesh, analyse, build_mesh, remarks
from ..resources import Note, Problem, Unreadable, load
from ..snapshot import DataSource, FileSource, Secret, Snapshot, SystemRoots, TlsCertificate, TrustedCa
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


files_root_option = click.option(
    "--files-root",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the paths of certificates and keys in resources begin, as if it were /: pods have them mounted.",
)


def rooted(snapshot: Snapshot, files_root: Path | None) -> Snapshot:
    """A snapshot whose files are below `files_root`, if there is one."""
    if files_root is None:
        return snapshot
    root: Path = files_root

    def below(source: DataSource | SystemRoots | None) -> Any:
        return FileSource(str(root / source.path.lstrip("/"))) if isinstance(source, FileSource) else source

    def moved(secret: Secret) -> Secret:
        source = secret.source
        if isinstance(source, TlsCertificate):
            source = TlsCertificate(below(source.certificate_chain), below(source.private_key))
        elif isinstance(source, TrustedCa):
            source = TrustedCa(below(source.trusted_ca), below(source.crl))
        return replace(secret, source=source)

    return replace(snapshot, secrets=tuple(map(moved, snapshot.secrets)))


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
