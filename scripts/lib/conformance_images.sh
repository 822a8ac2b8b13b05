# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
#
# Compiles what the images for critest hold, and makes the images.  Sourced after setup.sh, never run.

IMAGE_SOURCES="$ROOT/tests/conformance/images"
IMAGE_PACKAGES=(gcc libc6-dev make bzip2 skopeo docker-registry python3)

# Make the registry's data when it is missing, and set REGISTRY_DATA to its directory.
# It is keyed by everything that the images are made of, and published by a rename.
ensure_conformance_images() {
    local key programs build
    key=$(cat "$IMAGE_SOURCES"/* "$ROOT"/tests/conformance/images.py "$ROOT"/tests/support/images.py |
        sha256sum | cut -c1-12)
    REGISTRY_DATA="$CACHE/conformance/registry-$key"
    [[ ! -d "$REGISTRY_DATA" ]] || return 0
    ensure_packages "${IMAGE_PACKAGES[@]}"
    say "images: making those that critest names (once; they are kept in $CACHE)"
    # What other versions of the images left is of no use any more.
    rm -rf "$CACHE/conformance"/{registry,programs}-*
    programs="$CACHE/conformance/programs-$key" build="$REGISTRY_DATA.$$"
    mkdir -p "$programs"
    logged conformance-programs compile_image_programs "$programs" ||
        fail "the programs of the images could not be compiled" "The lines above say why."
    logged conformance-images "$PYTHON" "$ROOT/tests/conformance/images.py" "$programs" "$build" ||
        fail "the images could not be made" "The lines above say why."
    rm -rf "$programs"
    mv -T "$build" "$REGISTRY_DATA"
}

# usage: compile_image_programs DIRECTORY
compile_image_programs() {
    local program
    for program in pause webserver nonewprivs; do
        gcc -std=gnu11 -Os -s -static -Wall -Wextra -o "$1/$program" "$IMAGE_SOURCES/$program.c" || return
    done
    compile_busybox "$1"
}

# Debian's busybox runs its own applets where a path was masked; this one, of Debian's source, does not.
compile_busybox() {
    local source="$1/source" option
    fetch_busybox_source "$1" || return
    rm -rf "$source"
    mkdir -p "$source"
    tar -C "$source" --strip-components 1 -xf "$(echo "$1"/busybox_*.orig.tar.*)" || return
    make -C "$source" -s allnoconfig </dev/null || return
    while read -r option; do
        sed -i "s/^# ${option%=y} is not set\$/$option/" "$source/.config"
    done < <(grep -E '^CONFIG_[A-Z0-9_]+=y$' "$IMAGE_SOURCES/busybox.config")
    # Defaults for what the options above bring in.
    yes '' 2>/dev/null | make -C "$source" -s oldconfig >/dev/null
    make -C "$source" -s -j "$(nproc)" busybox || return
    mv "$source/busybox" "$1/busybox"
}

# Fetch the upstream source as Debian has it, without touching the machine's own package sources.
fetch_busybox_source() {
    local apt="$1/apt" site codename
    local -a options
    # shellcheck disable=SC2016  # apt's own names
    site=$(apt-get indextargets --format '$(SITE) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' |
        sed -n 's/ main Debian$//p' | grep -v security | head -n 1)
    codename=$(os_release VERSION_CODENAME)
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    printf 'deb-src %s %s main\n' "${site:-http://deb.debian.org/debian}" "$codename" >"$apt/sources.list"
    options=(-q -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=- -o APT::Sandbox::User=root
        -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o Acquire::Retries=2)
    apt-get "${options[@]}" update && (cd "$1" && apt-get "${options[@]}" source --download-only busybox)
}
