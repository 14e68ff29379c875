"""Endpoints fail one after the other, and what clients see of it is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.__main__ import main
from bench.chaos import Course, faults
from bench.charts import Series

KILLED, HUNG, SLOWED, FAILING = faults(60)


def test_one_endpoint_at_a_time_is_down() -> None:
    assert len({fault.endpoint for fault in faults(60)}) == 4
    assert all(one.end_s < other.start_s for one, other in zip(faults(60), faults(60)[1:], strict=False))
    assert FAILING.end_s < 60


def test_a_course_tells_what_failed_and_when_who_was_ejected() -> None:
    course = Course("some", 60)
    course.requests += [(1, ""), (7, "status 5xx"), (8, ""), (13.9, "timeout"), (14, "timeout")]
    course.ejected += [(at, frozenset(those)) for at, those in ((0, ()), (7.5, (0,)), (15, (0, 1)), (16, (1,)))]

    assert course.errors(KILLED) == (2, 3)
    assert course.errors() == (3, 5)
    assert course.ejected_after_s(KILLED) == 1.5
    assert course.returned_after_s(KILLED) == 1.0
    assert (course.ejected_after_s(HUNG), course.returned_after_s(HUNG)) == (None, None)
    by_second = course.errors_by_second()
    assert [second for second, count in zip(by_second.x, by_second.y, strict=True) if count] == [7, 13, 14]
    assert course.ejected_by_time() == Series("some", [0, 7.5, 7.5, 15, 15, 16, 16, 60], [0, 0, 1, 1, 2, 2, 1, 1])


def test_one_that_is_back_before_its_fault_ends_took_no_time() -> None:
    course = Course("some", 60)
    course.ejected += [(7, frozenset({0})), (12, frozenset())]
    assert course.returned_after_s(KILLED) == 0


def test_a_short_run_of_the_command(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file, chart = tmp_path / "out.json", tmp_path / "out.png"
    options = ["--duration", "6s", "--rate", "100", "--policies", "ejection", "--python", sys.executable]
    result = CliRunner().invoke(main, ["chaos", *options, "--json", str(file), "--chart", str(chart)])
    assert result.exit_code == 0, result.output
    assert "ejection: all" in result.stdout
    [run] = json.loads(file.read_text())["runs"]
    assert run["requests"] == 600
    killed = run["faults"][0]
    assert killed["fault"] == "killed"
    assert killed["errors"] < killed["requests"]
    assert chart.read_bytes().startswith(b"\x89PNG")
