"""Transport Layer Security, by OpenSSL.

The words of this package:

- A `TlsTransport` (`transport`) is a transport with TLS on it, of a client or of a server.
- `Secrets` (`secrets`) are what the snapshot's secrets stand for just now; files that change are read again.
- A `Current` context (`contexts`) is one of OpenSSL's, made anew when its secrets change.
"""
