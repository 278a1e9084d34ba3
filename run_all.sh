#!/usr/bin/env bash
# Sets up .venv if needed, then: the default run | test [pytest arguments] | lab.  See README.md.
# Works from any folder: relative paths are those of the folder that it is called from (with test, those of this folder).
set -euo pipefail
unset CDPATH

fail() { echo "run_all.sh: $1" >&2; exit "${2:-2}"; }

find_root() {
    local script=${BASH_SOURCE[0]} target
    while [ -L "$script" ]; do
        target=$(readlink "$script")
        case "$target" in
            /*) script=$target ;;
            *) script=$(dirname "$script")/$target ;;
        esac
    done
    cd "$(dirname "$script")" && pwd -P
}

find_python() {
    local name names=(python3 python3.13 python3.12 python3.11 python)
    [ -z "${PYTHON:-}" ] || names=("$PYTHON")
    for name in "${names[@]}"; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2])' 2>/dev/null; then
            command -v "$name"; return
        fi
    done
    fail "needs Python 3.11 or newer; none was found (set PYTHON=/path/to/python3)" 1
}

# Runs a command in a process group of its own. An interruption of this script ends that group.
run() {
    set -m
    "$@" < /dev/null &
    job=$!
    set +m
    trap end_job INT TERM HUP
    wait "$job"
    trap - INT TERM HUP
}

end_job() {
    trap '' INT TERM HUP
    kill -INT -- "-$job" || true
    for _ in {1..30}; do
        kill -0 -- "-$job" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL -- "-$job" 2>/dev/null || true
    fail "interrupted: run the same command again to continue" 130
}

set_up() (
    cd "$root"
    stamp=.venv/requirements.sha256
    wanted=$({ cat requirements.lock pyproject.toml; echo "$root"; } | cksum)  # a clone that was copied is set up again
    is_done() { [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; }
    is_done && exit
    if command -v flock >/dev/null; then  # one set-up at a time
        mkdir -p .venv
        exec 9> .venv/lock
        flock --nonblock 9 || { echo "Waiting for another set-up of .venv ..."; flock 9; }
        is_done && exit
    fi
    echo "Setting up .venv from requirements.lock (a few minutes, some gigabytes; once) ..."
    .venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv .venv || fail "python -m venv failed (Debian: apt install python3-venv)" 1
    quiet=(--quiet --disable-pip-version-check)
    .venv/bin/python -m pip install "${quiet[@]}" --require-hashes -r requirements.lock
    .venv/bin/python -m pip install "${quiet[@]}" --no-deps --no-build-isolation -e .
    echo "$wanted" > "$stamp"
    echo "Set-up done."
)

root=$(find_root)
python=$(find_python)
export PYTHONDONTWRITEBYTECODE=1
case "${1:-}" in
    test)
        run set_up; shift
        unset PYTHONDONTWRITEBYTECODE
        cd "$root"
        exec .venv/bin/python -m pytest "$@" ;;
    lab)
        run set_up; shift
        export PYTHONSAFEPATH=1
        # Messages of a gigabyte, so that the explorers receive every upload; by default tornado drops those above 10 MB.
        exec "$root/.venv/bin/python" -m dyga.processes "$root/.venv/bin/python" -m jupyterlab --notebook-dir="$root/notebooks" \
            --ServerApp.tornado_settings='{"websocket_max_message_size": 1073741824}' "$@" ;;
    *)
        # Options are checked before the long set-up; this needs the standard library alone.
        PYTHONSAFEPATH=1 PYTHONPATH="$root" run "$python" -m dyga reproduce "$@" --check
        case " $* " in *" --help "*|*" -h "*|*" --check "*) exit ;; esac
        run set_up
        unset PYTHONDONTWRITEBYTECODE
        # Safe path: a folder called dyga where the user stands is not the package.
        export PYTHONSAFEPATH=1
        exec "$root/.venv/bin/python" -m dyga reproduce "$@" ;;
esac
