"""`meshproxy fields`: every field of every kind, and what is done with it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .support import meshproxy

ROOT = Path(__file__).parents[2]
ISTIO_FIELDS = ROOT / "tests/resources/fields.txt"
PAGE = ROOT / "docs/fields.md"


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return meshproxy("fields").stdout.splitlines()


def test_lists_every_field_of_istios_kinds(lines: list[str]) -> None:
    listed = {tuple(line.split()[:2]) for line in lines}
    assert {tuple(line.split()[:2]) for line in ISTIO_FIELDS.read_text().splitlines()} <= listed
    assert len(listed) == len(lines)


def test_a_line_tells_the_status_and_a_reason_where_the_field_is_not_honoured(lines: list[str]) -> None:
    form = re.compile(r"\w+ \S+ (honoured|(refused|not-yet) \S.*)")
    assert [line for line in lines if not form.fullmatch(line)] == []


def test_a_kind_is_found_whatever_its_case(lines: list[str]) -> None:
    result = meshproxy("fields", "workloadentry")
    assert result.stdout.splitlines() == [line for line in lines if line.startswith("WorkloadEntry ")]


@pytest.mark.parametrize("command", ["fields", "schema"])
def test_an_unknown_kind_is_answered_with_the_nearest_one(command: str) -> None:
    result = meshproxy(command, "VirtualServce")
    assert (result.returncode, result.stdout) == (2, "")
    assert "did you mean VirtualService?" in result.stderr


def test_only_the_fields_of_one_status_are_listed(lines: list[str]) -> None:
    result = meshproxy("fields", "--status", "refused")
    assert result.stdout.splitlines() == [line for line in lines if line.split()[2] == "refused"]


def test_json_tells_the_same(lines: list[str]) -> None:
    found = json.loads(meshproxy("fields", "--json").stdout)
    told = [" ".join(filter(None, (row["kind"], row["path"], row["status"], row["reason"]))) for row in found]
    assert told == lines
    [match] = [row for row in found if row["path"] == "http[].redirect.derivePort"]
    assert (match["type"], match["values"]) == ("string", ["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"])


def test_the_page_is_current() -> None:
    written = meshproxy("fields", "--markdown").stdout
    assert PAGE.read_text() == written, "docs/fields.md is old; run: meshproxy fields --markdown > docs/fields.md"


def test_the_examples_of_its_help_work_as_printed() -> None:
    examples = re.findall(r"^ +(meshproxy .+)$", meshproxy("fields", "--help").stdout, re.MULTILINE)
    assert examples
    for example in examples:
        assert run_as_printed(example, ROOT)


def run_as_printed(example: str, folder: Path) -> str:
    """The output of an example of a help text, run by the shell in a folder."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = subprocess.run(
        example, shell=True, check=True, stdout=subprocess.PIPE, text=True, cwd=folder, env=os.environ | {"PATH": path}
    )
    return command.stdout
