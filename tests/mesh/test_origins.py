"""Where each route is written."""

from __future__ import annotations

from meshproxy.snapshot import Origin

from .support import GATEWAY, snapshot_of, virtual_hosts, virtual_service

TO_X = "route: [{destination: {host: x}}]"
SUB = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: sub}\nspec:\n  http:\n"


def origins(rules: str, *documents: str) -> list[Origin | None]:
    """Those of the routes of the only host."""
    hosts = virtual_hosts(snapshot_of(GATEWAY, virtual_service(rules), *documents))
    return [route.origin for route in hosts["example.com"].routes]


def places(origin: Origin | None) -> tuple[str, ...]:
    """The place of an origin, then that of the rule which delegates."""
    return () if origin is None else (f"{origin.resource} {origin.path}", *places(origin.root))


def test_a_route_is_written_at_its_match() -> None:
    first, second = origins(f"- match: [{{uri: {{prefix: /a}}}}, {{uri: {{prefix: /b}}}}]\n  {TO_X}")

    assert places(first) == ("VirtualService/vs.default spec.http[0].match[0]",)
    assert places(second) == ("VirtualService/vs.default spec.http[0].match[1]",)


def test_a_rule_without_a_match_is_itself_the_place() -> None:
    (origin,) = origins(f"- {TO_X}")

    assert places(origin) == ("VirtualService/vs.default spec.http[0]",)


def test_a_delegates_route_is_written_in_the_delegate_and_knows_its_root() -> None:
    root = "- match: [{uri: {prefix: /a}}]\n  delegate: {name: sub}"
    sub = f"{SUB}  - match: [{{uri: {{prefix: /a/a}}}}]\n    {TO_X}\n"

    (origin,) = origins(root, sub)

    assert places(origin) == (
        "VirtualService/sub.default spec.http[0].match[0]",
        "VirtualService/vs.default spec.http[0]",
    )


def test_a_delegates_rule_without_a_match_has_those_of_its_root() -> None:
    root = "- match: [{uri: {prefix: /a}}, {uri: {prefix: /b}}]\n  delegate: {name: sub}"

    found = origins(root, f"{SUB}  - {TO_X}\n")

    assert [places(origin) for origin in found] == [
        ("VirtualService/sub.default spec.http[0]", f"VirtualService/vs.default spec.http[0].match[{index}]")
        for index in range(2)
    ]
