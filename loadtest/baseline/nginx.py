"""nginx as a proxy, or as a proxy with a cache, with one worker and without a log: `exec`s it with a configuration.

PORT=9003 UPSTREAM=http://127.0.0.1:9001 DIRECTORY=/tmp/x CACHE=on python -m loadtest.baseline.nginx
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from string import Template

ELSEWHERE = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))
"""Where distributions put it; not on everybody's PATH."""

_CONFIGURATION = Template("""\
daemon off;
worker_processes 1;
pid $directory/nginx.pid;
error_log stderr warn;
$user
events { worker_connections 1024; }
http {
    access_log off;
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    client_body_temp_path $directory/body;
    proxy_temp_path $directory/proxy;
    fastcgi_temp_path $directory/fastcgi;
    uwsgi_temp_path $directory/uwsgi;
    scgi_temp_path $directory/scgi;
    $zone
    upstream behind {
        server $upstream;
        keepalive 64;
        keepalive_requests 1000000000;
    }
    server {
        listen 127.0.0.1:$port backlog=1024;
        location = /health/live { default_type application/json; return 200 '{"status":"alive"}'; }
        location / {
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            $cache
        }
    }
}
""")
_ZONE = "proxy_cache_path {directory}/cache keys_zone=answers:1m;"
_CACHE = """proxy_cache answers;
            proxy_cache_valid 200 5s;
            proxy_cache_use_stale updating error timeout;
            proxy_cache_background_update on;
            proxy_cache_lock on;
            add_header X-Cache $upstream_cache_status;"""


def find() -> str | None:
    """The path of nginx, None if it is not installed."""
    return shutil.which("nginx") or shutil.which("nginx", path=ELSEWHERE)


def configuration(*, port: int, upstream: str, directory: Path, cache: bool, as_root: bool) -> str:
    """The text of nginx.conf. `upstream` is host:port; everything that nginx writes is under `directory`."""
    return _CONFIGURATION.substitute(
        port=port,
        upstream=upstream,
        directory=directory,
        user="user root;" if as_root else "",  # else its worker cannot write into a directory that is ours alone
        zone=_ZONE.format(directory=directory) if cache else "",
        cache=_CACHE if cache else "",
    )


def main() -> None:
    """Write the configuration and become nginx."""
    directory = Path(os.environ["DIRECTORY"]).resolve()
    path = directory / "nginx.conf"
    path.write_text(
        configuration(
            port=int(os.environ["PORT"]),
            upstream=os.environ["UPSTREAM"].removeprefix("http://"),
            directory=directory,
            cache=os.environ.get("CACHE") == "on",
            as_root=os.geteuid() == 0,
        )
    )
    program = find()
    if program is None:
        raise SystemExit("nginx is not installed")
    os.execv(program, [program, "-e", "stderr", "-p", str(directory), "-c", str(path)])  # noqa: S606


if __name__ == "__main__":
    main()
