"""`meshproxy check`: what is wrong with a configuration, all of it, each with its place and its cure."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import click

from ..mesh import gateway_snapshot, secrets_of_rules
from ..resources import Note, Problem
from .configuration import EXIT_PROBLEMS, Configuration, count, files_root_option, namespace_option, read, rooted


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object, for programs.")
@namespace_option
@files_root_option
def check(paths: tuple[str, ...], as_json: bool, namespace: str, files_root: Path | None) -> None:
    """Check YAML files, folders, or - for stdin.

    Each problem is a line `file:line:column: Kind/name.namespace: path: what is wrong, and what would be right`.
    Exits with 0 when there is none, 1 when there are some, 2 when a path cannot be read.

    \b
    Example:
      meshproxy check policies/quickstart
      kubectl get gateways,virtualservices,services -A -o yaml | meshproxy check -
    """
    configuration = read(paths, namespace)
    if not configuration.problems:
        configuration = configuration.with_more(*_material(configuration, namespace, files_root))
    if as_json:
        click.echo(json.dumps(_as_dict(configuration), indent=1))
    else:
        _show(configuration)
    sys.exit(EXIT_PROBLEMS if configuration.problems else 0)


def _material(
    configuration: Configuration, namespace: str, files_root: Path | None
) -> tuple[list[Problem], list[Note]]:
    """What is to be said of the key material of a gateway that runs all Gateways, and of all DestinationRules."""
    mesh = configuration.mesh
    snapshot = gateway_snapshot(mesh, namespace=namespace)
    secrets = {secret.name: secret for secret in (*secrets_of_rules(mesh, namespace), *snapshot.secrets)}
    snapshot = rooted(replace(snapshot, secrets=tuple(secrets.values())), files_root)
    if not snapshot.secrets:
        return [], []
    from .material import material_findings  # what reads certificates takes its time to load

    return material_findings(snapshot.secrets)


def _as_dict(configuration: Configuration) -> dict[str, object]:
    return {
        "resources": len(configuration.mesh.resources),
        "problems": [problem.as_dict() for problem in configuration.problems],
        "notes": [
            {"file": note.position.file, "line": note.position.line, "message": note.message}
            for note in configuration.notes
        ],
    }


def _show(configuration: Configuration) -> None:
    for problem in configuration.problems:
        place, text = str(problem.position), str(problem).removeprefix(str(problem.position))
        click.echo(click.style(place, bold=True) + text)
    for note in configuration.notes:
        click.echo(click.style(str(note), dim=True), err=True)
    if configuration.problems:
        click.secho(count(len(configuration.problems), "problem"), fg="red", err=True)
    else:
        resources = count(len(configuration.mesh.resources), "resource")
        click.secho(f"{resources}, no problems", fg="green", err=True)
