"""For pytest: collects `*.meshtest.yaml` files, and offers the fixture `mesh`.

Loaded into every run of pytest in an environment where meshproxy is installed, so that it imports nothing of
meshproxy before somebody asks for it, and needs neither trio nor pytest-trio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .cases import Combination
    from .runner import Bench, Outcome
    from .running import MeshRun

SUFFIX = ".meshtest.yaml"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Test files are known by their names."""
    if file_path.name.endswith(SUFFIX):
        return MeshTestModule.from_parent(parent, path=file_path)
    return None


class MeshTestModule(pytest.File):
    """A test file; its items are the combinations of its cases."""

    def collect(self) -> Iterator[pytest.Item]:
        from ..resources import Unreadable
        from .cases import read_tests
        from .runner import Unusable, bench

        try:
            tests = read_tests(_relative(self.path))
            if tests.problems:
                raise Unusable(tests.problems)
            mesh = bench(tests.resources)
        except (Unreadable, Unusable) as error:
            raise self.CollectError(str(error)) from None
        for combination in tests.combinations():
            yield MeshTestItem.from_parent(self, name=combination.name, bench=mesh, combination=combination)


class MeshTestItem(pytest.Item):
    """One combination."""

    obj = None
    """The test's function, of which there is none; pytest-trio's trio_mode looks at that of every item."""

    def __init__(self, *, bench: Bench, combination: Combination, **known: Any) -> None:
        super().__init__(**known)
        self._bench = bench
        self._combination = combination

    def runtest(self) -> None:
        outcome = self._bench.run(self._combination)
        if not outcome.passed:
            raise NotAsExpected(outcome)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if not isinstance(excinfo.value, NotAsExpected):
            return super().repr_failure(excinfo, style)
        return str(excinfo.value)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self._combination.case.place.line - 1, self.name


class NotAsExpected(Exception):
    """An outcome that failed; pytest shows the text and no traceback."""

    def __init__(self, outcome: Outcome) -> None:
        from .report import failure_lines

        super().__init__("\n".join(failure_lines(outcome)))


class MeshStarter:
    """What the fixture `mesh` is: call it with files and folders beside the test, and enter what it returns.

    `with mesh(...)` runs the gateway in a thread of its own, `async with mesh(...)` in the test's own trio loop.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(
        self,
        *resources: str | Path,
        yaml: str = "",
        selector: Mapping[str, str] | None = None,
        namespace: str = "istio-system",
    ) -> MeshRun:
        from ..resources import Unreadable
        from .runner import Unusable
        from .running import run_mesh

        paths = [_relative(self._folder / path) for path in resources]
        try:
            return run_mesh(paths, yaml=yaml, selector=selector, namespace=namespace)
        except (Unreadable, Unusable) as error:
            reason = str(error)
        pytest.fail(reason, pytrace=False)


@pytest.fixture
def mesh(request: pytest.FixtureRequest) -> MeshStarter:
    """A real gateway with stand-in backends: `with mesh("resources/") as m: m.url(80)`; or `async with`, on trio."""
    return MeshStarter(request.path.parent)


def _relative(path: Path) -> str:
    """The path as people would write it: from where they are, if it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
