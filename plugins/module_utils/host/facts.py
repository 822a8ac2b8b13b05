# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what the checks of `preflight` look at.

It has to run, to say so, on hosts that are too old for everything else: Python 3.8 is enough.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import typing as t

Facts = t.Dict[str, t.Any]  # noqa: UP006 - read when this is imported

_TIME_S = 20
_CLONE_NEWNS = 0x00020000
_MS_PRIVATE_REC = (1 << 18) | (1 << 14)
_MIB = 1 << 20
_FIELDS_OF_TCP = 10
_LISTEN = "0A"
_FIELDS_OF_ROUTE = {4: 8, 6: 10}


def command(*argv: str) -> str:
    """Return what a command prints, "" if it is not there or fails."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIME_S,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def text(path: str) -> str:
    """Return the content of a file, "" if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def assignments(content: str) -> dict[str, str]:
    """Return the lines ``KEY=value`` of a text, without quotes."""
    pairs = (line.partition("=") for line in content.splitlines() if "=" in line and line[:1] != "#")
    return {key.strip(): value.strip().strip("\"'") for key, _unused, value in pairs}


def gather(wanted: Facts) -> Facts:
    """Return all facts; ``wanted`` has the module's options."""
    release = assignments(text("/etc/os-release"))
    state = existing_ancestor(wanted["state_dir"])
    return {
        "distribution": release.get("ID", ""),
        "distribution_like": release.get("ID_LIKE", ""),
        "distribution_name": release.get("PRETTY_NAME", "an unknown system"),
        "distribution_version": release.get("VERSION_ID", ""),
        "distribution_release": release.get("VERSION_CODENAME", ""),
        "machine": os.uname().machine,
        "kernel": os.uname().release,
        "python": "{}.{}.{}".format(*sys.version_info),
        "init": text("/proc/1/comm").strip(),
        "systemd": os.path.isdir("/run/systemd/system"),
        "is_root": os.geteuid() == 0,
        "cgroups": cgroups(text("/proc/self/mounts")),
        "overlay": overlay_problem(state),
        "user_namespaces": text("/proc/sys/user/max_user_namespaces").strip(),
        "state_filesystem": filesystem(state, text("/proc/self/mounts")),
        "state_free_mib": free_mib(state),
        "usr_free_mib": free_mib("/usr"),
        "host_name": socket.gethostname(),
        "addresses": addresses(socket.gethostname()),
        "ntp": ntp(),
        "time": time.time(),
        "units": units([*wanted["other_runtimes"], wanted["unit"], *wanted["other_units"]]),
        "kubelet": kubelet_endpoints(),
        "cni": cni_files(wanted["cni_dir"]),
        "links": connected(text("/proc/net/route"), text("/proc/net/ipv6_route")),
        "listeners": listeners([port["port"] for port in wanted["ports"]]),
        "heads": {path: text(path)[:1024] for path in wanted["managed"] if os.path.lexists(path)},
        "packages": packages(wanted["packages"]),
        "releases": releases(wanted["lib_dir"]),
    }


def existing_ancestor(path: str) -> str:
    """Return the path, or the lowest directory above it that exists."""
    while not os.path.isdir(path) and path not in {"/", ""}:
        path = os.path.dirname(path)
    return path or "/"


def cgroups(mounts: str) -> Facts:
    """Say which control groups are mounted: v2, hybrid, v1 or none, and their controllers."""
    kinds = {}
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) > 2 and fields[2] in {"cgroup", "cgroup2"}:
            kinds[fields[1]] = (fields[2], fields[3])
    if kinds.get("/sys/fs/cgroup", ("",))[0] == "cgroup2":
        return {"mode": "v2", "controllers": text("/sys/fs/cgroup/cgroup.controllers").split()}
    v1 = sorted(
        {option for kind, options in kinds.values() if kind == "cgroup" for option in options.split(",")}
        & {"cpu", "cpuset", "memory", "pids", "blkio", "freezer", "devices", "hugetlb"}
    )
    v2 = [path for path, (kind, _unused) in kinds.items() if kind == "cgroup2"]
    busy = [path for path in v2 if text(os.path.join(path, "cgroup.controllers")).split()]
    if not v1:
        return {"mode": "none", "controllers": []}
    # crun takes an empty second hierarchy, as systemd mounts it for itself, for no mix.
    return {"mode": "hybrid" if busy else "v1", "controllers": v1}


def overlay_problem(directory: str) -> str:
    """Mount an overlay in a directory, unseen by others, and write through it; say what fails, or ""."""
    try:
        place = tempfile.mkdtemp(prefix=".pvecri-check-", dir=directory)
    except OSError as exc:
        return f"nothing can be written there: {exc.strerror}"
    reader, writer = os.pipe()
    try:
        child = os.fork()
        if child == 0:
            said = b"it died"
            try:
                said = _try_overlay(place).encode()
            finally:
                os.write(writer, said)
                os._exit(0)
        os.close(writer)
        writer = -1
        said = os.read(reader, 4096)
        os.waitpid(child, 0)
        return said.decode()
    finally:
        for handle in (reader, writer):
            if handle >= 0:
                os.close(handle)
        shutil.rmtree(place, ignore_errors=True)


def _try_overlay(place: str) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    folders = {name: os.path.join(place, name) for name in ("lower", "upper", "work", "merged")}
    for path in folders.values():
        os.mkdir(path)
    options = "lowerdir={lower},upperdir={upper},workdir={work}".format(**folders)
    for call, arguments in (
        (libc.unshare, (_CLONE_NEWNS,)),
        (libc.mount, (None, b"/", None, ctypes.c_ulong(_MS_PRIVATE_REC), None)),
        (
            libc.mount,
            (b"overlay", folders["merged"].encode(), b"overlay", ctypes.c_ulong(0), options.encode()),
        ),
    ):
        if call(*arguments):
            return f"{call.__name__}: {os.strerror(ctypes.get_errno())}"
    try:
        os.mkdir(os.path.join(folders["merged"], "folder"))
        os.rename(os.path.join(folders["merged"], "folder"), os.path.join(folders["merged"], "renamed"))
    except OSError as exc:
        return f"it can be mounted, not written: {exc.strerror}"
    return ""


def filesystem(path: str, mounts: str) -> str:
    """Return the type of the file system that a path is in."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split()
        point = fields[1].rstrip("/")
        if (path == point or path.startswith(f"{point}/")) and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def free_mib(path: str) -> int:
    """Return how much space a path's file system has for root."""
    about = os.statvfs(path)
    return about.f_bfree * about.f_frsize // _MIB


def addresses(name: str) -> list[str]:
    """Return what a name resolves to."""
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None)})
    except (OSError, UnicodeError):
        return []


def ntp() -> bool | None:
    """Say whether a service keeps the clock right; None if none says so."""
    said = assignments(command("timedatectl", "show", "--property=NTPSynchronized")).get("NTPSynchronized")
    if said == "yes":
        return True
    leap = [line for line in command("chronyc", "-n", "tracking").splitlines() if line.startswith("Leap")]
    if leap:
        return "Not synchronised" not in leap[0]
    return None if said is None else False


def units(names: t.Sequence[str]) -> dict[str, Facts]:
    """Return the state of units of systemd, those that exist."""
    properties = (
        "Id,LoadState,ActiveState,UnitFileState,MainPID,NeedDaemonReload,FragmentPath,"
        "StateChangeTimestampMonotonic"
    )
    boot = time.time() - time.monotonic()
    found = {}
    for block in command("systemctl", "show", f"--property={properties}", "--", *names).split("\n\n"):
        about = assignments(block)
        if about.get("LoadState", "not-found") not in {"not-found", "masked"}:
            found[about["Id"]] = {
                "active": about.get("ActiveState", "") in {"active", "activating", "reloading"},
                "enabled": about.get("UnitFileState", "") in {"enabled", "enabled-runtime"},
                "pid": int(about.get("MainPID") or 0),
                "needs_reload": about.get("NeedDaemonReload") == "yes",
                "file": about.get("FragmentPath", ""),
                # A reload is such a change, too.
                "since": boot + int(about.get("StateChangeTimestampMonotonic") or 0) / 1e6,
            }
    return found


def newest(paths: t.Sequence[str]) -> float:
    """Return when the last of files was written, in seconds since 1970; 0 for none."""
    written = [0.0]
    for path in paths:
        with contextlib.suppress(OSError):
            written.append(os.stat(path).st_mtime)
    return max(written)


def environment(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with."""
    return assignments(text(f"/proc/{pid}/environ").replace("\0", "\n")) if pid else {}


def unit_environment(content: str) -> dict[str, str]:
    """Return the environment that a unit's file sets, one variable a line."""
    lines = [line.partition("=")[2] for line in content.splitlines() if line.startswith("Environment=")]
    return assignments("\n".join(lines))


def kubelet_endpoints() -> list[str]:
    """Return the runtime endpoints that a kubelet of this host is told, by whatever tells it."""
    told = set()
    words = []
    for name in ("/var/lib/kubelet/kubeadm-flags.env", "/etc/default/kubelet", "/etc/sysconfig/kubelet"):
        words += text(name).replace('"', " ").split()
    for pid in os.listdir("/proc"):
        if pid.isdigit() and text(f"/proc/{pid}/comm").strip() == "kubelet":
            words += text(f"/proc/{pid}/cmdline").split("\0")
    for number, word in enumerate(words):
        if word.endswith("--container-runtime-endpoint") and number + 1 < len(words):
            told.add(words[number + 1])
        elif "--container-runtime-endpoint=" in word:
            told.add(word.partition("--container-runtime-endpoint=")[2])
    for line in text("/var/lib/kubelet/config.yaml").splitlines():
        if line.startswith("containerRuntimeEndpoint:"):
            told.add(line.partition(":")[2].strip().strip("\"'"))
    return sorted(told - {""})


def cni_files(directory: str) -> list[str]:
    """Return the network configurations of a directory, in the order in which they count."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return sorted(name for name in names if name.endswith((".conf", ".conflist", ".json")))


def connected(routes_4: str, routes_6: str) -> list[dict[str, str]]:
    """Return the networks that the host is in itself, with their interfaces: routes without a gateway."""
    found = []
    for line in routes_4.splitlines()[1:]:
        fields = line.split()
        if len(fields) >= _FIELDS_OF_ROUTE[4] and int(fields[2], 16) == 0:
            address, mask = (ipaddress.IPv4Address(bytes.fromhex(fields[at])[::-1]) for at in (1, 7))
            found.append({"interface": fields[0], "network": str(ipaddress.ip_network(f"{address}/{mask}"))})
    for line in routes_6.splitlines():
        fields = line.split()
        if len(fields) >= _FIELDS_OF_ROUTE[6] and int(fields[4], 16) == 0:
            network = ipaddress.IPv6Network((int(fields[0], 16), int(fields[1], 16)))
            if not (network.is_link_local or network.is_multicast or network.is_loopback):
                found.append({"interface": fields[9], "network": str(network)})
    return [link for link in found if not link["network"].endswith("/0") and link["interface"] != "lo"]


def listeners(ports: t.Sequence[int]) -> dict[str, Facts]:
    """Return who listens on TCP ports, by port."""
    inodes = {}
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in text(name).splitlines()[1:]:
            fields = line.split()
            if len(fields) < _FIELDS_OF_TCP or fields[3] != _LISTEN:
                continue
            port = int(fields[1].rpartition(":")[2], 16)
            if port in ports:
                inodes[f"socket:[{fields[9]}]"] = port
    found: dict[str, Facts] = {str(port): {"pid": 0, "name": "a process"} for port in inodes.values()}
    for pid in os.listdir("/proc") if inodes else []:
        for link in _open_files(pid) if pid.isdigit() else []:
            if link in inodes:
                name = text(f"/proc/{pid}/comm").strip()
                found[str(inodes[link])] = {"pid": int(pid), "name": f"{name} (process {pid})"}
    return found


def _open_files(pid: str) -> list[str]:
    links = []
    # Processes end and files are closed while we look.
    with contextlib.suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                links.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    return links


def packages(names: t.Sequence[str]) -> dict[str, str | None]:
    """Return the installed version of packages, None for those that are not installed."""
    form = "${Package} ${db:Status-Status} ${Version}\n"
    # It fails when one is unknown, and prints the others nevertheless.
    said = command("sh", "-c", 'dpkg-query -W -f "$0" -- "$@"; true', form, *names) if names else ""
    found = [line.split() for line in said.splitlines()]
    have = {line[0]: line[2] for line in found if len(line) > 2 and line[1] == "installed"}
    return {name: have.get(name) for name in names}


def releases(lib_dir: str) -> Facts:
    """Return the releases of the endpoint that the host has."""
    base = os.path.join(lib_dir, "releases")
    try:
        names = [name for name in os.listdir(base) if os.path.exists(os.path.join(base, name, "RELEASE"))]
    except OSError:
        names = []
    try:
        current = os.path.basename(os.readlink(os.path.join(lib_dir, "current")))
    except OSError:
        current = ""
    return {"all": sorted(names), "current": current if current in names else None}
