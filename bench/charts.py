"""Draws results as PNG files, small enough to keep beside the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

_DPI = 80
_COLOURS = ("#1b6ca8", "#c44536", "#7a9e3f", "#e0a030", "#7b5ea7", "#888888")


@dataclass(frozen=True)
class Series:
    """Points that belong together."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One plot among several; `log_x` for sizes that grow tenfold."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    log_x: bool = True


def bars(path: Path, title: str, groups: Sequence[str], values: Mapping[str, Sequence[float]]) -> None:
    """A group of bars a case, a bar a proxy, and a line at 1. Raises `ClickException` where there is no matplotlib."""
    plot = _matplotlib()
    figure, axes = plot.subplots(figsize=(9, 0.7 + 0.6 * len(groups)), layout="constrained")
    height = 0.8 / len(values)
    for number, (name, lengths) in enumerate(values.items()):
        places = [place + number * height for place in range(len(groups))]
        axes.barh(places, lengths, height, label=name, color=_COLOURS[number % len(_COLOURS)])
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(groups))], groups)
    axes.invert_yaxis()
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xlabel(title)
    axes.legend()
    _save(plot, figure, path)


def lines(path: Path, panels: Sequence[Panel]) -> None:
    """Plots beside each other, each from 0 up. Raises `ClickException` where there is no matplotlib."""
    plot = _matplotlib()
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure, grid = plot.subplots(rows, columns, figsize=(5 * columns, 3.5 * rows), layout="constrained", squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(panels):
            axes.remove()
            continue
        panel = panels[place]
        for number, series in enumerate(panel.series):
            axes.plot(series.x, series.y, marker="o", label=series.label, color=_COLOURS[number % len(_COLOURS)])
        axes.set_title(panel.title, fontsize="medium")
        axes.set_xlabel(panel.x_label)
        axes.set_ylabel(panel.y_label)
        axes.set_ylim(0, 1.1 * max(value for series in panel.series for value in series.y))
        if panel.log_x:
            axes.set_xscale("log")
        if len(panel.series) > 1:
            axes.legend()
    _save(plot, figure, path)


def require() -> None:
    """Raises `ClickException` where nothing can be drawn: better before a long run than behind it."""
    _matplotlib()


def _matplotlib() -> Any:
    try:
        import matplotlib
        import matplotlib.pyplot
    except ImportError as error:
        raise click.ClickException("charts need matplotlib: pip install '.[bench]'") from error
    matplotlib.use("Agg")
    return matplotlib.pyplot


def _save(plot: Any, figure: Any, path: Path) -> None:
    # Without the version of matplotlib in it, the same figures make the same file.
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    plot.close(figure)
