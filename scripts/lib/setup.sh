# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
#
# What scripts/demo and scripts/test share: checks of the machine, installation of
# what is missing, and everything that is kept in one cache folder.  Sourced, never run.
# A caller sets ROOT (the checkout) before it sources this file.
# shellcheck disable=SC2034  # its callers use the variables that it sets

CACHE="${PVECRI_CACHE:-/var/cache/pvecri}"
PYTHON=/usr/bin/python3   # not the first in PATH: a pyenv or a venv of the caller may stand there
OS_RELEASE=/etc/os-release
SYSTEMD_UNITS=/run/systemd/system   # there while systemd is PID 1
LOGS="$CACHE/logs"
SECONDS=0

# On a terminal the markers stand out; in a log file they stay plain text.
if [[ -t 1 && -z "${NO_COLOR:-}" ]]; then
    BOLD=$'\e[1m' RED=$'\e[31m' GREEN=$'\e[32m' OFF=$'\e[0m'
else
    BOLD='' RED='' GREEN='' OFF=''
fi

# Print one progress line with the seconds since the start.
say() {
    printf '%s[%4ds]%s %s\n' "$BOLD" "$SECONDS" "$OFF" "$*"
}

# End with what is wrong and, on the next line, what to do about it.
fail() {
    printf '%serror:%s %s\n' "$RED" "$OFF" "$1" >&2
    [[ -z "${2:-}" ]] || printf '       %s\n' "$2" >&2
    exit 1
}

# Run a command with its output in a log file; on failure show the tail and return its exit code.
# usage: logged NAME COMMAND...
logged() {
    local log="$LOGS/$1.log" rc=0
    shift
    "$@" >"$log" 2>&1 </dev/null || rc=$?
    if ((rc != 0)); then
        printf -- '--- last lines of %s\n' "$log" >&2
        tail -n 25 "$log" | sed 's/^/    /' >&2
    fi
    return "$rc"
}

# ---------------------------------------------------------------- the machine

require_root() {
    ((EUID == 0)) || fail "this needs root (it installs packages, mounts file systems and starts containers)" \
        "Run it as: sudo scripts/${0##*/}"
}

require_debian() {
    local id='' like='' version='' name=''
    [[ -r "$OS_RELEASE" ]] || fail "$OS_RELEASE is missing, so the distribution is unknown" \
        "Supported: Debian 12 and 13, and Proxmox VE 8 and 9 that stand on them."
    id=$(os_release ID) like=$(os_release ID_LIKE) version=$(os_release VERSION_ID) name=$(os_release PRETTY_NAME)
    if [[ "$id" != debian || ! "$version" =~ ^(12|13)$ ]]; then
        fail "${name:-$id $version} is not supported${like:+ (it is like: $like)}" \
            "Supported: Debian 12 and 13, and Proxmox VE 8 and 9 that stand on them."
    fi
    command -v apt-get >/dev/null || fail "apt-get is missing" "Install the package 'apt'."
}

# Print one value of the os-release file, unquoted, without executing the file.
os_release() {
    sed -n "s/^$1=[\"']\\{0,1\\}\\([^\"']*\\)[\"']\\{0,1\\}\$/\\1/p" "$OS_RELEASE" | tail -n 1
}

require_cache() {
    mkdir -p "$CACHE" "$LOGS" 2>/dev/null ||
        fail "the cache folder $CACHE cannot be written" "Set PVECRI_CACHE to a folder that root can write."
}

# Containers need a cgroup tree that crun accepts.  Debian 12 and 13 boot into pure cgroup v2 and
# nothing is done.  Where v1 hierarchies are mounted beside a v2 one that holds left-over controllers,
# crun refuses ("hybrid mode"); giving each left-over controller a v1 mount of its own settles that.
prepare_cgroups() {
    local tree=/sys/fs/cgroup controller
    [[ -d "$tree" ]] || fail "$tree is missing" "Mount sysfs on /sys and a cgroup file system on $tree."
    [[ $(stat -f -c %T "$tree") != cgroup2fs ]] || return 0
    if [[ $(stat -f -c %T "$tree") != tmpfs ]]; then
        fail "no cgroup file system is mounted on $tree" "Run: mount -t cgroup2 none $tree"
    fi
    [[ -r "$tree/unified/cgroup.controllers" ]] || return 0
    for controller in $(<"$tree/unified/cgroup.controllers"); do
        mountpoint -q "$tree/$controller" && continue
        say "cgroups: mounting the v1 controller $controller (crun refuses the hybrid mode of this machine);" \
            "undo with: umount $tree/$controller"
        mkdir -p "$tree/$controller"
        mount -t cgroup -o "$controller" "$controller" "$tree/$controller" ||
            fail "the cgroup controller $controller could not be mounted, and crun refuses hybrid mode" \
                "Boot with systemd.unified_cgroup_hierarchy=1 (the default of Debian 12 and 13)."
    done
}

# ------------------------------------------------------------ Debian packages

# Print those of the given packages that are not completely installed.
missing_packages() {
    local package status
    for package in "$@"; do
        status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) || status=''
        [[ "$status" == installed ]] || printf '%s\n' "$package"
    done
}

apt_get() {
    # The lock of set-up (descriptor 9) must not live on in a service that a package starts.
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C.UTF-8 \
        apt-get -q -y -o DPkg::Lock::Timeout=600 -o Acquire::Retries=2 "$@" 9>&-
}

# Refresh the package lists, waiting while another apt holds them.  A broken third-party source makes
# apt complain although Debian's own lists are fine: what counts is whether the packages are found then.
apt_update() {
    local try
    for try in $(seq 60); do
        apt_get update >"$LOGS/apt-update.log" 2>&1 </dev/null && return 0
        grep -qi 'could not get lock\|Unable to lock' "$LOGS/apt-update.log" || break
        ((try > 1)) || say "apt: waiting for another package manager to finish"
        sleep 5
    done
    return 0
}

# Print those of the given packages that apt has never heard of.
unknown_packages() {
    local package policy
    for package in "$@"; do
        policy=$(LC_ALL=C apt-cache policy "$package" 2>/dev/null)
        [[ "$policy" == *'  Candidate: '[^\(]* ]] || printf '%s\n' "$package"
    done
}

apt_install() {
    apt_get install --no-install-recommends "$@" >"$LOGS/apt-install.log" 2>&1 </dev/null
}

# End when apt's log says that the servers cannot be reached: a second try would only take as long again.
apt_unreachable() {
    ! grep -qE 'Temporary failure resolving|Could not resolve|Could not connect|Unable to connect|unreachable' "$1" ||
        fail "apt cannot reach its package servers (log: $1)" "Check the network, or set a proxy or mirror for apt."
}

# Install what is missing of the given packages, in one apt call.
ensure_packages() {
    local -a missing unknown
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]})) || return 0
    say "apt: installing ${missing[*]}"
    if [[ -n $(dpkg --audit 2>/dev/null) ]]; then
        say "apt: finishing an installation that was interrupted"
        logged dpkg-configure env DEBIAN_FRONTEND=noninteractive dpkg --configure -a || true
        logged apt-fix apt_get --fix-broken install || true
    fi
    mapfile -t unknown < <(unknown_packages "${missing[@]}")
    if ((${#unknown[@]})); then
        apt_update
        mapfile -t unknown < <(unknown_packages "${missing[@]}")
        if ((${#unknown[@]})); then
            apt_unreachable "$LOGS/apt-update.log"
            fail "apt does not know these packages: ${unknown[*]}" \
                "Is 'main' of Debian among apt's sources? What the update said: $LOGS/apt-update.log"
        fi
    fi
    keep_services_down
    # A stale list names package files that have been replaced since: refresh it once, then give up.
    if ! apt_install "${missing[@]}"; then
        apt_unreachable "$LOGS/apt-install.log"
        say "apt: trying once more with fresh package lists"
        apt_update
        if ! apt_install "${missing[@]}"; then
            tail -n 25 "$LOGS/apt-install.log" | sed 's/^/    /' >&2
            fail "apt could not install: ${missing[*]}" \
                "The lines above say why (whole log: $LOGS/apt-install.log); running the command again goes on."
        fi
    fi
    release_services
}

# The tests want Debian's programs, not services that go on on every machine that ran the tests: SERVICE:PACKAGE.
# lxc's would make a bridge with addresses and rules of its own, and listen where tests listen.
UNWANTED_SERVICES=(
    docker-registry:docker-registry containerd:containerd lxc:lxc lxc-net:lxc lxc-monitord:lxc
)

keep_services_down() {
    local entry
    [[ -d "$SYSTEMD_UNITS" ]] || return 0
    for entry in "${UNWANTED_SERVICES[@]}"; do
        [[ " ${missing[*]} " == *" ${entry#*:} "* ]] || continue
        systemctl mask --runtime -q "${entry%%:*}.service" 2>/dev/null || true
    done
}

release_services() {
    local entry service
    for entry in "${UNWANTED_SERVICES[@]}"; do
        service="${entry%%:*}"
        [[ -L "$SYSTEMD_UNITS/$service.service" ]] || continue
        systemctl unmask --runtime -q "$service.service" || true
        systemctl disable -q "$service.service" 2>/dev/null || true
    done
}

# ------------------------------------------------------- virtual environments

# Make a virtual environment with pinned packages and set VENV to its path.
# usage: ensure_venv NAME PIN_FILE PIP_ARGUMENT...
# It is keyed by everything that goes into it.  Its path is written into its own scripts, so it cannot be
# built elsewhere and moved: it is built in a folder of its own and published by renaming a link onto
# NAME-KEY.  What an interrupted run left has no link; the next run that builds removes it.
ensure_venv() {
    local name="$1" pins="$2" key link build
    shift 2
    # The same in every checkout.
    key=$({ cat "$pins" && printf "%s\n" "${@//"$ROOT"/.}" && "$PYTHON" --version; } | sha256sum | cut -c1-12)
    link="$CACHE/venv/$name-$key"
    if [[ ! -x "$link/bin/python" ]]; then
        say "pip: installing the Python tools for '$name' (once; they are kept in $CACHE)"
        mkdir -p "$CACHE/venv"
        remove_unused_venvs
        build="$link.$$"
        logged "venv-$name" "$PYTHON" -m venv "$build" ||
            fail "the virtual environment could not be made" "Is the Debian package python3-venv installed?"
        "$build/bin/python" -m pip install --disable-pip-version-check --no-input --retries 2 --timeout 60 \
            -c "$pins" "$@" >"$LOGS/pip-$name.log" 2>&1 </dev/null || pip_failed "$LOGS/pip-$name.log"
        ln -sfn "${build##*/}" "$link.new"
        mv -T "$link.new" "$link"
    fi
    touch -h "$link"
    VENV=$(readlink -f "$link")
}

# Remove environments that nothing links to, and links that were not used for a month.
remove_unused_venvs() {
    local path
    find "$CACHE/venv" -mindepth 1 -maxdepth 1 -type l -mtime +30 -delete
    for path in "$CACHE/venv"/*.*; do
        [[ -d "$path" && ! -L "$path" ]] || continue
        [[ $(readlink -f "${path%.*}") == "$path" ]] || rm -rf "$path"
    done
}

# End with the reason why pip failed.  Without a network pip's own last words speak of conflicting
# versions, which would lead astray, so its log is shown only when the reason is not known.
pip_failed() {
    local what="pip could not install the Python tools"
    if grep -qE 'NewConnectionError|NameResolutionError|ConnectTimeout|Temporary failure|ProxyError' "$1"; then
        fail "$what: PyPI could not be reached (log: $1)" \
            "Check the network, or set PIP_INDEX_URL (a mirror) or PIP_PROXY."
    elif grep -q 'CERTIFICATE_VERIFY_FAILED' "$1"; then
        fail "$what: the index's certificate is not trusted (log: $1)" "Set PIP_CERT to the file of your CA."
    elif grep -q 'No space left' "$1"; then
        fail "$what: the disk is full (log: $1)" "Free some, or set PVECRI_CACHE to a folder elsewhere."
    fi
    tail -n 25 "$1" | sed 's/^/    /' >&2
    fail "$what (log: $1)" "The lines above say why; running the command again starts afresh."
}

# --------------------------------------------------------------- the endpoint

# The endpoint runs with the host's Python and Debian's packages alone; so do its tests and measurements,
# in a virtual environment that sees only these of the host's modules.  Sets ENDPOINT_PATH to what
# PYTHONPATH needs for them and for the endpoint itself.  CHECKOUT must be set.
ENDPOINT_PACKAGES=(libnghttp2-14 python3-protobuf python3-uvloop python3-pyroute2 python3-h11 python3-wsproto)
# What their client is made of.
CLIENT_PACKAGES=(python3-grpcio)

ensure_endpoint_path() {
    local modules="$CHECKOUT/host-modules" module
    mkdir -p "$modules"
    for module in grpc google uvloop pyroute2 h11 wsproto; do
        ln -sfn "/usr/lib/python3/dist-packages/$module" "$modules/$module"
    done
    ENDPOINT_PATH="$ROOT/roles/cri_endpoint/files:$modules"
}

# ------------------------------------------------------------- the collection

# Ansible finds a collection by its path, ansible_collections/pvecri/runtime.  Set CHECKOUT to this
# checkout's folder in the cache and COLLECTIONS to a tree in it that links to the checkout.
ensure_collection_link() {
    CHECKOUT="$CACHE/checkout/$(printf '%s' "$ROOT" | sha256sum | cut -c1-12)"
    COLLECTIONS="$CHECKOUT/collections"
    mkdir -p "$COLLECTIONS/ansible_collections/pvecri"
    ln -sfn "$ROOT" "$COLLECTIONS/ansible_collections/pvecri/.runtime.new"
    mv -T "$COLLECTIONS/ansible_collections/pvecri/.runtime.new" "$COLLECTIONS/ansible_collections/pvecri/runtime"
}

# Tools that refuse links (ansible-test) or pack what they find (ansible-galaxy) get a copy of what git
# would commit.  Sets COPY to it.
ensure_collection_copy() {
    COPY="$CHECKOUT/copy/ansible_collections/pvecri/runtime"
    rm -rf "$CHECKOUT/copy"
    mkdir -p "$COPY"
    # safe.directory: with sudo the checkout belongs to another user, which git distrusts.
    git -C "$ROOT" -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
        (cd "$ROOT" && while IFS= read -r -d '' path; do [[ ! -e "$path" ]] || printf '%s\0' "$path"; done) |
        tar -C "$ROOT" --null --no-recursion -T - -cf - | tar -C "$COPY" -xf -
}

# Hold a lock file while a command runs, so that two set-ups do not collide.
# usage: with_setup_lock COMMAND...
with_setup_lock() {
    exec 9>"$CACHE/setup.lock"
    if ! flock -n 9; then
        say "another set-up is running in $CACHE: waiting for it"
        flock 9
    fi
    "$@"
    exec 9>&-
}
