# Sourced by the other scripts: finds a Python, makes .venv, installs from the lock files.
# shellcheck shell=bash

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
venv=$root/.venv
stamps=$venv/share/spoolhouse

say() { printf '%s\n' "$@" >&2; }

fail() {
    say "$@"
    exit 1
}

# Prints the first Python >= 3.11 that can make a virtual environment. PYTHON=… says which to take.
find_python() {
    local candidate without_venv=""
    for candidate in ${PYTHON:+"$PYTHON"} python3.12 python3.11 python3.13 python3 python3.14 python; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
        if "$candidate" -c 'import venv, ensurepip' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
        without_venv=$candidate
    done
    if [ -n "$without_venv" ]; then
        fail "$without_venv cannot make virtual environments: its venv and ensurepip modules are not installed." \
            "On Debian and Ubuntu: apt-get install python3-venv. Then run this again."
    fi
    fail "Spoolhouse needs Python 3.11 or newer, and none was found on PATH." \
        "Install one (Debian 12, Ubuntu 24.04: apt-get install python3 python3-venv), or say where it is: PYTHON=/path/to/python3.12 $0"
}

# prepare_environment runtime|dev: makes .venv and installs what is locked, unless that was done already.
prepare_environment() {
    local kind=$1 lock=$root/requirements.lock
    [ "$kind" = dev ] && lock=$root/requirements-dev.lock
    if [ -x "$venv/bin/python" ] && is_installed "$kind" "$lock"; then
        return
    fi
    mkdir -p "$venv"
    if command -v flock >/dev/null 2>&1; then # two of us at once would tread on each other's toes
        exec 9>"$venv/.lock"
        flock 9
        if [ -x "$venv/bin/python" ] && is_installed "$kind" "$lock"; then
            exec 9>&-
            return
        fi
    fi
    make_venv
    install_locked "$lock"
    "$venv/bin/python" -m pip install --quiet --no-index --no-build-isolation --no-deps --editable "$root"
    mkdir -p "$stamps"
    if [ "$kind" = dev ]; then # holds the runtime's packages too, at the same versions
        stamp "$root/requirements.lock" >"$stamps/runtime"
    fi
    stamp "$lock" >"$stamps/$kind"
    exec 9>&-
}

# What must be the same for an installation to be still right: the lock, our metadata, where we lie.
stamp() { printf '%s\n%s\n' "$root" "$(cat "$1" "$root/pyproject.toml" | cksum)"; }

is_installed() { [ -f "$stamps/$1" ] && [ "$(cat "$stamps/$1")" = "$(stamp "$2")" ]; }

make_venv() {
    # One that was moved with its folder has the wrong path in each of its programs: made anew.
    if "$venv/bin/python" -c '' 2>/dev/null && { [ ! -f "$stamps/runtime" ] || grep -qxF "$root" "$stamps/runtime"; }; then
        "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null
        return
    fi
    local python
    python=$(find_python) || exit 1
    say "Making the virtual environment .venv with $("$python" --version) ($python)"
    "$python" -m venv --clear "$venv" || fail "Could not make a virtual environment in $venv; see above."
}

# Shows a line that counts up on a terminal, and the end of pip's output where it fails.
install_locked() {
    local lock=$1 total count=0 line log
    total=$(grep -c '^[a-zA-Z0-9].*==' "$lock")
    log=$(mktemp)
    say "Installing about $total packages from ${lock##*/} (once; a minute or two)"
    while IFS= read -r line; do
        case $line in
            "Collecting "* | "Requirement already satisfied: "*)
                count=$((count + 1))
                line=${line#Collecting }
                line=${line#Requirement already satisfied: }
                if [ -t 2 ]; then printf '\r\033[K  [%d/%d] %s' "$count" "$total" "${line%% *}" >&2; fi
                ;;
            "Installing collected packages"*)
                if [ -t 2 ]; then printf '\r\033[K' >&2; fi
                say "  all fetched, unpacking"
                ;;
        esac
    done < <("$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off \
        --require-hashes --only-binary=:all: --requirement "$lock" 2>&1 | tee "$log")
    if ! grep -qE '^Successfully installed|^Requirement already satisfied' "$log" || grep -q '^ERROR' "$log"; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        fail "Installing failed (see above). Is there a connection to the package index? Run this again to go on."
    fi
    rm -f "$log"
}
