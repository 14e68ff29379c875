"""How the bytes move: runs a `Snapshot`, and knows nothing of YAML, Istio or where a configuration came from.

The folder is the path of a request, top to bottom:

- `worker`: one process's event loop; listeners, live clusters, draining.
- `listener`: accepts connections.
- `transport`: a socket with one face; `readiness` tells which have something to receive, and `splice` is how bytes go
  from one to another without entering the process.
- `http`: `Request`, `Response`, `Service`; the HTTP/1.1 codec (no I/O) and the connections on both sides of it.
- `routing`: virtual hosts, matchers, and what a route does.
- `filters`: what a route does besides forwarding, one module a filter.
- `upstream`: clusters, balancers, connection pools.
- `admin`: the pages that tell how it goes.

A server is a function: `Service = Callable[[Request], Awaitable[Response]]`. The connection manager, the router, a
filter, a cluster and a canned response are all services, composed once when a snapshot is compiled. A service
never learns which protocol its request came by.
"""
