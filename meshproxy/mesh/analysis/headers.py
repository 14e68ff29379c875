"""Changes of headers that the proxy cannot make: unknown commands in values, and headers that frame a message."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ...resources import HeaderOperations, Headers, MeshConfig, Problem, Resource, VirtualService
from ...snapshot import HEADER_OPERATORS
from ..advice import advice
from .scope import Scope

Path = tuple[str | int, ...]

_COMMAND = re.compile(r"%(?:%|([A-Z0-9_]+)((?:\([^)]*\))?(?::[0-9]+)?)%)")
_OF_HEADER = re.compile(r"\([!#$&'*+.^_`|~0-9A-Za-z:-]+\)")

# RFC 9112, section 6, and RFC 9110, section 7.6.1. Envoy writes what it is told here, and the request hangs.
_OF_THE_CONNECTION = frozenset(
    ("connection", "content-length", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade")
)


def unknown_commands(scope: Scope) -> Iterator[Problem]:
    """A command in a header's value that the proxy does not know."""
    for resource, path, operations in _all_operations(scope):
        for verb, headers in _written(operations):
            for name, value in headers.items():
                for command, argument in _COMMAND.findall(value):
                    reason = _command_error(command, argument)
                    if reason:
                        yield resource.problem((*path, verb, name), reason)
    for config, path, name, value in _additional(scope):
        for command, argument in _COMMAND.findall(value):
            if reason := _command_error(command, argument):
                yield config.problem((*path, name), reason)


def _command_error(command: str, argument: str) -> str | None:
    if not command:
        return None  # %%
    if command not in HEADER_OPERATORS:
        return f"not supported yet: the command %{command}%; {advice(command, HEADER_OPERATORS, nothing='')}"
    if command == "REQ":
        good = _OF_HEADER.fullmatch(argument)
        return None if good else f"not supported yet: %REQ{argument}%; write it as %REQ(x-user)%"
    return f"not supported yet: %{command}{argument}%; write it as %{command}%" if argument else None


def connection_headers(scope: Scope) -> Iterator[Problem]:
    """A change of a header that says where a message ends, or that belongs to one connection."""
    for resource, path, operations in _all_operations(scope):
        changed: list[tuple[Path, str]] = [((verb, n), n) for verb, headers in _written(operations) for n in headers]
        removed: list[tuple[Path, str]] = [(("remove", place), name) for place, name in enumerate(operations.remove)]
        for steps, name in (*changed, *removed):
            if name.lower() in _OF_THE_CONNECTION:
                yield resource.problem((*path, *steps), _own(name))
    for config, path, name, _ in _additional(scope):
        if name.lower() in _OF_THE_CONNECTION:
            yield config.problem((*path, name), _own(name))


def _own(name: str) -> str:
    return f"the proxy writes {name!r} itself, as each connection needs it; leave it alone"


def _additional(scope: Scope) -> Iterator[tuple[Resource[MeshConfig], Path, str, str]]:
    """Every header that is added for an extension provider, with the path of its block."""
    for config in scope.of(MeshConfig):
        for place, provider in enumerate(config.spec.extension_providers):
            path = ("spec", "extensionProviders", place, "envoyExtAuthzHttp", "includeAdditionalHeadersInCheck")
            http = provider.envoy_ext_authz_http
            for name, value in (http.include_additional_headers_in_check if http else {}).items():
                yield config, path, name, value


def _written(operations: HeaderOperations) -> tuple[tuple[str, Mapping[str, str]], ...]:
    return (("set", operations.set), ("add", operations.add))


def _all_operations(scope: Scope) -> Iterator[tuple[Resource[VirtualService], Path, HeaderOperations]]:
    """Every `request` and `response` block of every rule and destination, with its path."""
    for resource in scope.virtual_services:
        for place, http in enumerate(resource.spec.http):
            rule: Path = ("spec", "http", place)
            yield from ((resource, *one) for one in _operations(rule, http.headers))
            for number, route in enumerate(http.route):
                yield from ((resource, *one) for one in _operations((*rule, "route", number), route.headers))


def _operations(path: Path, headers: Headers | None) -> Iterator[tuple[Path, HeaderOperations]]:
    if headers is not None and headers.request is not None:
        yield (*path, "headers", "request"), headers.request
    if headers is not None and headers.response is not None:
        yield (*path, "headers", "response"), headers.response
