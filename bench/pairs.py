"""Two sidecars between a client and an origin, by mutual TLS and without: ours beside a pair of Envoys.

Envoy runs what is exported of the same mesh, with certificates of the same CA. What a request costs is the CPU time of
both sidecars of a pair, taken together.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from rich.progress import Progress

from . import wrk
from .cases import LARGE, MB, SMALL, Case
from .meshes import Resource, write
from .origin import origin
from .peers import ENVOY, MESHPROXY, Peer
from .peers.envoy import binary
from .processes import Launch, free_port, started, wait_until_answering
from .proxies import CaseResult, Round
from .usage import cpu_time

PLAIN, MUTUAL, EACH = "plain", "mutual", "mutual-each"
"""How the sidecars speak to each other: in plain text, by mutual TLS, and with a handshake for each request."""

CASES = (
    Case("plain", "small GET by two sidecars, in plain text", mesh=PLAIN),
    Case("mtls", "the same by mutual TLS, connections kept", mesh=MUTUAL, goal=1.5),
    Case("mtls-large", "response of 1 MB by it", connections=8, path=f"{LARGE}/1", response_bytes=MB, mesh=MUTUAL),
    Case("mtls-handshake", "small GET, a handshake for each", mesh=EACH),
)

_HOST = "shop"


@dataclass(frozen=True)
class Pair:
    """Two running sidecars; the client's listens on `port` for its app."""

    peer: Peer
    processes: tuple[Popen[bytes], Popen[bytes]]
    port: int

    def cpu_s(self) -> tuple[float, float]:
        """CPU seconds of both so far, in user space and in the kernel."""
        times = [cpu_time(one.pid) for one in self.processes]
        return sum(one.user_s for one in times), sum(one.system_s for one in times)


def measure(
    peers: Sequence[Peer], python: Path, *, rounds: int, seconds: float, progress: Progress
) -> Iterator[CaseResult]:
    """Run the cases, one after the other, each in interleaved rounds."""
    bar = progress.add_task("starting", total=len(CASES) * len(peers) * (rounds + 1))
    with tempfile.TemporaryDirectory(prefix="meshproxy-bench-") as name, origin(Path(name), count=1) as upstream:
        folder = Path(name)
        ca = folder / "ca"
        _meshproxy(python, "ca", "init", "--dir", ca)
        for account in ("shop", "web"):
            _meshproxy(python, "ca", "issue", account, "--dir", ca, "--out", folder / account)
        for case in CASES:
            with ExitStack() as stack:
                pairs = [
                    stack.enter_context(_running(peer, case, upstream.endpoints[0], folder, python)) for peer in peers
                ]
                found: dict[str, list[Round]] = {peer.name: [] for peer in peers}
                # The first round opens connections and fills caches; it does not count.
                for number in range(rounds + 1):
                    for pair in pairs:
                        progress.update(bar, description=f"{case.name}: round {number} of {rounds}, {pair.peer.name}")
                        one = _round(pair, case, seconds if number else min(seconds, 1))
                        progress.advance(bar)
                        if number:
                            found[pair.peer.name].append(one)
            yield CaseResult(case, found)


def _round(pair: Pair, case: Case, seconds: float) -> Round:
    user, system = pair.cpu_s()
    report = wrk.run(
        f"http://127.0.0.1:{pair.port}{case.path}",
        seconds=seconds,
        connections=case.connections,
        headers=[f"Host: {_HOST}"],
    )
    user_now, system_now = pair.cpu_s()
    requests = max(case.answered(report), 1e-9)
    return Round(
        requests / report.seconds,
        report.p50_ms,
        report.p99_ms,
        1e6 * (user_now - user) / requests,
        1e6 * (system_now - system) / requests,
        report.errors,
    )


@contextmanager
def _running(peer: Peer, case: Case, app: str, folder: Path, python: Path) -> Iterator[Pair]:
    files = folder / case.name / peer.name
    files.mkdir(parents=True)
    inbound, outbound = free_port(), free_port()
    resources = write(_mesh(case.mesh, inbound), files / "mesh.yaml")
    options = ("-f", resources)
    shop = (*options, "--workload", "shop-1", "--app", app, "--outbound", f"127.0.0.1:{free_port()}")
    web = (*options, "--workload", "web-1", "--app", app, "--outbound", f"127.0.0.1:{outbound}")
    with ExitStack() as stack:
        processes = []
        for account, arguments in (("shop", shop), ("web", web)):
            launch = _launches[peer.name](python, folder, files, account, arguments)
            processes.append(stack.enter_context(started(launch, files / f"{account}.log")))
        wait_until_answering(processes[1], outbound, SMALL, files / "web.log", host=_HOST)
        yield Pair(peer, (processes[0], processes[1]), outbound)


def _by_meshproxy(python: Path, folder: Path, files: Path, account: str, arguments: Sequence[str | Path]) -> Launch:
    ca = ("--ca", folder / "ca", "--access-log", "off")
    return Launch([python, "-m", "meshproxy", "sidecar", *arguments, *ca])


def _by_envoy(python: Path, folder: Path, files: Path, account: str, arguments: Sequence[str | Path]) -> Launch:
    credentials = ("--credentials", folder / account, "--json")
    exported = _meshproxy(python, "export", "envoy", *arguments, *credentials)
    config = files / f"{account}.json"
    config.write_text(json.dumps(json.loads(exported)))
    return Launch([binary(), "-c", config, "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"])


_launches = {MESHPROXY.name: _by_meshproxy, ENVOY.name: _by_envoy}


def _meshproxy(python: Path, *arguments: str | Path) -> bytes:
    return subprocess.run([python, "-m", "meshproxy", *arguments], stdout=subprocess.PIPE, check=True).stdout


def _mesh(kind: str, inbound: int) -> list[Resource]:
    """A service before one workload, and another that calls it."""
    port = {"name": "http", "port": 80, "targetPort": inbound}
    resources: list[Resource] = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "shop"},
            "spec": {"selector": {"app": "shop"}, "ports": [port]},
        },
        *(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "WorkloadEntry",
                "metadata": {"name": f"{account}-1"},
                "spec": {"address": "127.0.0.1", "labels": {"app": account}, "serviceAccount": account},
            }
            for account in ("shop", "web")
        ),
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": "all"},
            "spec": {"mtls": {"mode": "DISABLE" if kind == PLAIN else "STRICT"}},
        },
    ]
    if kind == EACH:
        pool = {"http": {"maxRequestsPerConnection": 1}}
        resources.append(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "DestinationRule",
                "metadata": {"name": "shop"},
                "spec": {"host": "shop", "trafficPolicy": {"connectionPool": pool}},
            }
        )
    return resources
