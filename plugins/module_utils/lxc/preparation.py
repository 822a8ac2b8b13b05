# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make what there is of an LXC container on this host before Proxmox VE starts it.

    files ─ conmon ─ holder ─ volumes, /sys ─ the included file

Each step can be cut short and be made again: what is half there is made anew.  The included file comes last,
so that a container that has one finds everything that it names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import argv as argvs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import conmon, removal
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import CreateOptions
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import conmon_pid
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CoreError,
    InvalidSpec,
    NotFound,
    Unsupported,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import write_atomic
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import (
    block,
    holder,
    include,
    launcher,
    resources,
    staging,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import layout as layouts
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.host import LxcHost
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.include import Config, IncludeFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import Guest, LxcLayout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.state import holder_pid

#: In the monitor directory: how the container meets its pod, to make it anew.
_FACTS: t.Final = "facts.json"


def prepare(host: LxcHost, record: LxcRecord, config: Config, facts: IncludeFacts) -> None:
    """Make conmon, the holder, the volumes and the included file; see `LxcDriver.prepare`."""
    layout = LxcLayout(host.paths, record.name)
    guest = layouts.guest(host.paths, record.vmid)
    if record.log_path:
        conmon.check_log_path(record.log_path)
        os.makedirs(os.path.dirname(record.log_path), mode=0o755, exist_ok=True)
    layouts.prepare(host.paths)
    if not records.exists(layout):
        records.save(layout, record)
    guest.make(record.id_offset)
    # Before anything is made: what cannot be had is said first.
    wanted = (config.get("linux") or {}).get("resources") or {}
    inner = resources.inner_writes(host.cgroups, record.vmid, wanted)
    if conmon_pid(layout.crun) is None or holder_pid(layout.crun) is None:
        _begin(host, layout, record, config, facts)
    write_atomic(layout.writes, json.dumps(inner).encode(), mode=0o600)
    _show_pod(host, guest, record, facts)
    view = staging.stage(
        guest,
        config,
        host.namespaces,
        record.id_offset,
        own=(host.paths.state_dir, host.paths.run_dir),
    )
    complete = dataclasses.replace(
        facts,
        unprivileged=record.unprivileged,
        uses_v2=host.cgroups.is_v2,
        sysfs=guest.sysfs if facts.netns else "",
        io_dir=guest.io,
        pts=_terminal(layout) if record.terminal else None,
        host=view,
    )
    text = include.text(config, complete)
    write_atomic(guest.config, text.encode("utf-8", "surrogateescape"), mode=0o600, durable=True)


def again(host: LxcHost, record: LxcRecord) -> None:
    """Prepare a container that was prepared before, since when this host has not been restarted.

    Raises NotFound when it is not known how.
    """
    layout = LxcLayout(host.paths, record.name)
    try:
        with open(layout.config, "rb") as stream:
            config = json.load(stream)
        with open(_facts_path(layout), "rb") as stream:
            values = json.load(stream)
    except (OSError, ValueError) as exc:
        raise NotFound(f"it is not known any more how container '{record.name}' is prepared") from exc
    values["pod_sysctls"] = frozenset(values["pod_sysctls"])
    prepare(host, record, config, IncludeFacts(**values))


def change(host: LxcHost, record: LxcRecord, changes: Config) -> None:
    """Change ``linux.resources`` of a container that was prepared and has not been started."""
    layout = LxcLayout(host.paths, record.name)
    with open(layout.config, "rb") as stream:
        config = json.load(stream)
    linux = config.setdefault("linux", {})
    wanted = linux.setdefault("resources", {})
    for key, value in changes.items():
        wanted[key] = {**(wanted.get(key) or {}), **value} if isinstance(value, dict) else value
    # What cannot be is said before anything is changed.
    resources.settings(wanted, uses_v2=host.cgroups.is_v2)
    write_atomic(layout.config, json.dumps(config).encode(), mode=0o600)
    again(host, record)


def _facts_path(layout: LxcLayout) -> str:
    return os.path.join(layout.crun.monitor_dir, _FACTS)


def _begin(host: LxcHost, layout: LxcLayout, record: LxcRecord, config: Config, facts: IncludeFacts) -> None:
    """Write what the holder needs and have conmon start it."""
    if os.path.isdir(layout.crun.monitor_dir):
        removal.kill_all(lambda: removal.monitors_of(layout.crun))
        shutil.rmtree(layout.crun.monitor_dir, ignore_errors=True)
    os.mkdir(layout.crun.monitor_dir, mode=0o700)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(layout.crun.exit_file)
    guest = layouts.guest(host.paths, record.vmid)
    _write_files(host, layout, guest, record, config, facts)
    _launch(host, layout, record)


def _write_files(  # noqa: PLR0917 - all that is known of it
    host: LxcHost,
    layout: LxcLayout,
    guest: Guest,
    record: LxcRecord,
    config: Config,
    facts: IncludeFacts,
) -> None:
    program = launcher.program()
    if program is None:
        raise Unsupported(
            f"LXC containers cannot be run on this architecture ({os.uname().machine})",
            hint="Run the container under crun",
        )
    write_atomic(guest.launcher, program, mode=0o755)
    is_read_only = bool((config.get("root") or {}).get("readonly"))
    process = {**config["process"], "terminal": record.terminal}
    group = resources.group(record.vmid)
    settings = {
        "block": layout.block,
        "owner_uid": record.id_offset,
        "owner_gid": record.id_offset,
        "socket": guest.init_socket,
        "lxc_path": record.lxc_path,
        "name": str(record.vmid),
        "cgroup": group,
        "oom": [host.cgroups.oom_file(place) for place in (group, group + resources.INNER)],
        "oom_file": layout.crun.oom_file,
        "answer": layout.answer,
        "console": layout.console,
        "writes": layout.writes,
    }
    met = {
        "netns": facts.netns,
        "ipcns": facts.ipcns,
        "utsns": facts.utsns,
        "stop_signal": facts.stop_signal,
        "pod_sysctls": sorted(facts.pod_sysctls),
    }
    for path, content in (
        (layout.config, json.dumps({**config, "process": process}).encode()),
        (_facts_path(layout), json.dumps(met).encode()),
        (layout.block, block.encode(process, read_only_root=is_read_only, make_directory=True)),
        (layout.settings, json.dumps(settings).encode()),
    ):
        write_atomic(path, content, mode=0o600)


def _launch(host: LxcHost, layout: LxcLayout, record: LxcRecord) -> None:
    options = CreateOptions(
        log_path=record.log_path,
        terminal=record.terminal,
        stdin=record.stdin,
        stdin_once=record.stdin_once,
    )
    runtime = [host.lxc.python, "-I", "-S", holder.PATH]
    argv = argvs.monitor_argv(host.programs, layout.crun, options, runtime)
    answer = conmon.launch(host.runner, argv, cwd=layout.crun.monitor_dir, timeout_s=host.command_timeout_s)
    if answer.pid is None:
        raise CommandError(
            f"the holder of container '{layout.name}' did not start: {answer.message or 'without a message'}",
            argv=argv,
            stderr=answer.message,
        )
    for pid in (conmon_pid(layout.crun), answer.pid):
        if pid is not None:
            host.cgroups.adopt(pid)


def _show_pod(host: LxcHost, guest: Guest, record: LxcRecord, facts: IncludeFacts) -> None:
    if not facts.netns:
        return
    staging.show_network(guest, facts.netns)
    if record.unprivileged:
        try:
            staging.allow_unprivileged(facts.netns, facts.pod_sysctls)
        except InvalidSpec as exc:
            # Few programs need it.
            host.warn(f"an unprivileged container gets no low ports: {exc}")


def _terminal(layout: LxcLayout) -> int:
    try:
        with open(layout.console, encoding="ascii") as stream:
            return int(stream.read())
    except (OSError, ValueError) as exc:
        raise CoreError(f"the holder of container '{layout.name}' made no terminal") from exc
