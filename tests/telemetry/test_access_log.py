"""The access log's lines, to the letter; that no client can write one of its own; and that it never gets in the way."""

from __future__ import annotations

import re
import threading

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.telemetry.access_log import AccessLog, refused_line, request_line, text, timestamp

from ..proxy.made import made_request

LINE = re.compile(
    r'\[[^\]\n]+\] "([^"\\\n]|\\.)* ([^"\\\n]|\\.)* HTTP/1\.[01]" \d+ \S+ \d+ \d+ \d+ \S+ '
    r'("([^"\\\n]|\\.)*" ){5}\S+\n'
)
"""A well-formed line: no quote that is not escaped within a field, one line end, at the end."""


def test_the_line_of_a_request_that_was_served() -> None:
    request = made_request(
        b"/new/a?q=1",
        method=b"POST",
        authority=b"h.example:80",
        headers=[(b"user-agent", b"curl/8"), (b"x-request-id", b"id-1"), (b"x-forwarded-for", b"192.0.2.7")],
    )
    request.original_path = b"/a?q=1"
    request.response_code, request.details = 200, "via_upstream"
    request.bytes_received, request.bytes_sent, request.service_time_ms = 5, 17, 3
    request.upstream_host = "192.0.2.9:8080"

    assert request_line(request, 0.0129) == (
        '[2023-11-14T22:13:20.250Z] "POST /a?q=1 HTTP/1.1" 200 - 5 17 12 3 "192.0.2.7" "curl/8" "id-1" '
        '"h.example:80" "192.0.2.9:8080" via_upstream\n'
    )


def test_the_line_of_a_request_that_failed_and_told_nothing_of_itself() -> None:
    request = made_request(authority=b"h")
    request.response_code, request.flags, request.details = 404, "NR", "route_not_found"

    assert request_line(request, 0.0) == (
        '[2023-11-14T22:13:20.250Z] "GET / HTTP/1.1" 404 NR 0 0 0 - "-" "-" "-" "h" "-" route_not_found\n'
    )


def test_the_line_of_what_was_no_request() -> None:
    assert refused_line(1_700_000_000.25, 400, "DPE", "http1.codec_error:_two_Hosts", 11) == (
        '[2023-11-14T22:13:20.250Z] "- - HTTP/1.1" 400 DPE 0 11 0 - "-" "-" "-" "-" "-" http1.codec_error:_two_Hosts\n'
    )
    assert refused_line(1_700_000_000.25, 408, "", "request_header_timeout", 22).split()[4:6] == ["408", "-"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000.0, "2023-11-14T22:13:20.000Z"),
        (1_700_000_000.9996, "2023-11-14T22:13:20.999Z"),
        (1_700_000_001.0625, "2023-11-14T22:13:21.062Z"),
        (1_700_000_000.5, "2023-11-14T22:13:20.500Z"),
    ],
)
def test_timestamps_are_utc_in_milliseconds(seconds: float, expected: str) -> None:
    assert timestamp(seconds) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "-"),
        (b"", "-"),
        (b"plain text, 100% ~", "plain text, 100% ~"),
        (b'a"b', r"a\"b"),
        (b"a\\b", r"a\\b"),
        (b"a\nb\r\0", r"a\x0ab\x0d\x00"),
        (b"a\tb\x7f", r"a\x09b\x7f"),
        (b"\x1b[31m", r"\x1b[31m"),
        ("é".encode(), r"\xc3\xa9"),
        (b"\xff", r"\xff"),
        (rb"\xff", r"\\xff"),
    ],
)
def test_what_is_not_plain_is_escaped_so_that_it_can_be_told_what_it_was(value: bytes | None, expected: str) -> None:
    assert text(value) == expected


def test_a_long_field_is_cut() -> None:
    assert text(b"a" * 100_000) == "a" * 2048
    assert len(text(b"\xff" * 100_000)) == 4 * 2048


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_no_client_can_write_a_line_of_its_own(path: bytes, agent: bytes, host: bytes) -> None:
    headers = [(b"user-agent", agent), (b"x-forwarded-for", agent + b'" "'), (b"x-request-id", b"\n[forged]")]
    request = made_request(b"/" + path.replace(b" ", b""), authority=host, headers=headers)
    request.response_code, request.details = 200, "via_upstream"

    line = request_line(request, 0.1)

    assert LINE.fullmatch(line)
    assert line.isascii()
    assert line[:-1].isprintable()


class Writer:
    """Takes what is written; while `open` is not set, writing blocks."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.open = threading.Event()
        self.open.set()

    def __call__(self, lines: str) -> None:
        self.open.wait(5)
        self.written.append(lines)


# Threads work in real time: the clock may jump only when nothing has happened for this long.
PATIENCE = 0.02


@pytest.fixture
def jumping_clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=PATIENCE)


async def test_lines_are_written_together_and_in_order(jumping_clock: trio.testing.MockClock) -> None:
    writer = Writer()
    log = AccessLog(writer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        log.append("1\n")
        log.append("2\n")
        await trio.sleep(0.15)
        log.append("3\n")
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()

    assert writer.written == ["1\n2\n", "3\n"]
    assert log.dropped == 0


async def test_what_is_left_at_the_end_is_written_before_it_stops(jumping_clock: trio.testing.MockClock) -> None:
    writer = Writer()
    log = AccessLog(writer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        await trio.sleep(0.01)
        log.append("last\n")
        nursery.cancel_scope.cancel()

    assert writer.written == ["last\n"]


async def test_nothing_is_written_where_nothing_happened(jumping_clock: trio.testing.MockClock) -> None:
    writer = Writer()
    with trio.move_on_after(1):
        await AccessLog(writer).run()

    assert writer.written == []


async def test_a_writer_that_never_returns_does_not_keep_the_proxy_from_stopping(
    jumping_clock: trio.testing.MockClock,
) -> None:
    writer = Writer()
    writer.open.clear()
    log = AccessLog(writer)
    log.append("stuck\n")
    started = trio.current_time()
    with trio.move_on_after(0.01):
        await log.run()

    assert trio.current_time() - started == pytest.approx(1.01, abs=0.05)
    writer.open.set()


async def test_when_the_writer_does_not_keep_up_lines_are_dropped_and_counted() -> None:
    log = AccessLog(Writer(), max_lines=2)

    for number in range(5):
        log.append(f"{number}\n")

    assert log.dropped == 3


async def test_there_is_room_again_when_lines_have_been_taken(jumping_clock: trio.testing.MockClock) -> None:
    writer = Writer()
    log = AccessLog(writer, max_lines=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        for line in ("1\n", "dropped\n"):
            log.append(line)
        await trio.sleep(0.15)
        log.append("2\n")
        nursery.cancel_scope.cancel()

    assert (writer.written, log.dropped) == (["1\n", "2\n"], 1)


async def test_a_log_that_cannot_be_written_loses_lines_and_goes_on(jumping_clock: trio.testing.MockClock) -> None:
    written: list[str] = []

    def write(lines: str) -> None:
        if "lost" in lines:
            raise BrokenPipeError("the reader is gone")
        written.append(lines)

    log = AccessLog(write)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        log.append("lost 1\n")
        log.append("lost 2\n")
        await trio.sleep(0.15)
        log.append("kept\n")
        nursery.cancel_scope.cancel()

    assert (written, log.dropped) == (["kept\n"], 2)
