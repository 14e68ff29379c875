"""`meshproxy explain`: what becomes of a request, and why, without sending anything."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click

from ..identity import spiffe
from ..mesh import Mesh, OutboundPolicy, Trust, UnknownWorkload, find_workload, gateway_snapshot, sidecar_snapshot
from ..mesh.advice import advice, listed
from ..mesh.gateway import PlacedServer, considered_by_gateway, merge_servers, selected_gateways, servers_for
from ..mesh.hosts import is_wildcard
from ..mesh.inbound import served_ports
from ..mesh.names import gateway_name
from ..mesh.routes import ConsideredRoute
from ..mesh.sidecar import considered_by_sidecar
from ..proxy.routing.explain import Explanation, Tried
from ..proxy.routing.explain import explain as explain_request
from ..resources import DEFAULT_NAMESPACE, VirtualService
from ..snapshot import UNKNOWN_LOCALITY, Listener, Locality, Origin, Snapshot, SocketAddress, VirtualHost
from .configuration import EXIT_PROBLEMS, EXIT_UNUSABLE, count, locality_option, namespace_option, read
from .explanation import Story, as_dict, show
from .serving import fail

_PORTS = {"http": 80, "https": 443}
_OUTBOUND = SocketAddress("127.0.0.1", 15001)
_APP = SocketAddress("127.0.0.1", 9000)  # no request is explained that would get there


class Url(click.ParamType[tuple[str, str, str]]):
    """A URL as scheme, authority and target; whatever else it may be, the proxy decides about that."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str, str]:
        if isinstance(value, tuple):
            return value
        parts = _URL.match(value)
        assert parts is not None
        scheme, authority, target = parts.groups()
        scheme = (scheme or "http").lower()
        if scheme not in _PORTS:
            self.fail(f"{value!r} is not for HTTP; write it as http://example.com/path, or with https", param, ctx)
        # As clients do: no credentials, no fragment, and a path in any case.
        return scheme, authority.rpartition("@")[2], target if target.startswith("/") else f"/{target}"


_URL = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*)://)?([^/?#]*)([^#]*)")


class Identity(click.ParamType[str]):
    """A SPIFFE ID."""

    name = "SPIFFE-ID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(spiffe.parse(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class HeaderField(click.ParamType[tuple[str, str]]):
    """`name: value`."""

    name = "name: value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, colon, text = value.partition(":")
        if not name or not colon:
            self.fail(f"{value!r} is not a header; write it as 'end-user: tester'", param, ctx)
        if _CONTROL.search(value):
            self.fail(f"{value!r} holds a control character, such as a line break; -H is for one header", param, ctx)
        return name, text.strip(" \t")


_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # a tab may be in a value (RFC 9110, section 5.5)


@click.command()
@click.option(
    "-f", "paths", multiple=True, required=True, metavar="PATH", help="A file, a folder, or - for stdin. Repeatable."
)
@click.option("--gateway", metavar="[NS/]NAME", help="The Gateway that the request comes to.")
@click.option("--workload", metavar="NAME[.NAMESPACE]", help="The WorkloadEntry whose app sends it, by its sidecar.")
@click.option(
    "--outbound-policy",
    type=click.Choice(["ALLOW_ANY", "REGISTRY_ONLY"]),
    help="What that sidecar does with requests for hosts that no resource names: ALLOW_ANY if not told.",
)
@click.option("--inbound", is_flag=True, help="Ask the --workload's sidecar about a request that comes to it.")
@click.option("--token", metavar="JWT|@FILE", help="A token that the request brings, as Authorization: Bearer.")
@click.option("--as", "peer", type=Identity(), help="Whom the client's certificate proves it to be.")
@click.option(
    "--trust-domain", default="cluster.local", show_default=True, help="The mesh's, which --as is held against."
)
@click.option("-H", "headers", type=HeaderField(), multiple=True, help="A header of the request. Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object, for programs.")
@namespace_option
@locality_option
@click.argument("method")
@click.argument("url", type=Url())
def explain(
    paths: tuple[str, ...],
    gateway: str | None,
    workload: str | None,
    outbound_policy: OutboundPolicy | None,
    inbound: bool,
    token: str | None,
    peer: str | None,
    trust_domain: str,
    headers: tuple[tuple[str, str], ...],
    as_json: bool,
    namespace: str,
    locality: Locality | None,
    method: str,
    url: tuple[str, str, str],
) -> None:
    """Tell what becomes of a request, and why, without sending anything.

    Listener, virtual host, rule and destinations, with the file and line of each; the rules that were tried before, and
    what failed in each; every rewrite and header change; which policy allows or denies it, and why. Where there are
    several listeners, --gateway, --workload or the URL's port says which is meant. Exits with 0 when a rule is found, 1
    when none is, 2 when there is nothing to ask.

    \b
    Example:
      meshproxy explain -f policies/quickstart GET http://localhost/reviews -H 'x-preview: yes'
    """
    if gateway is not None and workload is not None:
        fail("give one of --gateway and --workload, not both", EXIT_UNUSABLE)
    if outbound_policy is not None and workload is None:
        fail("--outbound-policy is for a sidecar: give --workload too", EXIT_UNUSABLE)
    if inbound and (workload is None or outbound_policy is not None):
        fail("--inbound is for a sidecar: give --workload, and no --outbound-policy", EXIT_UNUSABLE)
    scheme, authority, target = url
    token = None if token is None else _token(token)
    if token is not None:
        headers = (*headers, ("authorization", f"Bearer {token}"))
    trust = Trust(trust_domain) if peer is not None else None
    mesh = _mesh(paths, namespace)
    if workload and inbound:
        entrance = _inbound(mesh, workload, _port(authority), trust)
    elif workload:
        entrance = _sidecar(mesh, workload, outbound_policy or "ALLOW_ANY", locality)
    else:
        entrance = _gateway(mesh, gateway, _port(authority), scheme, namespace, locality, trust)
    told = explain_request(
        entrance.snapshot,
        entrance.listener,
        _head(method, authority, target, headers),
        peer_names=(peer,) if peer else (),
    )
    told = replace(told, tried=tuple(_tried(told, entrance)))
    hosts = _hosts_written(mesh, told.virtual_host) if told.virtual_host else ()
    story = Story(_request_line(method, scheme, authority, target), told, entrance.origins, hosts)
    if as_json:
        click.echo(_unsigned(json.dumps(as_dict(story), indent=1), token))
    else:
        show(story)
    sys.exit(0 if told.route else EXIT_PROBLEMS)


def _token(given: str) -> str:
    """A token that is given, or stands in a file, where nobody else sees it."""
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"cannot read the token in {given[1:]}: {error}", EXIT_UNUSABLE)


def _unsigned(told: str, token: str | None) -> str:
    """What is told, without the signature of a token: whoever finds it in a log shall not be able to use that."""
    signature = (token or "").rpartition(".")[2]
    return told.replace(signature, "...") if signature else told


def _mesh(paths: Sequence[str], namespace: str) -> Mesh:
    """The mesh that the files make. Exits with 2 if they have problems, for then nothing would run."""
    configuration = read(paths, namespace)
    for note in configuration.notes:
        click.echo(click.style(str(note), dim=True), err=True)
    for problem in configuration.problems:
        click.echo(problem, err=True)
    if configuration.problems:
        fail(f"nothing would run: {count(len(configuration.problems), 'problem')} to mend first", EXIT_UNUSABLE)
    return configuration.mesh


def _request_line(method: str, scheme: str, authority: str, target: str) -> str:
    """The request for people, who know it by its URL."""
    if method == "CONNECT":
        return f"{method} {authority}"
    return f"{method} {f'{scheme}://{authority}' if authority else ''}{target}"


def _head(method: str, authority: str, target: str, headers: Sequence[tuple[str, str]]) -> bytes:
    """The request as a client would send it. What is wrong with it, the proxy will tell."""
    if method == "CONNECT":
        target = authority  # its only form (RFC 9112, section 3.2.3)
    lines = [f"{method} {target} HTTP/1.1"]
    if authority and not any(name.lower() == "host" for name, _ in headers):
        lines.append(f"host: {authority}")
    lines += [f"{name}: {value}" for name, value in headers]
    return os.fsencode("\r\n".join((*lines, "", "")))


def _port(authority: str) -> int | None:
    port = authority.rpartition(":")[2]
    return int(port) if port != authority and port.isdigit() else None


class _Entrance(NamedTuple):
    """The listener that a request comes to, what its proxy runs, and where the listener is written.

    `considered` lists what a request with some authority, in some virtual host, may meet there, and what it might if
    that existed.
    """

    snapshot: Snapshot
    listener: Listener
    origins: tuple[Origin, ...]
    considered: Callable[[str, VirtualHost | None], Iterable[ConsideredRoute]]


def _tried(told: Explanation, entrance: _Entrance) -> Iterator[Tried]:
    """The rules that were tried and, in their places among them, those that do not exist for this proxy or port."""
    if told.request is None:
        return
    tried = iter(told.tried)
    for route, unmet in entrance.considered(told.request.authority, told.virtual_host):
        if unmet is not None:
            yield Tried(route, unmet.failed, unmet.given)
        elif one := next(tried, None):
            yield one
        else:
            return  # it is the rule that the request meets


def _host_and_port(authority: str) -> tuple[str, int]:
    port = _port(authority)
    host = authority if port is None else authority.rpartition(":")[0]
    return host.strip("[]").lower(), _PORTS["http"] if port is None else port


def _sidecar(mesh: Mesh, workload: str, outbound_policy: OutboundPolicy, locality: Locality | None) -> _Entrance:
    """The outbound listener of a workload's sidecar."""
    try:
        entry = find_workload(mesh, workload)
    except UnknownWorkload as error:
        fail(str(error), EXIT_UNUSABLE)
    snapshot = sidecar_snapshot(
        mesh, workload=entry, app=_APP, outbound=_OUTBOUND, outbound_policy=outbound_policy, locality=locality
    )
    listener = next(one for one in snapshot.listeners if one.address == _OUTBOUND)
    position = entry.position("metadata", "name")
    origin = Origin(position.file, position.line, entry.id)

    def considered(authority: str, virtual_host: VirtualHost | None) -> Iterable[ConsideredRoute]:
        # The virtual host of one service is named for it, whatever the request calls it.
        if virtual_host and _port(virtual_host.name) and not is_wildcard(virtual_host.name):
            authority = virtual_host.name
        return considered_by_sidecar(mesh, entry, *_host_and_port(authority))

    return _Entrance(snapshot, listener, (origin,), considered)


def _inbound(mesh: Mesh, workload: str, port: int | None, trust: Trust | None) -> _Entrance:
    """An inbound listener of a workload's sidecar: the only one, or by its port."""
    try:
        entry = find_workload(mesh, workload)
    except UnknownWorkload as error:
        fail(str(error), EXIT_UNUSABLE)
    snapshot = sidecar_snapshot(mesh, workload=entry, app=_APP, outbound=_OUTBOUND, trust=trust)
    served = served_ports(mesh, entry)
    listeners = {one.address.port: one for one in snapshot.listeners if one.address.port in served}
    number = port if port is not None or len(listeners) != 1 else next(iter(listeners))
    if number not in listeners:
        known = f"it is called on {listed(sorted(map(str, listeners)))}" if listeners else "no service leads to it"
        fail(f"which port of {entry.id}? Say it by the URL's: {known}", EXIT_UNUSABLE)
    position = entry.position("metadata", "name")
    origin = Origin(position.file, position.line, entry.id)

    def considered(_: str, virtual_host: VirtualHost | None) -> Iterable[ConsideredRoute]:
        return [ConsideredRoute(route, None) for route in virtual_host.routes] if virtual_host else []

    return _Entrance(snapshot, listeners[number], (origin,), considered)


def _gateway(
    mesh: Mesh,
    gateway: str | None,
    port: int | None,
    scheme: str,
    namespace: str,
    locality: Locality | None,
    trust: Trust | None,
) -> _Entrance:
    """A listener of the gateway that runs `gateway`, or of one that runs all Gateways; the only one, or by its port."""
    name = None if gateway is None else gateway_name(gateway, DEFAULT_NAMESPACE)
    if name is not None and name not in mesh.gateways:
        fail(f"no Gateway {name!r}; {advice(name, mesh.gateways, 'there are none')}", EXIT_UNUSABLE)
    labels = None if name is None else mesh.gateways[name].spec.selector
    where = locality or UNKNOWN_LOCALITY
    snapshot = gateway_snapshot(mesh, selector=labels, namespace=namespace, locality=where, trust=trust)
    merged = merge_servers(selected_gateways(mesh, labels))
    known = [
        (listener, servers)
        for listener, servers in zip(snapshot.listeners, merged.values(), strict=True)
        if any(name in (None, server.gateway_name) for server in servers)
    ]
    found = known
    if len(known) > 1:
        found = [
            (listener, servers) for listener, servers in known if listener.address.port == (port or _PORTS[scheme])
        ]
    if len(found) != 1:
        _undecided(known)
    listener, servers = found[0]

    def considered(authority: str, _: VirtualHost | None) -> Iterable[ConsideredRoute]:
        host = _host_and_port(authority)[0]
        group = servers_for(servers, host)
        return considered_by_gateway(mesh, group, host, selector=labels, namespace=namespace) if group else []

    named = (server for server in servers if name in (None, server.gateway_name))
    return _Entrance(snapshot, listener, tuple(map(_server_origin, named)), considered)


def _undecided(known: Sequence[tuple[Listener, Sequence[PlacedServer]]]) -> NoReturn:
    if not known:
        fail("no Gateway with a port for HTTP: there is nothing to ask", EXIT_UNUSABLE)
    choices = (
        f"\n  {listener.address} of {listed(dict.fromkeys(server.gateway_name for server in servers))}"
        for listener, servers in known
    )
    fail(f"which listener? Say it by the URL's port or by --gateway:{''.join(choices)}", EXIT_UNUSABLE)


def _server_origin(server: PlacedServer) -> Origin:
    position = server.gateway.position("spec", "servers", server.place)
    return Origin(position.file, position.line, server.gateway.id, f"spec.servers[{server.place}]")


def _hosts_written(mesh: Mesh, host: VirtualHost) -> tuple[Origin, ...]:
    """Where the hosts of a virtual host are written: in the resources that its routes come from."""
    origins = {
        root.resource: root for route in host.routes if (root := route.origin and (route.origin.root or route.origin))
    }
    for service in mesh.of(VirtualService):
        if service.id in origins:
            position = service.position("spec", "hosts")
            origins[service.id] = Origin(position.file, position.line, service.id, "spec.hosts")
    return tuple(origins.values())
