# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe the options of one LXC container, for a task and for the entries of its list.

Both are the same options with the same texts, so the list's suboptions are made
from the text of the options instead of being written twice.
"""

from __future__ import annotations

import textwrap

_OPTIONS = r"""
vmid:
  description:
    - Id of the container in the cluster, from V(100) to V(999999999).
    - Without it the container is found by O(hostname), and a new one gets an id from O(vmid_range).
  type: int
vmid_range:
  description:
    - Ids from which one is chosen for a new container that has no O(vmid). Default is V(100) to V(9999).
    - The choice begins at an id derived from O(hostname), so that two plays that create the same
      container at once, or a play that is run again after it was killed, meet at one id and make one
      container.
  type: dict
  suboptions:
    first:
      description: Lowest id.
      type: int
      required: true
    last:
      description: Highest id.
      type: int
      required: true
hostname:
  description:
    - Host name. Together with O(vmid) it is set; without O(vmid) it names the container.
    - When several containers have the name, the one made by this collection is meant; if that leaves more
      than one, the task fails and lists them.
  type: str
node:
  description:
    - Node that the container is to be on. An existing container on another node is migrated; see
      O(migrate).
    - A new container without O(node) goes to the node that keeps the largest share of its scarcest
      resource (memory, CPU, storage space) free; RV(placement) says why. Clones stay on the node of the
      original.
  type: str
state:
  description:
    - V(present) creates or updates the container and leaves its power state alone. This is the default.
    - V(started), V(stopped) and V(restarted) do the same, and start, stop or restart it then.
    - V(template) stops it and converts it to a template, which cannot be undone.
    - V(absent) stops and removes it with its volumes. Host directories that are mounted into it stay.
    - Every state but V(absent) creates a missing container when O(ostemplate), O(image) or O(clone) says
      from what, and fails without.
  type: str
  choices: [present, started, stopped, restarted, absent, template]
ostemplate:
  description:
    - Volume id of the template that a new container is made from, such as
      V(local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst). A V(.tar) file is taken for an OCI image.
    - A name such as V(debian-12-standard) stands for the newest template of that name that
      O(image_storage) has, or else for the newest of Proxmox's list (C(pveam available)), which is
      downloaded there.
    - Only used for creation. O(ostemplate), O(image) and O(clone) exclude each other.
  type: str
image:
  description:
    - OCI image that a new container is made from, as a reference (V(docker.io/library/nginx:1.27)), any
      of skopeo's transports (V(oci:/srv/layout:tag)), or the path of an OCI archive on the host that runs
      the task.
    - It is pulled with skopeo on that host and put on O(image_storage), once for each digest. Proxmox VE
      9.1 or later is needed. Only unprivileged containers can be made of OCI images.
    - Only used for creation.
  type: str
image_storage:
  description:
    - Storage with content V(vztmpl) for O(image), and for O(ostemplate) by name. Default is V(local).
  type: str
image_authfile:
  description: File with registry credentials (C(containers-auth.json(5))) on the host that runs the task.
    If not set, those that skopeo looks for.
  type: path
image_tls_verify:
  description: Whether the registry's certificate is checked. Default is V(true).
  type: bool
clone:
  description:
    - Id or host name of the container that a new container is cloned from.
    - Only used for creation. Other options are applied to the clone afterwards.
  type: str
clone_type:
  description:
    - V(full) copies all volumes. V(linked) shares those of a template. V(opportunistic), the default,
      makes a linked clone of a template and a full one of anything else, or when O(storage) is named.
  type: str
  choices: [full, linked, opportunistic]
clone_snapshot:
  description: Snapshot of the original to clone from; a running container can only be cloned from one.
  type: str
storage:
  description:
    - Storage for volumes that name none, and the target of a full clone.
    - Without it a new container uses the storage of the node that takes containers and has most space
      free.
  type: str
password:
  description: Password of the container's root, at least 5 characters. Only used for creation.
  type: str
ssh_public_keys:
  description: Public SSH keys for the container's root. Only used for creation.
  type: list
  elements: str
  aliases: [pubkey]
unprivileged:
  description:
    - Whether the container runs in a user namespace of its own. New containers do unless this is
      V(false).
    - Proxmox VE cannot change it; a task that names another value than an existing container has fails.
  type: bool
ignore_unpack_errors:
  description: Whether errors while the template is unpacked are ignored. Default is V(false).
  type: bool
bwlimit:
  description:
    - Limit in KiB/s for unpacking, cloning, moving and migrating volumes. V(0) is no limit. Default is
      the limit of the datacenter or storage.
  type: int
description:
  description: Notes, in Markdown. An empty string removes them.
  type: str
tags:
  description:
    - Tags. They are added to those that the container has unless O(comparisons.tags=strict).
    - Every container of this collection has the tag C(pvecri) as well. Tags that start with C(pvecri-)
      are reserved.
  type: list
  elements: str
onboot:
  description: Whether the container is started when its node boots. Default in Proxmox VE is V(false).
  type: bool
protection:
  description:
    - Whether the container and its disks are protected against removal. Default in Proxmox VE is
      V(false).
    - What protection forbids fails, unless the same task sets this to V(false).
  type: bool
startup:
  description:
    - Order and delays at boot and shutdown, as V(order=1,up=30,down=60) or as a dictionary with these
      keys, the delays in seconds.
  type: raw
cores:
  description: Number of CPU cores that the container sees. Default in Proxmox VE is all of the node.
  type: int
cpulimit:
  description: CPU time in cores that it can use at most, such as V(0.5). V(0), the default, is no limit.
  type: float
  aliases: [cpus]
cpuunits:
  description: Its weight when CPU time is scarce. Default in Proxmox VE is V(100).
  type: int
memory:
  description: Memory in MiB, at least 16. Default in Proxmox VE is V(512).
  type: int
swap:
  description: Swap in MiB. Default in Proxmox VE is V(512).
  type: int
arch:
  description: Architecture. Default is V(amd64), or the template's.
  type: str
  choices: [amd64, i386, arm64, armhf, riscv32, riscv64]
ostype:
  description:
    - Distribution, by which Proxmox VE sets the container up. Detected from the template by default.
  type: str
  choices: [debian, devuan, ubuntu, centos, fedora, opensuse, archlinux, alpine, gentoo, nixos, unmanaged]
cmode:
  description: What the console attaches to. Default in Proxmox VE is V(tty).
  type: str
  choices: [tty, console, shell]
console:
  description: Whether the container has a console device. Default in Proxmox VE is V(true).
  type: bool
tty:
  description: Number of terminals, V(0) to V(6). Default in Proxmox VE is V(2).
  type: int
debug:
  description:
    - Whether LXC logs at debug level when it starts the container. Default in Proxmox VE is V(false).
  type: bool
timezone:
  description: Time zone such as V(Europe/Vienna), or V(host) for that of the node. Not set by default.
  type: str
nameserver:
  description: Addresses of DNS servers, in order. Default is what the node uses.
  type: list
  elements: str
searchdomain:
  description: DNS search domains, in order. Default is what the node uses.
  type: list
  elements: str
hookscript:
  description:
    - Volume id of a script that is run at stages of the container's life. Only C(root@pam) may set it.
  type: str
rootfs:
  description:
    - The root file system, as V(local-lvm:8) (storage and size in GiB), as a property string, or as a
      dictionary with C(storage), C(size) (in GiB, or with a unit such as V(512M)), C(volume) for an
      existing volume, and C(acl), C(mountoptions), C(quota), C(replicate), C(ro), C(shared).
    - A larger size grows an existing disk; a smaller one fails. Another storage moves the volume of a
      stopped container and fails for a running one. Default for new containers is 4 GiB.
  type: raw
  aliases: [disk]
mounts:
  description:
    - Mount points V(mp0) to V(mp255), each a property string such as V(local-lvm:8,mp=/data) or a
      dictionary with C(mp) (path in the container), the keys of O(rootfs), C(backup) and C(keepattrs).
      C(volume) may also be a directory (bind mount) or device of the node, which only C(root@pam) may
      set.
    - An entry that is null is removed; its volume stays as an unused one, and naming that (V(unused0)) in
      O(unset) destroys it.
  type: dict
networks:
  description:
    - Interfaces V(net0) to V(net31), each a property string such as V(name=eth0,bridge=vmbr0,ip=dhcp) or
      a dictionary with C(name), C(bridge), C(ip), C(gw), C(ip6), C(gw6), C(firewall), C(hwaddr), C(mtu),
      C(rate) (MB/s), C(tag), C(trunks), C(link_down), C(host-managed).
    - Within an interface that is named all keys are compared; an address that Proxmox VE gave (C(hwaddr))
      stays. An interface that is null is removed.
  type: dict
  aliases: [netif]
devices:
  description:
    - Devices V(dev0) to V(dev255) of the node, each a property string such as V(/dev/ttyUSB0,mode=0660)
      or a dictionary with C(path), C(mode), C(uid), C(gid), C(deny-write). Only C(root@pam) may set them.
  type: dict
features:
  description:
    - Features as a dictionary, a property string or a list of V(key=value) - C(nesting), C(keyctl),
      C(fuse), C(mknod), C(force_rw_sys) as booleans, C(mount) as a list of file system types.
    - Only C(root@pam) may set other features than C(nesting), or any on a privileged container.
  type: raw
env:
  description:
    - Environment variables of the first process. They are added to those that the image or the container
      has; a variable that is null is removed. Line breaks are refused.
    - Values are shown in diffs, and Proxmox VE shows them to whoever has C(VM.Audit) and
      C(VM.Config.Options) - pass secrets as files.
  type: dict
entrypoint:
  description:
    - Command of the first process, as text or as a list. Default is that of the image, or C(/sbin/init).
  type: raw
lxc:
  description:
    - Raw keys of C(lxc.container.conf(5)) with a value or a list of values, such as V(lxc.cap.drop). The
      keys that are named get exactly these values; a key that is null is removed.
    - The API does not take them. They are written into C(/etc/pve/lxc/VMID.conf), so the task must run as
      root on the container's own node; elsewhere it fails.
    - Proxmox VE drops keys that it does not know, which fails the task.
  type: dict
ha:
  description: Membership in the cluster's high availability.
  type: dict
  suboptions:
    managed:
      description: Whether the container is a resource of high availability.
      type: bool
      default: true
    state:
      description:
        - Requested state. A new resource gets the state that the container has or O(state) asks for.
      type: str
      choices: [started, stopped, disabled, ignored]
    max_restart:
      description: Number of tries to restart it on its node. Default in Proxmox VE is V(1).
      type: int
    max_relocate:
      description: Number of tries to start it on another node. Default in Proxmox VE is V(1).
      type: int
    group:
      description: Group of nodes, up to Proxmox VE 8.
      type: str
    comment:
      description: Text shown with the resource.
      type: str
    failback:
      description:
        - Whether it returns to the node with the highest priority. Default in Proxmox VE is V(true).
      type: bool
pool:
  description: Resource pool, which must exist. An empty string takes the container out of its pool.
  type: str
unset:
  description:
    - Configuration keys to reset to the default of Proxmox VE, such as V(cpulimit) or V(description), and
      entries to remove, such as V(net1) or V(unused0).
  type: list
  elements: str
comparisons:
  description:
    - How collections of entries are compared. V(allow_more_present) compares the entries that are named
      and keeps the others, V(strict) removes the others, V(ignore) uses the option for creation only.
    - Default is V(allow_more_present), and V(strict) for O(comparisons.features).
  type: dict
  suboptions:
    networks:
      description: For O(networks).
      type: str
      choices: [strict, allow_more_present, ignore]
    mounts:
      description: For O(mounts).
      type: str
      choices: [strict, allow_more_present, ignore]
    devices:
      description: For O(devices).
      type: str
      choices: [strict, allow_more_present, ignore]
    features:
      description: For O(features).
      type: str
      choices: [strict, allow_more_present, ignore]
    tags:
      description: For O(tags).
      type: str
      choices: [strict, allow_more_present, ignore]
    env:
      description: For O(env).
      type: str
      choices: [strict, allow_more_present, ignore]
adopt:
  description:
    - Whether a container that was not made by this collection (that lacks the tag C(pvecri)) may be
      changed or removed. It gets the tag then. Default is V(false), and a task that would have to change
      such a container fails.
    - A container of a Kubernetes pod (tag C(pvecri-cri)) needs O(vmid) as well.
  type: bool
migrate:
  description:
    - Whether a container on another node than O(node) is migrated. A running one is stopped and started
      again. Default is V(true); with V(false) O(node) matters for creation only.
  type: bool
force:
  description:
    - Whether a container that does not stop within O(shutdown_timeout) is killed. Default is V(false),
      and the task fails then. With O(shutdown_timeout=0) it is killed at once.
  type: bool
apply_pending:
  description:
    - Whether a running container is restarted when changes wait for its next start
      (RV(container.pending)). Default is V(false).
    - A change that waits counts as made, also where Proxmox VE could not apply it to the running container,
      such as an interface that could not be plugged in. The run that sent it fails then with what Proxmox VE
      said, and later ones find nothing to change. Only this option, which costs one more request for each
      container, looks for what waits.
    - Check mode does not foresee this restart, as the server decides what must wait.
  type: bool
purge:
  description:
    - Whether a container that is removed is also removed from backup and replication jobs and from high
      availability. Default is V(true).
  type: bool
destroy_unreferenced_disks:
  description:
    - Whether volumes with the container's id that its configuration does not name are destroyed with it.
      Default is V(false).
  type: bool
shutdown_timeout:
  description: Seconds that the container may take to stop. Default is V(60).
  type: int
lock_timeout:
  description: Seconds to wait for a lock (a backup, a migration) to go away. Default is V(60).
  type: int
"""


def _documentation() -> str:
    """Return the options, and once more as suboptions of the list."""
    entries = """
containers:
  description:
    - Many containers, each with the options of one. What an entry leaves out is taken from the task.
    - Two entries must not name the same container. A container that fails stops no other; the task fails
      when all are done, and RV(containers) tells which.
  type: list
  elements: dict
  suboptions:
""" + textwrap.indent(_OPTIONS.lstrip("\n"), "    ")
    return "options:\n" + textwrap.indent(_OPTIONS + entries, "  ")


class ModuleDocFragment:
    # Annotated: ansible-test's yamllint reads plain assignments and takes each for a literal.
    DOCUMENTATION: str = _documentation()
