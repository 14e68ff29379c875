"""Active health checks: probes that find out whether endpoints are healthy.

Their rules are those of Istio's agent, which probes the workload beside it (pkg/istio-agent/health): the first probe is
sent after the initial delay, the next ones at even intervals, each on a connection of its own; thresholds count
probes in a row. One difference: an answer that redirects has passed, and is not followed.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
from collections.abc import Iterable

import trio

from ...snapshot import Address, ExecProbe, HealthCheck, HttpProbe, Pipe, Probe, SocketAddress, TcpProbe
from ..http.failures import Failure
from ..http.http1_codec import HeadLimits, ResponseHeads, request_head
from ..tls.client import TlsClient, UpstreamTls
from ..tls.errors import TlsFailed
from ..tls.secrets import Secrets
from ..transport import LOST, Transport, connect
from .cluster import Cluster
from .dns import preferred

_log = logging.getLogger(__name__)

_LIMITS = HeadLimits(max_bytes=80 * 1024, max_fields=100)


class Health:
    """What the results of a check make of its endpoint."""

    def __init__(self, check: HealthCheck) -> None:
        self.healthy = False
        self._check = check
        self._against = 0
        """Results in a row that speak against what the endpoint is held for."""

    def observe(self, passed: bool) -> bool:
        """A probe has passed or not; whether that changed the endpoint's health."""
        self._against = 0 if passed == self.healthy else self._against + 1
        limit = self._check.unhealthy_threshold if self.healthy else self._check.healthy_threshold
        if self._against < limit:
            return False
        self.healthy = passed
        self._against = 0
        return True


class HealthChecker:
    """Carries out one check, again and again, and tells the clusters that have endpoints with it."""

    def __init__(self, check: HealthCheck, clusters: Iterable[Cluster], secrets: Secrets) -> None:
        self._check = check
        self._tls = _tls(check.probe, secrets)
        self._clusters = list(clusters)
        self._health = Health(check)
        self.tried = trio.Event()
        """The first probe has come to a result."""

    async def run(self) -> None:
        check = self._check
        due = trio.current_time() + check.initial_delay_s
        while True:
            await trio.sleep_until(due)
            due = max(due + check.interval_s, trio.current_time())
            self._observe(await trouble(check, self._tls))
            self.tried.set()

    def _observe(self, why: str | None) -> None:
        changed = self._health.observe(why is None)
        if changed:
            for cluster in self._clusters:
                cluster.health_checked(self._check, self._health.healthy)
        if changed and why is None:
            _log.info("health check %s: healthy", described(self._check.probe))
        elif changed or not self.tried.is_set():
            _log.warning("health check %s: unhealthy: %s", described(self._check.probe), why)


def described(probe: Probe) -> str:
    """A probe, for people."""
    if isinstance(probe, HttpProbe):
        return f"GET {probe.path} at {probe.address}{' by TLS' if probe.tls else ''}"
    if isinstance(probe, TcpProbe):
        return f"of connections to {probe.address}"
    return f"by {' '.join(probe.command)}"


def _tls(probe: Probe, secrets: Secrets) -> TlsClient | None:
    if not isinstance(probe, HttpProbe) or probe.tls is None:
        return None
    return UpstreamTls.of(probe.tls, secrets, f"health check {described(probe)}").client(_authority(probe))


async def trouble(check: HealthCheck, tls: TlsClient | None = None) -> str | None:
    """Send one probe, secured by `tls`. Why it has not passed, None if it has."""
    with trio.move_on_after(check.timeout_s):
        try:
            return await _trouble(check.probe, tls)
        except TlsFailed as error:
            return str(error)
        except LOST as error:
            return getattr(error, "strerror", None) or str(error) or type(error).__name__
        except (UnicodeError, Failure) as error:
            return str(error)
    return f"no result within {check.timeout_s:g} s"


async def _trouble(probe: Probe, tls: TlsClient | None) -> str | None:
    if isinstance(probe, ExecProbe):
        code = await _exit_code(probe.command)
        return f"exit code {code}" if code else None
    transport = await _connected(probe.address)
    if tls is not None:
        transport = await tls.secure_quietly(transport)
    try:
        if isinstance(probe, TcpProbe):
            return None
        status = await _status(transport, probe)
    finally:
        transport.close()
    return None if 200 <= status < 400 else f"status {status}"


async def _connected(address: Address) -> Transport:
    if isinstance(address, Pipe):
        return await connect(address)
    found = await trio.socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    host = preferred((info[0], str(info[4][0])) for info in found)[0]
    return await connect(SocketAddress(host, address.port))


async def _status(transport: Transport, probe: HttpProbe) -> int:
    headers = [(header.name.encode(), header.value.encode()) for header in probe.headers]
    await transport.send(request_head(b"GET", probe.path.encode(), _authority(probe), headers))
    heads, buffer = ResponseHeads(_LIMITS), b""
    while data := await transport.receive():
        buffer += data
        while found := heads.read(buffer, b"GET"):
            head, end = found
            if head.status >= 200:
                return head.status
            buffer = buffer[end:]
    raise ConnectionResetError("closed without an answer")


def _authority(probe: HttpProbe) -> bytes:
    return (probe.host or str(probe.address)).encode()


async def _exit_code(command: tuple[str, ...]) -> int:
    """Run a command; one that is given up is killed, with what it has started."""
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await process.wait()
