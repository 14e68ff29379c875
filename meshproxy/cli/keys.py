"""What commands that use keys have in common: files, lifetimes, and where passphrases come from."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from ..identity.errors import Unusable
from .parameters import Duration

_PASSPHRASE_VARIABLE = "MESHPROXY_CA_PASSPHRASE"


class File(click.ParamType[Path]):
    """A path; whoever opens it says what is wrong with it."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return Path(value)


class Lifetime(Duration):
    """A duration that is not zero."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = super().convert(value, param, ctx)
        if seconds < 1:
            self.fail(f"{value!r} is less than a second; give a time such as 24h", param, ctx)
        return seconds


class Passphrase:
    """Where passphrases come from: a file, the environment, or a person at the terminal. Never the command line."""

    def __init__(self, file: Path | None, *, ask: bool = True) -> None:
        self._file = file
        self._ask = ask

    @property
    def given(self) -> bool:
        return self._file is not None or bool(os.environ.get(_PASSPHRASE_VARIABLE))

    def __call__(self, key: Path) -> bytes:
        """The passphrase of a key that is encrypted. Raises `Unusable`."""
        if self.given:
            return self.new()
        if self._ask and sys.stdin.isatty():
            return str(click.prompt(f"Passphrase of {key}", hide_input=True, err=True)).encode()
        raise Unusable(
            f"the key {key} is encrypted: give its passphrase by --passphrase-file or in {_PASSPHRASE_VARIABLE}"
        )

    def new(self) -> bytes:
        """A passphrase for keys that are about to be made. Raises `Unusable`."""
        if self._file is not None:
            try:
                passphrase = self._file.read_bytes().rstrip(b"\r\n")
            except OSError as error:
                raise Unusable(f"cannot read {self._file}: {error.strerror}") from error
            if not passphrase:
                raise Unusable(f"the passphrase file {self._file} is empty")
            return passphrase
        if self.given:
            return os.environ[_PASSPHRASE_VARIABLE].encode()
        if sys.stdin.isatty():
            prompt = "Passphrase for the new keys"
            return str(click.prompt(prompt, hide_input=True, confirmation_prompt=True, err=True)).encode()
        raise Unusable(f"there is no terminal to ask at: use --passphrase-file or {_PASSPHRASE_VARIABLE}")


passphrase_file_option = click.option(
    "--passphrase-file",
    type=File(),
    help=f"A file with the passphrase of the CA's keys; {_PASSPHRASE_VARIABLE} in the environment does as well.",
)
