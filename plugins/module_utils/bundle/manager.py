# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make, find, mount and remove bundles: one directory per container.

    <bundles>/<name>/           the bundle: config.json, pvecri.json, rootfs, …
    <bundles>/.new.<name>/      one in the making, or one on its way out

A bundle is made under the second name and renamed; an old one is swapped with it in
one step and removed after.  Whatever stands under the second name without the
bundle's lock being held was left by a killed process, and the next one that works on
this name clears it away.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.bundle import (
    CONFIG_FILE,
    Bundle,
    is_mount,
    load_bundle,
    mount_points,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.desired import (
    Desired,
    bundle_hash,
    desired_bundle,
    fetch_rootfs,
    find_rootfs,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.locks import FileLocks, NameLocks
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import BundleRecord, read_record
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.files import write_atomic
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    Paths,
    check_container_name,
    is_container_name,
)

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
    from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import RootfsSource
    from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
    from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec
    from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
    from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.problem import Problem

_STAGED = ".new."


@dataclasses.dataclass(slots=True, kw_only=True)
class Staged:
    """A bundle that is whole, but not in its place yet; its name is locked until it is."""

    name: str
    path: str
    record: BundleRecord
    warnings: list[str]
    held: contextlib.ExitStack
    #: What stands in its config.json, where its maker still has it.
    config: dict[str, t.Any] | None = None


class BundleManager:
    """The bundles of one owner.

    What only some calls need is imported by them: a module's run that finds nothing
    to do should load little.
    """

    def __init__(
        self,
        paths: Paths,
        store: ImageStore,
        runner: Runner,
        *,
        host: HostFacts | None = None,
        locks: NameLocks | None = None,
    ) -> None:
        """Set up; ``locks`` other than files are for a process that has these bundles to itself.

        Such a process calls `sweep` when it begins, not with every bundle.
        """
        self.paths = paths
        self.store = store
        self.runner = runner
        self._host = host
        self._is_alone = locks is not None
        self._locks = locks or FileLocks(paths)
        #: Names whose locks are held since `stage` or `held`; managers that lock by the same files share it.
        self.staged: set[str] = set()

    # ---- reading: no process, no write, no mount ----------------------------------------------------------

    def names(self) -> list[str]:
        """Return the names of all bundles, sorted."""
        try:
            return sorted(name for name in os.listdir(self.paths.bundles) if is_container_name(name))
        except FileNotFoundError:
            return []

    def path_of(self, name: str) -> str:
        """Return the directory of a bundle that may not exist; raises InvalidSpec for no name."""
        return os.path.join(self.paths.bundles, check_container_name(name))

    def load(self, name: str) -> Bundle | None:
        """Return a bundle with what is wrong with it, or None when there is none."""
        return load_bundle(name, self.path_of(name))

    def desired(
        self, spec: ContainerSpec, source: RootfsSource, *, network_namespace: str | None = None
    ) -> Desired:
        """Return what a bundle of this request would record, without fetching anything."""
        rootfs = find_rootfs(source, self.store, self.paths)
        return desired_bundle(spec, source, None if rootfs is None else rootfs.identity, network_namespace)

    def verify(self, path: str) -> list[Problem]:
        """Return what is wrong with a bundle that anything may have made."""
        from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.verify import (  # noqa: PLC0415
            verify_bundle,
        )

        return verify_bundle(path)

    # ---- making -------------------------------------------------------------------------------------------

    def create(
        self,
        spec: ContainerSpec,
        source: RootfsSource,
        *,
        network_namespace: str | None = None,
        extra: dict[str, t.Any] | None = None,
    ) -> Bundle:
        """Make a bundle, mounted and ready to run; one of the same name is replaced.

        Raises InvalidSpec, NotFound, Unsupported, Conflict and CommandError before
        anything of the old bundle is touched, and WrongState while a container runs from it.
        """
        return self.commit(self.stage(spec, source, network_namespace=network_namespace, extra=extra))

    def stage(
        self,
        spec: ContainerSpec,
        source: RootfsSource,
        *,
        network_namespace: str | None = None,
        extra: dict[str, t.Any] | None = None,
    ) -> Staged:
        """Make a whole, checked bundle beside its place; `commit` or `discard` must follow."""
        from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import staging  # noqa: PLC0415

        final = self.path_of(spec.name)
        # Fetched before any lock: a slow registry must not hold up work on other images.
        rootfs = fetch_rootfs(source, self.store, self.paths)
        images = staging.fetch_mount_images(spec, source, self.store)
        with contextlib.ExitStack() as held:
            held.enter_context(self._locked(spec.name))
            self._clear(spec.name)
            if not self._is_alone:
                self.sweep()
            work = staging.Staging(
                paths=self.paths,
                host=self._host_facts(),
                spec=spec,
                source=source,
                directory=self._staging_path(spec.name),
                final=final,
                network_namespace=network_namespace,
                extra=extra or {},
            )
            try:
                with self.store.in_use():
                    staging.refuse_removed(self.store, source, rootfs, images)
                    record = work.build(rootfs, images)
            except BaseException as exc:
                self._clear(spec.name)
                if isinstance(exc, OSError):
                    raise _disk_error(exc, work.directory) from exc
                raise
            held.enter_context(self._marked(spec.name))
            return Staged(
                name=spec.name,
                path=work.directory,
                record=record,
                warnings=work.warnings,
                held=held.pop_all(),
                config=work.config,
            )

    def commit(self, staged: Staged) -> Bundle:
        """Put a staged bundle in its place, remove the one that was there, and mount it."""
        from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls  # noqa: PLC0415
        from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import mounting, rootfs  # noqa: PLC0415

        final = self.path_of(staged.name)
        try:
            if os.path.isdir(final):
                self._refuse_running(staged.name, final)
                rootfs.unmount_below(final)
                syscalls.exchange(staged.path, final)
                self._clear(staged.name)
            else:
                os.rename(staged.path, final)
            mounting.mount_all(final, staged.record)
        finally:
            self._clear(staged.name)
            staged.held.close()
        return Bundle(
            name=staged.name,
            path=final,
            record=staged.record,
            warnings=staged.warnings,
            _config=staged.config,
        )

    def discard(self, staged: Staged) -> None:
        """Remove a staged bundle that will not be used."""
        try:
            self._clear(staged.name)
        finally:
            staged.held.close()

    # ---- changing -----------------------------------------------------------------------------------------

    def update(
        self,
        bundle: Bundle,
        *,
        config: dict[str, t.Any] | None = None,
        request: dict[str, t.Any] | None = None,
        extra: dict[str, t.Any] | None = None,
    ) -> Bundle:
        """Write a changed config.json, then the record that goes with it; raises InvalidSpec."""
        record = self._usable(bundle)
        if request is not None:
            hashed = bundle_hash(request, record.identity, record.network_namespace)
            record = dataclasses.replace(record, request=request, spec_hash=hashed)
        if extra is not None:
            record = dataclasses.replace(record, extra=extra)
        with self._locked(bundle.name):
            if config is not None:
                _write_config(bundle.path, config)
            if record is not bundle.record:
                record.write(bundle.path)
        return Bundle(name=bundle.name, path=bundle.path, record=record, problems=list(bundle.problems))

    def mount(self, bundle: Bundle) -> bool:
        """Mount what the bundle needs; return whether anything was missing."""
        from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import mounting  # noqa: PLC0415

        record = self._usable(bundle)
        with self._locked(bundle.name):
            return mounting.mount_all(bundle.path, record)

    def unmount(self, bundle: Bundle) -> bool:
        """Take away the bundle's mounts; return whether there was one.  Raises WrongState while it runs."""
        from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import mounting  # noqa: PLC0415

        record = self._usable(bundle)
        with self._locked(bundle.name):
            if any(map(is_mount, mount_points(bundle.path, record))):
                self._refuse_running(bundle.name, bundle.path)
            return mounting.unmount_all(bundle.path, record)

    def remove(self, name: str) -> bool:
        """Remove a bundle with what was written in it; return whether there was one.

        Named volumes stay.  Raises WrongState while a container runs from it.
        """
        from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import rootfs  # noqa: PLC0415

        final = self.path_of(name)
        with self._locked(name):
            self._clear(name)
            if not os.path.lexists(final):
                return False
            self._refuse_running(name, final)
            rootfs.unmount_below(final)
            staging = self._staging_path(name)
            os.rename(final, staging)
            rootfs.remove_whole(staging, has_mounts=False)
            self._forget_secrets(name)
        return True

    def repair(self, name: str, spec: ContainerSpec | None = None) -> Bundle | None:
        """Bring back what a crash or a reboot took: left-overs go, secrets of ``spec`` come back.

        Returns the bundle with the problems that are left; it is not mounted by this.
        """
        with self._locked(name):
            self._clear(name)
            bundle = self.load(name)
            if bundle is None or bundle.record is None or spec is None or not bundle.problems:
                return bundle
            from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.restore import (  # noqa: PLC0415
                restore_secrets,
            )

            restore_secrets(self.paths, bundle, spec)
            return self.load(name)

    def sweep(self) -> list[str]:
        """Clear away what killed processes left under any name; return these names."""
        try:
            entries = os.listdir(self.paths.bundles)
        except FileNotFoundError:
            return []
        swept = []
        left = {entry.removeprefix(_STAGED) for entry in entries if entry.startswith(_STAGED)}
        for name in sorted(left - self.staged):
            # Whoever holds the lock is at work, and will clear away what was left before.
            with contextlib.suppress(CoreError), self._locked(name, timeout_s=0):
                self._clear(name)
                swept.append(name)
        return swept

    # ---- parts --------------------------------------------------------------------------------------------

    def _host_facts(self) -> HostFacts:
        if self._host is None:
            from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import (  # noqa: PLC0415
                gather_host_facts,
            )

            self._host = gather_host_facts(self.runner)
        return self._host

    def _staging_path(self, name: str) -> str:
        return os.path.join(self.paths.bundles, _STAGED + name)

    @contextlib.contextmanager
    def held(self, name: str) -> t.Iterator[None]:
        """Keep other processes from changing a bundle, so that what was planned for it is still right."""
        with self._locked(name), self._marked(name):
            yield

    @contextlib.contextmanager
    def _marked(self, name: str) -> t.Iterator[None]:
        """Note that the lock of a name is held, unless that stands already."""
        if name in self.staged:
            yield
            return
        self.staged.add(name)
        try:
            yield
        finally:
            self.staged.discard(name)

    def _locked(self, name: str, *, timeout_s: float = 120.0) -> contextlib.AbstractContextManager[None]:
        if name in self.staged:
            # Held already, by whoever uses this manager.
            return contextlib.nullcontext()
        return self._locks.held(name, timeout_s)

    def _clear(self, name: str) -> None:
        """Remove what stands under the staging name, its mounts first; the lock is held."""
        path = self._staging_path(name)
        if os.path.lexists(path):
            from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import rootfs  # noqa: PLC0415

            rootfs.remove_whole(path)
        self._forget_secrets(name)

    def _forget_secrets(self, name: str) -> None:
        """Remove secrets of a name that no bundle has any more."""
        if not os.path.isdir(os.path.join(self.paths.run_dir, "secrets", self.paths.owner)):
            return
        from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.contents import (  # noqa: PLC0415
            forget_secrets,
        )

        keep: list[str] = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, WrongState):
            keep.append(read_record(self.path_of(name)).instance)
        forget_secrets(self.paths, name, keep)

    def _usable(self, bundle: Bundle) -> BundleRecord:
        if bundle.record is None:
            raise WrongState(
                f"bundle {bundle.name} is damaged: {'; '.join(bundle.problems)}",
                hint="Make it again, or remove it",
            )
        return bundle.record

    def _refuse_running(self, name: str, path: str) -> None:
        from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.users import (  # noqa: PLC0415
            running_containers,
        )

        # Alone, a process has each container run from the bundle of its own name.
        only = [name] if self._is_alone else None
        running = running_containers(self.paths.runtime_root, path, only=only)
        if running:
            raise WrongState(
                f"container {running[0]} runs from bundle {name}", hint="Stop and delete the container first"
            )


def _write_config(path: str, config: dict[str, t.Any]) -> None:
    from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec import validate  # noqa: PLC0415

    validate.check(config)
    data = json.dumps(config, separators=(",", ":")).encode()
    write_atomic(os.path.join(path, CONFIG_FILE), data, mode=0o600)


def _disk_error(exc: OSError, path: str) -> CoreError:
    reason = os.strerror(exc.errno) if exc.errno else str(exc)
    return CoreError(
        f"the bundle cannot be made at {path}: {reason}",
        hint="Look at the file system of the state directory",
    )
