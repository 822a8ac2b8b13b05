# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remember which container is attached to which network, and with what result, over kills and restarts."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.files import (
    remove_temporaries,
    write_atomic,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Json, Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import (
    NetworkConfig,
    parse_config,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_ports import PortMapping

_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_INTERFACE = re.compile(r"[^\s/:]{1,15}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One interface of one container in one network, as the cache has it."""

    container_id: str
    #: What the plugins know the container as (CNI_CONTAINERID).
    cni_id: str
    interface: str
    netns: str
    config: NetworkConfig
    capabilities: Json = dataclasses.field(default_factory=dict)
    args: dict[str, str] = dataclasses.field(default_factory=dict)
    #: None while the ADD is under way, or when it was cut short.
    result: Json | None = None

    @property
    def port_mappings(self) -> tuple[PortMapping, ...]:
        """The published ports."""
        return tuple(PortMapping.from_plain(entry) for entry in self.capabilities.get("portMappings", ()))


class AttachmentCache:
    """One file for each attachment of one owner's containers."""

    def __init__(self, paths: Paths) -> None:
        self._top = os.path.join(paths.state_dir, "cni")
        self._directory = os.path.join(self._top, paths.owner.value)

    def load(self, container_id: str, interface: str) -> Attachment | None:
        """Return an attachment, or None when there is none; raises WrongState when it cannot be read."""
        return _load(self._path(container_id, interface))

    def store(self, attachment: Attachment) -> None:
        """Write what is asked for, so that a power cut does not make us forget an address that is taken."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        path = self._path(attachment.container_id, attachment.interface)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_result_path(path))
        plain = {
            "containerId": attachment.container_id,
            "cniContainerId": attachment.cni_id,
            "ifName": attachment.interface,
            "netns": attachment.netns,
            "config": attachment.config.plain(),
            "capabilityArgs": attachment.capabilities,
            "cniArgs": attachment.args,
        }
        write_atomic(path, json.dumps(plain).encode(), mode=0o600, durable=True)

    def store_result(self, attachment: Attachment) -> None:
        """Write what came of it, beside what was asked for.

        It helps to undo the attachment and is not needed for it, so nobody waits for the disk.
        """
        path = _result_path(self._path(attachment.container_id, attachment.interface))
        write_atomic(path, json.dumps(attachment.result).encode(), mode=0o600)

    def remove(self, container_id: str, interface: str) -> None:
        """Forget an attachment; nothing happens when it is forgotten already."""
        path = self._path(container_id, interface)
        for name in (_result_path(path), path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            remove_temporaries(name)

    def container_ids(self) -> set[str]:
        """Return whose attachments there are, by the names of the files alone."""
        names = (name for name in _entries(self._directory) if name.endswith(".json"))
        return {name.partition("@")[0] for name in names if not name.startswith(".")}

    def list(self) -> t.Iterator[Attachment]:
        """Yield this owner's attachments, by container."""
        yield from _load_all(self._directory)

    def list_of_all_owners(self) -> t.Iterator[Attachment]:
        """Yield every attachment of the host that can be read: ports are shared by all owners."""
        for owner in _entries(self._top):
            yield from _load_all(os.path.join(self._top, owner), is_strict=False)

    def _path(self, container_id: str, interface: str) -> str:
        if not _ID.fullmatch(container_id):
            raise InvalidSpec("container_id", f"'{container_id}' is no container id")
        if not _INTERFACE.fullmatch(interface) or interface in {".", ".."}:
            raise InvalidSpec("interface", f"'{interface}' is no name of an interface")
        # '@' is in no container id, so that the two cannot run into each other.
        return os.path.join(self._directory, f"{container_id}@{interface}.json")


def _entries(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _load_all(directory: str, *, is_strict: bool = True) -> t.Iterator[Attachment]:
    for entry in _entries(directory):
        if entry.endswith(".json") and not entry.startswith("."):
            try:
                attachment = _load(os.path.join(directory, entry))
            except WrongState:
                if is_strict:
                    raise
                # One damaged record must not keep all other containers from their ports.
                continue
            if attachment is not None:
                yield attachment


def _result_path(path: str) -> str:
    return path.removesuffix(".json") + ".result"


def _load_result(path: str) -> Json | None:
    """Return the result of an ADD, or None for one that was not completed or that a power cut took."""
    with contextlib.suppress(OSError, ValueError):
        with open(_result_path(path), "rb") as stream:
            value = json.load(stream)
        return value if isinstance(value, dict) else None
    return None


def _load(path: str) -> Attachment | None:
    try:
        with open(path, "rb") as stream:
            plain = json.load(stream)
        return Attachment(
            container_id=str(plain["containerId"]),
            cni_id=str(plain["cniContainerId"]),
            interface=str(plain["ifName"]),
            netns=str(plain["netns"]),
            config=parse_config(plain["config"], path),
            capabilities=dict(plain.get("capabilityArgs") or {}),
            args=dict(plain.get("cniArgs") or {}),
            result=_load_result(path) or plain.get("result"),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, InvalidSpec) as exc:
        # Not taken for absent: its address would be forgotten.
        raise WrongState(
            f"the network attachment '{path}' cannot be read: {exc}",
            hint="Remove the file once its address is freed from /var/lib/cni/networks",
        ) from exc
