# Shared by the scripts beside it; sourced from the project's directory.  POSIX sh.

find_python() {
    for candidate in ${PYTHON:-} python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11 or newer with its venv module is needed (on Debian and Ubuntu: apt install python3-venv)." >&2
    echo "Name one with PYTHON=/path/to/python3." >&2
    return 1
}

make_venv() {
    if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
        python=$(find_python)
        "$python" -m venv .venv
    fi
}
