# Sourced by the scripts here: use_packages NAME==VERSION … sets $work, a temporary folder, and $python, an interpreter with these packages.
# $PYTHON is used if it has exactly these versions; otherwise a virtual environment is made in $work, and removed at the end.

use_packages() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    python=${PYTHON:-}
    if [ -z "$python" ] || ! _has_packages "$python" "$@"; then
        python3 -m venv "$work/venv"
        python=$work/venv/bin/python
        # PIP_ARGUMENTS: e.g. an index with CPU builds of torch
        "$python" -m pip install --quiet --disable-pip-version-check ${PIP_ARGUMENTS:-} "$@"
    fi
    cd "$work"
    export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
}

_has_packages() {
    local interpreter=$1
    shift
    "$interpreter" -c '
import importlib.metadata, sys
for wanted in sys.argv[1:]:
    name, version = wanted.split("==")
    assert importlib.metadata.version(name) == version
' "$@" 2>/dev/null
}

# expect "TEXT": reads the output of a script from standard input and ends with 1 unless it is TEXT.
expect() {
    local seen
    seen=$(cat)
    echo "$seen"
    if [ "$seen" != "$1" ]; then
        echo "changed: this was seen before:" >&2
        echo "$1" >&2
        exit 1
    fi
}
