# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do one thing to one container: the verbs that plans, and units of systemd, are made of.

Each verb finds out for itself what there is, so that it can be repeated after a
crash.  Nothing here compares or decides.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container.intent import KEY, Intent
from ansible_collections.pvecri.runtime.plugins.module_utils.container.observe import (
    Observation,
    find_bundle,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.container.places import (
    bundle_folders,
    files_folder,
    has_network,
    has_unit,
    names_in,
    wrapper_folder,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.container.request import NetworkRequest
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import (
    ContainerState,
    Status,
    read_state,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CoreError,
    InvalidSpec,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.bundle import Bundle
    from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager
    from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
    from ansible_collections.pvecri.runtime.plugins.module_utils.container.network import ContainerNetwork
    from ansible_collections.pvecri.runtime.plugins.module_utils.container.systemd import Units
    from ansible_collections.pvecri.runtime.plugins.module_utils.container.wrapper import WrapperManager
    from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
    from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore

#: Beyond a container's own stop time-out: what another task may need for everything else.
_LOCK_MARGIN_S = 120.0


class Engine:
    """The containers of one owner on this host.

    Drivers are loaded when they are first used: a run that finds nothing to do needs few.
    """

    def __init__(self, paths: Paths, runner: Runner) -> None:
        self.paths = paths
        self.runner = runner

    @functools.cached_property
    def runtime(self) -> CrunRuntime:
        """The driver of crun."""
        from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import (  # noqa: PLC0415
            CrunRuntime,
        )

        return CrunRuntime(self.paths, self.runner)

    @functools.cached_property
    def units(self) -> Units:
        """The units of containers that systemd restarts."""
        from ansible_collections.pvecri.runtime.plugins.module_utils.container.systemd import (  # noqa: PLC0415
            Units,
        )

        return Units(self.runner, self.paths.state_dir)

    @functools.cached_property
    def store(self) -> ImageStore:
        """The image store."""
        from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import (  # noqa: PLC0415
            ImageStore,
        )

        return ImageStore(self.paths, self.runner)

    @functools.cached_property
    def bundles(self) -> BundleManager:
        """The bundles, those of other tasks too."""
        from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import (  # noqa: PLC0415
            BundleManager,
        )

        return BundleManager(self.paths, self.store, self.runner)

    @functools.cached_property
    def wrappers(self) -> WrapperManager:
        """The wrappers of bundles that were made elsewhere."""
        from ansible_collections.pvecri.runtime.plugins.module_utils.container.wrapper import (  # noqa: PLC0415
            WrapperManager,
        )

        wrappers = WrapperManager(self.paths, self.store, self.runner)
        # A bundle and a wrapper of one name have one lock: a task that turns one into the other has it once.
        wrappers.staged = self.bundles.staged
        return wrappers

    @functools.cached_property
    def network(self) -> ContainerNetwork:
        """The networks of containers."""
        from ansible_collections.pvecri.runtime.plugins.module_utils.container.network import (  # noqa: PLC0415
            ContainerNetwork,
        )

        return ContainerNetwork(self.paths, self.runner, self.network_of)

    def locked(self, name: str, stop_timeout_s: float) -> contextlib.AbstractContextManager[None]:
        """Hold the lock under which a container is looked at and changed.

        Raises Conflict when somebody holds it for longer than stopping the container can take.
        """
        path = os.path.join(self.paths.locks, f"container-{name}.lock")
        return locked(path, timeout_s=_LOCK_MARGIN_S + stop_timeout_s, what=f"container '{name}'")

    # ---- looking: no process, no write -------------------------------------------------------------------

    def names(self) -> list[str]:
        """Return the names of all containers, sorted; bundles of others are none."""
        found = {name for folder in bundle_folders(self.paths) for name in names_in(folder)}
        return sorted(name for name in found if self._find(name)[0] is not None)

    def observe(self, name: str) -> Observation:
        """Return what there is of a container."""
        bundle, is_taken = self._find(name)
        intent = Intent.load(bundle.record.extra) if bundle is not None and bundle.record else None
        return Observation(
            name=name,
            bundle=bundle,
            intent=intent,
            state=self.state(name),
            unit=self.units.text(name) if has_unit(name) else None,
            has_network=has_network(self.paths, name),
            has_files=os.path.isdir(files_folder(self.paths, name)),
            is_taken=is_taken,
        )

    def state(self, name: str) -> ContainerState | None:
        """Return the runtime's state of a container, None when it knows of none."""
        return read_state(Layout(self.paths, name), CgroupTree())

    def _find(self, name: str) -> tuple[Bundle | None, bool]:
        return find_bundle(name, self.paths)

    def network_of(self, name: str) -> NetworkRequest | None:
        """Return how a container reaches others, None when there is none of that name."""
        bundle, _taken = self._find(name)
        if bundle is None:
            return None
        request = self.known(name)[1].network
        if request is None:
            raise InvalidSpec(
                "network",
                f"the network of container '{name}' is its bundle's own and cannot be joined",
                hint="Give the other container a network",
            )
        return request

    def manager_of(self, bundle: Bundle) -> BundleManager:
        """Return the manager in whose directory a bundle lies."""
        is_wrapper = os.path.dirname(bundle.path) == wrapper_folder(self.paths)
        return self.wrappers if is_wrapper else self.bundles

    def known(self, name: str) -> tuple[Bundle, Intent]:
        """Return bundle and intent of a container; raises NotFound, and WrongState for a damaged one."""
        bundle, _taken = self._find(name)
        if bundle is None:
            raise NotFound(f"there is no container '{name}'")
        intent = Intent.load(bundle.record.extra) if bundle.record is not None else None
        if intent is None:
            raise WrongState(
                f"the bundle of container '{name}' cannot be used: {'; '.join(bundle.problems)}",
                hint="Say what it is made from (image, rootfs or bundle) to have it made anew",
            )
        return bundle, intent

    # ---- the record --------------------------------------------------------------------------------------

    def save(self, name: str, **changes: t.Any) -> None:
        """Change fields of a container's intent, if that changes anything."""
        bundle, intent = self.known(name)
        changed = dataclasses.replace(intent, **changes)
        if changed != intent and bundle.record is not None:
            extra = {**bundle.record.extra, KEY: changed.plain()}
            self.manager_of(bundle).update(bundle, extra=extra)

    # ---- life --------------------------------------------------------------------------------------------

    def create(self, name: str) -> None:
        """Mount the bundle, set the network up and create the container; its process waits for `start`."""
        bundle, intent = self.known(name)
        lost = Observation(name=name, bundle=bundle).lost_secrets
        if lost:
            raise WrongState(
                f"secrets of container '{name}' are gone, as after a restart of the host",
                hint="Run the task that holds them again",
            )
        self._mount(bundle)
        config = bundle.config
        self.network.up(name, intent.network, config.get("hostname") or name)
        log = intent.log
        groups = (config.get("linux") or {}).get("cgroupsPath") or ""
        self.runtime.create(
            bundle.path,
            name,
            log_path=log.path,
            log_size_max=log.max_size_bytes,
            log_max_files=log.max_files,
            terminal=bool((config.get("process") or {}).get("terminal")),
            systemd_cgroup=not groups.startswith("/") and groups.count(":") == 2,
        )

    def _mount(self, bundle: Bundle) -> None:
        self.manager_of(bundle).mount(bundle)
        source = bundle.record.source if bundle.record else {}
        if source.get("kind") != "bundle":
            return
        # The bundle that the wrapper stands for can be one of ours, unmounted since a reboot.
        folder, name = os.path.split(str(source.get("path")))
        given = self.bundles.load(name) if folder == os.path.realpath(self.bundles.paths.bundles) else None
        if given is not None and given.record is not None:
            self.bundles.mount(given)

    def start(self, name: str) -> None:
        """Let a created container run.

        A task that was killed leaves its crun behind, which may do it at this very moment.
        """
        try:
            self.runtime.start(name)
        except CoreError:
            state = self.state(name)
            if state is None or state.status is not Status.RUNNING:
                raise

    def stop(self, name: str) -> None:
        """Ask the container to end, and kill it when its time is up."""
        if self.state(name) is None:
            return
        try:
            _bundle, intent = self.known(name)
        except (NotFound, WrongState):
            # Whatever it was, nothing says how it wants to be stopped.
            intent = Intent(request={})
        self.runtime.stop(name, intent.stop_signal, timeout_s=intent.stop_timeout_s)

    def delete(self, name: str) -> None:
        """Make the runtime forget the container; bundle, network and log stay."""
        self.runtime.delete(name, force=True)

    def bring_up(self, name: str) -> None:
        """Start a container from whatever state it is in but running: what its unit does."""
        self.delete(name)
        self.create(name)
        self.start(name)
