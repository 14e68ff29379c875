"""What failures become: the responses that Envoy would send in our place."""

from __future__ import annotations

import pytest

from meshproxy.proxy.http import failures
from meshproxy.proxy.http.failures import (
    BAD_REQUEST,
    CONNECTION_FAILURE,
    NO_HEALTHY_UPSTREAM,
    ROUTE_NOT_FOUND,
    Failure,
    Kind,
    local_reply,
)
from meshproxy.proxy.http.http1_codec import response_head
from meshproxy.proxy.http.message import Headers

from .made import made_request

KINDS = {name: kind for name, kind in vars(failures).items() if isinstance(kind, Kind)}
UPSTREAM_ERROR = "upstream connect error or disconnect/reset before headers. reset reason: "


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BAD_REQUEST", (400, "DPE", "Bad Request")),
        ("MISSING_HOST", (400, "", "")),
        ("HEADERS_TOO_LARGE", (431, "DPE", "Request Header Fields Too Large")),
        ("REQUEST_HEADER_TIMEOUT", (408, "", "request header timeout")),
        ("UNSUPPORTED_TRANSFER_ENCODING", (501, "DPE", "Not Implemented")),
        ("ABSOLUTE_HTTPS_ON_PLAINTEXT", (403, "DPE", "Forbidden")),
        ("UPGRADE_NOT_ALLOWED", (403, "", "")),
        ("ABSOLUTE_PATH_REJECTED", (404, "", "")),
        ("ROUTE_NOT_FOUND", (404, "NR", "")),
        ("CLUSTER_NOT_FOUND", (503, "NC", "")),
        ("NO_HEALTHY_UPSTREAM", (503, "UH", "no healthy upstream")),
        ("CONNECTION_FAILURE", (503, "UF", UPSTREAM_ERROR + "remote connection failure")),
        ("CONNECTION_TIMEOUT", (503, "UF", UPSTREAM_ERROR + "connection timeout")),
        ("CONNECTION_TERMINATION", (503, "UC", UPSTREAM_ERROR + "connection termination")),
        ("PROTOCOL_ERROR", (502, "UPE", UPSTREAM_ERROR + "protocol error")),
    ],
)
def test_status_flag_and_body_are_envoys(name: str, expected: tuple[int, str, str]) -> None:
    kind = KINDS[name]

    assert (kind.status, kind.flags, kind.body) == expected


@pytest.mark.parametrize("kind", [pytest.param(kind, id=name) for name, kind in KINDS.items()])
def test_every_failure_tells_why_in_one_word(kind: Kind) -> None:
    assert kind.details
    assert " " not in kind.details


@pytest.mark.parametrize("kind", [pytest.param(kind, id=name) for name, kind in KINDS.items() if kind.status])
def test_every_failure_with_a_status_has_a_reason_phrase(kind: Kind) -> None:
    assert b"Unknown" not in response_head(kind.status, [])


def test_a_failure_may_tell_more_than_its_kind() -> None:
    assert Failure(BAD_REQUEST).details == "http1.codec_error"
    assert Failure(BAD_REQUEST, "http1.codec_error:_two_Hosts").details == "http1.codec_error:_two_Hosts"


def test_a_failure_with_a_body_is_plain_text() -> None:
    response = Failure(NO_HEALTHY_UPSTREAM).respond(made_request())

    assert (response.status, response.body) == (503, b"no healthy upstream")
    assert response.headers == [(b"content-length", b"19"), (b"content-type", b"text/plain")]


def test_a_failure_without_a_body_has_no_headers() -> None:
    response = Failure(ROUTE_NOT_FOUND).respond(made_request())

    assert (response.status, response.headers, response.body) == (404, [], b"")


def test_what_was_no_request_is_answered_all_the_same() -> None:
    assert Failure(BAD_REQUEST).respond(None).status == 400


@pytest.mark.parametrize(
    ("given", "headers"),
    [
        pytest.param(
            [(b"x-r", b"1")],
            [(b"x-r", b"1"), (b"content-length", b"4"), (b"content-type", b"text/plain")],
            id="headers given come first",
        ),
        pytest.param(
            [(b"content-type", b"text/foo"), (b"x-r", b"1")],
            [(b"content-type", b"text/foo"), (b"x-r", b"1"), (b"content-length", b"4")],
            id="a content type given stays",
        ),
        pytest.param(
            [(b"x-r", b"1"), (b"content-length", b"3"), (b"x-vh", b"1")],
            [(b"x-r", b"1"), (b"content-length", b"4"), (b"x-vh", b"1"), (b"content-type", b"text/plain")],
            id="a content length given is corrected",
        ),
    ],
)
def test_a_local_reply_and_headers_given_for_it(given: Headers, headers: Headers) -> None:
    response = local_reply(made_request(), 503, b"body", given)

    assert response.headers == headers


def test_a_content_length_given_for_an_empty_reply_is_dropped() -> None:
    assert local_reply(made_request(), 404, b"", [(b"content-length", b"3")]).headers == []


def test_the_headers_given_are_left_alone() -> None:
    headers: Headers = [(b"content-length", b"3")]

    local_reply(made_request(), 503, b"body", headers)

    assert headers == [(b"content-length", b"3")]


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_that_has_no_body_gets_none(status: int) -> None:
    response = local_reply(made_request(), status, b"x")

    assert (response.headers, response.body) == ([], b"")


@pytest.mark.parametrize(
    ("status", "grpc_status"),
    [
        *(
            (400, b"13"),
            (401, b"16"),
            (403, b"7"),
            (404, b"12"),
            (429, b"14"),
            (502, b"14"),
            (503, b"14"),
            (504, b"14"),
        ),
        *((200, b"2"), (301, b"2"), (500, b"2"), (501, b"2")),
    ],
)
@pytest.mark.parametrize("content_type", [b"application/grpc", b"application/grpc+proto"])
def test_grpc_is_answered_with_200_and_a_grpc_status(status: int, grpc_status: bytes, content_type: bytes) -> None:
    request = made_request(headers=[(b"content-type", content_type)])

    response = local_reply(request, status, b"")

    assert (response.status, response.body) == (200, b"")
    assert response.headers == [(b"content-type", b"application/grpc"), (b"grpc-status", grpc_status)]


@pytest.mark.parametrize("content_type", [b"application/grpc-web", b"application/json", b"application/grpcx"])
def test_what_only_looks_like_grpc_is_answered_as_http(content_type: bytes) -> None:
    assert local_reply(made_request(headers=[(b"content-type", content_type)]), 404, b"").status == 404


def test_the_body_becomes_the_grpc_message_and_other_headers_stay() -> None:
    request = made_request(headers=[(b"content-type", b"application/grpc")])

    response = local_reply(request, 503, "100% of café\n".encode(), [(b"location", b"/l"), (b"content-length", b"3")])

    assert response.headers == [
        (b"location", b"/l"),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"14"),
        (b"grpc-message", b"100%25 of caf%C3%A9%0A"),
    ]


def test_a_head_has_no_grpc_message() -> None:
    request = made_request(method=b"HEAD", headers=[(b"content-type", b"application/grpc")])

    assert local_reply(request, 503, b"why").headers == [
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"14"),
    ]


def test_a_connection_failure_tells_the_operator_more_than_the_client() -> None:
    failure = Failure(CONNECTION_FAILURE, "upstream_reset_before_response_started{remote_connection_failure|x}")

    assert isinstance(failure.respond(None).body, bytes)
    assert b"|x" not in Failure(CONNECTION_FAILURE).kind.body.encode()
    assert failure.respond(None).body == CONNECTION_FAILURE.body.encode()
