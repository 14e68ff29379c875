"""What a route does besides forwarding, one module a filter.

A filter takes a service and returns a service; a route that does not configure it does not have it in its stack.
A filter that has nothing to do with a request returns what the service returns, and is no step of its own.

- `context`: what filters need of the world: chance, a clock, sleep, a background.
- `local_ratelimit`: token buckets, and the responses that tell of them.
- `fault`: delays and aborts on purpose.
- `cors`: answers preflights, and tells browsers what scripts of other origins may read.
- `buffer`: collects a request's body before it is sent on.
- `stats`: counts what comes of a route's requests apart from others.
- `mirror`: sends a copy of a request elsewhere, and forgets it.
- `headers`: sets, adds and removes headers of requests and responses.

Those of one route stand in this order from the outside in, which is Istio's (`buildHTTPConnectionManager`); the first
and `buffer`, for which Istio has no field, stand where its guides tell to insert them. Before all routes
of a listener stand, in this order:

- `ext_authz`: has another service decide about requests.
- `jwt_authn`: verifies tokens, and tells those behind it of them.
- `rbac`: lets requests pass, or not, by rules.
"""
