# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at many containers at once, without starting a process for any of them."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container.compare import Plain
from ansible_collections.pvecri.runtime.plugins.module_utils.container.engine import Engine
from ansible_collections.pvecri.runtime.plugins.module_utils.container.observe import Observation
from ansible_collections.pvecri.runtime.plugins.module_utils.container.result import describe
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import record as records


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which containers to look at, and how closely."""

    #: Names, or patterns with ``*``, ``?`` and ``[…]``; empty is all.
    names: tuple[str, ...] = ()
    #: Labels that a container must have; a value of None is any.
    labels: t.Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    #: States of which a container must have one; empty is any.
    states: frozenset[str] = frozenset()
    #: Lines from the end of each log.
    log_lines: int = 0
    has_stats: bool = False


def look(engine: Engine, query: Query) -> list[Plain]:
    """Return the containers that ``query`` asks for, sorted by name."""
    found = []
    for name in all_names(engine):
        if query.names and not any(fnmatch.fnmatchcase(name, pattern) for pattern in query.names):
            continue
        observation = engine.observe(name)
        container = describe(engine, observation)
        # It may have been removed since its name was read.
        if container and _matches(container, query):
            found.append({**container, **_details(observation, container, query)})
    return found


def all_names(engine: Engine) -> list[str]:
    """Return the names of all containers, of those that have lost their bundle as well."""
    names = set(engine.names()) | set(records.names(engine.paths))
    if os.path.isdir(engine.paths.runtime_root):
        names.update(name for name in os.listdir(engine.paths.runtime_root) if not name.startswith("."))
    return sorted(names)


def _matches(container: Plain, query: Query) -> bool:
    if query.states and container["state"] not in query.states:
        return False
    labels = container["labels"]
    return all(key in labels and value in {None, labels[key]} for key, value in query.labels.items())


def _details(observation: Observation, container: Plain, query: Query) -> Plain:
    details: Plain = {}
    state = observation.state
    if query.log_lines > 0:
        from ansible_collections.pvecri.runtime.plugins.module_utils.container import logs  # noqa: PLC0415

        path = state.log_path if state is not None and state.log_path else container["log_path"]
        details["log"] = logs.tail(path, query.log_lines)
    if query.has_stats:
        from ansible_collections.pvecri.runtime.plugins.module_utils.container.stats import (  # noqa: PLC0415
            read_stats,
        )
        from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import (  # noqa: PLC0415
            CgroupTree,
        )

        is_alive = state is not None and state.is_alive and state.cgroup is not None
        details["stats"] = read_stats(t.cast("t.Any", state).cgroup, CgroupTree()) if is_alive else None
    return details
