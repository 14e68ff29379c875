"""A line a request, in Envoy's default format, and one field more.

The line is Envoy's
(https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage#default-format-string):

    [%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS%
    %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%"
    "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"

followed by `%RESPONSE_CODE_DETAILS%`, as in Istio's default format: it says why a request was refused, which Envoy's
default line does not.

Rules: what a client sent is escaped, so that no request can write a line of its own; and a reader that does not keep
up costs lines, never memory or time: lines wait in a bounded buffer and are written by a thread.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Protocol

import trio

_log = logging.getLogger(__name__)

_MAX_BUFFER_LINES = 65536
_MAX_FIELD = 2048
_FLUSH_S = 0.1
_LAST_FLUSH_S = 1.0


class StreamInfo(Protocol):
    """What the log tells of a request."""

    @property
    def method(self) -> bytes: ...
    @property
    def path(self) -> bytes: ...
    @property
    def original_path(self) -> bytes | None: ...
    @property
    def protocol(self) -> bytes: ...
    @property
    def authority(self) -> bytes: ...
    @property
    def headers(self) -> list[tuple[bytes, bytes]]: ...
    @property
    def arrived(self) -> float: ...
    @property
    def response_code(self) -> int: ...
    @property
    def flags(self) -> str: ...
    @property
    def details(self) -> str: ...
    @property
    def bytes_received(self) -> int: ...
    @property
    def bytes_sent(self) -> int: ...
    @property
    def service_time_ms(self) -> int: ...
    @property
    def upstream_host(self) -> str: ...


def request_line(info: StreamInfo, duration_s: float) -> str:
    """The line of a request that was served."""
    field = dict(info.headers).get
    method, path, forwarded_for, user_agent, request_id, authority = texts(
        info.method,
        info.original_path or info.path,
        field(b"x-forwarded-for"),
        field(b"user-agent"),
        field(b"x-request-id"),
        info.authority,
    )
    return (
        f'[{timestamp(info.arrived)}] "{method} {path} {info.protocol.decode()}" {info.response_code} '
        f"{info.flags or '-'} {info.bytes_received} {info.bytes_sent} {int(duration_s * 1000)} "
        f"{info.service_time_ms if info.service_time_ms >= 0 else '-'} "
        f'"{forwarded_for}" "{user_agent}" "{request_id}" "{authority}" "{info.upstream_host or "-"}" '
        f"{info.details or '-'}\n"
    )


def refused_line(arrived: float, status: int, flags: str, details: str, bytes_sent: int) -> str:
    """The line of what could not be read as a request."""
    return (
        f'[{timestamp(arrived)}] "- - HTTP/1.1" {status} {flags or "-"} 0 {bytes_sent} 0 - "-" "-" "-" "-" "-" '
        f"{details}\n"
    )


_second = 0
_second_text = ""


def timestamp(seconds: float) -> str:
    """`2026-01-31T23:59:59.999Z`; the part before the milliseconds is kept for the second it holds."""
    global _second, _second_text
    whole = int(seconds)
    if whole != _second:
        _second, _second_text = whole, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{_second_text}.{int((seconds - whole) * 1000):03}Z"


def texts(*values: bytes | None) -> list[str]:
    """Several values as `text` makes them, looked at together: nearly always there is nothing to escape."""
    joined = b"\n".join([value or b"-" for value in values])
    if len(joined) <= _MAX_FIELD and not joined.translate(None, _SAFE):
        together = joined.decode("ascii").split("\n")
        if len(together) == len(values):  # no value had a line end of its own
            return together
    return [text(value) for value in values]


def text(value: bytes | None) -> str:
    """A client's bytes as they may stand in a line: quotes, backslashes and all that is not printable are escaped."""
    if not value:
        return "-"
    decoded = value[:_MAX_FIELD].decode("latin-1")
    return decoded if _UNSAFE.search(decoded) is None else _UNSAFE.sub(_escaped, decoded)


_UNSAFE = re.compile(r'[^\x20-\x7e]|["\\]')
_SAFE = bytes(code for code in range(0x20, 0x7F) if code not in b'"\\') + b"\n"


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    return "\\" + character if character in '"\\' else f"\\x{ord(character):02x}"


class AccessLog:
    """Lines on their way to `write`, which may block: it is called in a thread."""

    def __init__(self, write: Callable[[str], object], max_lines: int = _MAX_BUFFER_LINES) -> None:
        self._write = write
        self._max_lines = max_lines
        self._lines: list[str] = []
        self.dropped = 0
        """Lines lost because the writer did not keep up."""

    def append(self, line: str) -> None:
        if len(self._lines) < self._max_lines:
            self._lines.append(line)
        else:
            self.dropped += 1

    async def run(self) -> None:
        """Write what comes, soon; when cancelled, write what is left, if that can be done in a second."""
        try:
            while True:
                await trio.sleep(_FLUSH_S)
                await self._flush()
        finally:
            with trio.move_on_after(_LAST_FLUSH_S, shield=True):
                await self._flush()

    async def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            try:
                await trio.to_thread.run_sync(self._write, "".join(lines), abandon_on_cancel=True)
            except OSError as error:
                # A full disk, a reader that is gone: a log that cannot be written must not end the proxy.
                if not self.dropped:
                    _log.warning("the access log cannot be written: %s", error)
                self.dropped += len(lines)
