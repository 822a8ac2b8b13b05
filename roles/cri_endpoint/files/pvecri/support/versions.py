# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell the versions of the endpoint and of what it works with."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import sqlite3
import typing as t

import pvecri
from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from pvecri.config.model import Config
from pvecri.rpc import nghttp2

API_VERSION = "v1"

_NUMBER = re.compile(r"\d+(?:\.\d+)+\S*")
_TIMEOUT_S = 10.0

#: Programs that only hosts for Proxmox LXC have.
_LXC, _PVE = "lxc-start", "pveversion"

_MODULES = {
    "protobuf": "protobuf",
    "uvloop": "uvloop",
    "pyroute2": "pyroute2",
    "h11": "h11",
    "wsproto": "wsproto",
}


def versions(config: Config, runner: Runner) -> dict[str, str]:
    """Return names and versions; what is not there is «missing»."""
    found = {
        "pvecri": pvecri.__version__,
        "CRI": API_VERSION,
        "crun": program_version(config.runtime.crun, runner),
        "conmon": program_version(config.runtime.conmon, runner),
        "skopeo": program_version("skopeo", runner),
        "CNI": cni_versions(config.network.plugin_dirs, runner),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
    }
    if shutil.which(_LXC):
        found["LXC"] = program_version(_LXC, runner)
    if shutil.which(_PVE):
        found["Proxmox VE"] = program_version(_PVE, runner, option="")
    found["nghttp2"] = nghttp2.version()
    found.update({name: _module(package) for name, package in _MODULES.items()})
    found["kernel"] = os.uname().release
    return found


def program_version(program: str, runner: Runner, *, option: str = "--version") -> str:
    """Return the first number in what a program says to ``--version``, or says of itself."""
    try:
        text = runner.run([program, option] if option else [program], timeout_s=_TIMEOUT_S).stdout
    except CoreError as exc:
        return "missing" if exc.code == "missing_dependency" else f"fails: {exc.message}"
    number = _NUMBER.search(text)
    return number[0] if number else text.strip().split("\n")[0]


def cni_versions(directories: t.Sequence[str], runner: Runner) -> str:
    """Return the newest version of the CNI specification that each plugin speaks, or «missing»."""
    found: dict[str, list[str]] = {}
    for directory in directories:
        for name in _programs(directory):
            newest = _newest(os.path.join(directory, name), runner)
            if newest:
                found.setdefault(newest, []).append(name)
    if not found:
        return "missing"
    return "; ".join(f"{version}: {' '.join(sorted(set(names)))}" for version, names in sorted(found.items()))


def _programs(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(
                entry.name for entry in entries if os.access(entry.path, os.X_OK) and entry.is_file()
            )
    except OSError:
        return []


def _newest(path: str, runner: Runner) -> str | None:
    """Ask a plugin by the verb VERSION (CNI specification 1.0.0, section 2)."""
    try:
        done = runner.run(
            [path], timeout_s=_TIMEOUT_S, stdin=b"{}", env={"CNI_COMMAND": "VERSION"}, check=False
        )
        supported = json.loads(done.stdout)["supportedVersions"]
        return max(map(str, supported), key=lambda text: [int(part) for part in text.split(".")])
    except (CoreError, ValueError, KeyError, TypeError):
        return None


def _module(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
