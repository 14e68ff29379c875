"""CPU time, memory and signals of a process and its children, as Linux counts them (proc(5))."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class CpuTime(NamedTuple):
    """Seconds of CPU time in user space and in the kernel."""

    user_s: float
    system_s: float

    def since(self, before: CpuTime) -> CpuTime:
        """What was spent in between."""
        return CpuTime(self.user_s - before.user_s, self.system_s - before.system_s)


def family(process: int) -> Iterator[int]:
    """A process and all its children, and theirs."""
    yield process
    for children in (_PROC / str(process) / "task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in children.read_text().split():
                yield from family(int(child))


def cpu_time(process: int) -> CpuTime:
    """What a process and all its children have used so far."""
    user = system = 0
    for one in family(process):
        with suppress(FileNotFoundError):
            spent = parse_stat((_PROC / str(one) / "stat").read_text())
            user, system = user + spent[0], system + spent[1]
    return CpuTime(user / _TICKS_PER_S, system / _TICKS_PER_S)


def whole_time_s(process: int) -> float:
    """CPU seconds of a process and of all its children, those that have ended among them."""
    ticks = 0
    for one in family(process):
        with suppress(FileNotFoundError):
            ticks += sum(map(int, (_PROC / str(one) / "stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / _TICKS_PER_S


def parse_stat(text: str) -> tuple[int, int]:
    """utime and stime, in clock ticks, of a line of `/proc/PID/stat`. The program's name may hold spaces and `)`."""
    fields = text.rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def catches(process: int, number: signal.Signals) -> bool:
    """Whether a process, one of ours that nobody has waited for, has a handler for a signal."""
    return parse_caught((_PROC / str(process) / "status").read_text(), number)


def parse_caught(text: str, number: signal.Signals) -> bool:
    """Whether a `/proc/PID/status` tells of a handler for this signal."""
    found = re.search(r"^SigCgt:\s+([0-9a-f]+)$", text, re.MULTILINE)
    assert found is not None, "every process has signals"
    return bool(int(found[1], 16) & 1 << (number - 1))


class Others:
    """The share of the machine that other programs take, from when this is made."""

    def __init__(self) -> None:
        self._before = self._now()

    def share(self) -> float:
        """So far. What we started is ours, whether it runs or has ended."""
        busy, total, ours = (now - before for now, before in zip(self._now(), self._before, strict=True))
        return max(busy - ours, 0.0) / max(total, 1e-9)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        busy, total = parse_machine((_PROC / "stat").read_text())
        return busy / _TICKS_PER_S, total / _TICKS_PER_S, whole_time_s(os.getpid())


def parse_machine(text: str) -> tuple[int, int]:
    """Clock ticks of all cores that programs have used, and all there were, from `/proc/stat`."""
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, text.split()[1:9])
    busy = user + nice + system + steal
    return busy, busy + idle + iowait + irq + softirq


def memory_bytes(process: int) -> int:
    """The memory that a process and its children have allocated: not that of the programs' files."""
    return sum(parse_allocated((_PROC / str(one) / "status").read_text()) for one in family(process))


def parse_allocated(text: str) -> int:
    """The anonymous part of the resident set, in bytes, that a `/proc/PID/status` tells."""
    found = re.search(r"^RssAnon:\s+(\d+) kB$", text, re.MULTILINE)
    assert found is not None, "every process has memory"
    return 1024 * int(found[1])
