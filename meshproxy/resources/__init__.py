"""What did the user write? Files of Istio and Kubernetes YAML become validated resources.

The words of this package:

- `load` reads files, folders and stdin into a `Loaded`: resources, problems, notes.
- `Resource` is one object: kind, name, namespace, labels, its `spec`, and where each part of it stands.
- `Model` is a message of Istio's API, such as `VirtualService` or `HTTPRoute`; its attributes are the fields.
- `NotYet` and `Refused` mark fields that cannot be set, and say why.
- `field_paths` lists every field of a kind and what is done with it.
- `Position` is a place in a file, `Problem` something to change there, `Note` something to know.
- `Unreadable` is raised when a path cannot be read.

Its rules: nothing the user wrote is ignored in silence; one run finds every problem; every problem says
where it is and what would be right.
"""

from .destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    ConsistentHashLB,
    DestinationRule,
    HTTPSettings,
    LoadBalancerSettings,
    OutlierDetection,
    PortTrafficPolicy,
    Subset,
    TCPSettings,
    TrafficPolicy,
)
from .fields import FieldPath
from .gateway import Gateway, Port, Server, ServerTLSSettings
from .kinds import KINDS, Kind, field_paths
from .kubernetes import (
    Endpoint,
    EndpointAddress,
    EndpointConditions,
    EndpointPort,
    Endpoints,
    EndpointSlice,
    EndpointSlicePort,
    EndpointSubset,
    KubernetesServicePort,
    Service,
)
from .loader import Loaded, load
from .model import Mark, Model, NotYet, Refused
from .problems import Note, Position, Problem, Unreadable, format_path
from .resource import DEFAULT_NAMESPACE, Resource
from .service_entry import ServiceEntry, ServicePort, WorkloadEntry, WorkloadSelector
from .types import Duration, hosts_overlap, is_authority, parse_duration
from .virtual_service import (
    MESH,
    Delegate,
    Destination,
    HeaderOperations,
    Headers,
    HTTPBody,
    HTTPDirectResponse,
    HTTPMatchRequest,
    HTTPRedirect,
    HTTPRewrite,
    HTTPRoute,
    HTTPRouteDestination,
    PortSelector,
    RegexRewrite,
    RouteDestination,
    StringMatch,
    VirtualService,
)

__all__ = [
    "DEFAULT_NAMESPACE",
    "KINDS",
    "MESH",
    "ClientTLSSettings",
    "ConnectionPoolSettings",
    "ConsistentHashLB",
    "Delegate",
    "Destination",
    "DestinationRule",
    "Duration",
    "Endpoint",
    "EndpointAddress",
    "EndpointConditions",
    "EndpointPort",
    "EndpointSlice",
    "EndpointSlicePort",
    "EndpointSubset",
    "Endpoints",
    "FieldPath",
    "Gateway",
    "HTTPBody",
    "HTTPDirectResponse",
    "HTTPMatchRequest",
    "HTTPRedirect",
    "HTTPRewrite",
    "HTTPRoute",
    "HTTPRouteDestination",
    "HTTPSettings",
    "HeaderOperations",
    "Headers",
    "Kind",
    "KubernetesServicePort",
    "LoadBalancerSettings",
    "Loaded",
    "Mark",
    "Model",
    "NotYet",
    "Note",
    "OutlierDetection",
    "Port",
    "PortSelector",
    "PortTrafficPolicy",
    "Position",
    "Problem",
    "Refused",
    "RegexRewrite",
    "Resource",
    "RouteDestination",
    "Server",
    "ServerTLSSettings",
    "Service",
    "ServiceEntry",
    "ServicePort",
    "StringMatch",
    "Subset",
    "TCPSettings",
    "TrafficPolicy",
    "Unreadable",
    "VirtualService",
    "WorkloadEntry",
    "WorkloadSelector",
    "field_paths",
    "format_path",
    "hosts_overlap",
    "is_authority",
    "load",
    "parse_duration",
]
