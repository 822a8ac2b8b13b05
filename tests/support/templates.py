# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give tests a directory that Proxmox VE takes for a storage of templates, and templates to lie there."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import typing as t

from ansible_collections.pvecri.runtime.tests.support.images import File, directory, symlink, tar_layer

NODE = "pve1"
_STORAGE = "dir: {name}\n\tpath {path}\n\tcontent vztmpl,iso,backup\n"

PASSWD = b"root:x:0:0::/root:/bin/sh\nmail:x:8:8::/var/mail:/bin/false\n"
GROUP = b"root:x:0:\nmail:x:8:\nadm:x:4:mail\n"


def packed_template(note: str = "", *, dotted: bool = True) -> bytes:
    """Return the content of a file ``.tar.zst`` with a small system in it."""
    before = "./" if dotted else ""
    plain = tar_layer(
        [
            *(directory(f"{before}{name}") for name in ("bin", "etc", "sbin")),
            File(f"{before}etc/note", note.encode()),
            symlink(f"{before}etc/mtab", "/proc/mounts"),
            File(f"{before}etc/group", GROUP),
            File(f"{before}etc/passwd", PASSWD),
            File(f"{before}sbin/init", b"#!/bin/sh\n" + note.encode(), 0o755),
        ]
    )
    return subprocess.run(
        ["zstd", "--quiet", "--stdout"], input=plain, check=True, capture_output=True
    ).stdout


@dataclasses.dataclass
class TemplateNode:
    """A node whose API nobody asks."""

    config_dir: str
    endpoint_id: str = "0123456789abcdef"
    name: str = NODE
    template_storage: str = "local"
    client: t.Any = None


def add_storage(config_dir: str, name: str, path: str | os.PathLike[str]) -> pathlib.Path:
    """List a directory as a storage, and return where its templates are."""
    os.makedirs(config_dir, exist_ok=True)
    with open(os.path.join(config_dir, "storage.cfg"), "a", encoding="utf-8") as stream:
        stream.write(_STORAGE.format(name=name, path=path))
    cache = pathlib.Path(path, "template", "cache")
    cache.mkdir(parents=True, exist_ok=True)
    return cache
