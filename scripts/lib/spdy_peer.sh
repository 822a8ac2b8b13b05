# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
#
# Installs the npm package that the tests of SPDY speak with.  Sourced after setup.sh, never run.

SPDY_PEER_SOURCE="$ROOT/tests/integration/endpoint/spdy_peer"

# Install what the package's lock file pins, once, and set SPDY_PEER to the folder of the modules.
# It is keyed by that file, and built in a folder of its own, so that an interrupted run leaves no half.
# shellcheck disable=SC2034  # its callers use the variable that it sets
ensure_spdy_peer() {
    local key link build
    key=$(sha256sum <"$SPDY_PEER_SOURCE/package-lock.json" | cut -c1-12)
    link="$CACHE/spdy-peer/$key"
    SPDY_PEER="$link/node_modules"
    [[ ! -d "$SPDY_PEER" ]] || return 0
    command -v node >/dev/null || ensure_packages nodejs
    command -v npm >/dev/null || ensure_packages npm
    say "npm: installing another implementation of SPDY for tests (once; it is kept in $CACHE)"
    build="$link.$$"
    mkdir -p "$build"
    cp "$SPDY_PEER_SOURCE"/package.json "$SPDY_PEER_SOURCE"/package-lock.json "$build"
    logged npm-spdy-peer npm ci --prefix "$build" --cache "$CACHE/npm" --ignore-scripts --no-audit --no-fund ||
        fail "npm could not install the packages of $SPDY_PEER_SOURCE" \
            "Check the network, or set npm_config_registry to a mirror; running the command again starts afresh."
    mv -T "$build" "$link"
}
