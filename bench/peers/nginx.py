"""nginx."""

from __future__ import annotations

from ..processes import Launch
from .peer import Peer, Setup, told_version

# What is buffered in files elsewhere is streamed here, as by the others.
_CONFIG = """
daemon off; worker_processes 1; worker_rlimit_nofile 16384; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 8192; }}
http {{
  access_log {access_log}; keepalive_requests 1000000000; client_max_body_size 0;
  client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi; uwsgi_temp_path {folder}/nginx-uwsgi; scgi_temp_path {folder}/nginx-scgi;
  upstream origin {{ random two least_conn; {servers} keepalive 1024; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{admin_port}; location / {{ stub_status; }} }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    proxy_http_version 1.1; proxy_request_buffering off; proxy_max_temp_file_size 0;
    proxy_set_header connection ""; proxy_set_header host $http_host;
    proxy_set_header x-request-id $request_id; proxy_set_header x-forwarded-proto $scheme;
    proxy_set_header x-forwarded-for $proxy_add_x_forwarded_for;
    location /service-a {{ proxy_pass http://origin; }}
    location / {{ proxy_pass http://origin; }}
  }}
}}
"""


def _launch(setup: Setup) -> Launch:
    setup.folder.chmod(0o755)  # its workers are not us
    config = setup.folder / "nginx.conf"
    config.write_text(
        _CONFIG.format(
            folder=setup.folder,
            access_log=f"{setup.log} combined" if setup.access_log else "off",
            servers=" ".join(f"server {endpoint};" for endpoint in setup.endpoints),
            port=setup.port,
            admin_port=setup.admin_port,
        )
    )
    return Launch(["nginx", "-c", config, "-p", setup.folder, "-e", setup.folder / "nginx.err"])


NGINX = Peer(
    "nginx", how_to_get="apt-get install nginx", version=lambda _: told_version(["nginx", "-v"]), launch=_launch
)
