# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe a container for people and playbooks."""

from __future__ import annotations

import contextlib
import datetime
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container.compare import Plain
from ansible_collections.pvecri.runtime.plugins.module_utils.container.engine import Engine
from ansible_collections.pvecri.runtime.plugins.module_utils.container.intent import Intent
from ansible_collections.pvecri.runtime.plugins.module_utils.container.observe import Observation
from ansible_collections.pvecri.runtime.plugins.module_utils.container.places import (
    is_attached,
    pinned_namespace,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.container.request import HOST, NetworkRequest
from ansible_collections.pvecri.runtime.plugins.module_utils.container.terms import Plan, Status
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.model import spec_hash

#: Lines of the log that an error quotes.
_QUOTED_LINES = 10


def describe(engine: Engine, observation: Observation) -> Plain:
    """Return what there is of a container as plain data; ``{}`` when there is nothing."""
    if observation.bundle is None and observation.state is None:
        return {}
    state, bundle = observation.state, observation.bundle
    intent = observation.intent or Intent(request={})
    status = observation.actual().status
    return {
        "name": observation.name,
        "id": observation.name,
        "state": str(status),
        "pid": state.pid if state else None,
        "exit_code": state.exit_code if state else None,
        "oom_killed": state.oom_killed if state else False,
        "created_at": _time(state.created_at if state else None),
        "started_at": _time(state.started_at if state else None),
        "finished_at": _time(state.finished_at if state else None),
        "image": _image(observation),
        "bundle": bundle.path if bundle else None,
        "rootfs": bundle.rootfs_path if bundle else None,
        "spec_hash": spec_hash(intent.request) if observation.intent else None,
        "labels": intent.labels,
        "log_path": intent.log.path or Layout(engine.paths, observation.name).default_log,
        **_network(engine, observation, intent),
        "restart_policy": _restart_policy(intent),
        "problems": _problems(observation),
    }


def planned(description: Plain, plan: Plan, name: str) -> Plain:
    """Return ``description`` as it would be after ``plan``, as far as that is known before."""
    after = plan.differences.after()
    state = after.get("state")
    if state == Status.ABSENT:
        return {}
    if not plan.is_changed:
        return description
    if state is not None:
        state = "running" if state == "restarted" else state
        description = {**description, "name": name, "id": name, "state": state}
    if plan.request is not None:
        description["spec_hash"] = spec_hash(plan.request)
    return description


def ended(state: ContainerState) -> str:
    """Say how a container ended, with the end of its log."""
    code = "and nobody saw its exit code" if state.exit_code is None else f"with exit code {state.exit_code}"
    killed = ", killed for want of memory" if state.oom_killed else ""
    from ansible_collections.pvecri.runtime.plugins.module_utils.container import logs  # noqa: PLC0415

    lines = logs.tail(state.log_path, _QUOTED_LINES) if state.log_path else []
    said = f"; the end of its log: {' | '.join(lines)}" if lines else ""
    return f"it ended {code}{killed}{said}"


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")


def _image(observation: Observation) -> Plain | None:
    record = observation.bundle.record if observation.bundle else None
    if record is None or record.source.get("kind") != "image":
        return None
    return {
        "reference": record.source.get("reference"),
        "digest": record.identity.get("digest"),
        "id": record.identity.get("image"),
    }


def _network(engine: Engine, observation: Observation, intent: Intent) -> Plain:
    request = intent.network
    ports = [] if request is None else request.ports
    return {
        "network": None if request is None else request.mode,
        "network_namespace": _namespace(engine, observation.name, request),
        "ip_addresses": _addresses(engine, observation.name),
        "ports": [
            {
                "host_ip": port.host_ip,
                "host_port": port.host_port,
                "container_port": port.container_port,
                "protocol": port.protocol,
            }
            for port in ports
        ],
    }


def _namespace(engine: Engine, name: str, request: NetworkRequest | None) -> str | None:
    """Return the path of the namespace, None for the host's and for one that is not known."""
    if request is None or request.mode == HOST:
        return None
    if request.is_own:
        return pinned_namespace(engine.paths, name)
    with contextlib.suppress(CoreError):
        namespace = engine.network.namespace(name, request)
        return None if namespace == HOST else namespace
    return None


def _addresses(engine: Engine, name: str) -> list[str]:
    if not is_attached(engine.paths, name):
        return []
    from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni import Cni  # noqa: PLC0415

    result = Cni(engine.paths, engine.runner).result(name)
    return list(result.addresses) if result is not None else []


def _restart_policy(intent: Intent) -> str:
    policy = intent.restart
    return policy.name if policy.max_retries is None else f"{policy.name}:{policy.max_retries}"


def _problems(observation: Observation) -> list[str]:
    found: list[t.Any] = list(observation.bundle.problems) if observation.bundle else []
    if observation.bundle is None:
        found.append("its bundle is missing")
    if observation.state is not None:
        found += observation.state.problems
    return [str(problem) for problem in found]
