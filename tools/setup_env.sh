#!/usr/bin/env bash
# Makes .venv beside this folder hold everything the project needs.
#
#   bash tools/setup_env.sh          training and testing classifiers
#   bash tools/setup_env.sh --dev    and the tests' tools
#   bash tools/setup_env.sh --ops    and mmdet, mmseg, the operators of mmcv
#
# Run it again at any time: what is there is kept, what was interrupted goes
# on. Environment variables:
#   PYTHON           interpreter to build .venv from (3.10 to 3.13)
#   TORCH_INDEX_URL  package index to take torch and torchvision from, for
#                    example one with the much smaller CPU-only builds
#   MAX_JOBS         compilers that run at a time (default: one a core)
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
PY=$VENV/bin/python
WHEELS=${XDG_CACHE_HOME:-$HOME/.cache}/mmtlalign/wheels

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

python_version() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# Sets PYTHON to the first interpreter that the pinned packages exist for.
find_python() {
    local found='' candidate version
    local candidates=(python3 python3.{13,12,11,10})
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        version=$(python_version "$candidate") || continue
        case $version in
            3.1[0-3]) PYTHON=$candidate; return ;;
        esac
        found="$found $candidate is $version;"
    done
    fail "Python 3.10 to 3.13 is needed, but${found:- there is none;}" \
        "install one and name it: PYTHON=/path/to/python3.12 bash $0"
}

check_venv_module() {
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$PYTHON cannot make virtual environments; on Debian and" \
            'Ubuntu: apt-get install python3-venv'
}

# cv2 is linked against these two and fails at import without them.
check_libraries() {
    [ "$(uname)" = Linux ] || return 0
    local library
    for library in libGL.so.1:libgl1 libgthread-2.0.so.0:libglib2.0-0; do
        "$PYTHON" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' \
            "${library%:*}" 2>/dev/null ||
            fail "${library%:*} is missing (OpenCV needs it); on Debian and" \
                "Ubuntu: apt-get install ${library#*:}"
    done
}

# check_disk GIGABYTES: what .venv holds already counts as there.
check_disk() {
    local free have=0
    free=$(df -Pk "$ROOT" | awk 'NR == 2 {print $4}')
    [ ! -d "$VENV" ] || have=$(du -sk "$VENV" | awk '{print $1}')
    [ $((free + have)) -ge $(($1 * 1000 * 1000)) ] ||
        fail "$1 GB are needed on the disk of $ROOT, but only" \
            "$((free / 1000 / 1000)) GB are free"
}

# Asks pip for a small package, so that its own settings (mirrors, proxies)
# decide what a network is.
check_network() {
    "$PY" -m pip download -q --no-deps --no-cache-dir --retries 0 \
        --timeout 20 -d "$VENV/tmp" wheel >/dev/null 2>&1 ||
        fail 'no network: pip cannot reach its package index'
}

make_venv() {
    "$PY" -m pip --version >/dev/null 2>&1 ||
        "$PYTHON" -m venv --clear "$VENV" ||
        fail "$PYTHON -m venv $VENV failed"
    # Wheels are unpacked here: /tmp is often too small for them.
    rm -rf "$VENV/tmp"
    mkdir "$VENV/tmp"
    export TMPDIR=$VENV/tmp
}

# A part of the set-up is done if its stamp holds these requirements (and this
# folder: an editable installation does not follow a checkout that moves), and
# its Python still starts, which it does not once the system's is gone.
requirements_hash() {
    { echo "$ROOT"; cat "$ROOT"/setup.py "$ROOT"/requirements/*.txt; } | cksum
}
is_done() {
    [ "$(cat "$VENV/.done-$1" 2>/dev/null)" = "$HASH" ] &&
        "$PY" -c 'import sys' 2>/dev/null
}
mark_done() { printf '%s\n' "$HASH" >"$VENV/.done-$1"; }

pip_install() {
    "$PY" -m pip install --disable-pip-version-check "$@" ||
        fail "pip install failed (see above): run bash $0 again"
}

# install PART [EXTRAS] [PIP OPTION...]: the package with the named extras.
install() {
    say "installing mmtlalign${2:-}"
    pip_install "${@:3}" -e "$ROOT${2:-}"
    "$PY" -c 'import cv2, mmpretrain, mmtlalign, torchvision' ||
        fail "the installation is damaged: remove $VENV and run bash $0 again"
    mark_done "$1"
}

install_base() {
    local size='3 GB of downloads (torch for Linux is its CUDA build), 7 GB'
    local disk=10
    case ${TORCH_INDEX_URL:-} in
        *cpu*) size='0.5 GB of downloads, 2 GB'; disk=4 ;;
    esac
    say "about $size on disk in $VENV"
    check_disk "$disk"
    make_venv
    check_network
    if [ -n "${TORCH_INDEX_URL:-}" ]; then
        # shellcheck disable=SC2046
        pip_install --index-url "$TORCH_INDEX_URL" \
            $(grep '^torch' "$ROOT/requirements/runtime.txt")
    fi
    install base
}

# Prints what mmcv has ("none", "cpu" or "cuda" operators), what this machine
# can have, and the name of a wheel with the latter. CUDA operators need a GPU
# that torch sees and an nvcc of the major version torch was built with.
ops_state() {
    "$PY" - 2>/dev/null <<'EOF'
import platform
import re
import subprocess
import sys
from importlib.metadata import version

import torch
from torch.utils.cpp_extension import CUDA_HOME

try:
    from mmcv.ops import get_compiling_cuda_version
    has = 'cpu' if 'not' in get_compiling_cuda_version() else 'cuda'
except ImportError:
    has = 'none'

wants = 'cpu'
if torch.cuda.is_available() and torch.version.cuda and CUDA_HOME:
    nvcc = subprocess.run([f'{CUDA_HOME}/bin/nvcc', '--version'],
                          capture_output=True, text=True)
    major = re.search(r'release (\d+)\.', nvcc.stdout)
    if major and major[1] == torch.version.cuda.split('.')[0]:
        wants = 'cuda'

python = 'cp%d%d' % sys.version_info[:2]
print(has, wants, '-'.join([
    f'mmcv-{version("onedl-mmcv")}', f'torch-{torch.__version__}', python,
    platform.machine(), wants]))
EOF
}

check_compiler() {
    command -v "${CXX:-g++}" >/dev/null ||
        fail "the C++ compiler ${CXX:-g++} is missing; on Debian and Ubuntu:" \
            'apt-get install g++'
    local headers
    headers=$("$PYTHON" -c \
        'import sysconfig; print(sysconfig.get_path("include"))')
    [ -f "$headers/Python.h" ] ||
        fail "Python.h is missing in $headers; on Debian and Ubuntu:" \
            'apt-get install python3-dev'
}

# Watches the build folder and says how far the compilers are.
show_progress() {
    local plan objects total done_now done_first='' start=$SECONDS left
    # Lives no longer than the script, and holds none of its files open.
    while kill -0 $$ 2>/dev/null && sleep 15 >/dev/null 2>&1; do
        plan=$(find "$1/build" -name build.ninja 2>/dev/null) || continue
        total=$(grep -c '^build .*\.o:' "$plan") || continue
        objects=$(dirname "$plan")
        done_now=$(find "$objects" -name '*.o' | wc -l)
        [ -n "$done_first" ] || { done_first=$done_now; start=$SECONDS; }
        left=''
        [ "$done_now" -eq "$done_first" ] || left=", about $((1 +
            (total - done_now) * (SECONDS - start) / (done_now - done_first) /
            60)) min left"
        say "$done_now of $total files compiled$left"
    done
}

# build_ops KEY FLAVOUR: leaves a wheel in $WHEELS/KEY. The sources stay in
# .venv until then, so that an interrupted build goes on where it was.
build_ops() {
    local build=$VENV/build/$1 sources log pin monitor status=0
    pin=$(grep '^onedl-mmcv==' "$ROOT/requirements/runtime.txt")
    log=$build/build.log
    mkdir -p "$build/wheel"
    (umask 022; mkdir -p "$WHEELS/$1")
    sources=$build/sources
    if [ ! -d "$sources" ]; then
        check_network
        "$PY" -m pip download -q --no-deps --no-build-isolation \
            --no-cache-dir --no-binary onedl-mmcv -d "$build" "$pin" ||
            fail "pip download $pin failed"
        rm -rf "$build/unpacked"
        mkdir "$build/unpacked"
        tar -xzf "$build"/onedl_mmcv-*.tar.gz -C "$build/unpacked" \
            --strip-components 1
        mv "$build/unpacked" "$sources"
    fi
    export MAX_JOBS=${MAX_JOBS:-$(getconf _NPROCESSORS_ONLN)}
    say "compiling the operators of mmcv ($2), $MAX_JOBS files at a time:" \
        'about ten minutes on two cores; interrupted, run again to go on'
    if [ "$2" = cuda ]; then
        export FORCE_CUDA=1
        say 'the CUDA operators take longer than that'
    else
        # Otherwise a GPU without a fitting nvcc would start a CUDA build.
        export CUDA_VISIBLE_DEVICES='' FORCE_CUDA=0
    fi
    show_progress "$sources" 9<&- &
    monitor=$!
    # shellcheck disable=SC2064
    trap "kill $monitor 2>/dev/null || true" EXIT
    # Debugging information (-g, which Python's own flags ask for) would triple
    # the time.
    export CPPFLAGS="${CPPFLAGS:-} -g0"
    # pip's own cache is keyed by name and version alone: keep clear of it.
    "$PY" -m pip wheel --no-deps --no-build-isolation --no-cache-dir \
        -w "$build/wheel" "$sources" >"$log" 2>&1 || status=$?
    kill "$monitor" 2>/dev/null || true
    [ "$status" -eq 0 ] || {
        grep -m 3 -E 'error:|Error' "$log" >&2 || tail -n 3 "$log" >&2
        fail "compiling mmcv failed; all of its output is in $log"
    }
    mv "$build/wheel"/*.whl "$WHEELS/$1/"
    (cd "$WHEELS/$1" && sha256sum ./*.whl >SHA256SUMS)
}

# A wheel runs what it holds: only one that this user wrote, where nobody else
# can write, and that is still what was built.
is_ours() {
    local path
    for path in "$WHEELS" "$WHEELS/$1" "$WHEELS/$1"/*.whl; do
        [ -O "$path" ] && [ -z "$(find "$path" -maxdepth 0 -perm /022)" ] ||
            return 1
    done
    (cd "$WHEELS/$1" && sha256sum --strict -c SHA256SUMS) >/dev/null 2>&1 &&
        [ "$(ls "$WHEELS/$1"/*.whl | wc -l)" -eq \
            "$(wc -l <"$WHEELS/$1/SHA256SUMS")" ]
}

install_ops_wheel() {
    ls "$WHEELS/$1"/*.whl >/dev/null 2>&1 || return 1
    is_ours "$1" || {
        say "$WHEELS/$1 is left out: others can write there, or it is not" \
            'what was built'
        rm -f "$WHEELS/$1"/*.whl
        return 1
    }
    "$PY" -m pip install -q --force-reinstall --no-deps --no-index "$WHEELS/$1"/*.whl &&
        "$PY" -c 'import mmcv.ops' 2>/dev/null
}

install_ops() {
    is_done ops || {
        check_network
        pip_install -q -r "$ROOT/requirements/ops.txt"
        install ops '[det,seg]' -q
    }
    local has wants key
    read -r has wants key < <(ops_state)
    [ -n "${key:-}" ] || fail "torch or mmcv is damaged: remove $VENV"
    if [ "$has" = "$wants" ] || [ "$has" = cuda ]; then
        say "mmcv has its operators ($has)"
        return
    fi
    if ! install_ops_wheel "$key"; then
        check_compiler
        check_disk 2
        build_ops "$key" "$wants"
        install_ops_wheel "$key" ||
            fail "mmcv was compiled, but mmcv.ops cannot be imported:" \
                "see $PY -c 'import mmcv.ops'"
    fi
    rm -rf "$VENV/build"
    say "mmcv.ops imports: operators ($wants) installed," \
        "their wheel is kept in $WHEELS/$key"
}

# A function, so that bash has read all of this file before it starts.
main() {
    local option ops=false dev=false
    for option in "$@"; do
        case $option in
            --ops) ops=true ;;
            --dev) dev=true ;;
            *) fail "unknown option $option: --ops and --dev are known" ;;
        esac
    done

    # One set-up at a time: two would install into the same folder.
    if command -v flock >/dev/null; then
        exec 9<"$ROOT"
        flock -n 9 || { say 'waiting for another set-up to end'; flock 9; }
    fi
    trap 'fail "interrupted: run bash $0 again to go on"' INT TERM

    HASH=$(requirements_hash)
    if is_done base; then
        PYTHON=$PY
    else
        find_python
        check_venv_module
    fi
    check_libraries
    ! $ops || check_compiler
    is_done base || install_base
    make_venv
    if $dev && ! is_done dev; then
        check_network
        install dev '[dev]' -q
    fi
    ! $ops || install_ops
    say "$VENV is ready"
}

main "$@"
