# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what tells how the endpoint and its objects are; nothing here changes or waits for anything.

The daemon may run, hang or be gone: all is read from files.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sqlite3
import typing as t

from google.protobuf.message import Message

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from pvecri.api import cri_pb2
from pvecri.plain import plain_message
from pvecri.support.redact import redacted

CGROUPS = "/sys/fs/cgroup"
MOUNTS = "/proc/self/mountinfo"

#: Files of a cgroup that tell how its processes fare, by either version's name.
_CGROUP_FILES = (
    "cgroup.procs",
    "memory.current",
    "memory.max",
    "memory.events",
    "cpu.stat",
    "pids.current",
    "pids.max",
)
_CONFIGS: dict[str, type[Message]] = {
    "sandboxes": cri_pb2.PodSandboxConfig,
    "containers": cri_pb2.ContainerConfig,
}
_FILE_MAX = 1 << 20


def records(path: str) -> dict[str, t.Any]:
    """Return the rows of the database, configs decoded, without secrets; the daemon may be at work."""
    found: dict[str, t.Any] = {}
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
        configs = dict(database.execute("SELECT id, config FROM configs"))
        for table, kind in _CONFIGS.items():
            found[table] = [
                {"id": identity, "name": name, **_record(record, configs.get(identity), kind)}
                for identity, name, record in database.execute(f"SELECT id, name, record FROM {table}")  # noqa: S608
            ]
        found["damaged"] = [row[0] for row in database.execute("SELECT id FROM damaged")]
    return found


def _record(text: t.Any, config: t.Any, kind: type[Message]) -> dict[str, t.Any]:
    try:
        plain = json.loads(text)
    except (TypeError, ValueError):
        return {"unreadable": str(text)[:200]}
    if not isinstance(plain, dict):
        return {"unreadable": str(text)[:200]}
    plain.pop("config", None)
    if "resources" in plain:
        plain["resources"] = plain_message(cri_pb2.LinuxContainerResources, _bytes(plain["resources"]))
    if isinstance(config, bytes):
        plain["config"] = plain_message(kind, config)
    return t.cast("dict[str, t.Any]", redacted(plain))


def _bytes(text: t.Any) -> bytes:
    try:
        return base64.b64decode(text)
    except (TypeError, ValueError):
        return b"\xff"


def json_files(directory: str, *names: str) -> dict[str, t.Any]:
    """Return the JSON files of the given names below a directory, or all its files, without secrets."""
    found: dict[str, t.Any] = {}
    for folder, folders, files in os.walk(directory, onerror=_raise):
        # What is mounted in a bundle is the container's, not ours.
        folders[:] = [
            name for name in folders if not os.path.ismount(os.path.join(folder, name)) and name != "rootfs"
        ]
        for name in files:
            path = os.path.join(folder, name)
            if not names or name in names:
                found[os.path.relpath(path, directory)] = _json_file(path)
    return found


def read_json(files: t.Iterable[str]) -> dict[str, t.Any]:
    """Return some JSON files by their paths, without secrets."""
    return {path: _json_file(path) for path in files}


def _json_file(path: str) -> t.Any:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            text = stream.read(_FILE_MAX)
        return redacted(json.loads(text))
    except OSError as exc:
        return {"unreadable": str(exc)}
    except ValueError:
        return {"text": text[:200]}


def small_files(directory: str) -> dict[str, str]:
    """Return the content of the small files of a directory, such as conmon's exit files."""
    found = {}
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.is_file(follow_symlinks=False):
            with open(entry.path, encoding="utf-8", errors="replace") as stream:
                found[entry.name] = stream.read(200)
    return found


def guests(paths: Paths, config_dir: str) -> dict[str, t.Any]:
    """Return what is kept of guests of Proxmox VE: records, lists of templates, and their configurations."""
    top = os.path.join(paths.state_dir, "lxc")
    if not os.path.isdir(top):
        return {}
    found = json_files(os.path.join(top, "records")) if os.path.isdir(os.path.join(top, "records")) else {}
    for name in ("archives.json", "native.json"):
        if os.path.exists(os.path.join(top, name)):
            found[name] = _json_file(os.path.join(top, name))
    for vmid in _vmids(paths):
        # Paths and limits; variables and the command are elsewhere, and stay there.
        for path in (os.path.join(top, "guests", vmid, "config"), f"{config_dir}/lxc/{vmid}.conf"):
            found[path] = _text(path).splitlines()
    return found


def _vmids(paths: Paths) -> list[str]:
    try:
        return sorted(
            name for name in os.listdir(os.path.join(paths.state_dir, "lxc/guests")) if name.isdigit()
        )
    except OSError:
        return []


def guest_groups(paths: Paths, root: str = CGROUPS) -> dict[str, dict[str, str]]:
    """Return the cgroups of guests, by the numbers that they have in Proxmox VE."""
    known = set(_vmids(paths))
    return cgroups(known, root, is_whole=True) if known else {}


def mounts(paths: Paths, source: str = MOUNTS) -> str:
    """Return the mounts below the endpoint's directories, in the kernel's words (proc(5), mountinfo)."""
    tops = tuple(f"{os.path.realpath(top)}/" for top in (paths.state_dir, paths.run_dir))
    with open(source, encoding="utf-8", errors="replace") as stream:
        return "".join(line for line in stream if line.split(" ")[4].startswith(tops))


def cgroups(
    names: t.Collection[str], root: str = CGROUPS, *, is_whole: bool = False
) -> dict[str, dict[str, str]]:
    """Return the cgroups whose last part holds one of the names, or is one, with what their files say."""
    found: dict[str, dict[str, str]] = {}
    for folder, _folders, files in os.walk(root):
        last = os.path.basename(folder)
        if last in names or (not is_whole and any(name in last for name in names)):
            found[folder] = {
                name: _text(os.path.join(folder, name)) for name in _CGROUP_FILES if name in files
            }
    return found


def processes(names: t.Collection[str]) -> list[dict[str, t.Any]]:
    """Return the processes of crun, conmon and guests' holders that have one of the names as an argument."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        argv = _text(f"/proc/{entry}/cmdline").split("\0")
        program = os.path.basename(argv[0])
        is_ours = program in {"conmon", "crun"} or any(word.endswith("/lxc/holder.py") for word in argv)
        if is_ours and any(name in word for word in argv for name in names):
            found.append({"pid": int(entry), "argv": argv[:-1], "state": _state(int(entry))})
    return found


def _state(pid: int) -> str:
    return str(procfs.read_stat(pid))


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(4096)
    except OSError as exc:
        return f"({exc.strerror})"


def _raise(exc: OSError) -> t.NoReturn:
    raise exc
