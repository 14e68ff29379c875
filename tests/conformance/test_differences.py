"""The page of differences is the table, and the table recognises nothing but what it says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from .compare import Message, Observation, Pair, compare
from .differences import DIFFERENCES, explanations, page, unexplained
from .exchanges import Exchange, exchange, head
from .tally import Tally

PAGE = Path(__file__).parents[2] / "docs" / "differences.md"
OK = Message("HTTP/1.1 200 OK", {"content-length": ("2",)}, b"ok")
REFUSED = Message("HTTP/1.1 400 Bad Request", {"content-length": ("11",)}, b"Bad Request")
ASKED = Message("GET / HTTP/1.1", {"host": ("example.com",)})


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.conformance.differences > docs/differences.md"


def test_every_row_has_an_id_of_its_own_and_all_its_words() -> None:
    assert [name for name, count in Counter(row.id for row in DIFFERENCES).items() if count > 1] == []
    assert all(all((row.id, row.what, row.theirs, row.ours, row.why)) for row in DIFFERENCES)


def _seen(*responses: Message, received: tuple[Message, ...] = (ASKED,), end: str = "open") -> Observation:
    return Observation(responses, tuple(("a", one) for one in received), b"", b"", end)  # type: ignore[arg-type]


PLAIN = exchange("plain", head())
TWO_HOSTS = exchange("two hosts", head("/", "host: other"))
SERVED = _seen(OK)
CLOSED = _seen(REFUSED, received=(), end="closed")


@pytest.mark.parametrize(
    ("sent", "envoy", "ours"),
    [
        (PLAIN, SERVED, CLOSED),
        (TWO_HOSTS, CLOSED, SERVED),
        (TWO_HOSTS, SERVED, _seen(REFUSED, received=(), end="open")),
        (TWO_HOSTS, SERVED, _seen(REFUSED, end="closed")),
        (PLAIN, SERVED, _seen(Message("HTTP/1.1 200 OK", {"content-length": ("3",)}, b"ok."))),
        (PLAIN, _seen(OK, end="closed"), SERVED),
        (PLAIN, SERVED, _seen(OK, received=(ASKED, ASKED, ASKED))),
        (PLAIN, SERVED, _seen(OK, received=())),
        (
            PLAIN,
            _seen(Message("HTTP/1.1 200 OK", {"vary": ("a, b",)})),
            _seen(Message("HTTP/1.1 200 OK", {"vary": ("a", "b")})),
        ),
    ],
)
def test_what_only_resembles_a_difference_stays_unexplained(
    sent: Exchange, envoy: Observation, ours: Observation
) -> None:
    pair = Pair(sent, envoy, ours)
    findings = compare(envoy, ours)
    assert findings
    assert unexplained(pair, findings)


def test_a_difference_explains_all_that_comes_of_it() -> None:
    pair = Pair(TWO_HOSTS, SERVED, CLOSED)
    findings = compare(pair.envoy, pair.ours)
    assert len(findings) > 3
    assert unexplained(pair, findings) == []
    assert explanations(pair, findings) == {"two-hosts"}


def test_a_run_tells_how_many_pairs_it_compared_and_how_they_came_out() -> None:
    tally = Tally()
    for sent, envoy, ours in ((PLAIN, SERVED, SERVED), (TWO_HOSTS, SERVED, CLOSED), (PLAIN, SERVED, CLOSED)):
        tally.count("written", Pair(sent, envoy, ours), compare(envoy, ours))
    tally.count("generated", Pair(PLAIN, SERVED, SERVED), [])
    assert str(tally) == (
        "pairs of Envoy and meshproxy: 3 written, 1 generated; 2 differ, 1 of them not as docs/differences.md says"
    )


def test_two_that_agree_have_no_finding() -> None:
    assert compare(SERVED, _seen(OK)) == []
