"""The app beside a sidecar: whether it is up, and, if the sidecar started it, its life as a child process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence

import click
import trio

from ..proxy.transport import connect
from ..snapshot import Address, Pipe, SocketAddress

_PROBE_S = 1.0
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127  # a shell's exit codes
_BYPASS = "localhost,127.0.0.1,::1"


class AppProbe:
    """Knows whether the app accepts connections, and if not, why."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self.trouble: str | None = f"the app at {address} has not been tried yet"

    async def run(self) -> None:
        """Try it again and again: quickly, because a person may be waiting for it to come up."""
        while True:
            try:
                with trio.fail_after(_PROBE_S):
                    (await connect(self._address)).close()
                self.trouble = None
            except trio.TooSlowError:
                self.trouble = f"the app at {self._address} does not accept connections"
            except OSError as error:
                self.trouble = f"the app at {self._address} cannot be reached: {error.strerror}"
            await trio.sleep(_PROBE_S)


class Child:
    """The app as a child process. Its output is its own, and so is its exit code, which becomes the sidecar's."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._process: trio.Process | None = None

    async def run(self) -> int:
        """Start it, and wait for its end; returns its exit code as a shell tells it."""
        try:
            self._process = await trio.lowlevel.open_process(self._command, env=self._environment)
        except OSError as error:
            click.echo(f"meshproxy: cannot run {self._command[0]}: {error.strerror}", err=True)
            return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
        try:
            code = await self._process.wait()
        except BaseException:
            self._process.kill()
            raise
        return code if code >= 0 else 128 - code

    def signalled(self, number: int) -> None:
        """Pass a signal on. Ctrl-C reaches a terminal's foreground processes by itself, the child among them."""
        by_terminal = number == signal.SIGINT and sys.stdin.isatty()
        if self._process is not None and not by_terminal:
            self._process.send_signal(number)


def environment(app: Address, outbound: SocketAddress) -> dict[str, str]:
    """The child's environment: ours, with the sidecar as its HTTP proxy and the port that it should listen on."""
    proxy = f"http://{outbound}"
    # curl reads only the lower-case name, lest a CGI request's `Proxy` header set it; others read the upper-case one.
    added = {"HTTP_PROXY": proxy, "http_proxy": proxy}
    bypass = ",".join(filter(None, [os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")), _BYPASS]))
    added |= {"NO_PROXY": bypass, "no_proxy": bypass}
    if not isinstance(app, Pipe):
        added["PORT"] = str(app.port)
    return dict(os.environ) | added
