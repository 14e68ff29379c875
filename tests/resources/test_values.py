"""Durations, host names and the notation of paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.resources import Position, Problem, format_path, hosts_overlap, parse_duration
from meshproxy.resources.types import fqdn_error, wildcard_host_error


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        ("10ms", 0.01),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("0s", 0.0),
        ("0", 0.0),
        ("1h0m0.1s", 3600.1),
    ],
)
def test_a_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("5", "write 5s for seconds or 5ms for milliseconds"),
        (5, "write 5s for seconds or 5ms for milliseconds"),
        ("-1s", "is negative"),
        ("9" * 400 + "h", "is too long"),
        ("1 s", "write it as 1.5s"),
        ("1d", "write it as 1.5s"),
        ("", "write it as 1.5s"),
        ("s", "write it as 1.5s"),
        (True, "expected a duration"),
        (["1s"], "expected a duration"),
    ],
)
def test_what_is_no_duration_is_refused_with_the_cure(text: object, cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        parse_duration(text)


@given(st.integers(0, 999), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_a_written_duration_reads_back(hours: int, minutes: int, seconds: int, millis: int) -> None:
    expected = hours * 3600 + minutes * 60 + seconds + millis / 1000
    assert parse_duration(f"{hours}h{minutes}m{seconds}s{millis}ms") == pytest.approx(expected, abs=1e-9)
    assert parse_duration(f"{hours}h{minutes}m{seconds}.{millis:03}s") == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("host", ["a", "a.b", "a-b.c.", "A1.example.com", "x" * 63 + ".com", "xn--bcher-kva.example"])
def test_a_host_name_is_accepted(host: str) -> None:
    assert fqdn_error(host) is None


@pytest.mark.parametrize(
    "host",
    ["", ".", "a..b", "-a", "a-", "a_b", "a b", "*.a", "1.2.3", "x" * 64, ".".join(["x" * 60] * 5), "a.b.42"],
)
def test_what_is_no_host_name_is_refused(host: str) -> None:
    assert fqdn_error(host)


@pytest.mark.parametrize("host", ["*", "*.example.com", "*-suffix.example.com", "*foo.example.com", "a.b"])
def test_a_wildcard_may_begin_a_host_name(host: str) -> None:
    assert wildcard_host_error(host) is None


@pytest.mark.parametrize("host", ["a*", "a*b.com", "a.*.com", "**.com", "*."])
def test_a_wildcard_may_stand_nowhere_else(host: str) -> None:
    assert wildcard_host_error(host)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("a.com", "a.com", True),
        ("a.com", "b.com", False),
        ("*", "a.com", True),
        ("*.com", "a.com", True),
        ("*.com", "*.a.com", True),
        ("*.a.com", "*.b.com", False),
        ("*.a.com", "a.com", False),
        ("*", "*", True),
    ],
)
def test_hosts_overlap_when_one_request_could_be_for_both(one: str, other: str, overlap: bool) -> None:
    assert hosts_overlap(one, other) is hosts_overlap(other, one) is overlap


def test_a_path_is_written_as_people_read_it() -> None:
    path = ("spec", "http", 0, "headers", "x-a", "labels", "app.kubernetes.io/name")
    assert format_path(path) == 'spec.http[0].headers.x-a.labels["app.kubernetes.io/name"]'


def test_a_problem_reads_from_the_place_to_the_message() -> None:
    problem = Problem(Position("a.yaml", 3, 7), "Gateway/g.default", "spec.servers", "is required")
    assert str(problem) == "a.yaml:3:7: Gateway/g.default: spec.servers: is required"
    assert problem.as_dict() == {
        "file": "a.yaml",
        "line": 3,
        "column": 7,
        "resource": "Gateway/g.default",
        "path": "spec.servers",
        "message": "is required",
    }


def test_a_problem_stays_on_its_line_whatever_the_user_wrote() -> None:
    problem = Problem(Position("a.yaml", 3, 7), "", format_path(("x-b\r\nq",)), "is 'a\u2028b', tab\t")
    assert str(problem) == r"""a.yaml:3:7: ["x-b\r\nq"]: is 'a\u2028b', tab\t"""


def test_a_problem_of_no_known_resource_leaves_it_out() -> None:
    assert str(Problem(Position("a.yaml", 1, 1), "", "", "malformed YAML")) == "a.yaml:1:1: malformed YAML"
