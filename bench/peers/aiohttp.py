"""A reverse proxy in aiohttp, as people write them today."""

from __future__ import annotations

from pathlib import Path

from ..processes import Launch
from .peer import Peer, Setup, told_version

_PROGRAM = Path(__file__).with_name("aiohttp_program.py")


def _launch(setup: Setup) -> Launch:
    log = str(setup.log) if setup.access_log else "off"
    ports = setup.port, setup.admin_port
    # -P: beside the program lies this module, which has the name of the library.
    return Launch([setup.python, "-P", _PROGRAM, *map(str, ports), log, *setup.endpoints])


AIOHTTP = Peer(
    "aiohttp",
    how_to_get="pip install aiohttp",
    version=lambda python: told_version([python, "-c", "import aiohttp; print(aiohttp.__version__)"]),
    launch=_launch,
)
