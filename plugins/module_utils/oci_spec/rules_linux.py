# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check rules between fields that concern Linux: mounts, namespaces, ids, limits, seccomp."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import parse_number_list
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.problem import Problem, json_path

Config = dict[str, t.Any]

#: What a file system of its own namespace can be set by (config-linux.md, «Sysctl»).
_IPC_SYSCTL: t.Final = re.compile(
    r"kernel\.(msg(max|mnb|mni)|sem|shm(all|max|mni|_rmid_forced))$|fs\.mqueue\."
)


def _linux(config: Config) -> dict[str, t.Any]:
    linux: dict[str, t.Any] = config.get("linux", {})
    return linux


def _namespace_kinds(config: Config) -> set[str]:
    return {entry["type"] for entry in _linux(config).get("namespaces", ())}


def _is_new(config: Config, kind: str) -> bool:
    return any(
        entry["type"] == kind and "path" not in entry for entry in _linux(config).get("namespaces", ())
    )


def _mounts(config: Config) -> t.Iterator[Problem]:
    """Want absolute, clean destinations and complete id maps (config.md, «Mounts»)."""
    for i, mount in enumerate(config.get("mounts", ())):
        path, destination = f"$.mounts[{i}]", mount["destination"]
        if not destination.startswith("/"):
            yield Problem(f"{path}.destination", "mount-absolute", f"'{destination}' is not an absolute path")
        elif any(part in ("..", ".") for part in destination.split("/")) or "\0" in destination:
            yield Problem(f"{path}.destination", "mount-clean", f"'{destination}' is not a clean path")
        is_bind = {"bind", "rbind"} & set(mount.get("options", ())) or mount.get("type") == "bind"
        if is_bind and not mount.get("source"):
            yield Problem(f"{path}.source", "mount-bind-source", "a bind mount needs a source")
        if bool(mount.get("uidMappings")) != bool(mount.get("gidMappings")):
            yield Problem(path, "mount-id-maps", "uidMappings and gidMappings go together")
        if {"ro", "rw"} <= set(mount.get("options", ())):
            yield Problem(f"{path}.options", "mount-options", "'ro' and 'rw' contradict each other")


def _namespaces(config: Config) -> t.Iterator[Problem]:
    """Want each kind once and absolute paths (config-linux.md, «Namespaces»)."""
    seen: set[str] = set()
    for i, entry in enumerate(_linux(config).get("namespaces", ())):
        path = f"$.linux.namespaces[{i}]"
        if entry["type"] in seen:
            yield Problem(f"{path}.type", "namespace-duplicate", f"'{entry['type']}' is listed twice")
        seen.add(entry["type"])
        if "path" in entry and not entry["path"].startswith("/"):
            yield Problem(f"{path}.path", "namespace-absolute", f"'{entry['path']}' is not an absolute path")


def _needed_namespaces(config: Config) -> t.Iterator[Problem]:
    """Want the namespace of whatever changes one: else the host would be changed."""
    kinds = _namespace_kinds(config)
    for key in ("hostname", "domainname"):
        if config.get(key) and "uts" not in kinds:
            yield Problem(f"$.{key}", "needs-uts-namespace", f"'{key}' needs a UTS namespace")
    linux = _linux(config)
    for key in ("uidMappings", "gidMappings"):
        if linux.get(key) and not _is_new(config, "user"):
            yield Problem(f"$.linux.{key}", "needs-user-namespace", "id maps need a new user namespace")
        if not linux.get(key) and _is_new(config, "user"):
            yield Problem("$.linux", "needs-id-maps", f"a new user namespace needs '{key}'")
    if linux.get("timeOffsets") and not _is_new(config, "time"):
        yield Problem("$.linux.timeOffsets", "needs-time-namespace", "offsets need a new time namespace")
    for key in ("maskedPaths", "readonlyPaths"):
        if linux.get(key) and "mount" not in kinds:
            yield Problem(f"$.linux.{key}", "needs-mount-namespace", "hiding paths needs a mount namespace")
    if config.get("mounts") and "mount" not in kinds:
        yield Problem("$.mounts", "needs-mount-namespace", "mounts need a mount namespace")


def _sysctls(config: Config) -> t.Iterator[Problem]:
    """Want only sysctls of a namespace that the container has (config-linux.md, «Sysctl»)."""
    kinds = _namespace_kinds(config)
    for name in _linux(config).get("sysctl", {}):
        dotted = name.replace("/", ".")
        if dotted.startswith("net."):
            needed = "network"
        elif _IPC_SYSCTL.match(dotted):
            needed = "ipc"
        elif dotted in ("kernel.domainname", "kernel.hostname"):
            needed = "uts"
        else:
            needed = ""
        if not needed:
            message = f"'{name}' belongs to no namespace: it would change the host"
        elif needed not in kinds:
            message = f"'{name}' needs the namespace '{needed}'"
        else:
            continue
        yield Problem(json_path(("linux", "sysctl", name)), "sysctl-namespace", message)


def _id_maps(config: Config) -> t.Iterator[Problem]:
    """Want ranges that are not empty and do not overlap (user_namespaces(7))."""
    places = [("$.linux", _linux(config))]
    places += [(f"$.mounts[{i}]", mount) for i, mount in enumerate(config.get("mounts", ()))]
    for place, holder in places:
        for key in ("uidMappings", "gidMappings"):
            yield from _ranges(f"{place}.{key}", holder.get(key) or [])


def _ranges(path: str, maps: list[dict[str, int]]) -> t.Iterator[Problem]:
    for i, line in enumerate(maps):
        if line["size"] < 1:
            yield Problem(f"{path}[{i}].size", "id-map-size", "a range holds at least one id")
        for key in ("containerID", "hostID"):
            if line[key] + line["size"] > 1 << 32:
                yield Problem(f"{path}[{i}].{key}", "id-map-range", "the range leaves 32 bits")
            for j, other in enumerate(maps[:i]):
                if line[key] < other[key] + other["size"] and other[key] < line[key] + line["size"]:
                    yield Problem(f"{path}[{i}].{key}", "id-map-overlap", f"the range overlaps that of [{j}]")


def _devices(config: Config) -> t.Iterator[Problem]:
    """Want absolute paths, each once, and numbers for nodes (config-linux.md, «Devices»)."""
    seen: set[str] = set()
    for i, device in enumerate(_linux(config).get("devices", ())):
        path = f"$.linux.devices[{i}]"
        if not device["path"].startswith("/"):
            yield Problem(f"{path}.path", "device-absolute", f"'{device['path']}' is not an absolute path")
        if device["path"] in seen:
            yield Problem(f"{path}.path", "device-duplicate", f"'{device['path']}' is listed twice")
        seen.add(device["path"])
        if device["type"] != "p" and not {"major", "minor"} <= device.keys():
            yield Problem(path, "device-numbers", "a device needs 'major' and 'minor'")


def _device_rules(config: Config) -> t.Iterator[Problem]:
    """Want words that the device controller knows (config-linux.md, «Allowed Device list»)."""
    for i, rule in enumerate(_linux(config).get("resources", {}).get("devices", ())):
        path = f"$.linux.resources.devices[{i}]"
        if rule.get("type", "a") not in ("a", "b", "c"):
            yield Problem(f"{path}.type", "device-rule-type", f"'{rule['type']}' is none of a, b, c")
        access = rule.get("access", "rwm")
        if not access or set(access) - set("rwm"):
            yield Problem(f"{path}.access", "device-rule-access", f"'{access}' is not made of r, w, m")


def _resources(config: Config) -> t.Iterator[Problem]:
    """Want limits that do not contradict each other (config-linux.md, «Control groups»)."""
    resources, path = _linux(config).get("resources", {}), "$.linux.resources"
    memory = resources.get("memory", {})
    limit, swap, reserved = (memory.get(key, 0) for key in ("limit", "swap", "reservation"))
    if swap > 0 and limit <= 0:
        yield Problem(f"{path}.memory.swap", "swap-needs-limit", "needs memory.limit")
    elif 0 < swap < limit:
        yield Problem(f"{path}.memory.swap", "swap-range", f"{swap} is below memory.limit ({limit})")
    if 0 < limit < reserved:
        yield Problem(f"{path}.memory.reservation", "reservation-range", f"{reserved} is above {limit}")
    if memory.get("swappiness", 0) > 100:
        yield Problem(f"{path}.memory.swappiness", "swappiness-range", "is above 100")
    cpu = resources.get("cpu", {})
    for key in ("cpus", "mems"):
        if cpu.get(key) and parse_number_list(cpu[key].replace(" ", "")) is None:
            yield Problem(f"{path}.cpu.{key}", "cpuset-list", f"'{cpu[key]}' is not a list such as 0-3,7")
    if 0 < cpu.get("quota", 0) < 1000:
        yield Problem(f"{path}.cpu.quota", "quota-range", "is below 1000 µs")
    for key in resources.get("unified", {}):
        if "/" in key or "." not in key:
            yield Problem(
                json_path(("linux", "resources", "unified", key)), "unified-name", "is no cgroup file"
            )


def _seccomp(config: Config) -> t.Iterator[Problem]:
    """Want error numbers where they count and a listener for notifications (config-linux.md, «Seccomp»)."""
    seccomp = _linux(config).get("seccomp", {})
    path = "$.linux.seccomp"
    actions = [(path, "defaultErrnoRet", seccomp.get("defaultAction"), seccomp)]
    actions += [
        (f"{path}.syscalls[{i}]", "errnoRet", rule["action"], rule)
        for i, rule in enumerate(seccomp.get("syscalls", ()))
    ]
    for place, key, action, holder in actions:
        if key in holder and action not in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
            yield Problem(f"{place}.{key}", "seccomp-errno", f"{action} returns no error number")
        if action == "SCMP_ACT_NOTIFY" and not seccomp.get("listenerPath"):
            yield Problem(place, "seccomp-listener", "SCMP_ACT_NOTIFY needs 'listenerPath'")
    for i, rule in enumerate(seccomp.get("syscalls", ())):
        for n, arg in enumerate(rule.get("args", ())):
            if arg["index"] > 5:
                yield Problem(
                    f"{path}.syscalls[{i}].args[{n}].index", "seccomp-argument", "a call has arguments 0 to 5"
                )


def _hidden_paths(config: Config) -> t.Iterator[Problem]:
    """Want absolute paths (config-linux.md, «Masked Paths», «Readonly Paths»)."""
    for key in ("maskedPaths", "readonlyPaths"):
        for i, path in enumerate(_linux(config).get(key, ())):
            if not path.startswith("/"):
                yield Problem(f"$.linux.{key}[{i}]", "path-absolute", f"'{path}' is not an absolute path")


LINUX_RULES: t.Final = (
    _mounts,
    _namespaces,
    _needed_namespaces,
    _id_maps,
    _sysctls,
    _devices,
    _device_rules,
    _resources,
    _seccomp,
    _hidden_paths,
)
