# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find and remove what containers and pods of an endpoint leave on a host when the endpoint itself goes.

All of it works without the endpoint: with processes, mounts, control groups, interfaces and files alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import json
import os
import shlex
import signal
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, MissingDependency
from ansible_collections.pvecri.runtime.plugins.module_utils.files import remove_tree

CGROUPS = "/sys/fs/cgroup"
ADDRESSES = "/var/lib/cni/networks"
APPARMOR = "/sys/kernel/security/apparmor"
#: The endpoint loads one for its containers; a number follows.
_PROFILE = "pvecri-default-"
_HOST_PORTS = "CNI-HOSTPORT-"
#: What conmon runs for a container of Proxmox LXC; python's own options stand before it.
_HOLDER = "/module_utils/lxc/holder.py"
_HOLDER_WITHIN = 5
_END_S = 10.0
_CABLES_S = 3.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What belongs to the endpoint."""

    state_dir: str
    run_dir: str
    #: Bridge of the pods' network and that network's name, "" for none of ours.
    bridge: str = ""
    network: str = ""
    #: Records, images and bundles stay.
    keep_state: bool = False


@dataclasses.dataclass(slots=True)
class Remains:
    """What there is."""

    #: Root directory of crun and name.
    containers: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    #: Monitors with the name of their container, and pause processes.
    processes: dict[int, str] = dataclasses.field(default_factory=dict)
    mounts: list[str] = dataclasses.field(default_factory=list)
    slices: list[str] = dataclasses.field(default_factory=list)
    cgroups: list[str] = dataclasses.field(default_factory=list)
    directories: list[str] = dataclasses.field(default_factory=list)
    bridge: str = ""
    #: Profiles of AppArmor.
    profiles: list[str] = dataclasses.field(default_factory=list)
    #: Pods whose namespaces are there.
    pods: list[str] = dataclasses.field(default_factory=list)

    def running(self) -> list[str]:
        """Return one text for each container and pod that somebody may need."""
        return [
            *(f"container {name}" for name in sorted(set(self.processes.values()) - {""})),
            *(f"pod {name}" for name in self.pods),
        ]

    def describe(self) -> list[str]:
        """Return one line for each thing."""
        return [
            *(f"container {name}" for _unused, name in self.containers),
            *(f"process {pid}" for pid in sorted(self.processes)),
            *(f"mount {path}" for path in self.mounts),
            *(f"control group {path}" for path in [*self.slices, *self.cgroups]),
            *([f"bridge {self.bridge}"] if self.bridge else []),
            *(f"AppArmor profile {name}" for name in self.profiles),
            *self.directories,
        ]


def find(place: Place, runner: Runner) -> Remains:
    """Look at a host."""
    tops = (place.run_dir, place.state_dir)
    directories = [place.run_dir] if place.keep_state else list(tops)
    if place.network:
        directories.append(os.path.join(ADDRESSES, place.network))
    mounts = [path for top in tops if os.path.isdir(top) for path in _mounts(top)]
    return Remains(
        pods=sorted(
            path.split("/")[-3]
            for path in mounts
            if path.startswith(f"{place.run_dir}/sandboxes/") and path.endswith("/ns/net")
        ),
        containers=_containers(place.run_dir),
        processes=_processes(tops),
        mounts=mounts,
        slices=_slices(),
        cgroups=_cgroups(),
        directories=[path for path in directories if os.path.isdir(path) and _holds_something(path)],
        bridge=place.bridge if _is_bridge(place.bridge, runner) and not _ports(place.bridge, runner) else "",
        profiles=_profiles(),
    )


def remove(place: Place, runner: Runner) -> None:
    """Remove all of it; raises CoreError that names what resists."""
    found = find(place, runner)
    for root, name in found.containers:
        runner.run(["crun", "--root", root, "delete", "--force", name], check=False)
    _kill(place)
    if found.slices:
        runner.run(["systemctl", "stop", "--", *found.slices], check=False)
    for path in sorted(found.mounts, key=len, reverse=True):
        with contextlib.suppress(OSError):
            syscalls.umount2(path, syscalls.MNT_DETACH)
    for path in _cgroups():
        _remove_cgroup(path)
    for path in found.directories:
        _remove_directory(path)
    if place.bridge:
        _remove_bridge(place.bridge, runner)
    remove_host_ports(runner, place.network)
    for name in found.profiles:
        _unload_profile(name)
    _remove_empty(ADDRESSES, os.path.dirname(ADDRESSES))
    left = find(place, runner).describe()
    if left:
        raise CoreError(
            f"it could not all be removed: {', '.join(left)}",
            hint="See what uses it (lsof, fuser -vm), end that, and run the role again",
        )


def _remove_bridge(name: str, runner: Runner) -> None:
    """Remove a bridge, unless something is plugged in that does not go with the pods."""
    deadline = time.monotonic() + _CABLES_S
    # The kernel takes pods' ends of the cables away some time after their namespaces.
    while _is_bridge(name, runner):
        if not _ports(name, runner):
            runner.run(["ip", "link", "delete", "dev", name], check=False)
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def remove_host_ports(runner: Runner, network: str) -> None:
    """Remove forwarded ports of a network's pods, and portmap's own chains if those were the last."""
    for program in ("iptables", "ip6tables"):
        if not any(os.access(f"{folder}/{program}", os.X_OK) for folder in ("/usr/sbin", "/sbin")):
            continue
        said = runner.run([program, "--wait", "30", "-t", "nat", "-S"], check=False)
        for argv in host_port_argvs(said.stdout if said.rc == 0 else "", network):
            runner.run([program, "--wait", "30", "-t", "nat", *argv], check=False)


def host_port_argvs(rules: str, network: str) -> list[list[str]]:
    """Return arguments of iptables that undo what portmap did in a table that is listed.

    That are the ports of one network's pods, and all its chains when no port of anybody is left; it makes
    them again when it needs them.
    """
    lines = [words for line in rules.splitlines() if (words := _words(line))]
    forwarded = [words for words in lines if words[:2] == ["-A", f"{_HOST_PORTS}DNAT"]]
    ours = [words for words in forwarded if network and f'name: "{network}" ' in " ".join(words)]
    argvs = [["-D", *words[1:]] for words in ours]
    chains = [words[-1] for words in ours]
    if len(ours) == len(forwarded):
        base = [words[1] for words in lines if words[0] == "-N" and words[1].startswith(_HOST_PORTS)]
        argvs += [
            ["-D", *words[1:]]
            for words in lines
            if words[0] == "-A" and words[-1] in base and words[1] not in base + chains
        ]
        chains += base
    return [*argvs, *(["-F", chain] for chain in chains), *(["-X", chain] for chain in chains)]


def _words(line: str) -> list[str]:
    """Split a rule as iptables lists it; comments are quoted, with backslashes before quotes in them."""
    try:
        return shlex.split(line)
    except ValueError:
        return []


def _containers(run_dir: str) -> list[tuple[str, str]]:
    return [
        (os.path.dirname(path), os.path.basename(path))
        for path in sorted(glob.glob(os.path.join(glob.escape(run_dir), "crun", "*", "*")))
        if os.path.isdir(path)
    ]


def _processes(tops: t.Sequence[str]) -> dict[int, str]:
    """Return monitors, holders of LXC pods and pause processes.

    Nothing else of pods runs programs or names paths of ours.
    """
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as stream:
                words = [os.fsdecode(word) for word in stream.read().split(b"\0")]
            program = os.readlink(f"/proc/{name}/exe")
        except OSError:
            continue
        names_ours = any(_is_below(word, top) for word in words for top in tops)
        is_monitor = names_ours and os.path.basename(words[0]) == "conmon"
        is_holder = names_ours and any(word.endswith(_HOLDER) for word in words[1:_HOLDER_WITHIN])
        if is_monitor or is_holder or any(_is_below(program, os.path.join(top, "pause")) for top in tops):
            names = [word.partition("=")[2] for word in words if word.startswith("--cid=")]
            found[int(name)] = names[0] if is_monitor and names else ""
    return found


def _kill(place: Place) -> None:
    deadline = time.monotonic() + _END_S
    while pids := _processes((place.run_dir, place.state_dir)):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def _mounts(top: str) -> list[str]:
    return [path for path in syscalls.mounts_below(top) if path != top]


def _slices() -> list[str]:
    """Return the slices of pods without a parent of their own."""
    found = glob.glob(f"{CGROUPS}/pvecri*.slice") + glob.glob(f"{CGROUPS}/*/pvecri*.slice")
    found += glob.glob(f"{CGROUPS}/pvecri.slice/pvecri-*.slice")
    return sorted({os.path.basename(path) for path in found})


def _profiles() -> list[str]:
    """Return what the kernel has of the endpoint's profiles of AppArmor."""
    try:
        with open(os.path.join(APPARMOR, "profiles"), encoding="utf-8") as stream:
            names = [line.split(" ")[0] for line in stream]
    except OSError:
        return []
    return sorted(name for name in names if name.startswith(_PROFILE) and name[len(_PROFILE) :].isdigit())


def _unload_profile(name: str) -> None:
    """Have the kernel forget a profile, as apparmor_parser does; one that resists is found afterwards."""
    with contextlib.suppress(OSError), open(os.path.join(APPARMOR, ".remove"), "wb", buffering=0) as stream:
        stream.write(name.encode())


def _cgroups() -> list[str]:
    """Return control groups that systemd does not know: of monitors, and of pods with the driver cgroupfs."""
    found = glob.glob(f"{CGROUPS}/pvecri*") + glob.glob(f"{CGROUPS}/*/pvecri*")
    return sorted(
        path
        for path in found
        if os.path.isdir(path) and not path.endswith((".slice", ".service", ".timer", ".scope"))
    )


def _remove_cgroup(path: str) -> None:
    for folder, _folders, _files in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _remove_directory(path: str) -> None:
    """Remove a directory, or what is in it if it is a mount point itself."""
    if not syscalls.is_mount_point(path):
        remove_tree(path)
        return
    with os.scandir(path) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                remove_tree(entry.path)
            else:
                os.unlink(entry.path)


def _holds_something(path: str) -> bool:
    # An empty file system that somebody mounted there stays.
    return bool(os.listdir(path)) or not syscalls.is_mount_point(path)


def _remove_empty(*paths: str) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _is_bridge(name: str, runner: Runner) -> bool:
    return bool(name) and name in _links(runner, "type", "bridge")


def _ports(bridge: str, runner: Runner) -> list[str]:
    return _links(runner, "master", bridge)


def _links(runner: Runner, *which: str) -> list[str]:
    # Asked of the kernel by netlink: in a container /sys/class/net can show another network namespace.
    try:
        said = runner.run(["ip", "-json", "link", "show", *which], check=False)
    except MissingDependency:
        return []
    links = json.loads(said.stdout or "[]") if said.rc == 0 else []
    return [link["ifname"] for link in links if "ifname" in link]


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}/")
