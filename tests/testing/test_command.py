"""`meshproxy test`, as people run it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.support import meshproxy

from .support import SHOP, written

ROOT = Path(__file__).parents[2]

PASSING = """
testCases:
- description: tea
  request: {authority: [shop.example.com], uri: [/tea], method: [GET, POST]}
  status: 418
"""
FAILING = """
testCases:
- description: tea and cake
  request: {authority: [shop.example.com], uri: [/tea, /cake]}
  status: 418
"""


@pytest.fixture
def shop(tmp_path: Path) -> str:
    return written(tmp_path / "shop.yaml", SHOP)


def test_a_line_a_case_and_a_summary_when_all_passes(tmp_path: Path, shop: str) -> None:
    run = meshproxy("test", "-f", shop, written(tmp_path / "it.yaml", PASSING))

    assert (run.returncode, run.stdout, run.stderr) == (0, "PASS tea (2 requests)\n2 passed, 0 failed\n", "")


def test_a_failure_is_explained_and_the_exit_code_is_1(tmp_path: Path, shop: str) -> None:
    tests = written(tmp_path / "it.yaml", FAILING)

    run = meshproxy("test", "-f", shop, tests)

    assert run.returncode == 1
    assert run.stdout.splitlines()[:6] == [
        "FAIL tea and cake (1 of 2 requests)",
        "     GET shop.example.com/cake",
        f"     status, expected at {tests}:5:11",
        "       expected: 418",
        "       got:      404 (route_not_found)",
        "       at gateway default/front, port 80; the rule met: none",
    ]
    assert run.stdout.endswith("1 passed, 1 failed\n")


def test_verbose_lists_every_combination(tmp_path: Path, shop: str) -> None:
    run = meshproxy("test", "-v", "-f", shop, written(tmp_path / "it.yaml", PASSING))

    assert run.stdout.splitlines()[:2] == [
        "PASS tea [GET shop.example.com/tea]",
        "PASS tea [POST shop.example.com/tea]",
    ]


def test_several_files_and_junit_xml(tmp_path: Path, shop: str) -> None:
    passing, failing = written(tmp_path / "a.yaml", PASSING), written(tmp_path / "b.yaml", FAILING)

    run = meshproxy("test", "-f", shop, "--junit", tmp_path / "junit.xml", passing, failing)

    suites = list(ElementTree.parse(tmp_path / "junit.xml").getroot())
    assert run.stdout.endswith("3 passed, 1 failed\n")
    assert [(suite.get("name"), suite.get("failures")) for suite in suites] == [(passing, "0"), (failing, "1")]


def test_json_is_all_there_is_on_stdout(tmp_path: Path, shop: str) -> None:
    run = meshproxy("test", "--json", "-f", shop, written(tmp_path / "it.yaml", FAILING))

    assert run.returncode == 1
    assert json.loads(run.stdout)["failed"] == 1


def test_test_files_among_the_resources_are_no_resources(tmp_path: Path, shop: str) -> None:
    tests = written(tmp_path / "shop_test.yml", PASSING)

    assert meshproxy("test", "-f", tmp_path, tests).returncode == 0


def test_without_resources_those_that_the_file_names_are_taken(tmp_path: Path, shop: str) -> None:
    (tmp_path / "tests").mkdir()
    tests = written(tmp_path / "tests" / "shop.meshtest.yaml", f"resources: [../shop.yaml]\n{PASSING}")

    assert meshproxy("test", tests).returncode == 0


def test_resources_may_come_from_stdin(tmp_path: Path) -> None:
    run = meshproxy("test", "-f", "-", written(tmp_path / "it.yaml", PASSING), stdin=SHOP)

    assert run.returncode == 0


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    rules = written(tmp_path / "shop.yaml", "---\n".join(SHOP.split("---\n")[1:]))

    run = meshproxy("test", "-v", "-f", rules, written(tmp_path / "it.yaml", PASSING))

    assert run.returncode == 0
    assert (
        "note: Gateway default/front is not among the resources; a stand-in admits every host on port 80" in run.stderr
    )


@pytest.mark.parametrize(
    ("tests", "resources", "told"),
    [
        (PASSING.replace("status", "statos"), SHOP, "it.yaml:5:3: testCases[0].statos: unknown field; did you mean"),
        (
            PASSING,
            SHOP.replace("exact: /tea", "exakt: /tea"),
            "shop.yaml:23:20: VirtualService/shop.default: spec.http",
        ),
        ("testCases: [", SHOP, "malformed YAML"),
    ],
    ids=["test file", "resources", "no YAML"],
)
def test_what_cannot_be_used_is_told_with_its_place(tmp_path: Path, tests: str, resources: str, told: str) -> None:
    written(tmp_path / "shop.yaml", resources)

    run = meshproxy("test", "-f", tmp_path / "shop.yaml", written(tmp_path / "it.yaml", tests))

    assert run.returncode == 2
    assert told in run.stderr
    assert "not tested: 1 problem to mend first" in run.stderr


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path, shop: str) -> None:
    tests = written(tmp_path / "it.yaml", PASSING)

    for arguments in (
        ("-f", shop, f"{tmp_path}/none.yaml"),
        ("-f", f"{tmp_path}/none.yaml", tests),
        ("-f", shop, "--junit", f"{tmp_path}/none/junit.xml", tests),
    ):
        run = meshproxy("test", *arguments)
        assert run.returncode == 2
        assert "none" in run.stderr and "No such file or directory" in run.stderr


def test_the_example_of_the_help_works_as_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"Example:\n\s+meshproxy (.*)\n", meshproxy("test", "--help").stdout)
    assert example is not None
    monkeypatch.chdir(ROOT)

    run = meshproxy(*shlex.split(example[1]))

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.endswith(" passed, 0 failed\n")
