"""HTTP, whatever the version: what services see, and what the wire says.

- `message`: `Request`, `Response`, `Body` and `Service`, the words in which all services speak.
- `failures`: the one table of what can go wrong, and the response each failure becomes.
- `path`: normalisation of the request's path.
- `forwarded`: the headers by which proxies tell each other of a request.
- `http1_fields`, `http1_bodies`, `http1_codec`: HTTP/1.1 without I/O; bytes in, heads and body pieces out.
- `http1_connection`: what the two sides of HTTP/1.1 share: a transport, its buffer, and bodies that are read from it.
- `http1_server`, `http1_client`: the downstream and the upstream connection.
- `departures`: which clients have left while their request was served.
- `connection_manager`: what happens to every request and response of a listener, whatever its protocol.
"""
