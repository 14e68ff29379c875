"""Tells of outcomes: to people, to CI servers (JUnit XML), and to programs (JSON).

JUnit XML has no standard but the readers of it; what is written here is what Jenkins' schema and GitLab's, GitHub's and
Azure's readers have in common (https://github.com/testmoapp/junitxml).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

from .runner import Failing, Outcome

_SHOWN_TRIED = 5

# What XML 1.0 bars even as an escape (its production `Char`), but for surrogates, which no text here holds.
_FORBIDDEN = dict.fromkeys({*range(0x20), 0xFFFE, 0xFFFF} - {0x09, 0x0A, 0x0D}, "\N{REPLACEMENT CHARACTER}")


def summary(outcomes: Sequence[Outcome]) -> str:
    """`12 passed, 1 failed`."""
    failed = sum(not outcome.passed for outcome in outcomes)
    return f"{len(outcomes) - failed} passed, {failed} failed"


def failure_lines(outcome: Outcome) -> Iterator[str]:
    """Everything that is not as expected, and where to look."""
    described: set[object] = set()
    for failing in outcome.failing:
        difference = failing.difference
        yield f"{'.'.join(difference.path)}, expected at {failing.expectation}"
        yield f"  expected: {difference.expected}"
        yield f"  got:      {difference.got}"
        if failing.proxy and (failing.proxy, failing.rule) not in described:
            described.add((failing.proxy, failing.rule))
            yield from _place_lines(failing)


def _place_lines(failing: Failing) -> Iterator[str]:
    met = f"{failing.rule}" if failing.rule is not None else "none"
    root = f", delegated by {failing.rule.root}" if failing.rule is not None and failing.rule.root else ""
    yield f"  at {failing.proxy}; the rule met: {met}{root}"
    for text in failing.tried[:_SHOWN_TRIED]:
        yield f"  not met: {text}"
    if len(failing.tried) > _SHOWN_TRIED:
        yield f"  nor {len(failing.tried) - _SHOWN_TRIED} more rules"


def as_dict(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All of it as plain JSON values."""
    failed = sum(not outcome.passed for outcome in outcomes)
    return {"passed": len(outcomes) - failed, "failed": failed, "cases": list(map(_case, outcomes))}


def _case(outcome: Outcome) -> dict[str, Any]:
    case, request = outcome.combination.case, outcome.combination.request
    position = case.position()
    return {
        "description": case.test.description,
        "file": position.file,
        "line": position.line,
        "request": {
            "method": request.method,
            "authority": request.authority,
            "uri": request.uri,
            "headers": dict(request.headers),
        },
        "passed": outcome.passed,
        "outcome": outcome.came,
        "failures": list(map(_failing, outcome.failing)),
    }


def _failing(failing: Failing) -> dict[str, Any]:
    rule = failing.rule
    return {
        "expectation": ".".join(failing.difference.path),
        "line": failing.expectation.line,
        "expected": failing.difference.expected,
        "got": failing.difference.got,
        "proxy": failing.proxy,
        "rule": None
        if rule is None
        else {"file": rule.file, "line": rule.line, "resource": rule.resource, "path": rule.path},
    }


def junit(outcomes: Iterable[Outcome]) -> bytes:
    """JUnit XML: a suite for each file, a test case for each combination."""
    files: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        files.setdefault(outcome.combination.case.file, []).append(outcome)
    root = ElementTree.Element("testsuites", _totals([one for of_file in files.values() for one in of_file]))
    for file, of_file in files.items():
        suite = ElementTree.SubElement(root, "testsuite", {"name": _text(file), **_totals(of_file)})
        for outcome in of_file:
            _add_case(suite, file, outcome)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _totals(outcomes: Sequence[Outcome]) -> dict[str, str]:
    return {
        "tests": str(len(outcomes)),
        "failures": str(sum(not outcome.passed for outcome in outcomes)),
        "errors": "0",
        "skipped": "0",
        "time": f"{sum(outcome.duration_s for outcome in outcomes):.6f}",
    }


def _add_case(suite: ElementTree.Element, file: str, outcome: Outcome) -> None:
    combination = outcome.combination
    attributes = {
        # Readers group by class name, and split it at its dots.
        "classname": file.replace(".", "_"),
        "name": combination.name,
        "file": file,
        "line": str(combination.case.position().line),
        "time": f"{outcome.duration_s:.6f}",
    }
    case = ElementTree.SubElement(suite, "testcase", {name: _text(value) for name, value in attributes.items()})
    if not outcome.passed:
        differences = ", ".join(".".join(failing.difference.path) for failing in outcome.failing)
        failure = ElementTree.SubElement(
            case, "failure", {"type": "Difference", "message": _text(f"not as expected: {differences}")}
        )
        failure.text = _text("\n".join(failure_lines(outcome)))


def _text(text: str) -> str:
    return text.translate(_FORBIDDEN)
