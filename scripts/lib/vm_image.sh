# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
#
# Makes the disk, kernel and initial RAM disk of a Debian 13 machine, for scripts/vm.  Sourced after setup.sh,
# never run.  Nothing is mounted outside a mount namespace of its own, and no loop device is used.

VM_RELEASE=trixie
VM_MIRROR="${PVECRI_DEBIAN_MIRROR:-http://deb.debian.org/debian}"
VM_DISK_SIZE=6G
# The name of the machine's host key in its known_hosts, whatever port leads to it.
VM_HOST_KEY_NAME=pvecri-vm

# What makes a machine of it, what the tests in it use, and what the role installs: in emulation a package
# takes seconds to unpack, and that Debian's packages can be installed is tested elsewhere.
VM_PACKAGES=(
    linux-image-cloud-amd64 initramfs-tools zstd systemd systemd-sysv udev dbus kmod procps iproute2 openssh-server
    ca-certificates python3 python3-apt apparmor busybox-static python3-pytest lxc
)
# shellcheck disable=SC2153  # ROOT is the caller's
mapfile -t VM_ROLE_PACKAGES < <(
    sed -n '/^__cri_endpoint_packages:/,/^[^ ]/s/^  - //p' "$ROOT/roles/cri_endpoint/vars/main.yml"
)
VM_ROLE_PACKAGES+=(criu)

# Make the image when it is missing and set VM_IMAGE to its directory: disk.img, vmlinuz, initrd, known_hosts.
# It is keyed by all that goes into it but Debian's packages, made elsewhere and published by a rename.
# usage: ensure_vm_image PUBLIC_KEY_FILE
ensure_vm_image() {
    local public_key="$1" key build
    # shellcheck disable=SC2153  # the caller's
    key=$({ cat "$ROOT/scripts/lib/vm_image.sh" "$public_key" && echo "${VM_ROLE_PACKAGES[@]}"; } |
        sha256sum | cut -c1-12)
    VM_IMAGE="$CACHE/vm/image-$key"
    [[ ! -d "$VM_IMAGE" ]] || return 0
    say "vm: making the Debian $VM_RELEASE image (once; it is kept in $CACHE)"
    build="$CACHE/vm/.build.$$"
    remove_old_vm_images
    mkdir -p "$build"
    logged vm-image make_vm_image "$build" "$public_key" ||
        fail "the image of the machine could not be made (log: $LOGS/vm-image.log)" \
            "The lines above say why; running the command again starts afresh, with the packages that it has."
    rm -rf "$build/root"
    mv -T "$build" "$VM_IMAGE"
    say "vm: the image is made: $(du -sh "$VM_IMAGE" | cut -f1)"
}

# Machines that run from an image that goes keep their open files.
remove_old_vm_images() {
    local path
    for path in "$CACHE"/vm/.build.* "$CACHE"/vm/image-*; do
        [[ ! -d "$path" ]] || rm -rf "$path"
    done
}

# usage: make_vm_image DIRECTORY PUBLIC_KEY_FILE
make_vm_image() {
    # In a mount namespace, so that what is mounted for the packages' scripts is gone with it.
    unshare --mount --propagation private "$BASH" -euxo pipefail -c "
        $(declare -f make_vm_root in_vm_root configure_vm_root)
        $(declare -p VM_RELEASE VM_MIRROR VM_PACKAGES VM_ROLE_PACKAGES VM_HOST_KEY_NAME CACHE)
        make_vm_root \"\$1\" \"\$2\"" bash "$1" "$2" || return
    cp -L "$1/root/vmlinuz" "$1/root/initrd.img" "$1/" && mv "$1/initrd.img" "$1/initrd" || return
    # Nothing is left to the first boot: it would write in the background while tests measure.
    mke2fs -q -t ext4 -L pvecri-vm -E lazy_itable_init=0,lazy_journal_init=0 -d "$1/root" "$1/disk.img" \
        "$VM_DISK_SIZE"
}

# usage: make_vm_root DIRECTORY PUBLIC_KEY_FILE
make_vm_root() {
    local root="$1/root" debs="$CACHE/debs/$VM_RELEASE"
    mkdir -p "$debs"
    debootstrap --variant=minbase --cache-dir="$debs" "$VM_RELEASE" "$root" "$VM_MIRROR"
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mkdir -p "$root/var/cache/apt/archives"
    mount --bind "$debs" "$root/var/cache/apt/archives"
    printf 'deb %s %s main\ndeb %s %s-updates main\n' "$VM_MIRROR" "$VM_RELEASE" "$VM_MIRROR" "$VM_RELEASE" \
        >"$root/etc/apt/sources.list"
    # Services are for the machine to start.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    # The disk's driver is all that the kernel lacks to find its root.
    mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/usr/share/initramfs-tools/modules.d"
    printf 'MODULES=list\nCOMPRESS=zstd\n' >"$root/etc/initramfs-tools/conf.d/pvecri"
    printf 'virtio_pci\nvirtio_blk\next4\n' >"$root/usr/share/initramfs-tools/modules.d/pvecri"
    in_vm_root "$root" apt-get -q update
    in_vm_root "$root" apt-get -q -y -o APT::Keep-Downloaded-Packages=true install --no-install-recommends \
        "${VM_PACKAGES[@]}" "${VM_ROLE_PACKAGES[@]}"
    rm "$root/usr/sbin/policy-rc.d"
    configure_vm_root "$root" "$2"
    printf '%s %s\n' "$VM_HOST_KEY_NAME" "$(cut -d' ' -f1,2 "$root/etc/ssh/ssh_host_ed25519_key.pub")" \
        >"$1/known_hosts"
    umount "$root/var/cache/apt/archives" "$root/sys" "$root/proc"
}

# usage: in_vm_root ROOT COMMAND...
in_vm_root() {
    local root="$1"
    shift
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root DEBIAN_FRONTEND=noninteractive \
        chroot "$root" "$@" </dev/null
}

# usage: configure_vm_root ROOT PUBLIC_KEY_FILE
configure_vm_root() {
    local root="$1" unit
    echo pvecri-vm >"$root/etc/hostname"
    printf '127.0.0.1 localhost pvecri-vm\n::1 localhost\n' >"$root/etc/hosts"
    printf '/dev/vda / ext4 errors=remount-ro,noatime 0 0\n' >"$root/etc/fstab"
    # The emulator's own network: addresses of its documentation, always the same.
    printf '[Match]\nName=en* eth*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\nDNS=10.0.2.3\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' \
        >"$root/etc/systemd/network/10-outside.network"
    rm -f "$root/etc/resolv.conf"
    echo nameserver 10.0.2.3 >"$root/etc/resolv.conf"
    install -d -m 700 "$root/root/.ssh"
    install -m 600 "$2" "$root/root/.ssh/authorized_keys"
    printf 'UseDNS no\nPasswordAuthentication no\n' >"$root/etc/ssh/sshd_config.d/pvecri.conf"
    # What a first boot would do is done, or is not needed: presets, ldconfig, the catalogues of udev and the journal.
    echo 7d0ad1f4c1fb4d5c8f2a8c1b0a6e4f57 >"$root/etc/machine-id"
    touch "$root/etc/.updated" "$root/var/.updated"
    # Profiles of a hundred desktop programs take half a minute to compile; those of container programs stay.
    find "$root/etc/apparmor.d" -maxdepth 1 -type f -not -name crun -not -name runc -not -name podman \
        -not -name lxc-containers -not -name "usr.bin.lxc-*" -delete
    # A machine of a few minutes wants neither login prompts nor what a node does by night, nor lxc's own bridge.
    in_vm_root "$root" systemctl enable -q systemd-networkd ssh
    in_vm_root "$root" systemctl disable -q systemd-networkd-wait-online || true
    for unit in getty@tty1.service serial-getty@ttyS0.service apt-daily.timer apt-daily-upgrade.timer \
        dpkg-db-backup.timer fstrim.timer e2scrub_all.timer e2scrub_reap.service lxc-net.service lxc.service; do
        ln -sfn /dev/null "$root/etc/systemd/system/$unit"
    done
}
