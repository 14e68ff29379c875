"""Test files: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshproxy.resources import Unreadable
from meshproxy.testing.cases import read_tests

from .support import file_of


def problems(folder: Path, text: str) -> list[str]:
    """What is wrong with a test file, without the folder's name."""
    return [str(problem).replace(f"{folder}/", "") for problem in file_of(folder, text).problems]


def test_every_combination_of_authority_method_and_uri_is_a_case(tmp_path: Path) -> None:
    tests = file_of(
        tmp_path,
        """
        testCases:
        - description: many
          request:
            authority: [a.test, b.test]
            method: [GET, POST]
            uri: [/1, '/2?x=y']
            headers: {x-a: b}
          status: 200
        """,
    )

    names = [combination.name for combination in tests.combinations()]

    assert names == [
        "many [GET a.test/1]",
        "many [POST a.test/1]",
        "many [GET b.test/1]",
        "many [POST b.test/1]",
        "many [GET a.test/2?x=y]",
        "many [POST a.test/2?x=y]",
        "many [GET b.test/2?x=y]",
        "many [POST b.test/2?x=y]",
    ]
    assert all(combination.request.headers == (("x-a", "b"),) for combination in tests.combinations())


def test_method_and_uri_may_be_left_out_and_a_case_without_description_is_known_by_its_line(tmp_path: Path) -> None:
    tests = file_of(tmp_path, "testCases:\n\n- request: {authority: [a.test]}\n  status: 404\n")

    assert [combination.name for combination in tests.combinations()] == ["line 3 [GET a.test/]"]


def test_the_documents_of_a_file_are_one_list_of_cases(tmp_path: Path) -> None:
    tests = file_of(
        tmp_path,
        """
        testCases:
        - {description: one, request: {authority: [a.test]}, status: 200}
        ---
        testCases:
        - {description: two, request: {authority: [a.test]}, status: 200}
        """,
    )

    assert [(case.name, case.position().line) for case in tests.cases] == [("one", 3), ("two", 6)]


def test_resources_are_named_from_the_folder_of_the_file_which_they_are_by_default(tmp_path: Path) -> None:
    cases = "testCases: [{request: {authority: [a.test]}, status: 200}]\n"

    named = file_of(tmp_path, f"resources: [mesh, ../more.yaml]\n{cases}")
    default = file_of(tmp_path, cases)

    assert named.resources == (f"{tmp_path}/mesh", f"{tmp_path}/../more.yaml")
    assert default.resources == (str(tmp_path),)


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ("wantmatch: true", "4:3: testCases[0].wantmatch: unknown field; did you mean 'wantMatch'?"),
        (
            "route: [{destination: {hots: a}}]",
            "4:26: testCases[0].route[0].destination.hots: unknown field; did you mean 'host'?",
        ),
        ("wantRequest: {headers: {x-a: 1}}", "4:32: testCases[0].wantRequest.headers.x-a: expected text, got"),
        ("redirect: {}", "4:13: testCases[0].redirect: leads nowhere"),
        ("rewrite:", "4:11: testCases[0].rewrite: has no value"),
        ("via: [{status: 200}]", "4:9: testCases[0].via[0]: says not which proxy the request comes to"),
        ("{gateway: a, workload: b}", "malformed YAML"),
        (
            "wantResponse: {}",
            "4:17: testCases[0].wantResponse: expects nothing, so that it could not fail; give status or",
        ),
        ("wantResponse: {headers: {}}", "4:17: testCases[0].wantResponse: expects nothing"),
        ("gateway: a\n  workload: b", "2:3: testCases[0]: give one of gateway and workload, not both"),
        ("status: 200\n  status: 404", "key 'status' appears twice"),
        ("wantMatch: 'true'", "4:14: testCases[0].wantMatch: expected true or false, got the text 'true'"),
    ],
)
def test_what_is_wrong_with_a_case_is_told_with_its_place(tmp_path: Path, case: str, problem: str) -> None:
    text = f"testCases:\n- description: wrong\n  request: {{authority: [a.test]}}\n  {case}\n"

    assert any(problem in found for found in problems(tmp_path, text)), problems(tmp_path, text)


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ("{}", "2:12: testCases[0].request.authority: is required"),
        ("{authority: []}", "testCases[0].request.authority: needs at least 1 item"),
        ("{authority: [a.test], metod: [GET]}", "request.metod: unknown field; did you mean 'method'?"),
        ("{authority: [a.test], uri: [users]}", "request.uri[0]: 'users' is no path; begin it with '/'"),
        ("{authority: ['a b']}", "request.authority[0]: 'a b' holds white space"),
        ("{authority: [a.test], headers: {host: b}}", "request.headers.host: no header but a part of the request line"),
        ("{authority: [a.test], headers: {x y: b}}", "'x y' is not a header name"),
        ('{authority: [a.test], headers: {x: "a\\r\\ny: b"}}', "request.headers.x: holds a control character"),
    ],
)
def test_what_could_be_no_request_is_refused(tmp_path: Path, request_: str, problem: str) -> None:
    found = problems(tmp_path, f"testCases:\n- request: {request_}\n  status: 200\n")

    assert any(problem in one for one in found), found


def test_a_case_that_expects_nothing_is_refused_for_it_could_not_fail(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "testCases:\n- request: {authority: [a.test]}\n")

    assert problem.startswith("it.meshtest.yaml:2:3: testCases[0]: expects nothing, so that it could not fail")


def test_a_file_without_cases_is_refused(tmp_path: Path) -> None:
    assert problems(tmp_path, "") == ["it.meshtest.yaml:1:1: there is no test here; give testCases"]
    assert "expected a mapping with testCases" in problems(tmp_path, "- a\n")[0]


def test_problems_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = file_of(tmp_path, "testCases:\n- statuss: 1\n  request: {}\n  route:\n").problems

    assert found == tuple(sorted(found, key=lambda problem: problem.position))
    assert len(found) == 3


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"none\.yaml: No such file"):
        read_tests(str(tmp_path / "none.yaml"))
