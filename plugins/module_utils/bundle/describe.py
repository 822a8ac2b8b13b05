# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe a bundle as a module's result shows it."""

from __future__ import annotations

import copy
import datetime
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.bundle import Bundle
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import BundleRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.diff import HIDDEN
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState


def bundle_as_dict(bundle: Bundle, *, with_config: bool = False) -> dict[str, t.Any]:
    """Return plain data without secrets; ``config`` is config.json with secret variables hidden."""
    record = bundle.record
    result: dict[str, t.Any] = {
        "name": bundle.name,
        "path": bundle.path,
        "rootfs": bundle.rootfs_path,
        "mounted": bundle.is_mounted,
        "problems": list(bundle.problems),
        "source": record.source if record else None,
        "image": _image(record),
        "created": _time(record.created) if record else None,
        "spec_hash": record.spec_hash if record else None,
        "volumes": list(record.volumes) if record else [],
    }
    if with_config:
        result["config"] = _config(bundle)
    return result


def _image(record: BundleRecord | None) -> dict[str, t.Any] | None:
    if record is None or "image" not in record.identity:
        return None
    return {
        "id": record.identity["image"],
        "digest": record.identity.get("digest"),
        "reference": record.source.get("reference"),
    }


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def _config(bundle: Bundle) -> dict[str, t.Any] | None:
    try:
        config = copy.deepcopy(bundle.config)
    except WrongState:
        return None
    secret = set(bundle.record.request.get("secret_env", ())) if bundle.record else set()
    process = config.get("process") or {}
    if secret and isinstance(process.get("env"), list):
        process["env"] = [_hidden(line, secret) for line in process["env"]]
    return config


def _hidden(line: str, secret: set[str]) -> str:
    name, equals, _unused = line.partition("=")
    return f"{name}{equals}{HIDDEN}" if name in secret else line
