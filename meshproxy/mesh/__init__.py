"""What is the mesh, and what does it make of one proxy?

The words of this package:

- `Mesh` is every resource, indexed: the same for all proxies. `build_mesh` makes it; nothing here does I/O.
- `gateway_snapshot` is what a gateway runs: listeners, route configurations, and the clusters that they
  reach. `sidecar_snapshot` is what a sidecar runs, beside the app that a WorkloadEntry stands for.
- `analyse` is what `check` finds beyond the schema: what dangles, contradicts itself, or can never happen.
  `sidecar_problems` is what keeps one workload from having a sidecar. `remarks` are what it notes besides.
- `Registry` and `Service` are the hosts that requests can be sent to, with ports and endpoints; a `View` is what
  one proxy sees of them.
- `VirtualServices` and `MergedVirtualService` are the routing rules, names resolved and delegates merged.
- `DestinationRules` are the policies and subsets, by longest match.
- `PeerAuthentications` say which connections a workload takes; `Trust` is whose identities are the mesh's.
- `HostMap` finds patterns of hosts, `covers` compares route matches, `Visibility` reads `exportTo`.

Its rules: Istio decides what a resource means, down to names and defaults, and where this differs on purpose
the module says so; a snapshot depends on the resources alone and not on their order; every look-up goes
through an index.
"""

from .analysis import analyse, remarks, secrets_of_rules, sidecar_notes, sidecar_problems
from .gateway import gateway_ports, gateway_snapshot
from .http_options import HttpOptions
from .mesh import Mesh, build_mesh
from .mutual_tls import Trust, needs_of_identity
from .names import ROOT_NAMESPACE
from .sidecar import OutboundPolicy, UnknownWorkload, find_workload, sidecar_snapshot
from .workloads import service_account_of

__all__ = [
    "ROOT_NAMESPACE",
    "HttpOptions",
    "Mesh",
    "OutboundPolicy",
    "Trust",
    "UnknownWorkload",
    "analyse",
    "build_mesh",
    "find_workload",
    "gateway_ports",
    "gateway_snapshot",
    "needs_of_identity",
    "remarks",
    "secrets_of_rules",
    "service_account_of",
    "sidecar_notes",
    "sidecar_problems",
    "sidecar_snapshot",
]
