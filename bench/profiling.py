"""Where a request's time goes: samples of CPU time, counted by the part of the program that was running."""

from __future__ import annotations

import json
import re
import signal
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from .cases import SMALL, Case
from .origin import origin
from .peers import MESHPROXY, Setup
from .peers.meshproxy import options
from .processes import Launch, free_port, started, wait_until_answering
from .proxies import Proxy, measure_round
from .report import Table

_SAMPLER = Path(__file__).with_name("sampler.py")
_TOP = 3

_PARTS = (
    ("sockets, with their system calls", r"/meshproxy/proxy/(transport|readiness|listener|splic)"),
    ("HTTP/1.1 without I/O", r"/meshproxy/proxy/http/(http1_codec|http1_bodies|http1_fields|message|path)"),
    ("HTTP connections, both sides", r"/meshproxy/proxy/http/"),
    ("routing", r"/meshproxy/proxy/routing/"),
    ("filters", r"/meshproxy/proxy/filters/"),
    ("clusters, balancers, pools", r"/meshproxy/proxy/upstream/"),
    ("metrics and access log", r"/meshproxy/(telemetry/|proxy/worker)"),
    ("trio, with epoll_wait", r"/(trio|outcome)/"),
)
_OTHER = "Python's library, and the rest"


class Sample(NamedTuple):
    """A function, and how often it was found running."""

    file: str
    function: str
    times: int


class Part(NamedTuple):
    """A part of the program: its share of all samples, and the functions with the most of them."""

    name: str
    share: float
    functions: list[tuple[str, float]]


def sample(case: Case, seconds: float, python: Path) -> list[Sample]:
    """meshproxy's samples under a case's load."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meshproxy-bench-")))
        upstream = stack.enter_context(origin(folder))
        setup = Setup(free_port(), free_port(), upstream.endpoints, folder, False, python)
        samples, log = folder / "samples.json", folder / "meshproxy.log"
        command: list[str | Path] = [python, "-P", _SAMPLER, samples, "run", *options(setup), "--access-log", "off"]
        with started(Launch(command), log) as process:
            wait_until_answering(process, setup.port, SMALL, log)
            process.send_signal(signal.SIGUSR1)
            measure_round(Proxy(MESHPROXY, process, setup.port), case, seconds)
        return [Sample(*one) for one in json.loads(samples.read_text())]


def parts(samples: Iterable[Sample]) -> list[Part]:
    """The samples by part of the program, the largest first."""
    functions: dict[str, Counter[str]] = {}
    for one in samples:
        functions.setdefault(_part(one.file), Counter())[one.function] += one.times
    total = sum(counts.total() for counts in functions.values())
    found = [
        Part(name, counts.total() / total, [(one, count / total) for one, count in counts.most_common(_TOP)])
        for name, counts in functions.items()
    ]
    return sorted(found, key=lambda part: -part.share)


def _part(file: str) -> str:
    return next((name for name, pattern in _PARTS if re.search(pattern, file)), _OTHER)


def table(found: Iterable[Part], title: str) -> Table:
    """A row a part."""
    rows = [
        (part.name, f"{part.share:.0%}", ", ".join(f"{name} {share:.0%}" for name, share in part.functions))
        for part in found
    ]
    return Table(title, ("where", "share", "most of it in"), rows)
