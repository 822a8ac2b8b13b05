# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what keeps a host from becoming a CRI node, and what to do about it: pure functions of `facts`.

Each check has a name, by which a play can turn it into a warning.
Python 3.8 is enough, see `facts`.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

Facts = t.Dict[str, t.Any]  # noqa: UP006 - read when this is imported

DEBIAN = ("12", "13")
PYTHON = (3, 11)
#: overlayfs with id mapped lower layers, cgroup.kill, mount_setattr(2), pidfd_open(2).
KERNEL = (5, 19)
MACHINES = ("x86_64", "aarch64")
CONTROLLERS = {"v2": ("cpu", "memory", "pids", "io"), "v1": ("cpu", "memory", "pids", "blkio")}
_NETWORK_FILESYSTEMS = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "ceph",
    "glusterfs",
    "fuse.glusterfs",
    "fuse.sshfs",
)
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

Found = t.Iterator[t.Tuple[str, str]]  # noqa: UP006


def problems(facts: Facts, wanted: Facts) -> list[dict[str, str]]:
    """Return everything that is wrong: ``{check, problem, remedy}``, in the order of the checks."""
    return [
        {"check": name, "problem": problem, "remedy": remedy}
        for name, check in CHECKS.items()
        for problem, remedy in check(facts, wanted)
    ]


def distribution(facts: Facts, _wanted: Facts) -> Found:
    """Want a Debian that has the packages."""
    if facts["distribution"] != "debian" or facts["distribution_version"] not in DEBIAN:
        yield (
            f"this is {facts['distribution_name']}",
            "Use a host with Debian 12 or 13, or with Proxmox VE 8 or 9, which are made of them",
        )


def architecture(facts: Facts, _wanted: Facts) -> Found:
    """Want a processor for which all of it was tried."""
    if facts["machine"] not in MACHINES:
        yield f"the processor is {facts['machine']}", f"Use a host with one of {', '.join(MACHINES)}"


def kernel(facts: Facts, _wanted: Facts) -> Found:
    """Want a kernel that can do what containers need."""
    found = tuple(int(part) for part in re.findall(r"\d+", facts["kernel"])[:2])
    if found < KERNEL:
        yield (
            f"the kernel is {facts['kernel']}, {KERNEL[0]}.{KERNEL[1]} is needed",
            "Boot the kernel of Debian 12 (package linux-image-amd64), or a newer one",
        )


def init(facts: Facts, _wanted: Facts) -> Found:
    """Want systemd, which runs the daemon."""
    if not facts["systemd"]:
        yield (
            f"the first process is {facts['init'] or 'unknown'}, not systemd",
            "Install systemd-sysv and restart the host",
        )


def python(facts: Facts, _wanted: Facts) -> Found:
    """Want the Python that the daemon is written for."""
    if tuple(map(int, facts["python"].split(".")[:2])) < PYTHON:
        yield (
            f"Python is {facts['python']}, {PYTHON[0]}.{PYTHON[1]} is needed",
            "Upgrade the host, or let ansible_python_interpreter name the system's own /usr/bin/python3",
        )


def privileges(facts: Facts, _wanted: Facts) -> Found:
    """Want to be root."""
    if not facts["is_root"]:
        yield "the play does not run as root", "Set become: true, or log in as root"


def cgroups(facts: Facts, _wanted: Facts) -> Found:
    """Want one hierarchy of control groups."""
    mode = facts["cgroups"]["mode"]
    if mode in {"none", "hybrid"}:
        what = "no control groups are mounted"
        if mode == "hybrid":
            what = "control groups are mounted in both versions, each with controllers"
        yield (
            what,
            "Take systemd.unified_cgroup_hierarchy out of the kernel's command line and restart the host",
        )


def controllers(facts: Facts, _wanted: Facts) -> Found:
    """Want what limits and statistics need."""
    mode, there = facts["cgroups"]["mode"], facts["cgroups"]["controllers"]
    missing = [name for name in CONTROLLERS.get(mode, ()) if name not in there]
    if missing:
        yield (
            f"control groups ({mode}) lack the controllers {', '.join(missing)}: without them pods have no "
            "limits and no statistics",
            "Take cgroup_disable out of the kernel's command line; in a container let its host delegate them",
        )


def overlayfs(facts: Facts, wanted: Facts) -> Found:
    """Want a file system on which overlays work."""
    kind = facts["state_filesystem"]
    if kind in _NETWORK_FILESYSTEMS:
        yield (
            f"{wanted['state_dir']} would lie on {kind}, which several hosts can write to",
            f"Mount a local file system (ext4, xfs, zfs) at {wanted['state_dir']}",
        )
    elif facts["overlay"]:
        yield (
            f"overlayfs does not work on the {kind} below {wanted['state_dir']}: {facts['overlay']}",
            f"Mount ext4, xfs or zfs (2.2 or newer) at {wanted['state_dir']}, and allow the module overlay",
        )


def user_namespaces(facts: Facts, _wanted: Facts) -> Found:
    """Want what pods with hostUsers: false need."""
    if facts["user_namespaces"] in {"", "0"}:
        yield (
            "user namespaces are switched off, pods with hostUsers: false could not run",
            "Set the sysctl user.max_user_namespaces to what the kernel has by default, such as 63000",
        )


def runtimes(facts: Facts, wanted: Facts) -> Found:
    """Want to be the only runtime of kubelet's."""
    for name in wanted["other_runtimes"]:
        unit = facts["units"].get(name)
        if unit and (unit["active"] or unit["enabled"]):
            what = " and ".join(word for word in ("active", "enabled") if unit[word])
            yield (
                f"{name} is {what}: two runtimes fight over pod networks and clean up each other's",
                f"Drain the node and run 'systemctl disable --now {name}', or let "
                "cri_endpoint_preflight_ignore name 'runtimes' if it does not serve kubelet",
            )


def kubelet(facts: Facts, wanted: Facts) -> Found:
    """Want that no kubelet of this host uses another runtime."""
    ours = {wanted["socket"], f"unix://{wanted['socket']}"}
    for endpoint in facts["kubelet"]:
        if endpoint not in ours and not wanted["kubelet_managed"]:
            yield (
                f"kubelet is told to use {endpoint}",
                f"Drain the node, then give kubelet --container-runtime-endpoint=unix://{wanted['socket']}, "
                "or let the role do it (see the guide about Kubernetes)",
            )


def cni(facts: Facts, wanted: Facts) -> Found:
    """Want that our network is the one that counts."""
    ours = wanted["cni_file"]
    earlier = [name for name in facts["cni"] if ours and name < ours]
    if earlier:
        yield (
            f"{', '.join(earlier)} in {wanted['cni_dir']} would count before {ours}",
            "Move it away, or set cri_endpoint_network to none if a cluster's network plugin keeps it",
        )


def pod_networks(facts: Facts, wanted: Facts) -> Found:
    """Want networks for pods that the host itself is not in: it would lose its way to its neighbours."""
    for cidr in wanted["pod_cidrs"]:
        try:
            pods = ipaddress.ip_network(cidr, strict=False)
        except ValueError as exc:
            yield f"{cidr!r} is no network for pods: {exc}", "Write it as in 10.124.0.0/16"
            continue
        for link in facts["links"]:
            other = ipaddress.ip_network(link["network"])
            if (
                link["interface"] != wanted["bridge"]
                and pods.version == other.version
                and pods.overlaps(other)
            ):
                yield (
                    f"the pods' network {cidr} and {other}, which the host is in with {link['interface']}, "
                    "overlap",
                    "Choose another one in cri_endpoint_pod_cidrs",
                )


def space(facts: Facts, wanted: Facts) -> Found:
    """Want space for images and for the program."""
    for key, path, least in (
        ("state_free_mib", wanted["state_dir"], wanted["state_free_mib"]),
        ("usr_free_mib", "/usr", wanted["usr_free_mib"]),
    ):
        if facts[key] < least:
            yield (
                f"{path} has {facts[key]} MiB free, {least} MiB are needed",
                "Free space or mount a larger file system there, see cri_endpoint_min_free_mib",
            )


def host_name(facts: Facts, _wanted: Facts) -> Found:
    """Want a name that can be a node's."""
    name = facts["host_name"]
    parts = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(part) for part in parts) or name == "localhost":
        yield (
            f"the host's name '{name}' cannot be that of a node (RFC 1123: a-z, 0-9, - and . between parts)",
            "Give it another one with hostnamectl set-hostname, and in /etc/hosts",
        )
    elif not facts["addresses"]:
        yield (
            f"the host's own name '{name}' has no address",
            "Add a line with its address and name to /etc/hosts, or to DNS",
        )


def clock(facts: Facts, wanted: Facts) -> Found:
    """Want the right time: certificates and the order of events depend on it."""
    if facts["ntp"] or wanted["time"] is None:
        return
    skew = facts["time"] - wanted["time"]
    if abs(skew) > wanted["max_clock_skew_s"]:
        yield (
            f"no service keeps the clock right, and it is {abs(skew):.0f} s "
            f"{'ahead of' if skew > 0 else 'behind'} the controller's",
            "Install chrony or systemd-timesyncd, and wait until timedatectl says that it is synchronized",
        )


def ports(facts: Facts, wanted: Facts) -> Found:
    """Want that nobody else has the ports that were chosen."""
    unit = facts["units"].get(wanted["unit"])
    for port in wanted["ports"]:
        listener = facts["listeners"].get(str(port["port"]))
        if listener and not (unit and unit["pid"] and unit["pid"] == listener["pid"]):
            yield (
                f"TCP port {port['port']}, chosen for {port['what']}, is taken by {listener['name']}",
                "Stop that, or choose another port in cri_endpoint_config",
            )


def files(facts: Facts, wanted: Facts) -> Found:
    """Want no file of somebody else where ours belong."""
    for path, head in sorted(facts["heads"].items()):
        if wanted["marker"] not in head:
            yield (
                f"{path} is there and was not made by this role",
                "Move it away; what of it is still needed, the role's variables can say",
            )


CHECKS: t.Dict[str, t.Callable[[Facts, Facts], Found]] = {  # noqa: UP006
    "distribution": distribution,
    "architecture": architecture,
    "kernel": kernel,
    "init": init,
    "python": python,
    "privileges": privileges,
    "cgroups": cgroups,
    "controllers": controllers,
    "overlayfs": overlayfs,
    "user_namespaces": user_namespaces,
    "runtimes": runtimes,
    "kubelet": kubelet,
    "cni": cni,
    "pod_networks": pod_networks,
    "space": space,
    "host_name": host_name,
    "clock": clock,
    "ports": ports,
    "files": files,
}
