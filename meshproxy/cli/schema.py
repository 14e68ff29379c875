"""`meshproxy schema`: JSON Schema, so that editors complete and check the YAML."""

from __future__ import annotations

import json

import click

from ..resources import Kind, kind_schema, mesh_schema
from .fields import KindName


@click.command()
@click.argument("kind", type=KindName(), required=False)
def schema(kind: Kind | None) -> None:
    """Write the JSON Schema (2020-12) of KIND, or one for documents of all kinds.

    Editors complete and check by it; a field that is not supported yet is marked as deprecated. `meshproxy check` finds
    more: what a schema cannot say. Exits with 2 when there is no such KIND.

    \b
    Example, and the line for the settings.json of VS Code with its YAML extension:
      meshproxy schema > meshproxy.schema.json
      "yaml.schemas": {"./meshproxy.schema.json": ["policies/**/*.yaml", "!**/*.meshtest.yaml"]}
    """
    click.echo(json.dumps(kind_schema(kind) if kind else mesh_schema(), indent=1))
