"""What `results/` holds of a command, part by part: a run that is broken off loses nothing but the part it was at, and
a part can be measured again without the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .report import README, RESULTS, replaced


@dataclass(frozen=True)
class Part:
    """What was found of one case, one dimension, or the like, and what ran."""

    about: str
    """What ran, and where: without it the figures say nothing."""
    others: float
    """The share of the machine that other programs took meanwhile."""
    data: dict[str, Any]
    """The figures, as plain JSON values."""


@dataclass(frozen=True)
class Place:
    """Where a command's results are kept: in `folder`, and in a section of `page` of the same name."""

    section: str
    folder: Path = RESULTS
    page: Path = README

    def parts(self) -> dict[str, Part]:
        """What is kept, by name; nothing where there is no such file."""
        try:
            return read((self.folder / f"{self.section}.json").read_text())
        except FileNotFoundError:
            return {}

    def keep(self, parts: Mapping[str, Part], content: str) -> None:
        """Keep these parts, and show `content` on the page."""
        (self.folder / f"{self.section}.json").write_text(written(parts))
        self.page.write_text(replaced(self.page.read_text(), self.section, content))

    @property
    def chart(self) -> Path:
        """The chart that belongs to it."""
        return self.folder / f"{self.section}.png"


def read(text: str) -> dict[str, Part]:
    """Parts, by name, out of JSON."""
    return {name: Part(**part) for name, part in json.loads(text)["parts"].items()}


def written(parts: Mapping[str, Part]) -> str:
    """Parts as JSON."""
    return json.dumps({"parts": {name: asdict(part) for name, part in parts.items()}}, indent=1) + "\n"


def abouts(parts: Mapping[str, Part]) -> str:
    """What ran, and where; if not all parts come of runs of one kind, for each kind the parts that do."""
    names: dict[str, list[str]] = {}
    for name, part in parts.items():
        names.setdefault(part.about, []).append(name)
    if len(names) == 1:
        return next(iter(names))
    return "\n".join(f"- {', '.join(those)}: {about}" for about, those in names.items())


def in_order(parts: Mapping[str, Part], order: Mapping[str, object]) -> dict[str, Part]:
    """Parts in the order of their names in `order`; what is known there no more is left out."""
    return {name: parts[name] for name in order if name in parts}
