"""The app beside a sidecar: whether it is up, and, if the sidecar started it, its life as a child process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import click
import trio

from ..snapshot import SocketAddress

_PROBE_S = 1.0
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127  # a shell's exit codes
_BYPASS = "localhost,127.0.0.1,::1"


class AppProbe:
    """Knows whether the app accepts connections, and if not, why."""

    def __init__(self, address: SocketAddress) -> None:
        self._address = address
        self.trouble: str | None = f"the app at {address} has not been tried yet"

    async def run(self) -> None:
        """Try it again and again: quickly, because a person may be waiting for it to come up."""
        while True:
            try:
                with trio.fail_after(_PROBE_S):
                    await (await trio.open_tcp_stream(self._address.host, self._address.port)).aclose()
                self.trouble = None
            except trio.TooSlowError:
                self.trouble = f"the app at {self._address} does not accept connections"
            except OSError as error:
                reason = error.strerror or str(error)
                self.trouble = f"the app at {self._address} cannot be reached: {reason}"
            await trio.sleep(_PROBE_S)


PASSED_ON = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT),
)
"""The signals that a child gets from us: those by which people and supervisors speak to programs."""


class Child:
    """The app as a child process. Its output is its own, and so is its exit code, which becomes the sidecar's.

    It is a process group of its own, in a terminal the foreground one: Ctrl-C is for it, and reaches it once.
    """

    def __init__(self, command: Sequence[str], environment: Callable[[], Mapping[str, str]]) -> None:
        self._command = list(command)
        self._environment = environment
        self._process: trio.Process | None = None

    async def run(self) -> int:
        """Start it, and wait for its end; returns its exit code as a shell tells it."""
        try:
            process = await trio.lowlevel.open_process(self._command, env=self._environment(), process_group=0)
        except OSError as error:
            click.echo(f"meshproxy: cannot run {self._command[0]}: {error.strerror}", err=True)
            return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
        self._process = process
        try:
            with _foreground(process.pid):
                code = await process.wait()
        except BaseException:
            process.kill()
            raise
        return code if code >= 0 else 128 - code

    def signalled(self, number: int) -> None:
        """Pass a signal on."""
        if self._process is not None:
            self._process.send_signal(number)


@contextmanager
def _foreground(group: int) -> Iterator[None]:
    """Lend a process group the terminal, if there is one and it is ours to lend."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        if os.tcgetpgrp(terminal) != os.getpgrp():
            yield
            return
        _give(terminal, group)
        with suppress(OSError):
            os.killpg(group, signal.SIGCONT)  # it may have read before the terminal was its own, and been stopped
        try:
            yield
        finally:
            _give(terminal, os.getpgrp())
    finally:
        os.close(terminal)


def _give(terminal: int, group: int) -> None:
    """Make a process group the terminal's foreground, from the background too, where that asks for a stop (SIGTTOU)."""
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        with suppress(OSError):
            os.tcsetpgrp(terminal, group)
    finally:
        signal.signal(signal.SIGTTOU, before)


def environment(app: SocketAddress, outbound: SocketAddress) -> dict[str, str]:
    """The child's environment: ours, with the sidecar as its HTTP proxy and the port that it should listen on."""
    proxy = f"http://{outbound}"
    bypass = ",".join(filter(None, [os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")), _BYPASS]))
    # curl reads only the lower-case name, lest a CGI request's `Proxy` header set it; others read the upper-case one.
    added = {"HTTP_PROXY": proxy, "http_proxy": proxy, "NO_PROXY": bypass, "no_proxy": bypass, "PORT": str(app.port)}
    return dict(os.environ) | added
