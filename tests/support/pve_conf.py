# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep configuration files of a fake node's containers: what its API knows, and raw lines of others.

In Proxmox VE the file is the truth.  Here the fake's memory is, but for the raw ``lxc.*`` lines,
which the API does not take and root writes into the file: they are read back before each use.
Both sides write under the same lock file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import re
import typing as t
import urllib.parse

#: Characters of notes that stand as they are.
_NOTES = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in "%:")
_RAW = re.compile(r"(lxc\.[a-z0-9_.-]+)\s*[:=]\s*(.*?)\s*")


def text(config: t.Mapping[str, t.Any], pending: t.Mapping[str, t.Any], snapshots: t.Any) -> str:
    """Return a file's content as ``write_pct_config`` makes it."""
    parts = [_section(config)]
    if pending:
        gone = ",".join(sorted(key for key, value in pending.items() if value is None))
        kept = {key: value for key, value in pending.items() if value is not None}
        parts.append("[pve:pending]\n" + (f"delete: {gone}\n" if gone else "") + _section(kept))
    parts += [f"[{name}]\n{_section(values)}" for name, values in sorted(snapshots.items())]
    return "\n".join(parts)


def _section(config: t.Mapping[str, t.Any]) -> str:
    notes = str(config.get("description", "")).splitlines()
    lines = [f"#{urllib.parse.quote(line, safe=_NOTES)}" for line in notes]
    plain = {key: value for key, value in config.items() if key not in ("description", "lxc")}
    lines += [f"{key}: {plain[key]}" for key in sorted(plain)]
    lines += [f"{key}: {value}" for key, value in config.get("lxc", ())]
    return "".join(f"{line}\n" for line in lines)


def raw_lines(path: str) -> list[list[str]]:
    """Return the raw lines of a file's main section, as the API shows them."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        main = re.split(r"^\[", pathlib.Path(path).read_text(errors="surrogateescape"), flags=re.MULTILINE)[0]
        for line in main.splitlines():
            if match := _RAW.fullmatch(line):
                found.append([match[1], match[2]])
    return found


class Files:
    """The files of all nodes of one fake cluster, below what stands for ``/etc/pve``."""

    def __init__(self, config_dir: str, lock_dir: str, nodes: t.Iterable[str]) -> None:
        self.config_dir, self.lock_dir = config_dir, lock_dir
        self._locks: dict[int, int] = {}
        self._places: dict[int, str] = {}
        os.makedirs(lock_dir, exist_ok=True)
        for node in nodes:
            os.makedirs(f"{config_dir}/nodes/{node}/lxc", exist_ok=True)

    def path(self, node: str, vmid: int) -> str:
        """Return the file of a container."""
        return f"{self.config_dir}/nodes/{node}/lxc/{vmid}.conf"

    def read(self, ct: t.Any) -> None:
        """Take over the raw lines that somebody has written."""
        path = self.path(ct.node, ct.vmid)
        if not os.path.exists(path):
            return
        lines = raw_lines(path)
        if lines:
            ct.config["lxc"] = lines
        else:
            ct.config.pop("lxc", None)

    def write(self, ct: t.Any, *, image_lines: bool = False) -> None:
        """Write a container's file if it differs; the caller holds the lock, or nobody knows the file."""
        path = self.path(ct.node, ct.vmid)
        before = self._places.get(ct.vmid)
        if before is not None and before != path:
            os.rename(before, path)
        self._places[ct.vmid] = path
        if not image_lines:
            self.read(ct)
        content = text(ct.config, ct.pending, ct.snapshots)
        with contextlib.suppress(FileNotFoundError):
            if pathlib.Path(path).read_text(errors="surrogateescape") == content:
                return
        temporary = f"{path}.tmp.{os.getpid()}"
        pathlib.Path(temporary).write_text(content, errors="surrogateescape")
        os.rename(temporary, path)

    def forget(self, known: t.Container[int]) -> None:
        """Remove the files of containers that are gone."""
        for vmid, path in list(self._places.items()):
            if vmid not in known:
                pathlib.Path(path).unlink(missing_ok=True)
                del self._places[vmid]

    # ---- the lock that Proxmox VE and who edits the file share

    def lock(self, vmid: int) -> bool:
        """Take a container's lock file unless somebody has it."""
        if vmid in self._locks:
            return True
        handle = os.open(
            f"{self.lock_dir}/pve-config-{vmid}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._locks[vmid] = handle
        return True

    def unlock(self, vmid: int) -> None:
        """Give it back."""
        with contextlib.suppress(KeyError):
            os.close(self._locks.pop(vmid))

    def holds(self, vmid: int) -> bool:
        """Whether this side has the lock."""
        return vmid in self._locks
