#!/bin/sh
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Let pods reach what lies outside of their network by the host's address, or stop that.
# usage: pvecri-network up CIDR... | check CIDR... | down
# check ends with 1 when the rules are not what up makes.
# The rules stand in a chain of their own, so that a start replaces them whatever they were before.
set -eu

CHAIN=PVECRI-MASQUERADE
action="$1"
shift

# usage: rules MULTICAST CIDR...
rules() {
    multicast="$1"
    shift
    for cidr in "$@"; do
        echo "-A $CHAIN -d $cidr -j RETURN"
    done
    for cidr in "$@"; do
        echo "-A $CHAIN -s $cidr ! -d $multicast -j MASQUERADE"
    done
}

# usage: compare PROGRAM MULTICAST CIDR...
compare() {
    program="$1"
    shift
    "$program" --wait 30 -t nat -C POSTROUTING -j "$CHAIN" 2>/dev/null || return
    # The first line makes the chain.
    [ "$("$program" --wait 30 -t nat -S "$CHAIN" | tail -n +2)" = "$(rules "$@")" ]
}

# usage: fill PROGRAM MULTICAST CIDR...
fill() {
    program="$1"
    shift
    {
        echo '*nat'
        echo ":$CHAIN - [0:0]"
        rules "$@"
        echo COMMIT
    } | "$program-restore" --wait 30 --noflush
    "$program" --wait 30 -t nat -C POSTROUTING -j "$CHAIN" 2>/dev/null ||
        "$program" --wait 30 -t nat -A POSTROUTING -j "$CHAIN"
}

# usage: empty PROGRAM
empty() {
    command -v "$1" >/dev/null || return 0
    "$1" --wait 30 -t nat -nL "$CHAIN" >/dev/null 2>&1 || return 0
    while "$1" --wait 30 -t nat -D POSTROUTING -j "$CHAIN" 2>/dev/null; do :; done
    "$1" --wait 30 -t nat -F "$CHAIN"
    "$1" --wait 30 -t nat -X "$CHAIN"
}

v4=
v6=
for cidr in "$@"; do
    case "$cidr" in
    *:*) v6="$v6 $cidr" ;;
    *) v4="$v4 $cidr" ;;
    esac
done

case "$action" in
up)
    # Word by word: what is no address has no place here.
    # shellcheck disable=SC2086
    if [ -n "$v4" ]; then fill iptables 224.0.0.0/4 $v4; else empty iptables; fi
    # shellcheck disable=SC2086
    if [ -n "$v6" ]; then fill ip6tables ff00::/8 $v6; else empty ip6tables; fi
    ;;
check)
    # shellcheck disable=SC2086
    [ -z "$v4" ] || compare iptables 224.0.0.0/4 $v4
    # shellcheck disable=SC2086
    [ -z "$v6" ] || compare ip6tables ff00::/8 $v6
    ;;
down)
    empty iptables
    empty ip6tables
    ;;
*)
    echo "usage: pvecri-network up CIDR... | check CIDR... | down" >&2
    exit 2
    ;;
esac
