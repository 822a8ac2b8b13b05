# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the file of a template that a name means.  Pure.

Proxmox's files are called ``NAME_VERSION_ARCHITECTURE.tar.zst``; what a version has that a
tag cannot have stands as a dash there.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import DEFAULT_TAG
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.appliance import version_key
from pvecri.images.native_names import NativeName

_FILE = re.compile(r"(?P<name>[^_/]+)_(?P<version>[^_/]+)_(?P<arch>[^_./]+)\.tar\.(?:gz|xz|zst|bz2)")
_NOT_IN_TAG = re.compile(r"[^A-Za-z0-9_.-]")
#: Suffixes by which Proxmox VE knows a template.
SUFFIXES = (".tar.zst", ".tar.xz", ".tar.gz")


@dataclasses.dataclass(frozen=True, slots=True)
class TemplateFile:
    """A file of the usual form."""

    file: str
    name: str
    version: str
    architecture: str

    @property
    def tag(self) -> str:
        """The version as a tag."""
        return _NOT_IN_TAG.sub("-", self.version)


def parse_file(file: str) -> TemplateFile | None:
    """Return the parts of a file's name, or None for one of another form."""
    match = _FILE.fullmatch(file)
    return None if match is None else TemplateFile(file, match["name"], match["version"], match["arch"])


def choose(files: t.Iterable[str], wanted: NativeName, architecture: str) -> TemplateFile | None:
    """Return the file that a name means, the newest for the tag ``latest``."""
    fit = [
        found
        for found in map(parse_file, files)
        if found is not None
        and found.name.lower() == wanted.name
        and found.architecture in (architecture, "all")
        and wanted.tag in (DEFAULT_TAG, found.tag)
    ]
    return max(fit, key=lambda found: (version_key(found.version), found.file), default=None)
