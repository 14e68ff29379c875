"""`python -m bench load`: a load generator for people without wrk."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import trio

from meshproxy.cli.parameters import Duration

from ..load import Outcome, generate, target
from ..report import Table
from ..thresholds import Threshold, parse
from .options import console, json_option, write_json

# A figure is worth no more than this allows: see `Outcome.own_delays`.
_TELLING_DELAY_MS = 1.0


class ThresholdType(click.ParamType[Threshold]):
    """A figure and its limit."""

    name = "figure=limit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Threshold:
        try:
            return value if isinstance(value, Threshold) else parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class HeaderType(click.ParamType[tuple[str, str]]):
    """`name: value`"""

    name = "name: value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, colon, content = str(value).partition(":")
        if not colon or not name.strip():
            self.fail(f"{value!r} is no header; write it as 'accept: */*'", param, ctx)
        return name.strip(), content.strip()


@click.command()
@click.argument("url")
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=1000, show_default=True, help="Requests/s.")
@click.option("--duration", type=Duration(), default="10s", show_default=True)
@click.option("--connections", type=click.IntRange(1), default=32, show_default=True)
@click.option("--timeout", type=Duration(), default="10s", show_default=True, help="From when a request is due.")
@click.option("--method", default="GET", show_default=True)
@click.option("--header", "headers", type=HeaderType(), multiple=True, help="'name: value'. Repeatable.")
@click.option("--data", default="", help="The body; @FILE reads it from a file.")
@click.option("--fail-over", "thresholds", type=ThresholdType(), multiple=True, help="p99=50ms, errors=0. Repeatable.")
@json_option
def load(
    url: str,
    rate: float,
    duration: float,
    connections: int,
    timeout: float,
    method: str,
    headers: tuple[tuple[str, str], ...],
    data: str,
    thresholds: tuple[Threshold, ...],
    json_file: Path | None,
) -> None:
    """Send requests at a fixed rate, and tell how long the answers take.

    An open loop: requests are due at even intervals, whatever the server does, and a latency counts from when its
    request was due, so that a server which stalls cannot hide it (coordinated omission).

    On one core of a machine of 2024 it reaches about 10,000 requests/s. Where it was late itself, it says so: then
    lower the rate, or take another machine.

    Exit codes: 0; 1 when a figure is over what --fail-over allows; 2 when an option makes no sense.

    \b
    Example:
      python -m bench load http://127.0.0.1:8080/ --rate 2000 --duration 30s --fail-over p99=50ms --fail-over errors=0
    """
    try:
        aim = target(url, method, headers, Path(data[1:]).read_bytes() if data.startswith("@") else data.encode())
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from error
    with click.progressbar(length=max(round(rate * duration), 1), file=sys.stderr, label="requests") as bar:
        outcome = trio.run(
            lambda: generate(
                aim,
                rate=rate,
                duration_s=duration,
                connections=connections,
                timeout_s=timeout,
                told=lambda over: bar.update(over - bar.pos),
            )
        )
        bar.update(outcome.requests - bar.pos)
    _show(outcome)
    write_json(outcome.as_dict(), json_file)
    over = [(one, exceeded) for one in thresholds if (exceeded := one.exceeded_by(outcome))]
    for threshold, exceeded in over:
        click.echo(f"over {threshold.text}: {exceeded}", err=True)
    sys.exit(1 if over else 0)


def _show(outcome: Outcome) -> None:
    figures = outcome.as_dict()
    console.print(f"{outcome.requests:,} requests in {outcome.seconds:.1f} s")
    if outcome.latencies.count:
        rows = [(name, f"{value:.3f}") for name, value in figures["latency_ms"].items()]
        console.print(Table("Latency", ("", "ms"), rows).rich())
    for status, count in figures["statuses"].items():
        console.print(f"{count:,} with status {status}")
    for kind, count in figures["errors"].items():
        console.print(f"[red]{count:,} failed: {kind}[/]")
    if (late := figures["own_delay_ms"]["p99"]) > _TELLING_DELAY_MS:
        console.print(f"[yellow]the generator itself was late, by {late:.1f} ms at the 99th percentile[/]")
