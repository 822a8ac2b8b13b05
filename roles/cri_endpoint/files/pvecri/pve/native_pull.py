# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the file that the name of a template means, and bring it onto the storage if it is not there.

What the configuration names an address for comes from there; else it is what the storage
has, or what Proxmox's own list of appliances offers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import DEFAULT_TAG
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import host_platform
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import answers
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.storage_config import template_directory
from pvecri.images.native_names import NativeName, parse_native
from pvecri.pve import native_files, template_content, template_download
from pvecri.pve.native_files import SUFFIXES
from pvecri.pve.template_download import Progress
from pvecri.pve.template_volume import own_name, own_names
from pvecri.pve.templates import Node

#: Proxmox VE's names of architectures by those of images.
_ARCHITECTURES = {"386": "i386", "arm": "armhf"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A file that is on the storage now."""

    storage: str
    directory: str
    file: str
    #: What it is called from now on, by its own version first.
    names: tuple[str, ...]
    #: Whether it was not there before.
    is_new: bool
    #: What the configuration says that it has; empty for those of Proxmox's own list.
    sha512: str = ""


class Bringer:
    """Knows where templates come from."""

    def __init__(self, node: Node, sources: t.Mapping[str, t.Any]) -> None:
        """Set up; ``sources`` are addresses and checksums (``url``, ``sha512``) by image."""
        self._node = node
        self._sources = {
            parse_native(name, "pve.templates").canonical: source for name, source in sources.items()
        }

    def place(self) -> tuple[str, str]:
        """Return the storage of templates, and its directory on this node."""
        storage = self._node.template_storage
        return storage, template_directory(self._node.config_dir, self._node.name, storage)

    def bring(
        self,
        name: NativeName,
        progress: Progress,
        fetching: t.Callable[[str], contextlib.AbstractContextManager[None]],
    ) -> Brought:
        """Return the file of a template, fetched if need be.

        ``fetching`` notes a file for as long as the node is at work on it.  Raises NotFound, and
        what `template_download` and the API do.
        """
        storage, directory = self.place()
        source = self._sources.get(name.tagged(name.tag))
        if source is not None:
            return self._from_address(
                name,
                source,
                Brought(storage=storage, directory=directory, file="", names=(name.canonical,), is_new=True),
                progress,
            )
        return self._from_list(name, (storage, directory), progress, fetching)

    def half_done(self, known: t.Collection[str]) -> list[str]:
        """Return the files that a killed daemon left: fetched from an address, and on no list."""
        if not self._sources:
            return []
        _storage, directory = self.place()
        own = re.compile(rf"\.?{own_names(self._node.endpoint_id)}\.tar\.\w+(?:\.[0-9a-f]{{8}})?")
        names = [name for name in os.listdir(directory) if own.fullmatch(name) and name not in known]
        return [os.path.join(directory, name) for name in names]

    def _from_address(
        self, name: NativeName, source: t.Mapping[str, str], place: Brought, progress: Progress
    ) -> Brought:
        url, sha512 = source["url"], source["sha512"]
        suffix = next((each for each in SUFFIXES if url.endswith(each)), "")
        if not suffix:
            raise NotFound(
                f"{progress.what}: {url} is no template by its name",
                hint=f"Proxmox VE takes files that end in {', '.join(SUFFIXES)}",
            )
        file = own_name(f"{name.name}-{name.tag}", sha512, self._node.endpoint_id) + suffix
        path = os.path.join(place.directory, file)
        # Its name says what it should be, not what it is.
        is_new = not os.path.exists(path) or template_content.digest_of(path, "sha512") != sha512
        if is_new:
            template_download.by_address(url, sha512, path, progress)
        return dataclasses.replace(place, file=file, is_new=is_new, sha512=sha512)

    def _from_list(
        self,
        name: NativeName,
        place: tuple[str, str],
        progress: Progress,
        fetching: t.Callable[[str], contextlib.AbstractContextManager[None]],
    ) -> Brought:
        storage, directory = place
        architecture = _architecture()
        there = os.listdir(directory)
        found = native_files.choose(there, name, architecture)
        # Only Proxmox's list says which version is the newest.
        if found is None or name.tag == DEFAULT_TAG:
            listed = self._listed()
            newest = native_files.choose([*listed, *there], name, architecture)
            if newest is None:
                raise _unknown(name, storage, [*listed, *there], architecture)
            found = newest
        is_new = found.file not in there
        if is_new:
            with fetching(found.file):
                template_download.by_task(self._node, storage, directory, found.file, progress)
        names = dict.fromkeys((name.tagged(found.tag), name.tagged(name.tag)))
        return Brought(
            storage=storage, directory=directory, file=found.file, names=tuple(names), is_new=is_new
        )

    def _listed(self) -> list[str]:
        entries = self._node.client.get(("nodes", self._node.name, "aplinfo"))
        with answers.understood("GET /nodes/…/aplinfo"):
            return [str(entry["template"]) for entry in entries]


def _architecture() -> str:
    found = host_platform().architecture
    return _ARCHITECTURES.get(found, found)


def _unknown(name: NativeName, storage: str, files: t.Iterable[str], architecture: str) -> NotFound:
    fit = [found for found in map(native_files.parse_file, files) if found is not None]
    versions = sorted({each.tag for each in fit if each.name.lower() == name.name})
    others = sorted({each.name for each in fit if each.architecture in (architecture, "all")})
    have = f"they have its versions {', '.join(versions)}" if versions else f"they have {', '.join(others)}"
    return NotFound(
        f"neither storage '{storage}' nor Proxmox's list has a template {name.canonical} for {architecture}; "
        f"{have if fit else 'both are empty'}",
        hint="'pveam update' on the node renews the list; an image of a registry wants the registry in its "
        f"name, as docker.io/lxc/{name.name}",
    )
