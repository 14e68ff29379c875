"""Runs meshproxy and samples it: FILE MESHPROXY-ARGUMENT...

From SIGUSR1 on, notes after each millisecond of CPU time which function runs; in the end writes triples of file,
function and count to FILE, as JSON. CPU time, not time: a profiler that looks from outside takes waiting for a core for
work. Python runs the handler when the call that was interrupted returns, so a system call counts for the function that
makes it.

Stands alone: it is run by an interpreter that need not know this package.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from meshproxy.cli import main

_PERIOD_S = 0.001

samples: Counter[tuple[str, str]] = Counter()


def begin(number: int, frame: FrameType | None) -> None:
    signal.setitimer(signal.ITIMER_PROF, _PERIOD_S, _PERIOD_S)


def sample(number: int, frame: FrameType | None) -> None:
    if frame is not None:
        samples[frame.f_code.co_filename, frame.f_code.co_qualname] += 1


if __name__ == "__main__":
    signal.signal(signal.SIGPROF, sample)
    signal.signal(signal.SIGUSR1, begin)
    try:
        main(sys.argv[2:], prog_name="meshproxy")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        Path(sys.argv[1]).write_text(json.dumps([[*place, count] for place, count in samples.items()]))
