# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put the daemon together: the core's drivers as the configuration wants them."""

from __future__ import annotations

import dataclasses
import logging
import os

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.locks import ThreadLocks
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.anticipation import Anticipation
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import Programs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.sealed import SealedProgram
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni import Cni
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import gather_host_facts
from pvecri.config.load import Loaded
from pvecri.config.policy import configured_policy
from pvecri.containers import apparmor
from pvecri.context import Context
from pvecri.pve import parts
from pvecri.state.registry import Registry

DATABASE = "endpoint.sqlite"


def database_path(state_dir: str) -> str:
    """Return the path of the file with the records."""
    return os.path.join(state_dir, DATABASE)


def build_context(loaded: Loaded, log: logging.Logger) -> Context:
    """Return what the services work with.

    Raises ConfigError for a bad policy, MissingDependency without crun, and what
    `Registry.open` raises.
    """
    config = loaded.config
    paths = Paths(config.paths.state_dir, config.paths.run_dir, owner=Owner.CRI)
    runner = SubprocessRunner()
    policy = configured_policy(loaded)
    host = gather_host_facts(runner, crun=config.runtime.crun)
    host = apparmor.with_default_profile(runner, host, log)
    # Profiles come and go while the daemon runs: who asks for one looks for it himself.
    host = dataclasses.replace(host, apparmor_profiles=None)
    store = ImageStore(paths, runner, additional=config.images.additional_stores)
    registry = Registry.open(database_path(paths.state_dir))
    if registry.was_set_aside:
        log.error("records were damaged and begun anew", extra={"kept": registry.was_set_aside})
    pve = parts.build(config, paths, runner, store=store, registry=registry, host=host, log=log)
    return Context(
        config=config,
        paths=paths,
        registry=registry,
        runner=runner,
        store=store,
        bundles=BundleManager(paths, store, runner, host=host, locks=ThreadLocks()),
        crun=CrunRuntime(
            paths,
            runner,
            programs=Programs(
                crun=config.runtime.crun, conmon=config.runtime.conmon, criu=config.runtime.criu
            ),
            concurrency=config.runtime.concurrency,
            command_timeout_s=config.runtime.command_timeout_s,
            anticipation=Anticipation(),
            sealed=SealedProgram(config.runtime.crun, os.path.join(paths.run_dir, "programs", "crun")),
        ),
        cni=Cni(
            paths,
            runner,
            conf_dir=config.network.conf_dir,
            plugin_dirs=config.network.plugin_dirs,
            timeout_s=config.network.timeout_s,
        ),
        policy=policy,
        host=host,
        log=log,
        pve=pve,
    )
