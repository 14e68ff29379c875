"""Tables, for the terminal and for `README.md`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table as RichTable

README = Path(__file__).with_name("README.md")
RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Table:
    """A table of text; the first column is a name, the others are figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def rich(self) -> RichTable:
        """For the terminal."""
        table = RichTable(title=self.title, title_justify="left")
        for place, column in enumerate(self.columns):
            table.add_column(column, justify="right" if place else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For `README.md`."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        return f"**{self.title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def replaced(text: str, section: str, content: str) -> str:
    """`text` with what stands between `<!-- section -->` and `<!-- /section -->` replaced. Raises `ValueError`."""
    opening, closing = f"<!-- {section} -->\n", f"<!-- /{section} -->"
    pattern = re.compile(f"{re.escape(opening)}.*?{re.escape(closing)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"there has to be one section {opening.strip()} ... {closing}")
    return pattern.sub(lambda _: f"{opening}\n{content.strip()}\n\n{closing}", text)


def figure(value: float) -> str:
    """A number with three significant digits, for people: `0.123`, `12.3`, `12,300`."""
    if abs(value) >= 100:
        return f"{round(value, 3 - len(str(int(abs(value))))):,.0f}"
    return f"{value:.3g}"
