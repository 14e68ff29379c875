"""Header changes, in the order and with the values that Envoy 1.40 was measured to give them."""

from __future__ import annotations

import pytest

from meshproxy.proxy.filters.headers import request_headers, response_headers, value
from meshproxy.proxy.http.failures import NO_HEALTHY_UPSTREAM, Failure
from meshproxy.proxy.http.message import Headers, Request
from meshproxy.snapshot import HEADER_OPERATORS, HeaderMutations, HeaderValue

from .made import Backend, failing, made_request

CLIENT: Headers = [(b"x-a", b"1"), (b"x-m", b"m"), (b"x-a", b"2"), (b"x-r", b"r")]


async def changed(*levels: HeaderMutations, headers: Headers = CLIENT) -> Headers:
    """The headers that arrive when a request with `headers` has been through the filter."""
    backend = Backend()
    await request_headers(levels, backend)(made_request(headers=list(headers)))
    return backend.request.headers


async def changed_response(*levels: HeaderMutations, headers: Headers, request: Request | None = None) -> Headers:
    filtered = response_headers(levels, Backend(headers))
    return (await filtered(request or made_request())).headers


def overwrite(name: str, value: str) -> HeaderMutations:
    return HeaderMutations(add=(HeaderValue(name, value),))


def append(name: str, value: str) -> HeaderMutations:
    return HeaderMutations(add=(HeaderValue(name, value, append=True),))


async def test_a_header_that_is_set_loses_its_values_and_goes_to_the_end() -> None:
    assert await changed(overwrite("x-a", "new")) == [(b"x-m", b"m"), (b"x-r", b"r"), (b"x-a", b"new")]


async def test_a_header_that_is_added_stands_beside_those_of_its_name() -> None:
    assert await changed(append("x-a", "new")) == [*CLIENT, (b"x-a", b"new")]


async def test_a_header_that_is_removed_is_gone_with_all_its_values() -> None:
    assert await changed(HeaderMutations(remove=("x-a", "x-none"))) == [(b"x-m", b"m"), (b"x-r", b"r")]


async def test_removing_and_setting_the_same_header_leaves_what_was_set() -> None:
    level = HeaderMutations(("x-a",), (HeaderValue("x-a", "new"),))

    assert await changed(level) == [(b"x-m", b"m"), (b"x-r", b"r"), (b"x-a", b"new")]


async def test_removing_and_adding_the_same_header_leaves_what_was_added() -> None:
    level = HeaderMutations(("x-a",), (HeaderValue("x-a", "new", append=True),))

    assert await changed(level) == [(b"x-m", b"m"), (b"x-r", b"r"), (b"x-a", b"new")]


async def test_within_a_level_all_sets_come_before_all_adds() -> None:
    level = HeaderMutations(
        add=(
            HeaderValue("x-1", "1", append=True),
            HeaderValue("x-2", "2", append=True),
            HeaderValue("x-3", "3"),
            HeaderValue("x-4", "4"),
        )
    )

    assert await changed(level, headers=[(b"x-4", b"c"), (b"x-5", b"5")]) == [
        (b"x-5", b"5"),
        (b"x-3", b"3"),
        (b"x-4", b"4"),
        (b"x-1", b"1"),
        (b"x-2", b"2"),
    ]


async def test_of_two_sets_of_one_header_the_last_holds() -> None:
    level = HeaderMutations(add=(HeaderValue("x-b", "1"), HeaderValue("x-b", "2")))

    assert await changed(level, headers=[]) == [(b"x-b", b"2")]


async def test_levels_are_applied_one_after_the_other() -> None:
    assert await changed(overwrite("x-a", "first"), overwrite("x-a", "second"), headers=[]) == [(b"x-a", b"second")]
    assert await changed(overwrite("x-a", "first"), HeaderMutations(("x-a",)), headers=[]) == []
    assert await changed(append("x-a", "first"), append("x-a", "second"), headers=[]) == [
        (b"x-a", b"first"),
        (b"x-a", b"second"),
    ]


@pytest.mark.parametrize("nothing", ["", "%REQ(x-none)%", "%UPSTREAM_HOST%"])
async def test_a_value_that_comes_out_empty_changes_nothing(nothing: str) -> None:
    assert await changed(overwrite("x-a", nothing)) == CLIENT
    assert await changed(append("x-a", nothing)) == CLIENT
    assert await changed_response(overwrite("x-r", nothing), headers=[(b"x-r", b"up")]) == [(b"x-r", b"up")]


async def test_a_value_may_quote_the_header_it_replaces() -> None:
    level = HeaderMutations(add=(HeaderValue("x-m", "[%REQ(x-m)%]"), HeaderValue("x-b", "%REQ(x-m)%")))

    assert await changed(level, headers=[(b"x-m", b"m")]) == [(b"x-m", b"[m]"), (b"x-b", b"m")]


async def test_a_value_cannot_quote_a_header_that_is_removed_with_it() -> None:
    level = HeaderMutations(("x-m",), (HeaderValue("x-b", "%REQ(x-m)%"),))

    assert await changed(level, headers=[(b"x-m", b"m")]) == []


async def test_a_value_quotes_headers_as_the_levels_before_have_left_them() -> None:
    assert await changed(overwrite("x-m", "new"), overwrite("x-b", "%REQ(X-M)%"), headers=[(b"x-m", b"m")]) == [
        (b"x-m", b"new"),
        (b"x-b", b"new"),
    ]


async def test_of_several_fields_the_first_is_quoted() -> None:
    assert await changed(overwrite("x-b", "%REQ(x-a)%")) == [*CLIENT, (b"x-b", b"1")]


async def test_response_headers_may_quote_the_request() -> None:
    request = made_request(headers=[(b"x-in", b"i")])

    assert await changed_response(overwrite("x-r", "%REQ(x-in)%"), headers=[], request=request) == [(b"x-r", b"i")]


async def test_a_response_keeps_its_framing_whatever_is_configured() -> None:
    levels = [overwrite("connection", "close"), append("transfer-encoding", "chunked")]

    assert await changed_response(*levels, headers=[(b"content-length", b"2")]) == [(b"content-length", b"2")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", b"plain"),
        ("100%%", b"100%"),
        ("%%PROTOCOL%%", b"%PROTOCOL%"),
        ("%PROTOCOL%", b"HTTP/1.1"),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", b"192.0.2.7:40000"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", b"192.0.2.7"),
        ("%DOWNSTREAM_LOCAL_ADDRESS%", b"198.51.100.1:80"),
        ("%START_TIME%", b"2023-11-14T22:13:20.250Z"),
        ("%ROUTE_NAME%", b"r"),
        ("%UPSTREAM_CLUSTER%", b"c"),
        ("%UPSTREAM_HOST%", b"192.0.2.9:81"),
        ("%REQ(:method)% %REQ(:path)% %REQ(:authority)% %REQ(:scheme)%", b"GET /p?q h.example http"),
        ("%REQ(host)%", b"h.example"),
        ("[%REQ(X-In)%]", b"[%AB%]"),
        ("a%REQ(x-none)%b", b"ab"),
        ("%REQ(x-in)%%REQ(x-in)%", b"%AB%%AB%"),
        ("café", "café".encode()),
    ],
)
def test_command_operators(text: str, expected: bytes) -> None:
    request = made_request(b"/p?q", headers=[(b"x-in", b"%AB%")])
    request.route_name, request.upstream_cluster, request.upstream_host = "r", "c", "192.0.2.9:81"

    assert value(text)(request) == expected


@pytest.mark.parametrize("operator", sorted(HEADER_OPERATORS))
def test_every_operator_of_the_snapshot_is_understood(operator: str) -> None:
    argument = "(x-in)" if operator == "REQ" else ""
    request = made_request(headers=[(b"x-in", b"v")])
    request.route_name = request.upstream_cluster = request.upstream_host = "-"

    assert value(f"%{operator}{argument}%")(request) not in (b"", f"%{operator}{argument}%".encode())


def test_where_nothing_is_configured_nothing_is_in_the_way() -> None:
    backend = Backend()

    assert request_headers([HeaderMutations(), HeaderMutations()], backend) is backend
    assert response_headers([HeaderMutations()], backend) is backend


async def test_the_response_to_a_failure_gets_the_headers_too() -> None:
    request = made_request()
    filtered = response_headers([overwrite("x-r", "1")], failing(Failure(NO_HEALTHY_UPSTREAM)))

    response = await filtered(request)

    assert response.headers[0] == (b"x-r", b"1")
    assert (response.status, request.flags) == (503, "UH")
