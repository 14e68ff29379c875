"""What did the user write? Files of Istio and Kubernetes YAML become validated resources.

The words of this package:

- `load` reads files, folders and stdin into a `Loaded`: resources, problems, notes.
- `Resource` is one object: kind, name, namespace, labels, its `spec`, and where each part of it stands.
- `Model` is a message of Istio's API, such as `VirtualService` or `HTTPRoute`; its attributes are the fields.
- `NotYet` and `Refused` mark fields that cannot be set, and say why.
- `field_paths` lists every field of a kind and what is done with it.
- `mesh_schema` and `kind_schema` are JSON Schema, for editors; `kind_named` finds a kind by what people type.
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
    Distribute,
    Failover,
    HTTPSettings,
    LoadBalancerSettings,
    LocalityLoadBalancerSetting,
    OutlierDetection,
    PortTrafficPolicy,
    RetryBudget,
    Subset,
    TcpKeepalive,
    TCPSettings,
    TrafficPolicy,
    ZoneAwareLoadBalancerSetting,
)
from .fields import FieldPath
from .gateway import Gateway, Port, Server, ServerTLSSettings
from .heads import claim_path, is_authority, is_jwt_claim
from .kinds import KINDS, Kind, field_paths, kind_named
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
from .mesh_config import EnvoyExtAuthzHttp, ExtensionProvider, MeshConfig
from .model import Mark, Model, NotYet, Refused
from .problems import Note, Position, Problem, Unreadable, format_path
from .proxy_config import ProxyConfig
from .resource import DEFAULT_NAMESPACE, Resource
from .schema import kind_schema, mesh_schema
from .secret import AUTHORITY_KEYS, CERTIFICATE_KEYS, Secret
from .security import (
    AuthorizationPolicy,
    Condition,
    JWTRule,
    MutualTLS,
    Operation,
    PeerAuthentication,
    RequestAuthentication,
    Rule,
    Source,
    is_path_template,
)
from .service_entry import ServiceEntry, ServicePort, WorkloadEntry, WorkloadSelector
from .sidecar import Sidecar
from .targets import TargetReference
from .telemetry import Telemetry
from .traffic_limit import HeaderLimit, RateLimit, TokenBucket, TrafficLimit
from .types import Duration, hosts_overlap, parse_duration
from .virtual_service import (
    GRPC_STATUSES,
    MESH,
    Abort,
    CorsPolicy,
    Delay,
    Delegate,
    Destination,
    HeaderOperations,
    Headers,
    HTTPBody,
    HTTPDirectResponse,
    HTTPFaultInjection,
    HTTPMatchRequest,
    HTTPRedirect,
    HTTPRetry,
    HTTPRewrite,
    HTTPRoute,
    HTTPRouteDestination,
    Percent,
    PortSelector,
    RegexRewrite,
    RouteDestination,
    StringMatch,
    VirtualService,
)
from .workload_group import EntryMetadata, HTTPProbe, ReadinessProbe, WorkloadGroup

__all__ = [
    "AUTHORITY_KEYS",
    "CERTIFICATE_KEYS",
    "DEFAULT_NAMESPACE",
    "GRPC_STATUSES",
    "KINDS",
    "MESH",
    "Abort",
    "AuthorizationPolicy",
    "ClientTLSSettings",
    "Condition",
    "ConnectionPoolSettings",
    "ConsistentHashLB",
    "CorsPolicy",
    "Delay",
    "Delegate",
    "Destination",
    "DestinationRule",
    "Distribute",
    "Duration",
    "Endpoint",
    "EndpointAddress",
    "EndpointConditions",
    "EndpointPort",
    "EndpointSlice",
    "EndpointSlicePort",
    "EndpointSubset",
    "Endpoints",
    "EntryMetadata",
    "EnvoyExtAuthzHttp",
    "ExtensionProvider",
    "Failover",
    "FieldPath",
    "Gateway",
    "HTTPBody",
    "HTTPDirectResponse",
    "HTTPFaultInjection",
    "HTTPMatchRequest",
    "HTTPProbe",
    "HTTPRedirect",
    "HTTPRetry",
    "HTTPRewrite",
    "HTTPRoute",
    "HTTPRouteDestination",
    "HTTPSettings",
    "HeaderLimit",
    "HeaderOperations",
    "Headers",
    "JWTRule",
    "Kind",
    "KubernetesServicePort",
    "LoadBalancerSettings",
    "Loaded",
    "LocalityLoadBalancerSetting",
    "Mark",
    "MeshConfig",
    "Model",
    "MutualTLS",
    "NotYet",
    "Note",
    "Operation",
    "OutlierDetection",
    "PeerAuthentication",
    "Percent",
    "Port",
    "PortSelector",
    "PortTrafficPolicy",
    "Position",
    "Problem",
    "ProxyConfig",
    "RateLimit",
    "ReadinessProbe",
    "Refused",
    "RegexRewrite",
    "RequestAuthentication",
    "Resource",
    "RetryBudget",
    "RouteDestination",
    "Rule",
    "Secret",
    "Server",
    "ServerTLSSettings",
    "Service",
    "ServiceEntry",
    "ServicePort",
    "Sidecar",
    "Source",
    "StringMatch",
    "Subset",
    "TCPSettings",
    "TargetReference",
    "TcpKeepalive",
    "Telemetry",
    "TokenBucket",
    "TrafficLimit",
    "TrafficPolicy",
    "Unreadable",
    "VirtualService",
    "WorkloadEntry",
    "WorkloadGroup",
    "WorkloadSelector",
    "ZoneAwareLoadBalancerSetting",
    "claim_path",
    "field_paths",
    "format_path",
    "hosts_overlap",
    "is_authority",
    "is_jwt_claim",
    "is_path_template",
    "kind_named",
    "kind_schema",
    "load",
    "mesh_schema",
    "parse_duration",
]
