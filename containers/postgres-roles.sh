#!/bin/sh
# Makes a role and a database for each service, and a role that may look at statistics for the exporter.
# May run again: it then sets the passwords anew, and makes what is missing.
set -eu
cd /
PGPASSWORD=$(cat /secrets/superuser)
export PGPASSWORD PGHOST=postgres PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=5

# role NAME SECRET CONNECTIONS: a role that may log in, and nothing else.
role() {
    psql -X -q -v ON_ERROR_STOP=1 -v name="$1" -v connections="$3" <<END
\set password \`cat /secrets/$2\`
SET log_statement = none;
SET log_min_error_statement = panic;
SELECT format('CREATE ROLE %I', :'name') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') \gexec
ALTER ROLE :"name" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
    CONNECTION LIMIT :connections PASSWORD :'password';
END
}

# database NAME OWNER: a database of UTF-8 that only its owner connects to.
database() {
    psql -X -q -v ON_ERROR_STOP=1 -v name="$1" -v owner="$2" <<'END'
SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING ''UTF8''', :'name', :'owner')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
END
}

role devops catalogue 60
database catalogue devops
role users users 60
database users users
role links links 60
database links links
role gateway gateway 60
database gateway gateway
role exporter exporter 5
psql -X -q -v ON_ERROR_STOP=1 -c 'GRANT pg_monitor TO exporter'
echo "postgres-roles: roles and databases are there"
