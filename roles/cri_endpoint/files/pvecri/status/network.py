# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell whether pods can get a network: whether CNI has a configuration, and the plugins that it names."""

from __future__ import annotations

import os
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import (
    NetworkConfig,
    config_files,
    find_config,
)

Signature = tuple[t.Any, ...]


class NetworkStatus:
    """Watch the directories of CNI; files are read again only when one of them changed."""

    def __init__(self, conf_dir: str, plugin_dirs: t.Sequence[str]) -> None:
        self._conf_dir = conf_dir
        self._plugin_dirs = tuple(plugin_dirs)
        self._lock = threading.Lock()
        self._seen: Signature | None = None
        self._problem: str | None = None
        self._config: NetworkConfig | None = None

    def problem(self) -> str | None:
        """Return why no pod can get a network, or None when all is well."""
        with self._lock:
            self._look()
            return self._problem

    def config(self) -> NetworkConfig | None:
        """Return the network that new pods get."""
        with self._lock:
            self._look()
            return self._config

    def _look(self) -> None:
        files = config_files(self._conf_dir)
        signature = tuple(_signature(path) for path in (self._conf_dir, *files, *self._plugin_dirs))
        if signature == self._seen:
            return
        self._config = None
        try:
            config = find_config(None, self._conf_dir)
        except CoreError as exc:
            self._problem = str(exc)
        else:
            self._config = config
            missing = [kind for kind in _programs(config) if not self._has(kind)]
            self._problem = (
                f"network '{config.name}' of {config.path} needs the CNI plugins {', '.join(missing)}, "
                f"which are not in {', '.join(self._plugin_dirs)}"
                if missing
                else None
            )
        self._seen = signature

    def _has(self, kind: str) -> bool:
        return any(os.access(os.path.join(folder, kind), os.X_OK) for folder in self._plugin_dirs)


def _programs(config: NetworkConfig) -> list[str]:
    """Return the names of the programs that a network runs, each once."""
    kinds = [str(plugin["type"]) for plugin in config.plugins]
    for plugin in config.plugins:
        ipam = plugin.get("ipam")
        if isinstance(ipam, dict) and ipam.get("type"):
            kinds.append(str(ipam["type"]))
    return list(dict.fromkeys(kinds))


def _signature(path: str) -> Signature:
    try:
        found = os.stat(path)
    except OSError:
        return (path,)
    return (path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
