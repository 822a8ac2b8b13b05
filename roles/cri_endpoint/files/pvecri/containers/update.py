# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change the limits of a container."""

from __future__ import annotations

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    Unsupported,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.update import live_resources
from pvecri.api import cri_pb2
from pvecri.containers import fields, oom_score, validate_resources
from pvecri.containers.notes import Notes
from pvecri.containers.spec.resources import for_host, in_core_terms, merged
from pvecri.context import Context
from pvecri.state.records import Phase


def update(
    context: Context, container_id: str, wanted: cri_pb2.LinuxContainerResources, notes: Notes
) -> None:
    """Bring limits into force that differ from those there are; what ``wanted`` does not set stays.

    The record keeps what is in force.  Raises NotFound, InvalidSpec, Unsupported, and
    WrongState for a container that is neither created nor running.
    """
    record = context.registry.container(container_id)
    if record.phase not in (Phase.CREATED, Phase.RUNNING):
        raise WrongState(f"container {record.id} is {record.phase}, neither created nor running")
    validate_resources.validate_alone(wanted, "linux")
    old = cri_pb2.LinuxContainerResources.FromString(record.resources)
    new = merged(old, wanted)
    validate_resources.validate(new, "linux")
    told: list[str] = []
    before, after = (
        for_host(in_core_terms(each, pids_limit=context.config.runtime.pids_limit), context.host, told)
        for each in (old, new)
    )
    with fields.named(fields.update_field):
        changes = live_resources(before, after, context.host)
        if changes is None:
            raise Unsupported(
                "linux: a limit cannot be lifted while the container exists", hint="Set it to another value"
            )
        if changes:
            context.runtimes.update(record.id, changes)
    if new.oom_score_adj != old.oom_score_adj:
        new.oom_score_adj = _set_oom_score(context, record.id, new.oom_score_adj, told)
    notes.tell(record.id, told)
    context.registry.update_container(record.id, resources=new.SerializeToString(deterministic=True))
    context.log.info("container updated", extra={"container": record.id, "changes": str(changes)})


def _set_oom_score(context: Context, container_id: str, score: int, told: list[str]) -> int:
    """Set the score of a container's processes as far as the host allows, and return that."""
    score = oom_score.for_host(score, context.host, told)
    state = context.runtimes.state(container_id)
    if state is not None and state.is_alive and state.cgroup:
        oom_score.apply(state.cgroup, score)
    return score
