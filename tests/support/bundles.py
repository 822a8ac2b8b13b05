# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make OCI bundles by hand from a static busybox, for tests of what runs them."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import typing as t

BUSYBOX = "/usr/bin/busybox"

Json = dict[str, t.Any]

CONFIG: Json = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": ["sleep", "1000"],
        "env": ["PATH=/bin", "BASE=1"],
        "cwd": "/",
        "capabilities": {
            kind: ["CAP_KILL", "CAP_SETUID", "CAP_SETGID"] for kind in ("bounding", "effective", "permitted")
        },
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs", "readonly": False},
    "hostname": "box",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        },
    ],
    "linux": {
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
        "resources": {},
    },
}


def make_rootfs(path: str) -> str:
    """Make a root directory in which busybox is every command; return its path."""
    for directory in ("bin", "dev", "etc", "proc", "sys", "tmp", "root"):
        os.makedirs(os.path.join(path, directory), exist_ok=True)
    shutil.copy(BUSYBOX, os.path.join(path, "bin/busybox"))
    for applet in subprocess.run(
        [BUSYBOX, "--list"], capture_output=True, text=True, check=True
    ).stdout.split():
        target = os.path.join(path, "bin", applet)
        if not os.path.lexists(target):
            os.symlink("busybox", target)
    with open(os.path.join(path, "etc/passwd"), "w", encoding="ascii") as stream:
        stream.write("root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001::/tmp:/bin/sh\n")
    with open(os.path.join(path, "etc/group"), "w", encoding="ascii") as stream:
        stream.write("root:x:0:\nusers:x:1001:\nwheel:x:10:alice\n")
    os.chmod(os.path.join(path, "tmp"), 0o1777)
    # Users of the container other than root must be able to enter it.
    os.chmod(path, 0o755)
    return path


def make_bundle(
    path: str,
    rootfs: str,
    args: t.Sequence[str] = ("sleep", "1000"),
    *,
    cgroup: str,
    change: t.Callable[[Json], object] | None = None,
) -> str:
    """Write a bundle at ``path`` and return that; ``change`` may edit the configuration in place."""
    config = copy.deepcopy(CONFIG)
    config["process"]["args"] = list(args)
    config["root"]["path"] = rootfs
    config["linux"]["cgroupsPath"] = cgroup
    if change is not None:
        change(config)
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as stream:
        json.dump(config, stream)
    return path
