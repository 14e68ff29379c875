"""What `check` finds in changes of headers."""

from __future__ import annotations

import pytest

from .support import GATEWAY, problems_of, service_entry, virtual_service


def problems(headers: str) -> list[tuple[str, str]]:
    rule = f"- route: [{{destination: {{host: a}}}}]\n  headers: {headers}"
    found = problems_of(GATEWAY, service_entry("a"), virtual_service(rule))
    return [(problem.path, problem.message) for problem in found]


@pytest.mark.parametrize(
    "value", ["plain", "100%%", "%REQ(x-user)%", "%REQ(:authority)%", "from %DOWNSTREAM_REMOTE_ADDRESS%, %PROTOCOL%"]
)
def test_commands_that_the_proxy_knows_pass(value: str) -> None:
    assert problems(f"{{request: {{set: {{x-a: '{value}'}}}}}}") == []


@pytest.mark.parametrize(
    ("value", "cure"),
    [
        ("%PROTOCL%", "did you mean 'PROTOCOL'?"),
        ("%CEL(request.path)%", "not supported yet"),
        ("%REQ%", "%REQ(x-user)%"),
        ("%REQ(x-a?x-b)%", "%REQ(x-user)%"),
        ("%REQ(x-a):10%", "%REQ(x-user)%"),
        ("%START_TIME(%s)%", "%START_TIME%"),
    ],
)
@pytest.mark.parametrize("block", ["request", "response"])
@pytest.mark.parametrize("verb", ["set", "add"])
def test_other_commands_are_refused_where_they_stand(value: str, cure: str, block: str, verb: str) -> None:
    [(path, message)] = problems(f"{{{block}: {{{verb}: {{x-a: '{value}'}}}}}}")

    assert path == f"spec.http[0].headers.{block}.{verb}.x-a"
    assert cure in message


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "connection", "upgrade", "te"])
def test_headers_of_the_connection_cannot_be_changed(name: str) -> None:
    [(path, _)] = problems(f"{{request: {{set: {{{name}: '1'}}}}}}")
    [(removed, _)] = problems(f"{{response: {{remove: [{name}]}}}}")

    assert path == f"spec.http[0].headers.request.set.{name}"
    assert removed == "spec.http[0].headers.response.remove[0]"


def test_the_headers_of_a_destination_are_looked_at_too() -> None:
    rule = "- route: [{destination: {host: a}, headers: {response: {add: {x-a: '%NOPE%'}}}}]"

    [problem] = problems_of(GATEWAY, service_entry("a"), virtual_service(rule))

    assert problem.path == "spec.http[0].route[0].headers.response.add.x-a"
