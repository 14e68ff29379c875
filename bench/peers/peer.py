"""What a peer is, and what it is told."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..meshes import TWO_ROUTES
from ..processes import Launch


@dataclass(frozen=True)
class Setup:
    """What a proxy has to do: listen on ports of the loopback address, and forward to two endpoints, each `ip:port`."""

    port: int
    admin_port: int
    endpoints: Sequence[str]
    folder: Path
    """Where its files go."""
    access_log: bool
    python: Path
    """The interpreter for those in Python."""
    mesh: str = TWO_ROUTES
    """What those are configured by that read meshes, of `meshes.MESHES`."""
    roots: Path | None = None
    """The authorities of the endpoints' certificates, where they speak TLS."""

    @property
    def log(self) -> Path:
        """Where the access log goes, if there is one."""
        return self.folder / "access.log"


@dataclass(frozen=True)
class Peer:
    """A proxy: whether it is here, and how to start it."""

    name: str
    how_to_get: str
    version: Callable[[Path], str | None]
    """Its version, given the interpreter for those in Python; None where it is not installed."""
    launch: Callable[[Setup], Launch]
    """Writes its configuration, and returns the command."""


def told_version(command: Sequence[str | Path]) -> str | None:
    """The first thing like a version that a program says of itself; None if it cannot be run."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"\d+\.\d+(\.\d+)*", said.stdout + said.stderr)
    return found[0] if found else None
