# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find and remove what LXC pods of an endpoint leave on a Proxmox VE node when the endpoint goes.

A container of the endpoint is one of this node whose configuration includes the endpoint's file for it.
Without that file nobody can start it, nor stop it if it runs; so either the container goes, or the line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import typing as t
import urllib.parse

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, NotFound, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_raw
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import split_tags
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc import Container
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import TAG, TAG_CRI

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient

_RAW = re.compile(rf"^{re.escape(lxc_raw.INCLUDE)}\s*[:=]\s*(?P<path>.*?)\s*$", re.MULTILINE)
_TAGS = re.compile(r"^tags:\s*(?P<tags>.*?)\s*$", re.MULTILINE)
#: In the notes, which are comments of the file (PVE::Tools::encode_text): the endpoint's own line.
_MARK = re.compile(r"^pvecri-cri: (?P<json>\{.*\})\s*$", re.MULTILINE)
_FILE = re.compile(r"(?P<vmid>[1-9][0-9]*)\.conf")
#: Trees of control groups in which LXC has a container's: that of v2, and one of v1.
_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/pids")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What belongs to the endpoint, and where Proxmox VE keeps what."""

    state_dir: str
    config_dir: str = "/etc/pve"
    lock_dir: str = lxc_raw.LOCK_DIR
    cgroups: tuple[str, ...] = _CGROUPS

    @property
    def configs(self) -> str:
        """Directory of the containers' configurations on this node."""
        return os.path.join(self.config_dir, "lxc")

    @property
    def guests(self) -> str:
        """Directory of what configurations include."""
        return os.path.join(self.state_dir, "lxc", "guests")


@dataclasses.dataclass(frozen=True, slots=True)
class Left:
    """A container that includes a file of the endpoint."""

    vmid: int
    #: Whether it is a pod's: one that was copied from it, or that has lost its marks, is somebody's own.
    is_pod: bool
    is_running: bool
    #: What else it includes.
    others: tuple[str, ...] = ()


def containers(place: Place) -> list[Left]:
    """Return the containers of this node that include a file of the endpoint, by number."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(place.configs):
            match = _FILE.fullmatch(name)
            if match and (left := _read(place, int(match["vmid"]))):
                found.append(left)
    return sorted(found, key=lambda left: left.vmid)


def _read(place: Place, vmid: int) -> Left | None:
    try:
        path = lxc_raw.config_path(vmid, place.configs)
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            text = re.split(r"^\[", stream.read(), maxsplit=1, flags=re.MULTILINE)[0]
    except FileNotFoundError:
        return None
    included = [match["path"] for match in _RAW.finditer(text)]
    ours = [path for path in included if path.startswith(f"{place.guests}/")]
    if not ours:
        return None
    tags = _TAGS.search(text)
    return Left(
        vmid,
        ours == [os.path.join(place.guests, str(vmid), "config")]
        and {TAG, TAG_CRI} <= set(split_tags(tags["tags"] if tags else ""))
        and _maker(text) == _endpoint_id(place) != "",
        any(_has_processes(os.path.join(top, "lxc", str(vmid))) for top in place.cgroups),
        tuple(path for path in included if path not in ours),
    )


def _maker(text: str) -> str:
    """Return which endpoint has made a container, as its notes say; empty when they do not."""
    notes = "\n".join(urllib.parse.unquote(line[1:]) for line in text.splitlines() if line.startswith("#"))
    found = _MARK.search(notes)
    try:
        return str(json.loads(found["json"])["endpoint"]) if found else ""
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _endpoint_id(place: Place) -> str:
    try:
        with open(os.path.join(place.state_dir, "lxc", "endpoint"), encoding="ascii") as stream:
            return stream.read().strip()
    except (OSError, ValueError):
        return ""


def _has_processes(cgroup: str) -> bool:
    for folder, _folders, _files in os.walk(cgroup):
        with contextlib.suppress(OSError), open(os.path.join(folder, "cgroup.procs"), "rb") as stream:
            if stream.read(1):
                return True
    return False


def release(place: Place, left: Left) -> None:
    """Take the endpoint's line out of a container's configuration: it can be used without the endpoint then.

    Raises WrongState for one that runs: LXC reads what is included in order to stop it.
    """
    if left.is_running:
        raise WrongState(
            f"container {left.vmid} runs, and nothing proves that it is a pod's: tags or notes are not those "
            "that the endpoint gave it, or it was copied",
            hint=f"Stop it (pct stop {left.vmid}), and run this again; it is not removed",
        )
    with contextlib.suppress(NotFound):
        lxc_raw.write(
            left.vmid, {lxc_raw.INCLUDE: left.others}, config_dir=place.configs, lock_dir=place.lock_dir
        )


def destroy(client: PveClient, node: str, left: Left) -> None:
    """Stop a pod's container and remove it with its disks; raises what Proxmox VE has against it."""
    container = Container(client, node, left.vmid)
    if container.status().get("status") == "running":
        container.run(client.post((*container.path, "status", "stop")))
    container.destroy(purge=True, unreferenced_disks=True)


def archives(place: Place) -> list[str]:
    """Return the files that the endpoint has written to storages of templates, and that are still there.

    They are archives of images, and templates that it has downloaded itself.
    """
    written = _listed(place, "archives.json", "archives")
    fetched = [entry for entry in _listed(place, "native.json", "templates") if entry.get("is_own")]
    try:
        named = [
            (os.path.join(entry["directory"], entry["file"]), tuple(entry["stamp"]))
            for entry in [*written, *fetched]
        ]
    except (KeyError, TypeError) as exc:
        raise _unreadable(f"{place.state_dir}/lxc", exc) from exc
    return sorted(path for path, stamp in named if _stamp(path) == stamp)


def _listed(place: Place, file: str, key: str) -> list[dict[str, t.Any]]:
    path = os.path.join(place.state_dir, "lxc", file)
    try:
        with open(path, "rb") as stream:
            return [dict(entry) for entry in json.load(stream)[key]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise _unreadable(path, exc) from exc


def _unreadable(path: str, exc: Exception) -> CoreError:
    return CoreError(
        f"{path} cannot be read: {exc}",
        hint="Remove it, and archives called pvecri_*.tar in the storage of templates, by hand",
    )


def _stamp(path: str) -> tuple[int, ...]:
    """Return what tells a file from one that somebody has put in its place."""
    try:
        status = os.lstat(path)
    except OSError:
        return ()
    return (status.st_ino, status.st_mtime_ns, status.st_size)
