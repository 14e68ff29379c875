"""Does a configuration do what its author means? Unit tests of routing, and real gateways for tests of anything.

The words of this package:

- A *test file* (`cases`) holds *cases*: requests, and what is expected of them. Each combination of a case's
  authorities, methods and URIs is a `Combination`, and passes or fails on its own.
- An `Entrance` (`entrances`) is where a request enters: a listener of a gateway or of a sidecar. A further *hop* is
  another entrance, which the request reaches as the proxy before it left it.
- `expectations` compares what a case expects with the rule that was met and with what came of the request.
- `runner` runs the cases of a file; an `Outcome` is what came of one combination. `report` tells of outcomes.
- `Standins` and `RunningMesh` (`standins`, `running`) are a real gateway whose endpoints are servers of the test's own.
- `plugin` is all of that for pytest.

Its rules: what decides is what runs, the same matchers and the same services; a case that expects nothing is refused,
for it could not fail; and nothing is imported for people who run pytest without it.
"""
