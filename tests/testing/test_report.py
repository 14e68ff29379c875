"""What programs are told: JUnit XML and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from meshproxy.testing import report

from .support import outcomes_of

TESTS = """
testCases:
- description: "a <cup> & a \\x01pot"
  request: {authority: [shop.example.com], uri: [/tea], method: [GET, POST]}
  status: 418
- description: no tea
  request: {authority: [shop.example.com], uri: [/tea]}
  status: 404
"""


def test_junit_xml_reads_back_with_every_case_and_why_it_failed(tmp_path: Path) -> None:
    outcomes = outcomes_of(tmp_path, TESTS)

    root = ElementTree.fromstring(report.junit(outcomes))

    (suite,) = root
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "errors": "0",
        "skipped": "0",
    }
    cases = list(suite.iter("testcase"))
    assert [case.get("name") for case in cases] == [
        "a <cup> & a \N{REPLACEMENT CHARACTER}pot [GET shop.example.com/tea]",
        "a <cup> & a \N{REPLACEMENT CHARACTER}pot [POST shop.example.com/tea]",
        "no tea [GET shop.example.com/tea]",
    ]
    assert [case.get("line") for case in cases] == ["3", "3", "6"]
    assert all(case.get("file") == f"{tmp_path}/it.meshtest.yaml" for case in cases)
    assert all(float(case.get("time", "")) >= 0 for case in (root, suite, *cases))
    (failure,) = root.iter("failure")
    assert failure.get("message") == "not as expected: status"
    assert failure.text == "\n".join(report.failure_lines(outcomes[2]))


def test_a_failure_says_what_was_expected_what_came_and_where_both_are_written(tmp_path: Path) -> None:
    failed = outcomes_of(tmp_path, TESTS)[2]

    assert list(report.failure_lines(failed)) == [
        f"status, expected at {tmp_path}/it.meshtest.yaml:8:11",
        "  expected: 404",
        "  got:      418 (direct_response)",
        f"  at gateway default/front, port 80; the rule met: {tmp_path}/mesh.yaml:23 (VirtualService/shop.default)",
        f"  not met: {tmp_path}/mesh.yaml:19 (VirtualService/shop.default): path begins with /old, but it is /tea",
    ]


def test_json_has_the_request_the_outcome_and_the_rule(tmp_path: Path) -> None:
    told = json.loads(json.dumps(report.as_dict(outcomes_of(tmp_path, TESTS))))

    assert (told["passed"], told["failed"]) == (2, 1)
    assert told["cases"][2] == {
        "description": "no tea",
        "file": f"{tmp_path}/it.meshtest.yaml",
        "line": 6,
        "request": {"method": "GET", "authority": "shop.example.com", "uri": "/tea", "headers": {}},
        "passed": False,
        "outcome": "answered with 418 (direct_response)",
        "failures": [
            {
                "expectation": "status",
                "line": 8,
                "expected": "404",
                "got": "418 (direct_response)",
                "proxy": "gateway default/front, port 80",
                "rule": {
                    "file": f"{tmp_path}/mesh.yaml",
                    "line": 23,
                    "resource": "VirtualService/shop.default",
                    "path": "spec.http[1].match[0]",
                },
            }
        ],
    }
