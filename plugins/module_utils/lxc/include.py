# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the file that an LXC container's configuration includes: all that Proxmox VE's API cannot say; pure.

The keys of the included file win over those before it (lxc.container.conf(5)).  It holds no text of a
user but paths, whose blanks and line ends are escaped as in fstab(5), and words and numbers that are
checked: nobody can add a key by a clever name.  Command, variables, user and working directory are not in
it at all; the launcher gets them through its socket.
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import resources
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import (
    INIT_SOCKET,
    INNER_DIR,
    LAUNCHER,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.devices import OWN_NODES

Config = t.Mapping[str, t.Any]

#: Mounts that LXC makes by itself, by their type; the pod's /sys is shown instead of the container's own.
_OWN_TYPES: t.Final = frozenset({"proc", "sysfs", "cgroup", "cgroup2", "devpts"})

#: Where those are: nothing can take their place.
OWN_PLACES: t.Final = frozenset({"/proc", "/sys", "/sys/fs/cgroup", "/dev", "/dev/pts", INNER_DIR})

#: All of /proc that can be shown otherwise: what else is there leads elsewhere, up to the host's directories.
_PROC_PLACES: t.Final = frozenset(
    f"/proc/{name}"
    for name in ("cpuinfo", "diskstats", "loadavg", "meminfo", "net/dev", "stat", "swaps", "uptime")
)

#: Options that LXC passes on for a mount, with mapped ids as well.
MOUNT_FLAGS: t.Final = frozenset(
    {"suid", "nosuid", "dev", "nodev", "exec", "noexec", "atime", "noatime", "relatime", "strictatime"}
    | {"diratime", "nodiratime"}
)
_PROPAGATIONS: t.Final = frozenset({"private", "rprivate", "slave", "rslave"})

#: As much of a line as LXC reads (getmntent(3) with a buffer of PATH_MAX).
_ENTRY_MAX: t.Final = 4000

_RLIM_INFINITY: t.Final = (1 << 64) - 1

#: LXC limits these by its ``proc:mixed``, for every container.
_READ_ONLY_BY_LXC: t.Final = frozenset({"/proc/sys", "/proc/sysrq-trigger"})


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """A file or a directory of the host."""

    path: str
    is_directory: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """What has to be looked up on the host for the mounts of a configuration; see `staging.stage`."""

    #: Destination of a bind mount → what to show there, its ids as the container's root needs them.
    binds: t.Mapping[str, Shown] = dataclasses.field(default_factory=dict)
    #: Path of a device in the container → path of its node on the host, where that is another.
    devices: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: Paths to mask or to make read-only that exist, and whether each is a directory.
    kernel_paths: t.Mapping[str, bool] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class IncludeFacts:
    """What a container joins, and where its files are; the last part is filled in by the driver."""

    #: The pod's pinned namespaces; an empty one is the container's own.
    netns: str
    ipcns: str = ""
    utsns: str = ""
    unprivileged: bool = True
    #: Signal that Proxmox VE's shutdown sends; None: what LXC or the distribution's template says.
    stop_signal: int | None = None
    #: Names of sysctls that the pod sets by itself.
    pod_sysctls: frozenset[str] = frozenset()
    #: Whether the host has cgroup v2.
    uses_v2: bool = True
    #: A sysfs that shows the pod's network.
    sysfs: str = ""
    #: Directory with launcher and sockets.
    io_dir: str = ""
    #: Number of the container's terminal in the host's /dev/pts.
    pts: int | None = None
    host: HostView = HostView()


def lines(config: Config, facts: IncludeFacts) -> list[str]:
    """Return the lines of the file for an OCI configuration.

    Raises InvalidSpec and Unsupported, naming the part of the configuration.
    """
    pairs = [
        *_namespaces(facts),
        *_first_process(facts),
        *_mounts(config, facts),
        *_kernel_paths(config, facts),
        *_devices(config, facts),
        *_limits(config, facts),
    ]
    return [_line(key, value) for key, value in pairs]


def text(config: Config, facts: IncludeFacts) -> str:
    """Return the whole file."""
    head = "# Written for a container of a pod; changes are lost.  It must exist as long as the container."
    return "\n".join([head, *lines(config, facts), ""])


Pairs = t.Iterator[tuple[str, str]]


def _line(key: str, value: str) -> str:
    if any(character in key + value for character in "\n\r\0"):
        raise InvalidSpec(key, "a value has more than one line")
    return f"{key} = {value}" if value else f"{key} ="


# ---- what it is ------------------------------------------------------------------------------------------


def _namespaces(facts: IncludeFacts) -> Pairs:
    for kind, path in (("net", facts.netns), ("ipc", facts.ipcns), ("uts", facts.utsns)):
        if path:
            yield f"lxc.namespace.share.{kind}", path
    # The automatic sysfs needs a network namespace of the container's own.
    yield "lxc.mount.auto", ""
    yield "lxc.mount.auto", "proc:mixed cgroup:mixed:force"
    if facts.sysfs:
        yield "lxc.mount.entry", _entry(facts.sysfs, "/sys", "none", "ro,rbind")


def _first_process(facts: IncludeFacts) -> Pairs:
    yield "lxc.mount.entry", _entry(facts.io_dir, INNER_DIR, "none", "bind,ro,create=dir")
    yield "lxc.init.cmd", f"{INNER_DIR}/{LAUNCHER} {INNER_DIR}/{INIT_SOCKET}"
    # The launcher becomes the user that is asked for.
    yield "lxc.init.uid", "0"
    yield "lxc.init.gid", "0"
    yield "lxc.init.cwd", "/"
    if not facts.unprivileged:
        # The launcher drops exactly those that the configuration does not name.
        yield "lxc.cap.drop", ""
    yield "lxc.console.path", "none"
    yield "lxc.tty.max", "0"
    yield "lxc.pty.max", "1024"
    if facts.pts is not None:
        yield (
            "lxc.mount.entry",
            _entry(f"/dev/pts/{facts.pts}", "/dev/console", "none", "bind,create=file"),
        )
    if facts.stop_signal is not None:
        yield "lxc.signal.halt", str(int(facts.stop_signal))


# ---- mounts ----------------------------------------------------------------------------------------------


def _mounts(config: Config, facts: IncludeFacts) -> Pairs:
    for mount in config.get("mounts") or ():
        destination = posixpath.normpath(mount["destination"])
        kind, options = mount.get("type", "none"), list(mount.get("options") or ())
        if is_bind(mount):
            _check_place(destination)
            yield "lxc.mount.entry", _bind(mount, destination, options, facts)
        elif kind in _OWN_TYPES or (kind == "tmpfs" and destination == "/dev"):
            continue
        elif kind == "mqueue":
            # The host's user namespace owns the pod's queues: an unprivileged container cannot mount them.
            yield "lxc.mount.entry", _entry("mqueue", destination, "mqueue", "rw,create=dir,optional")
        elif kind == "tmpfs":
            _check_place(destination)
            yield "lxc.mount.entry", _tmpfs(destination, options)
        else:
            raise Unsupported(f"mounts ({destination}): LXC containers have no mounts of type '{kind}'")


def is_bind(mount: Config) -> bool:
    """Say whether a mount of a configuration shows a part of the host."""
    return bool({"bind", "rbind"} & set(mount.get("options") or ())) or mount.get("type") == "bind"


def is_taken(destination: str) -> bool:
    """Say whether a place in a container, as a path in its shortest form, is LXC's or ours."""
    is_of_proc = destination.startswith("/proc/") and destination not in _PROC_PLACES
    return destination in OWN_PLACES or destination.startswith(INNER_DIR + "/") or is_of_proc


def _check_place(destination: str) -> None:
    if is_taken(destination):
        raise Unsupported(
            f"mounts ({destination}): an LXC container makes its own",
            hint="Mount what is below it, or run the container under crun",
        )


def _tmpfs(destination: str, options: t.Sequence[str]) -> str:
    words = []
    for option in options:
        key, _equals, value = option.partition("=")
        is_number = re.fullmatch(r"[0-9]+[kmgKMG]?", value) and key in {"size", "mode", "uid", "gid"}
        if not is_number and option not in MOUNT_FLAGS | _PROPAGATIONS | {"ro", "rw"}:
            raise _no_option(destination, option)
        words.append(option)
    return _entry("tmpfs", destination, "tmpfs", ",".join([*words, "create=dir"]))


def _bind(mount: Config, destination: str, options: t.Sequence[str], facts: IncludeFacts) -> str:
    if mount.get("uidMappings") or mount.get("gidMappings"):
        raise Unsupported(
            f"mounts ({destination}): an LXC container maps the ids of its volumes by itself",
            hint="Leave out the mount's own mappings",
        )
    shown = facts.host.binds.get(destination) or Shown(mount["source"])
    if not shown.path.startswith("/"):
        raise InvalidSpec(f"mounts ({destination}).source", f"'{shown.path}' is not an absolute path")
    # What is mounted below it belongs to it: without that the kernel refuses a tree to a user namespace.
    words = ["bind" if "bind" in options else "rbind"]
    for option in options:
        if option in {"bind", "rbind", "rw"}:
            continue
        if option not in MOUNT_FLAGS | _PROPAGATIONS | {"ro"}:
            raise _no_option(destination, option)
        words.append(option)
    words.append("create=dir" if shown.is_directory else "create=file")
    return _entry(shown.path, destination, "none", ",".join(words))


def _no_option(destination: str, option: str) -> Unsupported:
    return Unsupported(
        f"mounts ({destination}): LXC does not know the mount option '{option}'",
        hint="Leave it out, or run the container under crun",
    )


def _entry(source: str, destination: str, kind: str, options: str) -> str:
    """Return one line as of fstab(5), its target relative to the root file system."""
    target = destination.lstrip("/")
    if not target or {"..", "."} & set(target.split("/")):
        raise InvalidSpec(f"mounts ({destination})", "it is no place below the root file system")
    entry = f"{_escaped(source)} {_escaped(target)} {kind} {options} 0 0"
    if len(entry.encode("utf-8", "surrogateescape")) > _ENTRY_MAX:
        raise InvalidSpec(f"mounts ({destination[:64]}…)", "its paths are too long for LXC")
    return entry


def _escaped(path: str) -> str:
    """Write blanks and line ends as getmntent(3) reads them."""
    for character, code in (("\\", "\\134"), (" ", "\\040"), ("\t", "\\011"), ("\n", "\\012")):
        path = path.replace(character, code)
    if "\r" in path or "\0" in path or path.startswith("#"):
        raise InvalidSpec("mounts", f"{path!r} has characters that LXC cannot take")
    return path


def _kernel_paths(config: Config, facts: IncludeFacts) -> Pairs:
    """Hide what is to be masked, and let nobody write what is to be read-only."""
    linux = config.get("linux") or {}
    known = facts.host.kernel_paths
    for path in linux.get("readonlyPaths") or ():
        if path in known and path not in _READ_ONLY_BY_LXC and (source := _shown_as(path, facts)):
            yield "lxc.mount.entry", _entry(source, path, "none", "rbind,ro,optional")
    for path in linux.get("maskedPaths") or ():
        if path not in known or not _shown_as(path, facts):
            continue
        if known[path]:
            yield "lxc.mount.entry", _entry("tmpfs", path, "tmpfs", "ro,size=0,optional")
        else:
            yield "lxc.mount.entry", _entry("/dev/null", path, "none", "bind,ro,optional")


def _shown_as(path: str, facts: IncludeFacts) -> str:
    """Return which path of the host the container sees there, of those that the kernel makes; or nothing."""
    path = posixpath.normpath(path)
    if path.startswith("/proc/"):
        return path
    if path.startswith("/sys/") and facts.sysfs:
        return facts.sysfs + path.removeprefix("/sys")
    return ""


# ---- devices and limits ----------------------------------------------------------------------------------


def _devices(config: Config, facts: IncludeFacts) -> Pairs:
    linux = config.get("linux") or {}
    rules = (linux.get("resources") or {}).get("devices") or ()
    key = "lxc.cgroup2.devices.allow" if facts.uses_v2 else "lxc.cgroup.devices.allow"
    if any(rule.get("allow") and rule.get("type", "a") == "a" for rule in rules):
        yield key, "a"
    access = {
        (rule.get("type"), rule.get("major"), rule.get("minor")): rule.get("access", "rwm")
        for rule in rules
        if rule.get("allow")
    }
    for device in linux.get("devices") or ():
        path = posixpath.normpath(device["path"])
        if is_own_node(path):
            continue
        node = (device["type"], int(device["major"]), int(device["minor"]))
        allowed = access.get(node, "rwm")
        if node[0] not in {"b", "c"} or not set(allowed) <= set("rwm"):
            raise InvalidSpec(f"devices ({path})", f"'{node[0]}' with '{allowed}' is no device rule")
        yield key, f"{node[0]} {node[1]}:{node[2]} {allowed}"
        source = facts.host.devices.get(path, path)
        yield "lxc.mount.entry", _entry(source, path, "none", "bind,create=file")


def is_own_node(path: str) -> bool:
    """Say whether LXC makes this device by itself."""
    return path in OWN_NODES or path.startswith("/dev/pts/")


def _limits(config: Config, facts: IncludeFacts) -> Pairs:
    process, linux = config.get("process") or {}, config.get("linux") or {}
    yield from _cgroup(linux.get("resources") or {}, uses_v2=facts.uses_v2)
    for limit in process.get("rlimits") or ():
        name = str(limit["type"]).removeprefix("RLIMIT_").lower()
        if not re.fullmatch(r"[a-z]+", name):
            raise InvalidSpec("process.rlimits", f"'{limit['type']}' is no limit")
        yield f"lxc.prlimit.{name}", f"{_rlimit(limit['soft'])}:{_rlimit(limit['hard'])}"
    if (score := process.get("oomScoreAdj")) is not None:
        yield "lxc.proc.oom_score_adj", str(int(score))


def _cgroup(wanted: Config, *, uses_v2: bool) -> Pairs:
    prefix = "lxc.cgroup2" if uses_v2 else "lxc.cgroup"
    found = [(setting.file, setting.value) for setting in resources.settings(wanted, uses_v2=uses_v2)]
    if uses_v2:
        # Proxmox VE limits every container, with 512 MiB when it is told nothing: lift what is not asked for.
        asked = {file for file, _value in found}
        lifted = ("memory.high", "memory.max", "memory.swap.max")
        found = [*((file, "max") for file in lifted if file not in asked), *found]
    for file, value in found:
        # What LXC knows as «devices» is no file: it allows devices.
        if not re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)+", file) or file.startswith("devices."):
            raise InvalidSpec(f"resources.unified.{file}", "is not the name of a cgroup file")
        yield f"{prefix}.{file}", value


def _rlimit(value: int) -> str:
    return "unlimited" if value in {-1, _RLIM_INFINITY} else str(int(value))


def inner_path(name: str) -> str:
    """Return what the container calls a file of ``io``."""
    return os.path.join(INNER_DIR, name)
