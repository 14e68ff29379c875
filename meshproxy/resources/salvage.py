"""What is left of a message once its broken parts are taken out, so that one run can check the rest too.

Rules:

1. As little as possible is left out: the broken value itself, and what is around it only if that cannot do
   without, up to the next list or optional field.
2. Rules that span fields (`Ruled`) do not count here: that two settings contradict each other makes neither
   unreadable.
3. Nobody may run what is left. Left-out conditions make a rule take more than was meant, and so on; whoever looks
   at a remnant asks `Resource.is_whole` of what a verdict rests on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from operator import itemgetter
from typing import Any, TypeVar

from pydantic import ValidationError

from .errors import explain
from .model import LENIENT, Model
from .problems import Path

M = TypeVar("M", bound=Model)


def salvage(model: type[M], value: Any, context: Mapping[str, Any]) -> tuple[M, frozenset[Path]] | None:
    """The message without its broken parts, and the paths of these in `value`; None if nothing is left."""
    omitted: frozenset[Path] = frozenset()
    remnant = value
    while True:
        try:
            return model.model_validate(remnant, context={**context, LENIENT: True}), omitted
        except ValidationError as error:
            broken = {_existing(remnant, path) for path, _ in explain(error, model)}
        if () in broken:
            return None
        omitted |= {as_written(path, omitted) for path in broken}
        remnant = _without(value, omitted)


def as_written(path: Path, omitted: Collection[Path]) -> Path:
    """The path in the file of what stands at `path` once the items of lists that are `omitted` are left out."""
    if not omitted:
        return path
    places = sorted(((last, tuple(parent)) for *parent, last in omitted if isinstance(last, int)), key=itemgetter(0))
    written: Path = ()
    for step in path:
        if isinstance(step, int):
            for gone, parent in places:
                if gone <= step and parent == written:
                    step += 1
        written = (*written, step)
    return written


def _existing(value: Any, path: Path) -> Path:
    """As much of a path as leads to something."""
    for depth, step in enumerate(path):
        inside = step in value if isinstance(value, dict) else isinstance(value, list) and isinstance(step, int)
        if not inside:
            return path[:depth]
        value = value[step]
    return path


def _without(value: Any, omitted: frozenset[Path], path: Path = ()) -> Any:
    """The value without what stands at the `omitted` paths."""
    if isinstance(value, dict):
        return {
            key: _without(item, omitted, (*path, key)) for key, item in value.items() if (*path, key) not in omitted
        }
    if isinstance(value, list):
        return [
            _without(item, omitted, (*path, place)) for place, item in enumerate(value) if (*path, place) not in omitted
        ]
    return value
