#!/bin/sh
# uv, with the index and the certificates that pip is configured for.
#
# uv does not read pip's settings. Whoever has told pip of an index or a certificate, and uv of none, means both.
set -eu
bin=$(dirname "$0")/../.venv/bin

settings=$("$bin/python" -m pip config list 2>/dev/null || true)
pip_setting() {
    echo "$settings" | sed -n "s/^[^=]*\.$1='\(.*\)'\$/\1/p" | head -n 1 # the environment's is listed first
}

if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}${UV_INDEX:-}${UV_CONFIG_FILE:-}" ]; then
    index=$(pip_setting index-url)
    [ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
fi
if [ -z "${SSL_CERT_FILE:-}" ]; then
    certificates=$(pip_setting cert)
    [ -z "$certificates" ] || export SSL_CERT_FILE="$certificates"
fi
exec "$bin/uv" "$@"
