"""Files of keys and certificates: written whole or not at all, and secret ones readable by their owner alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from .errors import Unusable

SECRET = 0o600
PUBLIC = 0o644
_MAX_FILE = 4 * 1024 * 1024
_STAGED = ".staged-"
COMMITTED = ".committed"
"""The name of what is to be written, from the moment that it will be."""


def read(path: Path) -> bytes:
    """The file's content. Raises `Unusable`."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise Unusable(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _MAX_FILE:
        raise Unusable(f"cannot read {path}: it has more than {_MAX_FILE} bytes, which no certificates have")
    return data


def write(path: Path, data: bytes, mode: int) -> None:
    """Write the file atomically: who reads it finds the old or the new. Raises `Unusable`."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise Unusable(f"cannot write {path}: {error.strerror}") from error


def make_directory(path: Path) -> None:
    """Make the directory, and those above it, for its owner alone where there is none yet. Raises `Unusable`."""
    try:
        missing = [one for one in (path, *path.parents) if not one.exists()]
        for one in reversed(missing):
            one.mkdir(mode=0o700)
    except OSError as error:
        raise Unusable(f"cannot make the directory {path}: {error.strerror}") from error


def make_private(path: Path) -> None:
    """Keep everybody but the owner out of a directory. Raises `Unusable`."""
    try:
        path.chmod(0o700)
    except OSError as error:
        raise Unusable(f"cannot keep others out of the directory {path}: {error.strerror}") from error


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Alone among those who change the directory, with what one of them had begun finished. Raises `Unusable`."""
    try:
        # The directory itself is the lock: who only reads needs no right to write there.
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Unusable(f"cannot use the directory {directory}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _finish(directory)
        for left in directory.glob(f"{_STAGED}*"):
            shutil.rmtree(left, ignore_errors=True)  # of somebody who crashed before it counted
        yield
    finally:
        os.close(descriptor)


def replace_together(directory: Path, contents: Mapping[str, tuple[bytes, int]]) -> None:
    """Write several files of a locked directory, all or none of them, whenever the power fails. Raises `Unusable`.

    They are written aside first; from the moment that the directory of the new ones has its final name, whoever locks
    the directory next would finish the work.
    """
    try:
        aside = Path(tempfile.mkdtemp(dir=directory, prefix=_STAGED))
    except OSError as error:
        raise Unusable(f"cannot write in {directory}: {error.strerror}") from error
    try:
        for name, (data, mode) in contents.items():
            write(aside / name, data, mode)
        os.rename(aside, directory / COMMITTED)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, OSError):
            raise Unusable(f"cannot write in {directory}: {error.strerror}") from error
        raise
    _finish(directory)


def _finish(directory: Path) -> None:
    committed = directory / COMMITTED
    try:
        if committed.is_dir():
            for file in committed.iterdir():
                os.replace(file, directory / file.name)
            committed.rmdir()
    except OSError as error:
        raise Unusable(f"cannot write in {directory}: {error.strerror}") from error


def append(path: Path, line: bytes) -> None:
    """Add a line to a secret file. Raises `Unusable`."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, SECRET)
        with open(descriptor, "ab") as file:
            file.write(line)
    except OSError as error:
        raise Unusable(f"cannot write {path}: {error.strerror}") from error


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a file of whatever size, without one that was cut off by a crash. Raises `Unusable`."""
    try:
        with path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))
    except OSError as error:
        raise Unusable(f"cannot read {path}: {error.strerror}") from error
