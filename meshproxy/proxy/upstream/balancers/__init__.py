"""The policies that choose a host, as Envoy's do
(https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/load_balancers).

- `balancer`: what they have in common: one method, `pick`.
- `policies`: those that mind the host alone: in turn, least busy, any.
- `consistent_hash`: those that mind the request: one hash, one host.
- `turns`: turns in proportion to weights.
- `slow_start`: new hosts, which get less at first.
- `localities`: localities with weights.
- `priorities`: which of the hosts serve, by their health and their priority.
- `composition`: the balancer of a cluster, composed of these.

A balancer is made for fixed hosts in fixed health; when either changes, another takes its place. Chance is passed in.
"""

from .balancer import Balancer, Chance, Clock
from .composition import load_balancer

__all__ = ["Balancer", "Chance", "Clock", "load_balancer"]
