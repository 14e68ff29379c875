"""meshproxy: the Istio YAML people already write, enforced by a proxy in pure Python on trio.

The rooms of the house, in the order in which a configuration passes through them:

- `resources`: what did the user write? Typed models of the Istio and Kubernetes kinds, with file and line.
- `mesh`: what is the mesh, and what does that make of this proxy? Resources in, a `Snapshot` out.
- `snapshot`: what does one proxy run? Frozen data in Envoy's vocabulary; the one seam between intent and execution.
- `proxy`: how do the bytes move? Runs a snapshot; knows nothing of YAML or Istio.
- `telemetry`: what happened? Access log and metrics.
- `envoy`: what would Envoy run in our place? The same snapshot, as Envoy's own configuration.
- `testing`: does it do what its author means? Unit tests of routing, and real gateways for tests of anything.
- `cli`: what did the person ask for? The `meshproxy` command.
"""

__version__ = "0.1.0"
