#!/bin/sh
# Makes the secrets of the storefront and gives each reader its own, in a volume of its own, with its own uid, mode 0400.
#
# /volumes/secrets keeps all of them, and nobody else mounts it. What is there is never replaced: run again, this writes
# the same. To change a secret, remove its file there and start the storefront again. Nothing here prints one.
set -eu
umask 077

SERVICE=10001 REDIS=10002 ROLES=10003 NOBODY=65534 GRAFANA=472 LOKI=10001 LOAD=10001

# make NAME: make that secret, unless it is there.
make() {
    kept=/volumes/secrets/$1
    [ -s "$kept" ] && return
    od -An -v -tx1 -N24 /dev/urandom | tr -d ' \n' >"$kept.new"
    [ "$(wc -c <"$kept.new")" -eq 48 ] || { echo "secrets: no randomness" >&2; exit 1; }
    mv "$kept.new" "$kept"
}

# secret NAME: print that secret.
secret() { cat "/volumes/secrets/$1"; }

# give UID VOLUME/FILE: write standard input there, readable by UID only.
give() {
    directory=/volumes/${2%/*} file=${2##*/}
    rm -f "$directory/.$file.new"
    cat >"$directory/.$file.new"
    [ -s "$directory/.$file.new" ] || { echo "secrets: nothing to give to $2" >&2; exit 1; }
    chmod 0400 "$directory/.$file.new"
    chown "$1:$1" "$directory/.$file.new"
    mv "$directory/.$file.new" "$directory/$file"
    chmod 0755 "$directory"
}

chmod 0700 /volumes/secrets
for name in postgres-superuser postgres-catalogue postgres-users postgres-links postgres-gateway postgres-exporter \
    redis-user redis-links redis-gateway redis-exporter gateway-admin-key grafana-admin-password grafana-secret-key; do
    make "$name"
done

secret postgres-superuser | give 0 postgres/superuser
secret postgres-superuser | give "$ROLES" roles/superuser
for role in catalogue users links gateway exporter; do
    secret "postgres-$role" | give "$ROLES" "roles/$role"
done
secret postgres-catalogue | give "$SERVICE" catalogue/db_password
secret postgres-users | give "$SERVICE" user/db_password
secret postgres-links | give "$SERVICE" links/db_password
secret postgres-gateway | give "$SERVICE" gateway/db_password
secret postgres-exporter | give "$NOBODY" postgres-exporter/password

# Each client of Redis has a user that can do what the client does, with its own keys and channels: who may write the
# gateway's could make routes and keys. `health` may only ping, so it needs no secret.
user=$(secret redis-user) links=$(secret redis-links) gateway=$(secret redis-gateway) exporter=$(secret redis-exporter)
give "$REDIS" redis/users.acl <<END
user default off
user health on nopass -@all +ping
user user on >$user ~{users}:* +@all -@admin -@dangerous +info
user links on >$links ~{links}:* +@all -@admin -@dangerous +info
user gateway on >$gateway ~gateway:* ~{gateway:* &{gateway:* +@all -@admin -@dangerous +info
user exporter on >$exporter -@all +@connection +info +config|get +slowlog|get +slowlog|len +latency|latest +client|list
END
printf 'redis://user:%s@redis:6379/0' "$user" | give "$SERVICE" user/redis_url
printf 'redis://links:%s@redis:6379/0' "$links" | give "$SERVICE" links/redis_url
printf 'redis://gateway:%s@redis:6379/0' "$gateway" | give "$SERVICE" gateway/redis_url
printf '{"redis://exporter@redis:6379": "%s", "redis://redis:6379": "%s"}' "$exporter" "$exporter" | give "$NOBODY" redis-exporter/passwords.json

printf 'sf_%s' "$(secret gateway-admin-key)" | give "$SERVICE" gateway-admin/key
printf 'sf_%s' "$(secret gateway-admin-key)" | give "$LOAD" load/keys
secret grafana-admin-password | give "$GRAFANA" grafana/admin-password
secret grafana-secret-key | give "$GRAFANA" grafana/secret-key

# A new volume belongs to root; these are written to by somebody else.
chown "$SERVICE:$SERVICE" /volumes/gateway-state /volumes/links-qr
chown "$LOKI:$LOKI" /volumes/loki-data
chown "$LOAD:$LOAD" /volumes/load-results
echo "secrets: every reader has its own"
