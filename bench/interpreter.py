"""The Python that runs meshproxy and aiohttp.

Debian's is built with profile-guided optimisation, as most users' are; a plain build is about 15 % slower.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import click

_DEBIAN = Path("/usr/bin/python3")
_PROJECT = Path(__file__).parents[1]
_VENVS = _PROJECT / "build" / "bench"
_WANTED = ("aiohttp",)


def interpreter(python: Path | None) -> Path:
    """An interpreter that has meshproxy, of this working tree, and aiohttp.

    One that is given is used as it is if it has meshproxy. Otherwise a virtual environment of it, or of Debian's, or of
    our own, is made in `build/`, once for each version of `pyproject.toml`. Raises `ClickException`.
    """
    if python is not None and _succeeds([python, "-c", "import meshproxy"]):
        return python
    base = python or (_DEBIAN if _succeeds([_DEBIAN, "-c", _NEW_ENOUGH]) else Path(sys.executable))
    return _virtual_environment(base)


def description(python: Path) -> str:
    """`CPython 3.11.2 (/usr/bin/python3.11)`: what it is, and where the binary lies."""
    told = subprocess.run([python, "-c", _DESCRIBE], capture_output=True, text=True, check=True)
    return told.stdout.strip()


_NEW_ENOUGH = "import sys; sys.exit(sys.version_info < (3, 11))"
_DESCRIBE = (
    "import os, platform, sys;"
    "print(platform.python_implementation(), platform.python_version(), f'({os.path.realpath(sys.executable)})')"
)


def _virtual_environment(base: Path) -> Path:
    key = hashlib.sha256(f"{description(base)} {_WANTED}".encode() + (_PROJECT / "pyproject.toml").read_bytes())
    folder = _VENVS / key.hexdigest()[:12]
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        # Debian's Python makes no pip in a virtual environment unless python3-venv is installed; ours serves as well.
        _run([base, "-m", "venv", "--clear", "--without-pip", folder])
        packages = ["--editable", str(_PROJECT), *_WANTED]
        _run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *packages])
        complete.touch()
    return python


def _run(command: list[str | Path]) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise click.ClickException(f"{' '.join(map(str, command))} failed:\n{finished.stderr or finished.stdout}")


def _succeeds(command: list[str | Path]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
