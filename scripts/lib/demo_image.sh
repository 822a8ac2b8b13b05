#!/usr/bin/env bash
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Builds the demo's container image on the spot, from Debian's busybox-static, and prints its reference.
# usage: demo_image.sh FOLDER
# The image's folder is keyed by what goes into it and renamed into place, so that an unchanged image
# keeps its digest from run to run and an interrupted build is not taken for an image.
# shellcheck disable=SC2317  # what a trap or another function calls by name counts as unreachable
set -euo pipefail

main() {
    local folder="$1" key layout work
    key=$({ cat /bin/busybox "${BASH_SOURCE[0]}" && umoci --version; } | sha256sum | cut -c1-12)
    layout="$folder/image-$key"
    if [[ ! -d "$layout" ]]; then
        mkdir -p "$folder"
        find "$folder" -maxdepth 1 -name 'image-*' -exec rm -rf {} +
        work=$(mktemp -d "$folder/image-build.XXXXXX")
        rootfs "$work/rootfs"
        umoci init --layout "$work/layout"
        umoci new --image "$work/layout:web"
        umoci insert --image "$work/layout:web" "$work/rootfs" /
        umoci config --image "$work/layout:web" --author pvecri \
            --config.user web --config.workingdir /srv/www --config.exposedports 8080/tcp \
            --config.env PATH=/usr/sbin:/usr/bin:/sbin:/bin --config.stopsignal SIGTERM \
            --config.cmd httpd --config.cmd -f --config.cmd -p --config.cmd 8080 --config.cmd -h --config.cmd /srv/www
        mv -T "$work/layout" "$layout"
        rm -rf "$work"
    fi
    echo "oci:$layout:web"
}

# Lay out a root file system: one static program, its names, a user and a page.
rootfs() {
    local root="$1" applet
    mkdir -p "$root"/{bin,etc,proc,sys,dev,tmp,srv/www}
    chmod 1777 "$root/tmp"
    cp /bin/busybox "$root/bin/busybox"
    for applet in sh httpd cat echo env free head hostname id ls ps seq sleep wc wget; do
        ln -s busybox "$root/bin/$applet"
    done
    printf 'root:x:0:0:root:/:/bin/sh\nweb:x:1000:1000:web:/srv/www:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\nweb:x:1000:\n' >"$root/etc/group"
    printf '<!doctype html>\n<title>pvecri.runtime</title>\n<h1>Served from a container</h1>\n' \
        >"$root/srv/www/index.html"
}

main "$@"; exit
