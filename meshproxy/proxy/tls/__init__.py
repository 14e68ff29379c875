"""Transport Layer Security, by OpenSSL.

The words of this package:

- A `TlsTransport` (`transport`) is a transport with TLS on it, of a client or of a server.
"""
