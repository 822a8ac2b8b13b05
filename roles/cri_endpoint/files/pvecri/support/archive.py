# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the support bundle: a tar file with what `parts` reads, whatever part of it can be read."""

from __future__ import annotations

import io
import json
import os
import socket
import tarfile
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import config_files
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import gather_host_facts
from pvecri.config.load import Loaded
from pvecri.config.show import show
from pvecri.daemon.assembly import database_path
from pvecri.daemon.lock import holder
from pvecri.support import parts
from pvecri.support.redact import redacted
from pvecri.support.versions import versions

#: Lines of the journal, which holds what the daemon said.
_LOG_LINES = 5000
_LOG_TIMEOUT_S = 60.0
_UNIT = "pvecri"

Part = t.Callable[[], t.Any]


def write_bundle(path: str, loaded: Loaded, runner: Runner) -> list[str]:
    """Write the bundle, readable by its owner alone, and return the parts that could not be had.

    An existing file is not overwritten: raises FileExistsError, and OSError.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    top = f"pvecri-support-{socket.gethostname()}"
    problems: dict[str, str] = {}
    with os.fdopen(handle, "wb") as stream, tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, part in _parts(loaded, runner).items():
            try:
                content = part()
            except Exception as exc:
                problems[name] = f"{type(exc).__name__}: {exc}"
            else:
                _add(tar, f"{top}/{name}", content)
        _add(tar, f"{top}/missing.json", problems)
    return [f"{name}: {problem}" for name, problem in problems.items()]


def _parts(loaded: Loaded, runner: Runner) -> dict[str, Part]:
    """Return the files of the bundle and what makes each."""
    config = loaded.config
    paths = Paths(config.paths.state_dir, config.paths.run_dir, owner=Owner.CRI)
    names = _names(paths)
    return {
        "config.toml": lambda: show(loaded),
        "versions.json": lambda: versions(config, runner),
        "daemon.json": lambda: {
            "pid": holder(paths.state_dir),
            "time": time.time(),
            "boot_s": time.monotonic(),
        },
        "host.json": lambda: vars_of(gather_host_facts(runner, crun=config.runtime.crun)),
        "records.json": lambda: parts.records(database_path(paths.state_dir)),
        "bundles.json": lambda: parts.json_files(paths.bundles, "pvecri.json", "config.json"),
        "crun.json": lambda: parts.json_files(paths.runtime_root, "status"),
        "guests.json": lambda: parts.guests(paths, config.pve.config_dir),
        "exits.json": lambda: parts.small_files(paths.exits),
        "cni.json": lambda: parts.json_files(os.path.join(paths.state_dir, "cni")),
        "cni-config.json": lambda: parts.read_json(config_files(config.network.conf_dir)),
        "mounts.txt": lambda: parts.mounts(paths),
        "cgroups.json": lambda: {**parts.cgroups(names()), **parts.guest_groups(paths)},
        "processes.json": lambda: parts.processes(names()),
        "journal.txt": lambda: _journal(runner),
    }


def _names(paths: Paths) -> t.Callable[[], list[str]]:
    """Return what names the objects: ids of records, of bundles and of crun's containers."""

    def find() -> list[str]:
        found: set[str] = set()
        for directory in (paths.bundles, paths.runtime_root, os.path.join(paths.state_dir, "sandboxes")):
            if os.path.isdir(directory):
                found.update(name for name in os.listdir(directory) if not name.startswith("."))
        return sorted(found)

    return find


def vars_of(facts: t.Any) -> dict[str, t.Any]:
    """Return the fields of host facts but for the profiles, which are long and the package's."""
    names = [name for name in facts.__slots__ if not name.startswith("seccomp")]
    plain = {name: getattr(facts, name) for name in names}
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in plain.items()}


def _journal(runner: Runner) -> str:
    try:
        done = runner.run(
            [
                "journalctl",
                "--unit",
                _UNIT,
                "--lines",
                str(_LOG_LINES),
                "--no-pager",
                "--output",
                "short-precise",
            ],
            timeout_s=_LOG_TIMEOUT_S,
        )
    except CoreError as exc:
        return f"{exc}\n"
    return done.stdout


def _add(tar: tarfile.TarFile, name: str, content: t.Any) -> None:
    text = content if isinstance(content, str) else json.dumps(redacted(content), indent=1, default=str)
    data = text.encode(errors="replace")
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(data), int(time.time()), 0o600
    tar.addfile(info, io.BytesIO(data))
