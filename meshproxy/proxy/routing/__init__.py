"""Which route a request meets, and what the route does.

- `matchers`: a snapshot's conditions, compiled to functions.
- `index`: routes found by a request's path, however many there are.
- `router`: virtual hosts and their routes; the service that finds a request's route and calls it.
- `actions`: what a route does: forward, redirect, answer; each compiled to a service of its own.
- `hash_policies`: what a route finds in a request to balance by.
- `rewrites`: new paths from old ones.
- `policies`: what a route's filters do, in words.
- `explain`: all of it told of one request, without sending anything.
"""
