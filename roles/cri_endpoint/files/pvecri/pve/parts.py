# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put together what runs containers under Proxmox LXC, where the configuration wants that.

Only who wants it loads any of it: a host without Proxmox VE pays nothing.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import Programs
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from pvecri.config.model import Config, PveConfig
from pvecri.state.registry import Registry

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.driver import LxcDriver
    from pvecri.pve.native import NativeTemplates
    from pvecri.pve.node import PveNode
    from pvecri.pve.runtime import LxcRuntime
    from pvecri.pve.standing import Standing
    from pvecri.pve.templates import Templates


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PveParts:
    """What belongs to Proxmox LXC."""

    node: PveNode
    driver: LxcDriver
    runtime: LxcRuntime
    templates: Templates
    natives: NativeTemplates
    standing: Standing


def is_wanted(config: PveConfig, paths: Paths) -> bool:
    """Say whether containers may be, or have been, run under Proxmox LXC."""
    if config.enabled == "auto":
        # Those that there are want to be stopped and removed whoever took the file away.
        return os.path.exists(config.access_file) or bool(records.names(paths))
    return config.enabled == "true"


def natives_of(config: PveConfig, paths: Paths, log: logging.Logger) -> NativeTemplates | None:
    """Return the templates alone, for who only looks at them, or None when they are not wanted."""
    if not is_wanted(config, paths):
        return None
    from pvecri.pve.native import NativeTemplates  # noqa: PLC0415
    from pvecri.pve.node import PveNode  # noqa: PLC0415

    return NativeTemplates(PveNode(config, paths, log), paths, config, log)


def build(
    config: Config,
    paths: Paths,
    runner: Runner,
    *,
    store: ImageStore,
    registry: Registry,
    host: HostFacts,
    log: logging.Logger,
) -> PveParts | None:
    """Return the parts, or None when they are not wanted; asks Proxmox VE nothing.

    What is wrong with the access to it is told, and by each request for a container until it is mended.
    """
    if not is_wanted(config.pve, paths):
        return None
    from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import (  # noqa: PLC0415
        CgroupTree,
    )
    from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.driver import LxcDriver  # noqa: PLC0415
    from pvecri.pve.create import Maker  # noqa: PLC0415
    from pvecri.pve.facts import Lookup  # noqa: PLC0415
    from pvecri.pve.native import NativeTemplates  # noqa: PLC0415
    from pvecri.pve.node import PveNode  # noqa: PLC0415
    from pvecri.pve.runtime import LxcRuntime  # noqa: PLC0415
    from pvecri.pve.standing import Standing  # noqa: PLC0415
    from pvecri.pve.templates import Templates  # noqa: PLC0415

    node = PveNode(config.pve, paths, log)
    tell_problem(node, log)
    tree = CgroupTree()
    programs = Programs(crun=config.runtime.crun, conmon=config.runtime.conmon)
    driver = LxcDriver(
        paths,
        runner,
        programs=programs,
        cgroups=tree,
        command_timeout_s=config.runtime.command_timeout_s,
        warn=log.warning,
    )
    templates = Templates(node, store, paths, log)
    maker = Maker(node, driver, templates, paths, uses_v2=tree.is_v2)
    lookup = Lookup(registry, host, config.runtime.cdi_dirs)
    return PveParts(
        node=node,
        driver=driver,
        runtime=LxcRuntime(node, driver, maker, lookup, uses_v2=tree.is_v2),
        templates=templates,
        natives=NativeTemplates(node, paths, config.pve, log),
        standing=Standing(node),
    )


def tell_problem(node: PveNode, log: logging.Logger) -> None:
    """Log what is wrong with the access to Proxmox VE; containers under crun do without it."""
    try:
        _client = node.client
    except CoreError as exc:
        log.warning("Proxmox LXC cannot be used", extra={"problem": str(exc)})
