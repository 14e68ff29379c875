"""Compares what a case expects with what came of its request.

What a rule says is compared with what the case says it should: both as they are written, but for what is written
differently and means the same. Hosts and delegates are resolved in the namespace of the rule, names of headers are
lower case, and a single destination has no weight unless both give one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ..mesh.names import fqdn
from ..resources import DEFAULT_NAMESPACE, Model
from ..resources.model import camel_case
from .cases import Hop, WantRequest, WantResponse
from .passage import Arrival, HeaderFields, Passage, Reply


class Difference(NamedTuple):
    """Something that is not as expected. `path` is the expectation's, below the hop, in YAML's names."""

    path: tuple[str, ...]
    expected: str
    got: str


def differences(hop: Hop, passage: Passage, want_match: bool) -> Iterator[Difference]:
    """What of the hop's expectations has not come true, or, unless `want_match`, has come true all the same."""
    for name in hop.expectations:
        wanted = getattr(hop, name)
        path = camel_case(name)
        found = [Difference((path, *one.path), *one[1:]) for one in _compare(name, wanted, passage)]
        if want_match:
            yield from found
        elif not found:
            yield Difference((path,), f"anything but {show(_data(wanted))}", "just that")


def _compare(name: str, wanted: Any, passage: Passage) -> Iterable[Difference]:
    compare = _COMPARISONS.get(name)
    return compare(wanted, passage) if compare else _compare_rule(name, wanted, passage)


def _compare_rule(name: str, wanted: Any, passage: Passage) -> Iterator[Difference]:
    rule = passage.rule
    got = getattr(rule.http, name) if rule is not None else None
    namespace = rule.resource.namespace if rule is not None else DEFAULT_NAMESPACE
    if name == "delegate":
        root = rule.root if rule is not None else None
        got = root.http.delegate if root is not None else None
        namespace = root.resource.namespace if root is not None else DEFAULT_NAMESPACE
    yield from _compare_data(name, _data(wanted), _data(got), namespace, passage)


def _compare_data(name: str, wanted: Any, got: Any, namespace: str, passage: Passage) -> Iterator[Difference]:
    if not got:
        if wanted:
            yield Difference((), show(wanted), f"none; {outcome(passage)}")
        return
    wanted, got = _resolved(name, wanted, namespace), _resolved(name, got, namespace)
    if wanted != got:
        yield Difference((), show(wanted), show(got))


def _compare_route(wanted: tuple[Model, ...], passage: Passage) -> Iterator[Difference]:
    if passage.rule is not None:
        namespace = passage.rule.resource.namespace
        got = _data(passage.rule.http.route)
    else:
        # No VirtualService decided: the service has its default route, to the port that was asked for.
        namespace = DEFAULT_NAMESPACE
        got = [{"destination": _destination(arrival.cluster)} for arrival in passage.arrivals]
        got = [one for one in got if one["destination"]]
    expected = _data(wanted)
    if passage.rule is None:
        got = [_with_what_is_said(one, other) for one, other in zip(got, expected, strict=False)] or got
    if len(expected) == len(got) == 1 and not ("weight" in expected[0] and "weight" in got[0]):
        expected, got = _weightless(expected), _weightless(got)
    yield from _compare_data("route", expected, got, namespace, passage)


def _destination(cluster: str) -> dict[str, Any]:
    """The destination that a cluster stands for; empty for one that is not Istio's name of a service."""
    direction, _, rest = cluster.partition("|")
    port, _, rest = rest.partition("|")
    subset, _, host = rest.partition("|")
    if direction != "outbound" or not host:
        return {}
    return {"host": host, **({"subset": subset} if subset else {}), "port": {"number": int(port)}}


def _with_what_is_said(got: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """A default route says a port that nobody wrote; it counts if the expectation says one."""
    if "port" in expected["destination"]:
        return got
    return {"destination": {key: value for key, value in got["destination"].items() if key != "port"}}


def _weightless(route: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in one.items() if key != "weight"} for one in route]


def _compare_request(wanted: WantRequest, passage: Passage) -> Iterator[Difference]:
    if not passage.arrivals:
        yield Difference((), show(_data(wanted)), f"nothing is sent on; {outcome(passage)}")
    for arrival in passage.arrivals:
        yield from _compare_arrival(wanted, arrival)


def _compare_arrival(wanted: WantRequest, arrival: Arrival) -> Iterator[Difference]:
    for name in ("method", "authority", "path"):
        expected, got = getattr(wanted, name), getattr(arrival.request, name)
        if expected is not None and expected != got:
            yield Difference((name,), show(expected), f"{show(got)}, for {arrival.cluster}")
    yield from _compare_headers(wanted.headers, arrival.request.headers, arrival.cluster)


def _compare_response(wanted: WantResponse, passage: Passage) -> Iterator[Difference]:
    if wanted.status is not None:
        yield from (Difference(("status",), *one[1:]) for one in _compare_status(wanted.status, passage))
    for reply in passage.replies:
        yield from _compare_headers(wanted.headers, reply.headers, reply.cluster)
        if reply.passed_on:
            yield from _not_removed(wanted.headers, reply)


def _compare_headers(wanted: Mapping[str, str | None], fields: HeaderFields, cluster: str) -> Iterator[Difference]:
    whose = f", for {cluster}" if cluster else ""
    for name, expected in wanted.items():
        values = [value for field, value in fields if field == name.lower()]
        got = ",".join(values) if values else None
        if got != expected:
            yield Difference(("headers", name), _shown_header(expected), _shown_header(got) + whose)


def _not_removed(wanted: Mapping[str, str | None], reply: Reply) -> Iterator[Difference]:
    """Headers that must not be there, and are passed on if the endpoint sends them."""
    known = {*reply.removed, *(name for name, _ in reply.headers)}
    for name, expected in wanted.items():
        if expected is None and name.lower() not in known:
            yield Difference(("headers", name), _shown_header(None), f"what the endpoint sends, for {reply.cluster}")


def _shown_header(value: str | None) -> str:
    return "no such header" if value is None else show(value)


def _compare_status(wanted: int, passage: Passage) -> Iterator[Difference]:
    for reply in passage.replies:
        if reply.status != wanted:
            whose = f", for {reply.cluster}" if reply.cluster else ""
            yield Difference((), str(wanted), f"{reply.status} ({reply.details}){whose}")


_COMPARISONS: dict[str, Callable[[Any, Passage], Iterable[Difference]]] = {
    "route": _compare_route,
    "want_request": _compare_request,
    "want_response": _compare_response,
    "status": _compare_status,
}


def outcome(passage: Passage) -> str:
    """What came of a request, for people."""
    if passage.arrivals:
        return f"sent to {', '.join(arrival.cluster for arrival in passage.arrivals)}"
    return ", ".join(f"answered with {reply.status} ({reply.details})" for reply in passage.replies)


def _data(value: Any) -> Any:
    """Messages as they are written: what is left out and what says the same as leaving it out are one."""
    if isinstance(value, Model):
        return value.model_dump(by_alias=True, exclude_defaults=True)
    return [_data(item) for item in value] if isinstance(value, tuple) else value


def _resolved(name: str, data: Any, namespace: str) -> Any:
    """`data` of one of a rule's fields, with full names in the place of short ones."""
    if not data:
        return data
    if name == "route":
        return [_resolved_destination(destination, namespace) for destination in data]
    if name == "delegate":
        return {"namespace": namespace, **data}
    return _lower_names(data) if name == "headers" else data


def _resolved_destination(one: dict[str, Any], namespace: str) -> dict[str, Any]:
    destination = {**one["destination"], "host": fqdn(one["destination"]["host"], namespace)}
    headers = {"headers": _lower_names(one["headers"])} if "headers" in one else {}
    return {**one, "destination": destination, **headers}


def _lower_names(headers: dict[str, Any]) -> dict[str, Any]:
    return {side: {name: _lower(names) for name, names in changes.items()} for side, changes in headers.items()}


def _lower(names: Any) -> Any:
    if isinstance(names, dict):
        return {name.lower(): value for name, value in names.items()}
    return [name.lower() for name in names]


def show(value: Any) -> str:
    """A value as YAML in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {show(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(show, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return repr(value) if isinstance(value, str) and (not value or value != value.strip()) else str(value)
