"""What a route does besides forwarding, one module a filter.

A filter takes a service and returns a service; a route that does not configure it does not have it in its stack.

- `headers`: sets, adds and removes headers of requests and responses.
"""
