"""What is kept of runs: each part when it is done, beside the others, and shown as one page."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import wrk
from bench.__main__ import main
from bench.cases import CASES, Case
from bench.comparison import NAMES, STEADY, draw, overview, page, tables
from bench.kept import Part, Place, abouts, read, written
from bench.proxies import CaseResult, Round
from bench.steady import Latency, SteadyResult

command = import_module("bench.commands.proxies")
ALL = ("meshproxy", "Envoy", "nginx")


def part(name: str, *proxies: str, about: str = "here, today.", others: float = 0.0) -> Part:
    """A case in which each proxy takes one microsecond more than the one before."""
    case = next(case for case in CASES if case.name == name)
    rounds = {proxy: [Round(1000, 1, 2, cost, 1, 0)] for cost, proxy in enumerate(proxies or ALL)}
    return Part(about, others, CaseResult(case, rounds).as_dict())


def steady(*bearing: str) -> Part:
    rounds = {proxy: [Latency(1.0, 2.0, 0)] if proxy in bearing else [] for proxy in ALL}
    return Part("here, today.", 0.0, SteadyResult(1000.0, rounds).as_dict())


def test_parts_are_read_as_they_were_written() -> None:
    parts = {"get-32": part("get-32"), "headers": part("headers", about="elsewhere."), STEADY: steady(*ALL)}
    assert read(written(parts)) == parts
    assert CaseResult.of(parts["headers"].data).as_dict() == parts["headers"].data
    assert SteadyResult.of(parts[STEADY].data).as_dict() == parts[STEADY].data


def test_a_part_is_kept_beside_the_others_and_shown(tmp_path: Path) -> None:
    place = Place("proxies", tmp_path, tmp_path / "page.md")
    place.page.write_text("before\n<!-- proxies -->\nold\n<!-- /proxies -->\nafter\n")
    assert place.parts() == {}

    place.keep({"headers": part("headers")}, "one")
    known = place.parts() | {"get-32": part("get-32")}
    place.keep(known, page(known))

    assert place.parts() == known
    shown = place.page.read_text()
    assert shown.startswith("before\n") and shown.endswith("after\n")
    assert shown.index("**get-32: ") < shown.index("**headers: ")


def test_the_overview_has_every_proxy_and_every_case_in_order() -> None:
    parts = {
        STEADY: steady("meshproxy", "Envoy"),
        "access-log": part("access-log", "nginx", "Envoy", others=0.25),
        "get-32": part("get-32"),
    }
    table = overview(parts)
    assert table.columns == ("case", "goal", *ALL, "others")
    assert table.rows == [
        ("get-32", "≤ 1.0", "0.50", "1.00", "1.50", "0%"),
        ("access-log", "≤ 1.2", "-", "1.00", "0.50", "25%"),
        ("steady: p99", "≤ 1.5", "1.00", "1.00", "-", "0%"),
    ]
    assert tables(parts)[-1].rows[-1] == ("nginx", "-", "-", "-", "does not reach the rate", "-")


def test_without_envoy_the_first_is_the_measure_of_the_others() -> None:
    table = overview({"get-32": part("get-32", "meshproxy", "nginx")})
    assert "a ratio to meshproxy's" in table.title
    assert table.rows[0][2:4] == ("1.00", "2.00")


def test_parts_of_unlike_runs_say_so() -> None:
    alike = {"get-32": part("get-32"), "headers": part("headers")}
    assert abouts(alike) == "here, today."
    unlike = {**alike, "connect": part("connect", about="elsewhere.")}
    assert abouts(unlike) == "- get-32, headers: here, today.\n- connect: elsewhere."


def test_what_is_no_case_any_more_is_shown_no_more() -> None:
    assert "gone" not in NAMES
    assert page({"get-32": part("get-32"), "gone": part("headers")}).count("**") == 4


def test_a_run_that_is_broken_off_keeps_what_it_has_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    place = Place("proxies", tmp_path, tmp_path / "page.md")
    place.page.write_text("<!-- proxies -->\n<!-- /proxies -->\n")
    asked: list[list[str]] = []

    def measured(cases: list[Case], *_: object, **__: object) -> Iterator[CaseResult]:
        asked.append([case.name for case in cases])
        yield CaseResult.of(part(cases[0].name, "meshproxy").data)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "Place", lambda section: place)
    monkeypatch.setattr(command, "measure", measured)
    monkeypatch.setattr(wrk, "require", lambda: None)
    options = ["--keep", "--resume", "--only", "meshproxy", "--cases", "get-32,headers", "--python", sys.executable]
    for _ in range(2):
        assert CliRunner().invoke(main, ["proxies", *options]).exit_code == 1

    assert asked == [["get-32", "headers"], ["headers"]]
    assert list(place.parts()) == ["get-32", "headers"]
    assert "**headers: " in place.page.read_text()


def test_a_case_without_some_proxies_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(tmp_path / "x.png", {"get-32": part("get-32"), "headers": part("headers", "Envoy"), STEADY: steady(*ALL)})
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
