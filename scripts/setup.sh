#!/bin/sh
# Make .venv: the pinned, hashed packages of requirements/dev.txt and this tree's own packages, editable.
# Does nothing, in milliseconds, where .venv is as it should be; waits where another shell is at it.
#
# Needs a Python and its package index, nothing else. $PYTHON chooses the Python. The index is the one that pip or uv
# is configured for: none is named here.
set -eu
cd "$(dirname "$0")/.."

oldest='3, 11'
newest='3, 14' # the newest for which every pin has a wheel
range='Python 3.11 to 3.14'
venv=.venv
stamp=$venv/.stamp # three lines: this folder, the Python asked for, the checksum of what was installed
python=$venv/bin/python

fail() {
    echo "storefront: $*" >&2
    exit 1
}

projects() {
    for project in chassis functions/* services/* stack; do
        [ ! -f "$project/pyproject.toml" ] || echo "$project"
    done
}

checksum() {
    {
        cat requirements/dev.txt requirements/uv.txt scripts/setup.sh scripts/uv.sh
        for project in $(projects); do cat "$project/pyproject.toml"; done
    } | cksum
}

# .venv was made in this folder (its scripts hold the path) and by the Python that is asked for, if one is.
is_ours() {
    [ -x $python ] && [ -f $stamp ] && { read -r folder && read -r made_by && read -r made_of; } <$stamp &&
        [ "$folder" = "$PWD" ] && { [ -z "${PYTHON:-}" ] || [ "$made_by" = "$PYTHON" ]; }
}

is_current() {
    is_ours && [ "$made_of" = "$(checksum)" ]
}

suits() {
    "$1" -c "import sys; sys.exit(not ($oldest) <= sys.version_info[:2] <= ($newest))" 2>/dev/null
}

# Sets $chosen.
choose_python() {
    if is_ours; then
        chosen=$python
        return
    fi
    if [ -n "${PYTHON:-}" ]; then
        command -v "$PYTHON" >/dev/null || fail "PYTHON=$PYTHON is no command: give the path of a $range"
        suits "$PYTHON" || fail "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1): give a $range"
        chosen=$PYTHON
        return
    fi
    for chosen in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$chosen" >/dev/null && suits "$chosen"; then return; fi
    done
    fail "python3 is $(python3 --version 2>&1 || true): install $range, or name one with PYTHON=..."
}

make_venv() {
    "$chosen" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$chosen has no venv module: install it (Debian, Ubuntu: apt-get install python3-venv), or name another PYTHON=..."
    "$chosen" -m venv --clear $venv
}

pip() {
    $python -m pip -qq --disable-pip-version-check install "$@"
}

install_pins() {
    installer="sh scripts/uv.sh pip install --quiet --python $python"
    pip --require-hashes -r requirements/uv.txt &&
        sh scripts/uv.sh pip sync --quiet --python $python --compile-bytecode --require-hashes requirements/dev.txt && return
    echo "uv did not manage; going on with pip." >&2
    installer=pip
    pip --require-hashes -r requirements/dev.txt
}

if is_current; then exit 0; fi
choose_python
if [ -z "${STOREFRONT_SETUP:-}" ]; then
    # Start over holding a lock, which lives as long as the shell and its children.
    export STOREFRONT_SETUP=locked
    exec "$chosen" -c '
import fcntl, os, sys
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
os.set_inheritable(lock, True)
os.execvp("sh", ["sh", sys.argv[2]])' .venv.lock scripts/setup.sh
fi

if is_ours; then
    echo "Bringing $venv up to date."
else
    made_by=$chosen
    echo "Setting up $venv with $("$chosen" --version 2>&1). This happens once."
    make_venv
fi
rm -f $stamp
install_pins || fail "the packages could not be installed, see above. The index is the one in 'pip config list'."
set --
for project in $(projects); do set -- "$@" -e "./$project"; done
$installer --no-deps --no-index --no-build-isolation "$@"
printf '%s\n%s\n%s\n' "$PWD" "$made_by" "$(checksum)" >$stamp
