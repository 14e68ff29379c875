"""An explanation for people, in colour where there is a terminal, and for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from ..proxy.routing.decisions import Decision
from ..proxy.routing.explain import Answer, Destination, Explanation, Head, HeaderChange
from ..snapshot import Cluster, Endpoint, Origin, OutlierDetection, Route


class Story(NamedTuple):
    """An explanation, and where the listener and the hosts of the virtual host are written."""

    request: str
    explanation: Explanation
    listener_origins: Sequence[Origin]
    host_origins: Sequence[Origin]


def show(story: Story) -> None:
    """Print it on stdout."""
    console = Console(highlight=False, soft_wrap=True)
    for line in _lines(story):
        console.print(line)


def as_dict(story: Story) -> dict[str, Any]:
    """The story as plain JSON values."""
    explanation = story.explanation
    listener, host, route = explanation.listener, explanation.virtual_host, explanation.route
    return {
        "received": _head_dict(explanation.received),
        "listener": {
            "name": listener.name,
            "address": str(listener.address),
            "origins": list(map(dataclasses.asdict, story.listener_origins)),
        },
        "closed": explanation.closed,
        "request": _head_dict(explanation.request),
        "request_headers": list(map(dataclasses.asdict, explanation.header_changes)),
        "virtual_host": host
        and {
            "name": host.name,
            "domain": explanation.domain,
            "origins": list(map(dataclasses.asdict, story.host_origins)),
        },
        "tried": [_rule_dict(one.route) | {"failed": one.failed, "given": one.given} for one in explanation.tried],
        "route": route and _rule_dict(route) | {"conditions": list(explanation.conditions)},
        "access": list(map(dataclasses.asdict, explanation.access)),
        "policies": list(explanation.policies),
        "destinations": list(map(_destination_dict, explanation.destinations)),
        "answer": explanation.answer and dataclasses.asdict(explanation.answer),
    }


def _rule_dict(route: Route) -> dict[str, Any]:
    return {"name": route.name, "origin": route.origin and dataclasses.asdict(route.origin)}


def _head_dict(head: Head | None) -> dict[str, Any] | None:
    return None if head is None else dataclasses.asdict(head)


def _destination_dict(destination: Destination) -> dict[str, Any]:
    cluster = destination.cluster
    return {
        "cluster": destination.name,
        "subset": _subset(destination.name),
        "share": destination.share,
        "origin": cluster and cluster.origin and dataclasses.asdict(cluster.origin),
        "discovery": cluster and cluster.type,
        "lb_policy": cluster and str(cluster.lb_policy),
        "outlier_detection": cluster and cluster.outlier_detection and dataclasses.asdict(cluster.outlier_detection),
        "circuit_breakers": cluster and dataclasses.asdict(cluster.circuit_breakers),
        "endpoints": [
            {"address": str(one.address), "weight": one.weight, "priority": one.priority}
            for one in destination.endpoints
        ],
        "request": _head_dict(destination.request),
        "request_headers": list(map(dataclasses.asdict, destination.request_changes)),
        "response_headers": list(map(dataclasses.asdict, destination.response_changes)),
        "answer": destination.answer and dataclasses.asdict(destination.answer),
    }


def _lines(story: Story) -> Iterator[Text]:
    explanation = story.explanation
    yield Text(story.request, "bold")
    yield _heading("listener", str(explanation.listener.address), story.listener_origins)
    if explanation.closed:
        yield Text(f"  {explanation.closed}: the connection is closed", "red")
        return
    if explanation.received and explanation.request:
        yield from _rewrites(explanation.received, explanation.request)
        yield from _changes("request", explanation.header_changes)
        yield from _access(explanation.access)
        if explanation.virtual_host:
            told = f"{explanation.virtual_host.name}, by its domain {explanation.domain}"
            yield _heading("virtual host", told, story.host_origins)
        elif not explanation.refused:
            yield _heading("virtual host", f"none for {explanation.request.authority}", story.host_origins)
    yield from _rules(explanation)
    if explanation.policies:
        yield Text("\npolicies", "bold")
    for policy in explanation.policies:
        yield Text(f"  {policy}")
    if explanation.destinations:
        yield Text("\ndestinations", "bold")
    for destination in explanation.destinations:
        yield from _destination(destination, explanation.request)
    if explanation.answer:
        yield Text("\nanswer", "bold")
        yield from _answer(explanation.answer)


def _access(decisions: Sequence[Decision]) -> Iterator[Text]:
    if decisions:
        yield Text("\naccess", "bold")
    for decision in decisions:
        yield Text.assemble(f"  {decision.text}", *_places([decision.origin] if decision.origin else []))


def _heading(title: str, told: str, origins: Iterable[Origin]) -> Text:
    return Text.assemble("\n", (title, "bold"), f"\n  {told}", *_places(origins))


def _places(origins: Iterable[Origin]) -> Iterator[tuple[str, str]]:
    for origin in origins:
        yield f"  {origin.file}:{origin.line}", "cyan"
        yield f" ({origin.resource})", "dim"


def _rules(explanation: Explanation) -> Iterator[Text]:
    rows = [(one.route, "red", f"{one.failed}; {one.given}") for one in explanation.tried]
    if explanation.route:
        rows.append((explanation.route, "green", " and ".join(explanation.conditions)))
    names = max((len(_name(route)) for route, _, _ in rows), default=0)
    places = max((len(_place(route)) for route, _, _ in rows), default=0)
    lines = [
        Text.assemble(
            *("  ", (_name(route).ljust(names), f"bold {colour}")),
            *("  ", (_place(route).ljust(places), "cyan"), f"  {told}"),
        )
        for route, colour, told in rows
    ]
    if explanation.tried:
        yield Text("\ntried before" if explanation.route else "\ntried in vain", "bold")
        yield from lines[: len(explanation.tried)]
    if explanation.route:
        yield Text("\nrule", "bold")
        yield lines[-1]


def _name(route: Route) -> str:
    return route.name or (route.origin.path if route.origin else "") or "(no name)"


def _place(route: Route) -> str:
    origin, root = route.origin, route.origin and route.origin.root
    if origin is None:
        return "(made by meshproxy)"
    return f"{origin.file}:{origin.line}" + (f" (delegate of {root.file}:{root.line})" if root else "")


def _destination(destination: Destination, before: Head | None) -> Iterator[Text]:
    cluster = destination.cluster
    origins = [cluster.origin] if cluster and cluster.origin else []
    share = f"{destination.share * 100:.3g} %"
    yield Text.assemble("  ", (share, "bold"), f"  {destination.name}", *_places(origins))
    if cluster:
        yield Text(f"    {_picking(destination.name, cluster, destination.endpoints)}")
        if secured := _secured(cluster):
            yield Text(f"    {secured}")
        if cluster.outlier_detection:
            yield Text(f"    {_ejecting(cluster.outlier_detection)}")
        if limits := ", ".join(_limits(cluster)):
            yield Text(f"    at most {limits}")
    if before and destination.request:
        yield from _rewrites(before, destination.request)
    yield from _changes("request", destination.request_changes)
    yield from _changes("response", destination.response_changes)
    if destination.answer:
        yield from _answer(destination.answer)


def _picking(name: str, cluster: Cluster, endpoints: Sequence[Endpoint]) -> str:
    """How a cluster finds an endpoint, and which there are."""
    weighted = len({endpoint.weight for endpoint in endpoints}) > 1
    found = [_endpoint(one, weighted) for one in endpoints]
    how = [f"subset {subset}"] if (subset := _subset(name)) else []
    if len(endpoints) > 1:
        how.append(str(cluster.lb_policy))
    if cluster.type != "STATIC":
        how.append("looked up by DNS")
    return ": ".join(filter(None, (", ".join(how), ", ".join(found) or "no endpoints")))


def _endpoint(endpoint: Endpoint, weighted: bool) -> str:
    """An endpoint, with its weight if they differ, and its priority if it only stands by."""
    told = [f"weight {endpoint.weight}"] if weighted else []
    if endpoint.priority:
        told.append(f"priority {endpoint.priority}")
    return f"{endpoint.address} ({', '.join(told)})" if told else str(endpoint.address)


def _secured(cluster: Cluster) -> str:
    """How its connections are, if they are: whom they are to, and what that one has to prove."""
    tls = cluster.tls or cluster.auto_tls
    if tls is None:
        return ""
    told = ["by TLS" if cluster.auto_tls is None else "by mutual TLS, where an endpoint is known to take it"]
    told.append(f"asked for as {tls.sni or 'the host of the request'}")
    validation = tls.common.validation_context
    if validation is None:
        told.append("whoever they are")
    else:
        told.append(f"believed by {validation.trusted_ca}")
        names = [matcher.value for matcher in validation.match_subject_alt_names]
        names += ["that host"] if tls.auto_sni_san_validation else []
        if names:
            told.append(f"whose certificate is for {' or '.join(names)}")
    told += (f"shown {name}" for name in tls.common.tls_certificates)
    return ", ".join(told)


def _ejecting(outliers: OutlierDetection) -> str:
    """After what an endpoint gets no requests for a while."""
    counted = {
        f"answers {', '.join(map(str, outliers.error_codes)) or '5xx'}": outliers.consecutive_5xx,
        "gateway failures": outliers.consecutive_gateway_failure,
        "failures to reach it": outliers.consecutive_local_origin_failure * outliers.split_external_local_origin_errors,
    }
    reasons = " or ".join(f"{count} {what}" for what, count in counted.items() if count) or "nothing"
    most = f"at most {outliers.max_ejection_percent} % of them at a time"
    return f"ejects an endpoint for {outliers.base_ejection_time_s:g} s and more after {reasons} in a row, {most}"


def _limits(cluster: Cluster) -> Iterator[str]:
    breakers = cluster.circuit_breakers
    for limit, told in (
        (breakers.max_connections, "{} connections"),
        (breakers.max_pending_requests, "{} requests that wait for one"),
        (breakers.max_requests, "{} active requests"),
        (cluster.max_requests_per_connection, "{} requests to a connection"),
        (cluster.max_connection_duration_s, "{:g} s to a connection"),
    ):
        if limit is not None:
            yield told.format(limit)
    budget = breakers.retry_budget
    if budget is not None:
        yield f"{budget.budget_percent:g} % of the requests as retries, or {budget.min_retry_concurrency}"
    elif breakers.max_retries is not None:
        yield f"{breakers.max_retries} retries"


def _subset(cluster: str) -> str:
    """The subset in a cluster's name, `direction|port|subset|host`."""
    parts = cluster.split("|")
    return parts[2] if len(parts) == 4 else ""


def _rewrites(before: Head, after: Head) -> Iterator[Text]:
    for part in ("authority", "path"):
        old, new = getattr(before, part), getattr(after, part)
        if old != new:
            yield Text.assemble(f"    {part} ", (old, "red"), " becomes ", (new, "green"))


_VERBS = {"set": "sets", "append": "adds", "remove": "removes"}


def _changes(side: str, changes: Iterable[HeaderChange]) -> Iterator[Text]:
    for change in changes:
        colour = "red" if change.operation == "remove" else "green"
        for value in change.values or (None,):
            field = change.name if value is None else f"{change.name}: {value}"
            yield Text.assemble(f"    {_VERBS[change.operation]} {side} header ", (field, colour))


def _answer(answer: Answer) -> Iterator[Text]:
    reason = " ".join(filter(None, (answer.flags, answer.details)))
    yield Text.assemble("    ", (str(answer.status), "bold"), f" {reason}")
    for name, value in answer.headers:
        yield Text(f"    {name}: {value}")
    if answer.body:
        yield Text(f"    {answer.body.rstrip()}", "italic")
