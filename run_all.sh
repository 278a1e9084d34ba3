#!/usr/bin/env bash
# Sets up .venv if needed, then: the default run | test [pytest arguments] | lab.  See README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fail() { echo "run_all.sh: $1" >&2; exit "${2:-2}"; }

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2])' 2>/dev/null; then
            command -v "$name"; return
        fi
    done
    fail "needs Python 3.11 or newer; none was found (set PYTHON=/path/to/python3)" 1
}

set_up() {
    local stamp=.venv/requirements.sha256 wanted
    wanted=$(cat requirements.lock pyproject.toml | cksum)
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return
    echo "Setting up .venv from requirements.lock (a few minutes, some gigabytes; once) ..."
    [ -x .venv/bin/python ] || "$python" -m venv .venv || fail "python -m venv failed (Debian: apt install python3-venv)" 1
    local quiet=(--quiet --disable-pip-version-check)
    .venv/bin/python -m pip install "${quiet[@]}" --require-hashes -r requirements.lock
    .venv/bin/python -m pip install "${quiet[@]}" --no-deps --no-build-isolation -e .
    echo "$wanted" > "$stamp"
    echo "Set-up done."
}

python=$(find_python)
export PYTHONDONTWRITEBYTECODE=1
case "${1:-}" in
    test)
        set_up; shift
        exec .venv/bin/python -m pytest "$@" ;;
    lab)
        set_up; shift
        exec .venv/bin/jupyter-lab --notebook-dir=notebooks "$@" ;;
    *)
        # Options are checked before the long set-up; this needs the standard library alone.
        "$python" -m dyga reproduce "$@" --check
        case " $* " in *" --help "*|*" -h "*|*" --check "*) exit ;; esac
        set_up
        unset PYTHONDONTWRITEBYTECODE
        exec .venv/bin/python -m dyga reproduce "$@" ;;
esac
