"""A command imports what it needs, and not what the others need: people wait for that at every start."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from meshproxy.cli import COMMANDS, main


def modules(code: str) -> set[str]:
    """What a fresh interpreter has imported after some code."""
    told = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(told.stdout.split())


def test_no_command_is_imported_before_it_is_asked_for() -> None:
    assert not {f"meshproxy.cli.{name}" for name in COMMANDS} & modules("import meshproxy.cli")


def test_a_gateway_imports_nothing_of_tests_explanations_and_exports() -> None:
    found = modules("import meshproxy.cli.run")
    assert not {one for one in found if one.startswith(("meshproxy.testing", "meshproxy.envoy", "rich"))}
    assert "meshproxy.cli.explain" not in found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_found_and_listed(name: str) -> None:
    assert name in CliRunner().invoke(main, ["--help"]).stdout
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0
