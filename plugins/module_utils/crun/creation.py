# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create a container under conmon, so that a kill at any point leaves something that `removal` knows."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import argv as argvs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import (
    conmon,
    errors,
    keeper,
    procfs,
    removal,
    rotation,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import layout as layouts
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import CreateOptions
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.criu import Restore
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.host import CrunHost
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import conmon_pid, read_state
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    Conflict,
    InvalidSpec,
    NotFound,
)


def create(
    host: CrunHost,
    layout: Layout,
    bundle_path: str,
    options: CreateOptions,
    timeout_s: float,
    *,
    restoring: Restore | None = None,
) -> int:
    """Create the container and return its process id; see `CrunRuntime.create`."""
    bundle = os.path.abspath(bundle_path)
    _check(options)
    if not os.path.exists(os.path.join(bundle, "config.json")):
        raise NotFound(f"'{bundle}' is no bundle: it has no config.json", hint="Make the bundle first")
    if read_state(layout, host.cgroups) is not None:
        raise Conflict(f"container '{layout.name}' exists", hint="Delete it first, or choose another name")
    _prepare(layout, bundle, options)
    try:
        with keeper.ensured(host, layout) if options.has_rotation else contextlib.nullcontext():
            pid = _launch(host, layout, bundle, options, timeout_s, restoring=restoring)
    except BaseException:
        removal.clear_away(host, layout)
        raise
    if options.has_rotation:
        # At once, since the container may be started before the keeper looks.
        rotation.settle(options.log_path, options.log_max_files)
    return pid


def _check(options: CreateOptions) -> None:
    if options.log_path:
        conmon.check_log_path(options.log_path)
    if options.log_max_files < 1:
        raise InvalidSpec("log_max_files", f"{options.log_max_files} is not at least 1")
    if options.log_size_max is not None and options.log_size_max < rotation.SIZE_MIN:
        raise InvalidSpec(
            "log_size_max",
            f"{options.log_size_max} bytes are too few",
            hint=f"Give at least {rotation.SIZE_MIN} bytes, which holds the longest record",
        )


def _prepare(layout: Layout, bundle: str, options: CreateOptions) -> None:
    layouts.prepare(layout.paths)
    if options.log_path:
        os.makedirs(os.path.dirname(options.log_path), mode=0o755, exist_ok=True)
    records.save(
        layout,
        records.Record(
            name=layout.name,
            bundle=bundle,
            log_path=options.log_path,
            log_size_max=options.log_size_max,
            log_max_files=options.log_max_files,
            boot_id=procfs.boot_id(),
            created_at=time.time(),
        ),
    )
    shutil.rmtree(layout.monitor_dir, ignore_errors=True)
    os.mkdir(layout.monitor_dir, mode=0o700)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(layout.exit_file)
    if options.has_rotation:
        rotation.begin(options.log_path, options.log_max_files)


def _launch(
    host: CrunHost,
    layout: Layout,
    bundle: str,
    options: CreateOptions,
    timeout_s: float,
    *,
    restoring: Restore | None,
) -> int:
    images = None if restoring is None else restoring.images
    argv = argvs.create_argv(host.programs, layout, bundle, options, images)
    env = {} if restoring is None else restoring.environment()
    with host.place():
        answer = conmon.launch(
            host.runner,
            argv,
            cwd=layout.monitor_dir,
            timeout_s=timeout_s,
            env=env,
            # What was restored runs already: the container would be lost with its conmon.
            outlives_us=restoring is not None,
        )
    _reclaim_null()
    if answer.pid is None and restoring is not None:
        raise restoring.failure(answer.message, argv)
    if answer.pid is None:
        failure = CommandError("crun create failed", argv=argv, rc=1, stderr=answer.message)
        raise errors.translate(failure, name=layout.name)
    watcher = conmon_pid(layout)
    if watcher is not None:
        host.cgroups.adopt(watcher)
    amend(layout, is_complete=True)
    return answer.pid


def _reclaim_null() -> None:
    """Take the host's /dev/null back, should crun have given it to the root of a user namespace.

    Before 1.24 it may (containers/crun issue 1845); a container that sees the device could then shut
    everybody else out of it.  Nothing of the container has run yet.
    """
    with contextlib.suppress(OSError):
        found = os.stat(os.devnull)
        if (found.st_uid, found.st_gid) != (0, 0):
            os.chown(os.devnull, 0, 0)


def amend(layout: Layout, **changes: t.Any) -> None:
    """Change fields of a container's record, where it has one."""
    record = records.load(layout)
    if record is not None:
        records.save(layout, dataclasses.replace(record, **changes))
