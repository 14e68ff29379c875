"""Stand-ins for what rules name and the tested resources do not hold.

Rules are often kept apart from what they refer to: the Gateway is another team's, and so is the VirtualService that a
rule delegates to. Such rules can be tested all the same. A missing Gateway becomes one that admits every host on port
80; a missing delegate becomes one that answers every request with 503. Each is told of. A destination needs no
stand-in: where a rule leads can be told without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..mesh.names import MESH_GATEWAY, gateway_name
from ..resources import (
    Gateway,
    Model,
    Note,
    Position,
    Resource,
    VirtualService,
)
from ..resources.documents import Place

_API_VERSION = "networking.istio.io/v1"


def complete(resources: Iterable[Resource[Any]]) -> tuple[list[Resource[Any]], list[Note]]:
    """`resources` with stand-ins for what is missing, and a note on each of these."""
    completed = list(resources)
    notes: list[Note] = []
    for stand_in, note in _missing(completed):
        completed.append(stand_in)
        notes.append(note)
    return completed, notes


def _missing(resources: list[Resource[Any]]) -> Iterator[tuple[Resource[Any], Note]]:
    known = {(resource.kind, f"{resource.namespace}/{resource.name}") for resource in resources}
    for service in [resource for resource in resources if isinstance(resource.spec, VirtualService)]:
        for position, kind, full_name in _references(service):
            if (kind, full_name) in known:
                continue
            known.add((kind, full_name))
            namespace, _, name = full_name.partition("/")
            spec, does = _gateway(full_name) if kind == "Gateway" else _delegate(full_name)
            note = f"{kind} {full_name} is not among the resources; a stand-in {does}"
            yield _resource(kind, name, namespace, spec, position), Note(position, note)


def _references(service: Resource[VirtualService]) -> Iterator[tuple[Position, str, str]]:
    """Where a VirtualService names another resource, the kind of that, and its `namespace/name`."""
    for place, name in enumerate(service.spec.gateways):
        if name != MESH_GATEWAY:
            yield service.position("spec", "gateways", place), "Gateway", gateway_name(name, service.namespace)
    for index, rule in enumerate(service.spec.http):
        if rule.delegate is not None:
            full_name = f"{rule.delegate.namespace or service.namespace}/{rule.delegate.name}"
            yield service.position("spec", "http", index, "delegate"), "VirtualService", full_name


def _resource(kind: str, name: str, namespace: str, spec: Model, position: Position) -> Resource[Any]:
    return Resource(
        kind=kind,
        api_version=_API_VERSION,
        name=name,
        namespace=namespace,
        labels={},
        annotations={},
        created=None,
        spec=spec,
        file=position.file,
        place=Place(position.line, position.column),
    )


def _gateway(full_name: str) -> tuple[Model, str]:
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    # A selector of its own keeps it on a proxy of its own.
    gateway = Gateway.model_validate({"selector": {"gateway": full_name}, "servers": [server]})
    return gateway, "admits every host on port 80"


def _delegate(full_name: str) -> tuple[Model, str]:
    answer = {"status": 503, "body": {"string": f"VirtualService {full_name} is not here"}}
    return VirtualService.model_validate({"http": [{"directResponse": answer}]}), "answers with 503"
