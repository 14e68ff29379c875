"""What is read from wrk, from Linux and from the sampler, and what is made of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
import trio

from bench import wrk
from bench.cases import CASES
from bench.profiling import Sample, parts
from bench.proxies import CaseResult, Round, detail, ratios
from bench.report import README, Table, figure, replaced
from bench.scale import DIMENSIONS, Growth, Point
from bench.usage import (
    Others,
    cpu_time,
    memory_bytes,
    parse_allocated,
    parse_caught,
    parse_machine,
    parse_stat,
    whole_time_s,
)

from ..proxy.support import OK, answers, backend

_REPORT = '{"requests": 10, "bytes": 5000000, "seconds": 2.0, "p50_ms": 1.5, "p99_ms": 3.0, "errors": 1}'
CASE = {case.name: case for case in CASES}


def test_the_report_is_found_among_what_wrk_writes() -> None:
    report = wrk.parse(f"Running 1s test @ http://x\n  10 requests in 2.00s\n\nreport: {_REPORT}\n")
    assert report == wrk.Report(10, 5_000_000, 2.0, 1.5, 3.0, 1)


def test_without_a_report_wrk_is_quoted() -> None:
    with pytest.raises(click.ClickException, match="unable to connect"):
        wrk.parse("", "unable to connect to 127.0.0.1:1")


def test_of_large_responses_a_part_counts_as_a_part() -> None:
    report = wrk.parse(f"report: {_REPORT}")
    assert CASE["response-1m"].answered(report) == 5
    assert CASE["get-32"].answered(report) == 10


def test_cpu_time_is_read_behind_a_name_with_spaces_and_brackets() -> None:
    assert parse_stat("42 (a (b) c) S 4 5 6 7 8 9 10 11 12 13 300 20 0 0") == (300, 20)


def test_memory_is_what_was_allocated() -> None:
    assert parse_allocated("VmRSS:\t  900 kB\nRssAnon:\t     500 kB\nRssFile:\t 400 kB\n") == 512_000


def test_our_own_usage_is_counted() -> None:
    before = cpu_time(os.getpid())
    begun = time.process_time()
    while time.process_time() - begun < 0.1:
        pass
    assert sum(cpu_time(os.getpid()).since(before)) >= 0.05
    assert memory_bytes(os.getpid()) > 1_000_000


def test_of_the_machine_s_time_what_serves_interrupts_is_nobody_s() -> None:
    assert parse_machine("cpu  10 2 30 400 5 6 7 8 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n") == (50, 468)


def test_a_handler_of_a_signal_is_found_among_those_of_a_process() -> None:
    status = "SigIgn:\t0000000001001000\nSigCgt:\t0000000100014002\nCapInh:\t0000000000000000\n"
    found = [number for number in signal.Signals if parse_caught(status, number)]
    assert found == [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD]


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
@pytest.mark.parametrize("seconds", [0.2, 1.0])
async def test_wrk_loads_for_whole_seconds_and_for_parts_of_them(seconds: float) -> None:
    async with backend(answers(OK)) as server:
        url = f"http://{server.address}/"
        report = await trio.to_thread.run_sync(lambda: wrk.run(url, seconds=seconds, connections=2))
    assert report.requests > 0
    assert report.errors == 0


def test_our_own_work_is_no_disturbance() -> None:
    others = Others()
    begun = time.process_time()
    while time.process_time() - begun < 0.1:
        pass
    assert 0 <= others.share() <= 1


def test_what_was_started_is_ours_while_it_runs_and_when_it_has_ended() -> None:
    before = whole_time_s(os.getpid())
    busy = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        running = whole_time_s(os.getpid())
        child.communicate(b"\n")
    assert running - before >= 0.15
    assert whole_time_s(os.getpid()) >= running


def rounds(*cpu_us: float) -> list[Round]:
    return [Round(1000.0, 1.0, 2.0, one / 2, one / 2, 0) for one in cpu_us]


def test_a_ratio_is_taken_within_each_round() -> None:
    result = CaseResult(CASE["get-32"], {"ours": rounds(10, 40, 30), "Envoy": rounds(10, 20, 60)})
    assert ratios(result, "ours") == (1.0, 0.5, 2.0)
    [row, _] = detail(result).rows
    assert row == ("ours", "1,000", "1", "2", "30", "15", "15", "1.00", "0.50-2.00", "0")


def test_growth_is_told_as_ratio_and_as_memory_for_each() -> None:
    growth = Growth(
        DIMENSIONS[0], [Point(10, [50.0, 100.0], 1024 * 1024), Point(1034, [100.0, 150.0], 2 * 1024 * 1024)]
    )
    assert growth.ratio(growth.points[1]) == 1.75
    assert growth.kb_each(growth.points[1]) == 1.0
    assert growth.kb_each(growth.points[0]) is None
    assert growth.table().rows[1] == ("1,034", "125", "1.75", "2", "1")


def test_samples_are_counted_by_part_and_function() -> None:
    found = parts(
        [
            Sample("/x/meshproxy/proxy/transport.py", "Transport.send", 6),
            Sample("/x/meshproxy/proxy/transport.py", "Transport.receive", 2),
            Sample("/x/meshproxy/proxy/http/http1_codec.py", "request_head", 1),
            Sample("/usr/lib/python3/abc.py", "instancecheck", 1),
        ]
    )
    assert [(part.name, part.share) for part in found] == [
        ("sockets, with their system calls", 0.8),
        ("HTTP/1.1 without I/O", 0.1),
        ("Python's library, and the rest", 0.1),
    ]
    assert found[0].functions == [("Transport.send", 0.6), ("Transport.receive", 0.2)]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.1234, "0.123"), (12.34, "12.3"), (999.4, "999"), (12345.0, "12,300"), (-1234.0, "-1,230")],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert figure(value) == text


def test_a_table_is_markdown_too() -> None:
    table = Table("Title", ("name", "figure"), [("a", "1")])
    assert table.markdown() == "**Title**\n\n| name | figure |\n| --- | ---: |\n| a | 1 |\n"


def test_a_section_of_the_page_is_replaced_and_nothing_else() -> None:
    page = "before\n<!-- x -->\nold\n<!-- /x -->\nafter\n"
    assert replaced(page, "x", "new") == "before\n<!-- x -->\n\nnew\n\n<!-- /x -->\nafter\n"
    with pytest.raises(ValueError, match="there has to be one section"):
        replaced(page, "y", "new")


@pytest.mark.parametrize("section", ["proxies", "scale", "profile", "chaos", "policies", "balancers"])
def test_the_page_has_room_for_every_command_s_results(section: str) -> None:
    assert "kept" in replaced(README.read_text(), section, "kept")


def test_charts_are_small_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from bench import charts

    charts.bars(tmp_path / "bars.png", "ratio", ["a", "b"], {"ours": [1.0, 0.5], "Envoy": [1.0, 1.0]})
    panel = charts.Panel("title", "size", "ratio", [charts.Series("", [10, 100], [1.0, 1.1])])
    charts.lines(tmp_path / "lines.png", [panel, panel, panel])
    for file in tmp_path.iterdir():
        assert file.read_bytes().startswith(b"\x89PNG")
        assert file.stat().st_size < 200_000
