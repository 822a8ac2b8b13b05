# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what device vendors want to be done for their devices, and put it into the core's terms.

Vendors describe devices in files below /etc/cdi and /var/run/cdi (Container Device Interface
specification, 1.0).  A request names devices as ``vendor.com/class=name``; what a description says of
one — variables, device nodes, mounts, hooks, groups — is added to the container.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CoreError,
    InvalidSpec,
    Unsupported,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    Device,
    Hook,
    Json,
    Mount,
    MountKind,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.mount_options import PROPAGATIONS
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.documents import load_document
from pvecri.api import cri_pb2
from pvecri.containers.validate import is_cdi_name

DIRECTORIES: t.Final = ("/etc/cdi", "/var/run/cdi")

#: Annotations by which device plugins ask, too; the values are names separated by commas.
ANNOTATION: t.Final = "cdi.k8s.io/"

_SUFFIXES: t.Final = (".json", ".yaml", ".yml")
_EDITS: t.Final = frozenset({"env", "deviceNodes", "mounts", "hooks", "additionalGids"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Edits:
    """What is added to a container."""

    env: tuple[tuple[str, str], ...] = ()
    devices: tuple[Device, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[Hook, ...] = ()
    groups: tuple[str, ...] = ()

    def __add__(self, other: Edits) -> Edits:
        """Return what both add, each thing once."""
        return Edits(
            **{
                field.name: tuple(dict.fromkeys(getattr(self, field.name) + getattr(other, field.name)))
                for field in dataclasses.fields(self)
            }
        )

    def applied(self, spec: ContainerSpec) -> ContainerSpec:
        """Return the description of a container with the edits; what the request says itself counts."""
        named = {name for name, _value in spec.env}
        taken = {mount.destination for mount in spec.mounts}
        nodes = {device.destination for device in spec.devices}
        return dataclasses.replace(
            spec,
            env=(*((name, value) for name, value in self.env if name not in named), *spec.env),
            devices=(*spec.devices, *(item for item in self.devices if item.destination not in nodes)),
            mounts=(*spec.mounts, *(item for item in self.mounts if item.destination not in taken)),
            hooks=(*spec.hooks, *self.hooks),
            supplementary_groups=tuple(dict.fromkeys((*spec.supplementary_groups, *self.groups))),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _File:
    """One description that was read."""

    path: str
    #: Devices by their whole names, with what each adds.
    devices: t.Mapping[str, Edits]
    #: What is added once for any of them.
    common: Edits


class Catalogue:
    """All descriptions of this host; files are read again when they have changed."""

    def __init__(self, directories: t.Sequence[str] = DIRECTORIES) -> None:
        self._directories = tuple(directories)
        self._lock = threading.Lock()
        self._read: dict[str, tuple[tuple[int, ...], _File | CoreError]] = {}

    def edits(self, wanted: t.Sequence[tuple[str, str]]) -> Edits:
        """Return what devices add; ``wanted`` are the request's fields and the devices they name.

        Raises InvalidSpec for a device that nobody describes, or that two files of one
        directory do, and Unsupported for a description that asks for what cannot be done.
        """
        if not wanted:
            return Edits()
        files = self._files()
        result, used = Edits(), set[str]()
        for field, name in dict.fromkeys(wanted):
            file = self._find(field, name, files)
            if file.path not in used:
                used.add(file.path)
                result += file.common
            result += file.devices[name]
        return result

    def _find(self, field: str, name: str, files: t.Sequence[_Folder]) -> _File:
        # A later directory counts before an earlier one.
        for folder in reversed(files):
            found = [each for each in folder if isinstance(each, _File) and name in each.devices]
            if len(found) > 1:
                raise InvalidSpec(
                    field, f"'{name}' is described twice: in {found[0].path} and {found[1].path}"
                )
            if found:
                return found[0]
        problems = [str(each) for folder in files for each in folder if isinstance(each, CoreError)]
        raise InvalidSpec(
            field,
            f"no device '{name}' is described below {' or '.join(self._directories)}"
            + (f" ({'; '.join(problems[:3])})" if problems else ""),
            hint="Is the vendor's device plugin installed on this host?",
        )

    def _files(self) -> list[_Folder]:
        with self._lock:
            found = [self._folder(directory) for directory in self._directories]
            present = {path for folder in found for path, _file in folder}
            for path in self._read.keys() - present:
                del self._read[path]
            return [[file for _path, file in folder] for folder in found]

    def _folder(self, directory: str) -> list[tuple[str, _File | CoreError]]:
        try:
            names = sorted(name for name in os.listdir(directory) if name.endswith(_SUFFIXES))
        except OSError:
            return []
        found = []
        for name in names:
            path = os.path.join(directory, name)
            try:
                status = os.stat(path)
            except OSError:
                continue
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
            known = self._read.get(path)
            if known is None or known[0] != stamp:
                known = self._read[path] = (stamp, _read(path))
            found.append((path, known[1]))
        return found


_Folder = t.Sequence["_File | CoreError"]


def wanted_devices(config: cri_pb2.ContainerConfig) -> list[tuple[str, str]]:
    """Return the devices of a checked request, each with the field that names it; raises InvalidSpec."""
    found = [(f"config.CDI_devices[{i}].name", device.name) for i, device in enumerate(config.CDI_devices)]
    known = {name for _field, name in found}
    for key, value in sorted(config.annotations.items()):
        if not key.startswith(ANNOTATION):
            continue
        for name in value.split(","):
            if not is_cdi_name(name):
                raise InvalidSpec(
                    f"config.annotations[{key}]", f"'{name[:256]}' is not vendor.com/class=device"
                )
            if name not in known:
                known.add(name)
                found.append((f"config.annotations[{key}]", name))
    return found


def _read(path: str) -> _File | CoreError:
    """Return a description, or what is wrong with it: one bad file hides no other."""
    try:
        return parse(path, load_document(path, path))
    except CoreError as exc:
        return exc


def parse(path: str, document: t.Any) -> _File:
    """Read a description; raises InvalidSpec for ``path``, and Unsupported."""
    try:
        kind = document["kind"]
        devices = {
            f"{kind}={device['name']}": _edits(path, device.get("containerEdits") or {})
            for device in document["devices"]
        }
        common = _edits(path, document.get("containerEdits") or {})
    except (KeyError, TypeError, AttributeError, ValueError) as exc:
        raise InvalidSpec(path, f"is no description of devices: {exc!r}") from exc
    for name in devices:
        if not is_cdi_name(name):
            raise InvalidSpec(path, f"'{name[:256]}' is not the name of a device")
    return _File(path, devices, common)


def _edits(path: str, edits: Json) -> Edits:
    unknown = edits.keys() - _EDITS
    if unknown:
        raise Unsupported(f"{path}: cannot do what 'containerEdits.{min(unknown)}' says")
    return Edits(
        env=tuple(_variable(text) for text in edits.get("env") or ()),
        devices=tuple(_device(node) for node in edits.get("deviceNodes") or ()),
        mounts=tuple(_mount(path, mount) for mount in edits.get("mounts") or ()),
        hooks=tuple(_hook(hook) for hook in edits.get("hooks") or ()),
        groups=tuple(str(int(group)) for group in edits.get("additionalGids") or ()),
    )


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f"{text!r} is not NAME=value")
    return name, value


def _device(node: Json) -> Device:
    path = node["path"]
    return Device(
        source=node.get("hostPath") or path,
        destination=path,
        permissions=node.get("permissions") or "rwm",
        mode=node.get("fileMode"),
        uid=node.get("uid"),
        gid=node.get("gid"),
    )


def _mount(path: str, mount: Json) -> Mount:
    kind = mount.get("type") or "bind"
    if kind not in ("bind", "none"):
        raise Unsupported(f"{path}: a mount of type '{kind}' is not possible, only 'bind' is")
    options = list(mount.get("options") or ())
    propagation = [option for option in options if option in PROPAGATIONS]
    others = [option for option in options if option not in (*PROPAGATIONS, "ro", "rw", "rbind")]
    return Mount(
        kind=MountKind.BIND,
        destination=mount["containerPath"],
        source=mount["hostPath"],
        read_only="ro" in options,
        propagation=propagation[-1] if propagation else "rprivate",
        options=tuple(others),
    )


def _hook(hook: Json) -> Hook:
    return Hook(
        stage=hook["hookName"],
        path=hook["path"],
        # The specification's arguments begin with the program's name.
        args=tuple(str(word) for word in (hook.get("args") or ())[1:]),
        env=tuple(hook.get("env") or ()),
        timeout_s=hook.get("timeout"),
    )
