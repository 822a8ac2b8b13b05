# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show containers as plain data, for a module's return values.  Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_keys as keys
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import props
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import Guest
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_batch import Answer
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_compare import raw_lines, split_env
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_plan import Actual
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_result import Result
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import TAG_INTENT

#: Shown by themselves, in a form of their own.
_ELSEWHERE = frozenset({"env", "lxc", "tags", "description", "template", "hostname", "unprivileged"})


def container(actual: Actual) -> dict[str, t.Any]:
    """Return one container with its configuration."""
    config = actual.config
    return {
        "vmid": actual.vmid,
        "node": actual.node,
        "hostname": actual.hostname,
        "status": actual.status,
        "tags": visible_tags(actual.tags),
        "template": actual.is_template,
        "unprivileged": actual.is_unprivileged,
        "description": str(config.get("description") or "").rstrip("\n"),
        "lock": actual.lock,
        "ha_managed": actual.ha_managed,
        "pool": actual.pool,
        "pending": list(actual.pending),
        "networks": _parsed(config, "net", props.NET),
        "mounts": _parsed(config, "mp", props.MOUNT),
        "rootfs": props.actual(config.get("rootfs"), props.ROOTFS),
        "env": split_env(config.get("env")),
        "lxc": {key: list(values) for key, values in raw_lines(config).items()},
        "config": {key: _value(key, config[key]) for key in sorted(config) if _is_plain(key)},
    }


def _is_plain(key: str) -> bool:
    parts = keys.split_index(key)
    return key not in _ELSEWHERE and key != "rootfs" and (parts is None or parts[0] in ("dev", "unused"))


def _value(key: str, value: t.Any) -> t.Any:
    return keys.typed(key, value) if key in keys.SCALARS else value


def _parsed(config: t.Mapping[str, t.Any], name: str, schema: props.Schema) -> dict[str, props.Props]:
    found = sorted((key for key in config if keys.is_indexed(key, name)), key=keys.index_order)
    return {key: props.actual(config[key], schema) for key in found}


def visible_tags(tags: t.Iterable[str]) -> list[str]:
    """Return tags without the one that remembers an intent."""
    return sorted(tag for tag in tags if not tag.startswith(TAG_INTENT))


def listed(guest: Guest) -> dict[str, t.Any]:
    """Return one container as far as its node's list shows it."""
    return {
        "vmid": guest.vmid,
        "node": guest.node,
        "hostname": guest.name,
        "status": guest.status,
        "tags": visible_tags(guest.tags),
        "template": guest.is_template,
        "pool": guest.pool,
    }


def result(done: Result) -> dict[str, t.Any]:
    """Return the return values of one container."""
    values: dict[str, t.Any] = {
        "container": container(done.actual) if done.actual is not None else None,
        "actions": done.actions,
    }
    if done.placed is not None:
        values["placement"] = done.placed.as_dict()
    return values


def answer(one: Answer) -> dict[str, t.Any]:
    """Return the return values of one container of many."""
    named = {"vmid": one.spec.vmid, "hostname": one.spec.hostname}
    if one.error is not None:
        return {**named, "failed": True, "msg": str(one.error), **one.error.details(), **failure(one)}
    values = result(one.result) if one.result is not None else {"container": None, "actions": []}
    if one.settled is not None:
        values["container"] = listed(one.settled)
    seen = values["container"] or named
    ids = {"vmid": seen["vmid"], "hostname": seen["hostname"]}
    return {**ids, "changed": one.changed, "failed": False, **values}


def differences(answers: t.Iterable[Answer]) -> list[dict[str, t.Any]]:
    """Return the diff of each container that was changed; one that failed says how far it got."""
    shown = []
    for one in answers:
        if one.result is None or not one.changed:
            continue
        label = one.spec.label
        reached = f"{label} (failed after: {', '.join(one.result.actions)})" if one.error else label
        diff = one.result.differences.as_diff()
        shown.append({**diff, "before_header": label, "after_header": reached})
    return shown


def failure(one: Answer) -> dict[str, t.Any]:
    """Return what is said, beside the error, of a container that failed: what was done before."""
    done = one.result
    values: dict[str, t.Any] = {"changed": one.changed, "actions": list(done.actions) if done else []}
    if done is not None and done.vmid is not None:
        values["vmid"] = done.vmid
    if done is not None and done.placed is not None:
        values["placement"] = done.placed.as_dict()
    return values
