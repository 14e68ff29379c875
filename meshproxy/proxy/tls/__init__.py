"""Transport Layer Security, by OpenSSL.

The words of this package:

- A `TlsTransport` (`transport`) is a transport with TLS on it, of a client or of a server.
- `Secrets` (`secrets`) are what the snapshot's secrets stand for just now; files that change are read again.
- A `Current` context (`contexts`) is one of OpenSSL's, made anew when its secrets change.
- `ServerTls` (`server`) secures a filter chain's connections, `UpstreamTls` (`client`) those to endpoints; both
  find out who is there. `names` says which names of a certificate will do, `peer` what a peer has shown.
- A `ClientHello` (`client_hello`) is what a TLS client says first.
- `TlsFailed` (`errors`) says why there is no connection, in Envoy's words.
"""
