#!/bin/sh
# Writes the Secrets of overlays/dev to standard output, with passwords made at random: sh k8s/secrets.sh | kubectl create -f -
#
# `create` leaves alone what is there. Production's Secrets have the same names and keys, and come from elsewhere:
# docs/kubernetes.md. containers/secrets.sh makes the same for Compose, and says who may do what in Redis.
set -eu
namespace=${1:-storefront}

random() { od -An -v -tx1 -N24 /dev/urandom | tr -d ' \n'; }

# secret NAME: begin a Secret. The lines `  key: value` follow.
secret() {
    printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s, labels: {app.kubernetes.io/part-of: storefront}}\nstringData:\n' \
        "$1" "$namespace"
}
entry() { printf '  %s: "%s"\n' "$1" "$2"; }

superuser=$(random) catalogue=$(random) users=$(random) links=$(random) gateway=$(random) exporter=$(random)
redis_user=$(random) redis_links=$(random) redis_gateway=$(random) admin=sf_$(random)
for value in "$superuser" "$catalogue" "$users" "$links" "$gateway" "$exporter" "$redis_user" "$redis_links" "$redis_gateway"; do
    [ ${#value} -eq 48 ] || { echo "secrets: no randomness" >&2; exit 1; }
done

secret catalogue-db-secrets
entry db_host postgres
entry db_user devops
entry db_password "$catalogue"
secret user-secrets
entry db_password "$users"
entry redis_url "redis://user:$redis_user@redis:6379/0"
secret links-secrets
entry db_password "$links"
entry redis_url "redis://links:$redis_links@redis:6379/0"
secret gateway-secrets
entry db_password "$gateway"
entry redis_url "redis://gateway:$redis_gateway@redis:6379/0"
secret gateway-admin
entry key "$admin"
secret postgres-secrets
entry superuser "$superuser"
secret postgres-roles
entry superuser "$superuser"
entry catalogue "$catalogue"
entry users "$users"
entry links "$links"
entry gateway "$gateway"
entry exporter "$exporter"
secret redis-secrets
cat <<END
  users.acl: |
    user default off
    user health on nopass -@all +ping
    user user on >$redis_user ~{users}:* +@all -@admin -@dangerous +info
    user links on >$redis_links ~{links}:* +@all -@admin -@dangerous +info
    user gateway on >$redis_gateway ~gateway:* ~{gateway:* &{gateway:* +@all -@admin -@dangerous +info
END
secret load-keys
entry keys "$admin"
