#!/bin/sh
# make up: start what docker-compose.yml describes, wait until all of it is well, and say what to do with it.
# Arguments are names of services, if not all are wanted; --down stops it all. Takes Compose 2 and 1.29.
set -eu
cd "$(dirname "$0")/.."
LIMIT_S=${UP_LIMIT_S:-300}

if docker compose version >/dev/null 2>&1; then
    compose() { docker compose "$@"; }
    spelled='docker compose'
elif command -v docker-compose >/dev/null; then
    compose() { docker-compose "$@"; }
    spelled='docker-compose'
else
    echo "make up: there is no Docker Compose here; make run needs none" >&2
    exit 1
fi
if ! docker info >/dev/null 2>&1; then
    echo "make up: the Docker daemon does not answer; make run needs none" >&2
    exit 1
fi

if [ "${1:-}" = --down ]; then
    compose --profile kafka --profile alloy --profile load down --remove-orphans
    exit
fi

# One line for each container: name, state, exit status, health.
states() {
    compose ps -a -q | xargs docker inspect --format \
        '{{.Name}} {{.State.Status}} {{.State.ExitCode}} {{if .State.Health}}{{.State.Health.Status}}{{else}}-{{end}}'
}

# What a finished job or a healthy service is not.
unsettled() {
    states | awk '!($2 == "exited" && $3 == 0) && !($2 == "running" && ($4 == "healthy" || $4 == "-"))'
}

fail() {
    echo "make up: $1 (container, state, exit status, health):" >&2
    unsettled >&2
    echo "$spelled logs SERVICE says more. What is well runs on; make down stops it." >&2
    exit 1
}

compose up -d --no-build "$@" || fail "not everything could be started"
waited_s=0
until [ -z "$(unsettled)" ]; do
    [ "$waited_s" -lt "$LIMIT_S" ] || fail "not well after $LIMIT_S s"
    sleep 1
    waited_s=$((waited_s + 1))
done

gateway=http://localhost:${GATEWAY_PORT:-8000}
key=$(compose exec -T gateway cat /app/admin/key)
password=$(compose exec -T grafana cat /secrets/admin-password 2>/dev/null) || password=

cat <<END

storefront is ready: $gateway

  Home page      $gateway/
  Products       $gateway/api/products
  Users          $gateway/api/v1/users  (with a key)
  Short links    $gateway/links  (to make one takes a key)
  API documents  $gateway/docs
  Status page    $gateway/status
  Admin key      $key
END
if [ -n "$password" ]; then
    cat <<END
  Grafana        http://localhost:${GRAFANA_PORT:-3000}/  as admin, password $password
END
fi
cat <<END

  To try:
    curl -s '$gateway/api/products?in_stock=true&sort=price&per_page=3'
    curl -s '$gateway/api/v1/users?per_page=2' -H "X-API-Key: \$($spelled exec -T gateway cat /app/admin/key)"
    $spelled logs -f --tail 20 gateway catalogue user links
    $spelled stop postgres      # the shop goes on; $spelled start postgres

  make down stops it. The data stays; $spelled down --volumes removes it, and the secrets.

END
