# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write raw ``lxc.*`` lines into a container's config file on its own node.

The API shows these lines and takes none.  They are written as Proxmox VE itself
writes them: under its lock, whole file at once, and only into the part before
the first ``[snapshot]`` or ``[pve:pending]`` section.  There are no markers
around them: a comment would become the container's notes.  Which lines are ours
is said by the keys that the spec names.
Source: ``parse_pct_config`` and ``write_pct_config`` in pve-container's
src/PVE/LXC/Config.pm.
"""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import NotFound, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import answers, leftovers
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import RawLines

#: Where pmxcfs shows the containers of the node that one is on.
CONFIG_DIR = "/etc/pve/lxc"
#: Where Proxmox VE locks container configs, one file each.
LOCK_DIR = "/run/lock/lxc"
#: The key by which a container's config takes in a file.
INCLUDE = "lxc.include"
#: Names the node that one is on.
LOCAL_NODE = "/etc/pve/local"

_LINE = re.compile(r"(?P<key>lxc\.[a-z0-9_.-]+)\s*[:=]\s*(?P<value>.*?)\s*")

#: Proxmox VE gives up on its lock after as long.
_LOCK_TIMEOUT_S = 10.0


def included(config: t.Mapping[str, t.Any]) -> tuple[str, ...]:
    """Return the files that a container's config, as the API shows it, takes in; raises ApiError."""
    with answers.understood("the raw lines of a container's config"):
        return tuple(str(value) for key, value in map(tuple, config.get("lxc") or ()) if key == INCLUDE)


def local_node(link: str = LOCAL_NODE) -> str | None:
    """Return the name of the Proxmox VE node that this runs on, or None elsewhere."""
    try:
        return os.path.basename(os.readlink(link))
    except OSError:
        return None


def config_path(vmid: int, config_dir: str = CONFIG_DIR) -> str:
    """Return the path of a container's config file."""
    return os.path.join(config_dir, f"{vmid}.conf")


def check_possible(vmid: int, node: str, *, config_dir: str = CONFIG_DIR) -> None:
    """Raise Unsupported unless raw lines of this container can be written from here."""
    path = config_path(vmid, config_dir)
    if os.path.isfile(path) and os.access(path, os.W_OK):
        return
    raise Unsupported(
        f"lxc: raw lines of container {vmid} cannot be set from here: the API does not take them, and "
        f"{path} cannot be written",
        hint=f"Run the task as root on node '{node}' itself (delegate_to), or leave the option out",
    )


def edited(text: str, lines: RawLines) -> str:
    """Return a config file's text with the values of the named keys replaced.  Pure.

    A key's values stand where its first one stood, else after the other raw lines.
    Sections for snapshots and pending changes stay as they are.
    """
    start = re.search(r"^\[", text, re.MULTILINE)
    cut = start.start() if start else len(text)
    main, rest = text[:cut], text[cut:]
    todo = {key: [f"{key}: {value}" for value in values or ()] for key, values in lines.items()}
    kept: list[str] = []
    last_raw: int | None = None
    # A blank line parts the main section from the next; it is put back below.
    for line in main.rstrip("\n").split("\n") if main.strip() else []:
        found = _LINE.fullmatch(line)
        if found and found["key"] in lines:
            kept += todo.pop(found["key"], [])
        else:
            kept.append(line)
        if found:
            last_raw = len(kept)
    new = [line for group in todo.values() for line in group]
    at = len(kept) if last_raw is None else last_raw
    kept[at:at] = new
    return "".join(f"{line}\n" for line in kept) + (f"\n{rest}" if rest else "")


def write(vmid: int, lines: RawLines, *, config_dir: str = CONFIG_DIR, lock_dir: str = LOCK_DIR) -> bool:
    """Set raw lines under Proxmox VE's own lock; return whether the file changed.

    Raises NotFound when the container is not on this node, Conflict when somebody
    holds the lock.
    """
    path = config_path(vmid, config_dir)
    lock = os.path.join(lock_dir, f"pve-config-{vmid}.lock")
    with locked(lock, timeout_s=_LOCK_TIMEOUT_S, what=f"the config of container {vmid}"):
        try:
            # Bytes that are no UTF-8 are others' lines: they go back as they came.
            with open(path, encoding="utf-8", errors="surrogateescape") as stream:
                before = stream.read()
        except FileNotFoundError as exc:
            raise NotFound(f"{path} does not exist: container {vmid} is not on this node") from exc
        after = edited(before, lines)
        if after == before:
            return False
        mine = re.compile(rf"{vmid}\.conf\.tmp\.(?P<pid>[0-9]+)")
        leftovers.sweep_dead(os.path.dirname(path), mine)
        _replace(path, after)
        return True


def _replace(path: str, text: str) -> None:
    """Write the file whole; the cluster file system takes no mode and no hidden temporary names."""
    temporary = f"{path}.tmp.{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text)
        os.rename(temporary, path)
    except BaseException:
        _discard(temporary)
        raise


def _discard(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
