# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpack templates as Proxmox VE does when it creates a container: OCI archives and root file systems.

An OCI archive is known by members named exactly ``oci-layout`` and ``index.json``.  Its
configuration becomes the container's ``env`` and ``entrypoint`` and raw keys for user,
directory and stop signal.  Device nodes, extended attributes and architectures are left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import tarfile
import typing as t

Values = dict[str, t.Any]

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


class BadImage(Exception):
    """What the task of Proxmox VE ends with."""


def is_oci(archive: str) -> bool:
    """Whether Proxmox VE takes an archive for an OCI image."""
    if not archive.endswith(".tar"):
        return False
    with tarfile.open(archive) as outer:
        return {"oci-layout", "index.json"} <= set(outer.getnames())


def unpack(archive: str, rootfs: str, shift: int) -> Values:
    """Fill ``rootfs``, all owners moved by ``shift``; return the config that an image brings along."""
    os.makedirs(rootfs, exist_ok=True)
    try:
        if not is_oci(archive):
            with _plain(archive) as layer:
                _extract(layer, rootfs, shift)
            return {}
        if not shift:
            raise BadImage("setgid(0): Invalid argument")
        with tarfile.open(archive) as outer:
            image, layers = _image(outer)
            for blob in layers:
                with tarfile.open(fileobj=blob, mode="r:*") as layer:
                    # First: what hides may stand behind what it does not hide.
                    for name in layer.getnames():
                        _hide(rootfs, name)
                    _extract(layer, rootfs, shift)
        return brought_along(image.get("config") or {})
    except (tarfile.TarError, KeyError, ValueError) as exc:
        raise BadImage(f"error extracting archive: {type(exc).__name__}: {exc}") from exc
    finally:
        os.chown(rootfs, shift, shift)
        os.chmod(rootfs, 0o755)


@contextlib.contextmanager
def _plain(archive: str) -> t.Iterator[tarfile.TarFile]:
    if archive.endswith(".zst"):
        with (
            subprocess.Popen(["zstd", "-dcq", archive], stdout=subprocess.PIPE) as child,
            tarfile.open(fileobj=child.stdout, mode="r|") as stream,
        ):
            yield stream
        return
    with tarfile.open(archive, mode="r:*") as seekable:
        yield seekable


def _blob(outer: tarfile.TarFile, digest: str) -> t.IO[bytes]:
    stream = outer.extractfile(f"blobs/{digest.replace(':', '/')}")
    if stream is None:
        raise ValueError(f"blob {digest} is no file")
    return stream


def _image(outer: tarfile.TarFile) -> tuple[Values, list[t.IO[bytes]]]:
    index = outer.extractfile("index.json")
    assert index is not None
    manifest = json.load(index)
    while "manifests" in manifest:
        manifest = json.load(_blob(outer, manifest["manifests"][0]["digest"]))
    config = json.load(_blob(outer, manifest["config"]["digest"]))
    return config, [_blob(outer, layer["digest"]) for layer in manifest["layers"]]


def brought_along(config: Values) -> Values:
    """Return keys of a container's config from an image's; raises BadImage for what would break the file."""
    found: Values = {}
    raw: list[list[str]] = []
    environment = config.get("Env") or []
    if any("\n" in variable for variable in environment):
        raise BadImage("the image's env has a line break, which makes the config file unreadable")
    if environment:
        found["env"] = "\0".join(environment).rstrip()
    command = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
    if command:
        found["entrypoint"] = shlex.join(command)
    if config.get("WorkingDir"):
        raw.append(["lxc.init.cwd", config["WorkingDir"]])
    user, _colon, group = str(config.get("User") or "").partition(":")
    for key, name in (("uid", user), ("gid", group)):
        if name.isdigit():
            raw.append([f"lxc.init.{key}", name])
    if config.get("StopSignal"):
        raw.append(["lxc.signal.halt", config["StopSignal"]])
    if raw:
        found["lxc"] = raw
    return found


# ---- layers


def _extract(layer: tarfile.TarFile, rootfs: str, shift: int) -> None:
    if hasattr(tarfile, "fully_trusted_filter"):
        layer.extraction_filter = tarfile.fully_trusted_filter
    directories = []
    for member in layer:
        name = os.path.basename(member.name)
        if name.startswith(_WHITEOUT) or member.ischr() or member.isblk():
            continue
        target = os.path.join(rootfs, member.name)
        if not member.isdir() and os.path.lexists(target):
            _remove(target)
        member.uid, member.gid = member.uid + shift, member.gid + shift
        layer.extract(member, rootfs, numeric_owner=True, set_attrs=True)
        if member.isdir():
            directories.append(member)
    for member in directories:
        os.chmod(os.path.join(rootfs, member.name), member.mode)


def _hide(rootfs: str, path: str) -> None:
    directory, name = os.path.split(os.path.join(rootfs, path))
    if name == _OPAQUE:
        for entry in os.listdir(directory) if os.path.isdir(directory) else ():
            _remove(os.path.join(directory, entry))
    elif name.startswith(_WHITEOUT):
        _remove(os.path.join(directory, name.removeprefix(_WHITEOUT)))


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        pathlib.Path(path).unlink(missing_ok=True)
