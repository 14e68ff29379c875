"""`meshproxy fields`: every field of every kind, and what meshproxy does with it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import click

from ..resources import KINDS, FieldPath, Kind, field_paths, kind_named

STATUSES = ("honoured", "refused", "not-yet")
_COLOURS = {"honoured": "green", "refused": "red", "not-yet": "yellow"}

_PREFACE = """\
# Fields

Every field of the kinds that meshproxy knows, by its path below `spec`: `[]` is a list, `{}` a map with keys of yours.

- **honoured**: it does what it does in Istio.
- **refused**: it has no effect in Istio either; setting it is a mistake that `meshproxy check` tells.
- **not-yet**: Istio honours it, meshproxy does not so far. `meshproxy check` tells where it is set, and nothing starts.
  Where only some values are not supported, the reason says which to use instead. A resource of a kind that is not
  supported at all is skipped with a note.

Fields of `metadata` are not listed. This page is written by `meshproxy fields --markdown > docs/fields.md`."""


class KindName(click.ParamType[Kind]):
    """The name of a kind, whatever the case of its letters."""

    name = "kind"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Kind:
        try:
            return value if isinstance(value, Kind) else kind_named(value)
        except LookupError as error:
            self.fail(str(error), param, ctx)


class Row(NamedTuple):
    """A field of a kind."""

    kind: str
    field: FieldPath


@click.command()
@click.argument("kind", type=KindName(), required=False)
@click.option("--status", type=click.Choice(STATUSES), help="Only the fields that are treated so.")
@click.option("--json", "form", flag_value="json", help="Write a JSON array, for programs.")
@click.option("--markdown", "form", flag_value="markdown", help="Write a page with a table for each kind.")
def fields(kind: Kind | None, status: str | None, form: str | None) -> None:
    """List the fields of KIND, or of all kinds, and what meshproxy does with each.

    Each is a line `KIND PATH honoured|refused|not-yet [reason]`. Exits with 2 when there is no such KIND.

    \b
    Example:
      meshproxy fields VirtualService --status not-yet
      meshproxy fields | grep -i timeout
    """
    kinds = [kind.name] if kind else list(KINDS)
    rows = [Row(name, field) for name in kinds for field in field_paths(name) if status in (None, field.support)]
    if form == "json":
        click.echo(json.dumps([_as_dict(row) for row in rows], indent=1))
    elif form == "markdown":
        click.echo(_page(kinds, rows))
    else:
        for row in rows:
            click.echo(_line(row))


def _line(row: Row) -> str:
    path, status, reason = row.field.path, row.field.support, row.field.reason
    return f"{row.kind} {path} {click.style(status, fg=_COLOURS[status])} {reason}".rstrip()


def _as_dict(row: Row) -> dict[str, object]:
    field = row.field
    return {
        "kind": row.kind,
        "path": field.path,
        "type": field.type,
        "values": field.values,
        "status": field.support,
        "reason": field.reason,
    }


def _page(kinds: Iterable[str], rows: list[Row]) -> str:
    of_kind = {kind: [row.field for row in rows if row.kind == kind] for kind in kinds}
    lines = [_PREFACE, "", *_counts(of_kind)]
    for kind, found in of_kind.items():
        lines += ["", f"## {kind}", "", *_table(found)]
    return "\n".join(lines)


def _counts(of_kind: dict[str, list[FieldPath]]) -> Iterator[str]:
    yield f"| kind | {' | '.join(STATUSES)} |"
    yield "|---|" + "---:|" * len(STATUSES)
    for kind, found in of_kind.items():
        counts = Counter(field.support for field in found)
        yield f"| [{kind}](#{kind.lower()}) | {' | '.join(str(counts[status]) for status in STATUSES)} |"


def _table(found: list[FieldPath]) -> Iterator[str]:
    yield "| path | type | status | reason |"
    yield "|---|---|---|---|"
    for field in found:
        values = f": {', '.join(field.values)}" if field.values else ""
        yield f"| `{field.path}` | {field.type}{values} | {field.support} | {field.reason} |"
