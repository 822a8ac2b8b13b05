# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
# Fetch Debian 13's crun and CRIU with their libraries, for tests of checkpoints on hosts whose own cannot.
# Expects CACHE.  They are packages that apt has checked by Debian's signatures; nothing is installed.

# shellcheck disable=SC2034  # for who sources this
CRIU_TOOLS=""

# Packages that have the programs, and those that have their libraries.
CRIU_PACKAGES=(
    crun criu libcriu2
    libbsd0 libc6 libcap2 libffi8 libgmp10 libgnutls30t64 libhogweed6t64 libidn2-0 libjansson4 libmd0 libmnl0 libnet1
    libnettle8t64 libnftables1 libnftnl11 libnl-3-200 libp11-kit0 libprotobuf-c1 libseccomp2 libsystemd0 libtasn1-6
    libunistring5 libuuid1 libxtables12 libyajl2
)

# Make CRIU_TOOLS a directory with bin/crun and bin/criu; leave it empty, and say why, where that cannot be.
ensure_criu() {
    local directory="$CACHE/criu-trixie" log
    log="$CACHE/criu.log"
    if [[ ! -x "$directory/bin/criu" ]]; then
        if ! make_criu "$directory.new" >"$log" 2>&1; then
            echo "no CRIU for the tests of checkpoints, which are skipped: $(tail -n 1 "$log")" >&2
            rm -rf "$directory.new"
            return 0
        fi
        rm -rf "$directory"
        mv "$directory.new" "$directory"
        write_criu_programs "$directory"
    fi
    # shellcheck disable=SC2034
    CRIU_TOOLS="$directory"
}

# usage: make_criu DIRECTORY
make_criu() {
    local top="$1" apt="$1/apt" keys=/usr/share/keyrings/debian-archive-keyring.gpg package
    local -a options
    rm -rf "$top"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$top/root" "$top/lib" "$top/bin" "$top/libexec"
    : >"$apt/status"
    printf 'deb [signed-by=%s] http://deb.debian.org/debian trixie main\n' "$keys" >"$apt/sources.list"
    options=(-q -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=- -o APT::Sandbox::User=root
        -o "Dir::State::Lists=$apt/lists" -o "Dir::State::Status=$apt/status" -o "Dir::Cache=$apt/cache"
        -o Acquire::Retries=2)
    apt-get "${options[@]}" update || return
    (cd "$apt" && apt-get "${options[@]}" download "${CRIU_PACKAGES[@]}") || return
    for package in "$apt"/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$top/root" || return
    done
    # The dynamic linker is among them.
    find "$top/root" -name '*.so*' \( -type f -o -type l \) -path '*-linux-gnu/*' -not -path '*/gconv/*' \
        -exec cp -L -t "$top/lib" {} + || return
    cp "$top/root/usr/bin/crun" "$top/root/usr/sbin/criu" "$top/libexec/" || return
    rm -rf "$top/root" "$apt"
}

# usage: write_criu_programs DIRECTORY
# They run under their own dynamic linker, with their own libraries: the host's C library is older.
write_criu_programs() {
    local program loader
    loader=$(echo "$1"/lib/ld-linux-*.so.*)
    for program in crun criu; do
        # shellcheck disable=SC2016  # the program's own
        printf '#!/bin/sh\nPATH=%s/bin:$PATH\nexport PATH\nexec %s --library-path %s/lib %s/libexec/%s "$@"\n' \
            "$1" "$loader" "$1" "$1" "$program" >"$1/bin/$program"
        chmod 755 "$1/bin/$program"
    done
}
