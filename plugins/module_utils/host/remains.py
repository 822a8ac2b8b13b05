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
import os
import signal
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.files import remove_tree

CGROUPS = "/sys/fs/cgroup"
INTERFACES = "/sys/class/net"
ADDRESSES = "/var/lib/cni/networks"
_HOST_PORTS = "CNI-HOSTPORT-"
_END_S = 10.0


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
    #: Monitors and pause processes, with the container of each.
    processes: dict[int, str] = dataclasses.field(default_factory=dict)
    mounts: list[str] = dataclasses.field(default_factory=list)
    slices: list[str] = dataclasses.field(default_factory=list)
    cgroups: list[str] = dataclasses.field(default_factory=list)
    directories: list[str] = dataclasses.field(default_factory=list)
    bridge: str = ""

    def describe(self) -> list[str]:
        """Return one line for each thing."""
        return [
            *(f"container {name}" for _unused, name in self.containers),
            *(f"process {pid}" for pid in sorted(self.processes)),
            *(f"mount {path}" for path in self.mounts),
            *(f"control group {path}" for path in [*self.slices, *self.cgroups]),
            *([f"bridge {self.bridge}"] if self.bridge else []),
            *self.directories,
        ]


def find(place: Place) -> Remains:
    """Look at a host."""
    tops = (place.run_dir, place.state_dir)
    directories = [place.run_dir] if place.keep_state else list(tops)
    if place.network:
        directories.append(os.path.join(ADDRESSES, place.network))
    return Remains(
        containers=_containers(place.run_dir),
        processes=_processes(tops),
        mounts=[path for top in tops if os.path.isdir(top) for path in _mounts(top)],
        slices=_slices(),
        cgroups=_cgroups(),
        directories=[path for path in directories if os.path.isdir(path) and _holds_something(path)],
        bridge=place.bridge if place.bridge and _is_free_bridge(place.bridge) else "",
    )


def remove(place: Place, runner: Runner) -> None:
    """Remove all of it; raises CoreError that names what resists."""
    found = find(place)
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
    # Pods are gone only now, and their ends of the cables with them.
    if place.bridge and _is_free_bridge(place.bridge):
        runner.run(["ip", "link", "delete", "dev", place.bridge], check=False)
    remove_host_ports(runner)
    _remove_empty(ADDRESSES, os.path.dirname(ADDRESSES))
    left = find(place).describe()
    if left:
        raise CoreError(
            f"it could not all be removed: {', '.join(left)}",
            hint="See what uses it (lsof, fuser -vm), end that, and run the role again",
        )


def remove_host_ports(runner: Runner) -> None:
    """Remove the plugin portmap's own chains when no port is forwarded any more; it makes them again."""
    for program in ("iptables", "ip6tables"):
        if not any(os.access(f"{folder}/{program}", os.X_OK) for folder in ("/usr/sbin", "/sbin")):
            continue
        said = runner.run([program, "--wait", "30", "-t", "nat", "-S"], check=False)
        for argv in host_port_argvs(said.stdout if said.rc == 0 else ""):
            runner.run([program, "--wait", "30", "-t", "nat", *argv], check=False)


def host_port_argvs(rules: str) -> list[list[str]]:
    """Return arguments of iptables that remove portmap's chains from the table that is listed, if unused."""
    lines = [line.split() for line in rules.splitlines()]
    chains = [words[1] for words in lines if words[:1] == ["-N"] and words[1].startswith(_HOST_PORTS)]
    if any(words[:2] == ["-A", f"{_HOST_PORTS}DNAT"] for words in lines):
        return []
    # Quotes stand only in comments; what a rule does is said by the words after -j.
    jumps = [
        words for words in lines if words[:1] == ["-A"] and words[-1] in chains and words[1] not in chains
    ]
    deleted = [["-D", *(word.strip('"') for word in _joined(words[1:]))] for words in jumps]
    return [*deleted, *(["-F", chain] for chain in chains), *(["-X", chain] for chain in chains)]


def _joined(words: t.Sequence[str]) -> list[str]:
    """Put together what quotes hold together."""
    joined: list[str] = []
    is_open = False
    for word in words:
        if is_open:
            joined[-1] += f" {word}"
        else:
            joined.append(word)
        if word.count('"') % 2:
            is_open = not is_open
    return joined


def _containers(run_dir: str) -> list[tuple[str, str]]:
    return [
        (os.path.dirname(path), os.path.basename(path))
        for path in sorted(glob.glob(os.path.join(glob.escape(run_dir), "crun", "*", "*")))
        if os.path.isdir(path)
    ]


def _processes(tops: t.Sequence[str]) -> dict[int, str]:
    """Return monitors and pause processes: nothing else of pods runs programs or names paths of ours."""
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
        is_monitor = os.path.basename(words[0]) == "conmon" and any(
            _is_below(word, top) for word in words for top in tops
        )
        if is_monitor or any(_is_below(program, os.path.join(top, "pause")) for top in tops):
            names = [word.partition("=")[2] for word in words if word.startswith("--cid=")]
            found[int(name)] = names[0] if is_monitor and names else "a pod"
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


def _cgroups() -> list[str]:
    found = glob.glob(f"{CGROUPS}/pvecri") + glob.glob(f"{CGROUPS}/*/pvecri")
    return sorted(path for path in found if os.path.isdir(path))


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


def _is_free_bridge(name: str) -> bool:
    folder = os.path.join(INTERFACES, name)
    return os.path.isdir(f"{folder}/bridge") and not os.listdir(f"{folder}/brif")


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}/")
