"""Load and measurement, for people who want to know what the proxy costs.

- `cpu_per_request`: requests a second, latency, and CPU time a request of whatever listens on a port.
"""
