# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run containers from bundles that were made elsewhere, without writing into them.

A wrapper is a bundle directory of our own with a copy of the other's ``config.json``
in which the path of the root file system is absolute.  Record, repair, network and
live updates then work as for any other container.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import json
import os
import secrets
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.bundle import CONFIG_FILE
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager, Staged
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import BundleRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.container.places import wrapper_folder
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.files import open_regular
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Json, Paths, spec_hash

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
    from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore


@dataclasses.dataclass(frozen=True, slots=True)
class WrapperPaths(Paths):
    """The same places, but for the bundles: wrappers have a directory of their own."""

    @property
    def bundles(self) -> str:
        """Directory that holds one wrapper per container."""
        return wrapper_folder(self)


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """A bundle that was made elsewhere."""

    path: str
    config: Json
    #: SHA-256 of its config.json.
    digest: str

    def plain(self) -> Json:
        """Return what a request compares."""
        return {"path": self.path, "config": f"sha256:{self.digest}"}


def read_given(path: str) -> Given:
    """Read a bundle; raises NotFound when there is none, InvalidSpec when its config.json is no JSON."""
    path = os.path.realpath(path)
    name = os.path.join(path, CONFIG_FILE)
    try:
        with open_regular(name) as stream:
            data = stream.read()
        config = json.loads(data)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise NotFound(
            f"bundle: '{path}' is no bundle, it has no {CONFIG_FILE}", hint="Make it with oci_bundle"
        ) from exc
    except OSError as exc:
        raise InvalidSpec("bundle", f"{name} cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise InvalidSpec("bundle", f"{name} is no JSON: {exc}") from exc
    if not isinstance(config, dict):
        raise InvalidSpec("bundle", f"{name} holds no JSON object")
    return Given(path, config, hashlib.sha256(data).hexdigest())


def adapt_config(
    given: Given, *, network_namespace: str | None, mounts: t.Mapping[str, str], name: str
) -> tuple[Json, str]:
    """Return the configuration to run, and the absolute path of the root file system.  Pure.

    ``network_namespace`` is a path, ``host``, or None to leave it as it is; ``mounts``
    are files to show read-write at a destination that the bundle leaves alone.
    Raises InvalidSpec when the bundle names no root file system.
    """
    config = copy.deepcopy(given.config)
    root = config.get("root")
    if not isinstance(root, dict) or not isinstance(root.get("path"), str):
        raise InvalidSpec("bundle", f"{CONFIG_FILE} of '{given.path}' has no root.path")
    root["path"] = os.path.normpath(os.path.join(given.path, root["path"]))
    linux = config.setdefault("linux", {})
    if network_namespace is not None:
        others = [n for n in linux.get("namespaces", []) if n.get("type") != "network"]
        if network_namespace != "host":
            others.append({"type": "network", "path": network_namespace})
        linux["namespaces"] = others
    linux.setdefault("cgroupsPath", f"/pvecri/{name}")
    taken = {mount.get("destination") for mount in config.get("mounts", [])}
    for destination, source in mounts.items():
        if destination not in taken:
            config.setdefault("mounts", []).append(
                {"destination": destination, "type": "bind", "source": source, "options": ["bind", "rw"]}
            )
    return config, root["path"]


class WrapperManager(BundleManager):
    """The wrappers of one owner."""

    def __init__(self, paths: Paths, store: ImageStore, runner: Runner) -> None:
        places = WrapperPaths(paths.state_dir, paths.run_dir, paths.owner)
        super().__init__(places, store, runner)

    def _forget_secrets(self, name: str) -> None:
        """Leave all secrets alone: they belong to the bundle of that name that a wrapper may stand for."""

    def stage_wrapper(
        self,
        name: str,
        given: Given,
        *,
        network_namespace: str | None,
        mounts: t.Mapping[str, str],
        extra: Json,
    ) -> Staged:
        """Make a wrapper beside its place; `commit` or `discard` must follow.

        Raises InvalidSpec with the path in the configuration and the rule that it breaks.
        """
        from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec import validate  # noqa: PLC0415

        # As it was given first: what follows relies on its form.
        validate.check(given.config)
        config, rootfs = adapt_config(
            given, network_namespace=network_namespace, mounts=mounts, name=self.paths.host_wide(name)
        )
        validate.check(config)
        if not os.path.isdir(rootfs):
            raise NotFound(
                f"bundle: the root file system '{rootfs}' does not exist", hint="Mount or unpack it first"
            )
        with contextlib.ExitStack() as held:
            held.enter_context(self._locked(name))
            self._clear(name)
            directory = self._staging_path(name)
            os.makedirs(os.path.dirname(directory), mode=0o700, exist_ok=True)
            os.mkdir(directory, 0o700)
            with open(os.path.join(directory, CONFIG_FILE), "x", encoding="utf-8") as stream:
                os.fchmod(stream.fileno(), 0o600)
                json.dump(config, stream, separators=(",", ":"))
            record = BundleRecord(
                name=name,
                instance=secrets.token_hex(6),
                created=time.time(),
                spec_hash=spec_hash(given.plain()),
                request={},
                source={"kind": "bundle", "path": given.path},
                identity=given.plain(),
                rootfs=rootfs,
                network_namespace=network_namespace,
                extra=extra,
            )
            record.write(directory)
            held.enter_context(self._marked(name))
            return Staged(name=name, path=directory, record=record, warnings=[], held=held.pop_all())
