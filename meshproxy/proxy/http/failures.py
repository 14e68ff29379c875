"""The one table of failures: what went wrong, and the response each becomes.

Code that finds something wrong raises `Failure` with a line of this table, and `local_reply` is what turns one
into a response. Status, response flag, details and body are Envoy's, as it answers under Istio
(https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage, "response flags", and
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/response_code_details).
"""

from __future__ import annotations

from typing import NamedTuple, Self
from urllib.parse import quote_from_bytes

from .message import Headers, Request, Response, header, remove_headers, set_header

_RESET = "upstream connect error or disconnect/reset before headers. reset reason: "


class Kind(NamedTuple):
    """One line of the table. `details` is what the access log says when the place of failure adds nothing.

    `body` is text; what of it is no UTF-8 stands there as `surrogateescape` has it. `grpc_status` is for gRPC requests,
    where it is not the one that follows from `status`. `headers` are those of the response besides what describes its
    body.
    """

    status: int
    flags: str
    details: str
    body: str = ""
    grpc_status: int | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


BAD_REQUEST = Kind(400, "DPE", "http1.codec_error", "Bad Request")
MISSING_HOST = Kind(400, "", "missing_host_header")
INVALID_AUTHORITY = Kind(400, "DPE", "http.invalid_authority", "Bad Request")
CONNECTION_HEADER_REJECTED = Kind(400, "DPE", "http1.connection_header_rejected", "Bad Request")
ABSOLUTE_HTTPS_ON_PLAINTEXT = Kind(403, "DPE", "http1.https_url_on_plaintext_connection", "Forbidden")
HEADERS_TOO_LARGE = Kind(431, "DPE", "http1.headers_too_large", "Request Header Fields Too Large")
TOO_MANY_HEADERS = Kind(431, "DPE", "http1.too_many_headers", "Request Header Fields Too Large")
REQUEST_HEADER_TIMEOUT = Kind(408, "", "request_header_timeout", "request header timeout")
LOW_VERSION = Kind(426, "DPE", "low_version", "Upgrade Required")
UNSUPPORTED_TRANSFER_ENCODING = Kind(501, "DPE", "http1.invalid_transfer_encoding", "Not Implemented")

PATH_NORMALIZATION_FAILED = Kind(400, "", "path_normalization_failed")
ABSOLUTE_PATH_REJECTED = Kind(404, "", "absolute_path_rejected")
UPGRADE_NOT_ALLOWED = Kind(403, "", "upgrade_failed")
ROUTE_NOT_FOUND = Kind(404, "NR", "route_not_found")
CLUSTER_NOT_FOUND = Kind(503, "NC", "cluster_not_found")

JWT_DENIED = Kind(401, "", "jwt_authn_access_denied")  # its body is the reason, and 403 if that is the audience
# Its status, body and headers are those of the service that decides.
EXT_AUTHZ_DENIED = Kind(403, "UAEX", "ext_authz_denied")
EXT_AUTHZ_ERROR = Kind(403, "UAEX", "ext_authz_error")  # its status is the configuration's
RBAC_DENIED = Kind(403, "", "rbac_access_denied", "RBAC: access denied")

LOCAL_RATE_LIMITED = Kind(429, "RL", "local_rate_limited", "local_rate_limited")
PAYLOAD_TOO_LARGE = Kind(413, "", "request_payload_too_large", "Payload Too Large")
FAULT_ABORT = Kind(503, "FI", "fault_filter_abort", "fault filter abort")  # its status is the policy's

DNS_RESOLUTION_FAILED = Kind(503, "DF", "dns_resolution_failure", "DNS resolution failure")
LOOP_DETECTED = Kind(508, "LR", "request_leads_back_here", "the request leads back to this proxy")

NO_HEALTHY_UPSTREAM = Kind(503, "UH", "no_healthy_upstream", "no healthy upstream")
CONNECTION_FAILURE = Kind(
    503,
    "UF",
    "upstream_reset_before_response_started{remote_connection_failure}",
    _RESET + "remote connection failure",
)
CONNECTION_TIMEOUT = Kind(
    503, "UF", "upstream_reset_before_response_started{connection_timeout}", _RESET + "connection timeout"
)
CONNECTION_TERMINATION = Kind(
    503,
    "UC",
    "upstream_reset_before_response_started{connection_termination}",
    _RESET + "connection termination",
)
OVERFLOW = Kind(
    503,
    "UO",
    "upstream_reset_before_response_started{overflow}",
    _RESET + "overflow",
    headers=((b"x-envoy-overloaded", b"true"),),
)
PROTOCOL_ERROR = Kind(502, "UPE", "upstream_reset_before_response_started{protocol_error}", _RESET + "protocol error")
RESPONSE_TIMEOUT = Kind(504, "UT", "response_timeout", "upstream request timeout")
PER_TRY_TIMEOUT = Kind(504, "UT", "upstream_per_try_timeout", "upstream request timeout")

# After the head has gone out there is no status left to send: the connection is cut, and the log says why.
RESPONSE_BROKEN_OFF = Kind(0, "UPE", "upstream_reset_after_response_started{protocol_error}")
RESPONSE_TIMED_OUT = Kind(0, "UT", "response_timeout")
DOWNSTREAM_DISCONNECT = Kind(0, "DC", "downstream_remote_disconnect")
DRAIN_TIMEOUT = Kind(0, "DT", "drain_timeout")
INTERNAL_ERROR = Kind(500, "", "internal_error", "internal error")


def of_retry(kind: Kind) -> Kind:
    """The kind of failure of a try that was not the request's first."""
    return kind._replace(body=kind.body.replace("reset reason:", "retried and the latest reset reason:", 1))


class Failure(Exception):
    """Something went wrong that has its line in the table; `details` tells more than the line can."""

    def __init__(self, kind: Kind, details: str = "") -> None:
        super().__init__(details or kind.details)
        self.kind = kind
        self.details = details or kind.details

    def alone(self) -> Self:
        """Itself, to be kept, without where it was raised and what it came of.

        The frames of either may hold it as it holds them: garbage, and in an outage from every request. Those of what
        it came of do since Python 3.12, where the frame of a coroutine that has failed holds those that awaited it.
        """
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self

    def respond(self, request: Request | None, headers: Headers | None = None) -> Response:
        """The local reply, with `headers` besides its own. The request keeps why it failed."""
        self.alone()
        kind = self.kind
        if request is not None:
            add_flags(request, kind.flags)
            request.details = self.details
        return local_reply(
            request,
            kind.status,
            kind.body.encode(errors="surrogateescape"),
            [*kind.headers, *(headers or ())],
            kind.grpc_status,
        )


DELAY_INJECTED = "DI"
RETRY_LIMIT_EXCEEDED = "URX"
RETRY_OVERFLOW = "UO"
NO_FAILURES = frozenset(("", DELAY_INJECTED, RETRY_LIMIT_EXCEEDED, RETRY_OVERFLOW))
"""Flags that tell of no failure: there may be one besides."""


def add_flags(request: Request, flags: str) -> None:
    """Give the request these flags besides those that it has, which stand first, as in Envoy."""
    told = request.flags.split(",")
    request.flags = ",".join(filter(None, (*told, *(flag for flag in flags.split(",") if flag not in told))))


# https://grpc.github.io/grpc/core/md_doc_http-grpc-status-mapping.html, as Envoy applies it to its own replies
_GRPC_STATUS = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_GRPC_UNKNOWN = 2


def local_reply(
    request: Request | None, status: int, body: bytes, headers: Headers | None = None, grpc_status: int | None = None
) -> Response:
    """A response from here, in the form of Envoy's: plain text, unless `headers` say otherwise.

    A gRPC request is answered as gRPC is: 200, with the status in `grpc-status` and the body in `grpc-message`.
    """
    headers = list(headers or ())
    if status == 204 or status == 304:
        body = b""  # Envoy would send one, and the client would read it as its next response
    if request is not None and is_grpc(request):
        headers = remove_headers(headers, _CONTENT_LENGTH)
        set_header(headers, b"content-type", b"application/grpc")
        if grpc_status is None:
            grpc_status = _GRPC_STATUS.get(status, _GRPC_UNKNOWN)
        headers.append((b"grpc-status", b"%d" % grpc_status))
        if body and request.method != b"HEAD":
            headers.append((b"grpc-message", quote_from_bytes(body, safe=_GRPC_MESSAGE_SAFE).encode()))
        return Response(200, headers)
    if not body:
        return Response(status, remove_headers(headers, _OF_CONTENT))
    set_header(headers, b"content-length", b"%d" % len(body))
    if header(headers, b"content-type") is None:
        headers.append((b"content-type", b"text/plain"))
    return Response(status, headers, body)


_CONTENT_LENGTH = frozenset((b"content-length",))
_OF_CONTENT = _CONTENT_LENGTH | {b"content-type"}

# Percent-Encoded in https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md: %x20-%x24 / %x26-%x7E
_GRPC_MESSAGE_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if code != ord("%"))


def is_grpc(request: Request) -> bool:
    """Whether a request is gRPC by its content type."""
    # Two of them say nothing that could be relied on; joined, as Envoy joins them, they do not match.
    content_type = b",".join([value for name, value in request.headers if name == b"content-type"])
    return content_type == b"application/grpc" or content_type.startswith(b"application/grpc+")


def grpc_status(request: Request, response: Response) -> bytes | None:
    """The status of gRPC in the head of an answer; None where there is none, or the request is no gRPC."""
    return header(response.headers, b"grpc-status") if is_grpc(request) else None
