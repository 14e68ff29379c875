"""The example in docs/testing.md works as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.support import meshproxy

pytest_plugins = ["pytester"]

DOCS = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the example's files, where we are."""
    named = re.findall(r"^`([\w.]+)`, [^\n]*:\n\n```(?:yaml|python)\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
    for name, text in named:
        (tmp_path / name).write_text(text)
    assert [name for name, _ in named] == ["shop.yaml", "shop.meshtest.yaml", "test_shop.py"]
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(beginning: str) -> str:
    """The block of a console that begins like this."""
    found = re.search(rf"```console\n({re.escape(beginning)}.*?)```", DOCS, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_command_says_what_is_printed(example: Path) -> None:
    command, _, output = printed("$ meshproxy").partition("\n")

    run = meshproxy(*command.split()[2:])

    assert (run.returncode, run.stdout, run.stderr) == (0, output, "")


def test_a_failure_looks_as_printed(example: Path) -> None:
    rules = (example / "shop.yaml").read_text()
    (example / "shop.yaml").write_text(rules.replace('headers:\n        x-beta: {exact: "yes"}', "uri: {exact: /}"))

    run = meshproxy("test", "-f", "shop.yaml", "shop.meshtest.yaml")

    assert printed("FAIL") in run.stdout


def test_pytest_runs_the_files(example: Path, pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess(example, f"--rootdir={example}", "-W", "error")

    result.assert_outcomes(passed=8)
