"""What is the mesh, and what does it make of one proxy?

The words of this package:

- `Mesh` is every resource, indexed: the same for all proxies. `build_mesh` makes it; nothing here does I/O.
- `gateway_snapshot` is what a gateway runs: listeners, route configurations, and the clusters that they
  reach.
- `analyse` is what `check` finds beyond the schema: what dangles, contradicts itself, or can never happen.
- `Registry` and `Service` are the hosts that requests can be sent to, with ports and endpoints.
- `VirtualServices` and `MergedVirtualService` are the routing rules, names resolved and delegates merged.
- `DestinationRules` are the policies and subsets, by longest match.
- `HostMap` finds patterns of hosts, `covers` compares route matches, `Visibility` reads `exportTo`.

Its rules: Istio decides what a resource means, down to names and defaults, and where this differs on purpose
the module says so; a snapshot depends on the resources alone and not on their order; every look-up goes
through an index.
"""

from .analysis import analyse
from .gateway import HttpOptions, gateway_ports, gateway_snapshot
from .mesh import Mesh, build_mesh
from .names import ROOT_NAMESPACE

__all__ = ["ROOT_NAMESPACE", "HttpOptions", "Mesh", "analyse", "build_mesh", "gateway_ports", "gateway_snapshot"]
