# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load kernel modules and set sysctls, now and at each start of the host, and give back what was before.

What was before is kept in a record; a value that somebody else has changed since is left as it is.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.files import write_atomic

SYS_MODULE = "/sys/module"
PROC_SYS = "/proc/sys"
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_KEY = re.compile(r"[A-Za-z0-9_-]+([./][A-Za-z0-9_*:@.-]+)+")


@dataclasses.dataclass(slots=True)
class Plan:
    """What there is to do, and what was found."""

    load: list[str] = dataclasses.field(default_factory=list)
    #: Values by key: what to set.
    values: dict[str, str] = dataclasses.field(default_factory=dict)
    before: dict[str, str | None] = dataclasses.field(default_factory=dict)


def check(modules: t.Sequence[str], sysctl: t.Mapping[str, t.Any]) -> dict[str, str]:
    """Return sysctls as texts; raises InvalidSpec for names that are none."""
    for name in modules:
        if not _NAME.fullmatch(name):
            raise InvalidSpec("modules", f"'{name}' is no name of a kernel module")
    for key in sysctl:
        if not _KEY.fullmatch(key) or ".." in key:
            raise InvalidSpec("sysctl", f"'{key}' is no name of a sysctl, such as net.ipv4.ip_forward")
    return {key: _normal(value) for key, value in sysctl.items()}


def plan(modules: t.Sequence[str], sysctl: t.Mapping[str, str]) -> Plan:
    """Compare with what the kernel has now."""
    found = Plan([name for name in modules if not is_loaded(name)])
    for key, value in sysctl.items():
        found.before[key] = read(key)
        if found.before[key] != value:
            found.values[key] = value
    return found


def apply(plan_: Plan, runner: Runner) -> list[str]:
    """Bring it about; return warnings for what this host, being a container, cannot do itself."""
    warnings = []
    for name in plan_.load:
        # Not in the container's hands; what needs the module says so by itself.
        done = runner.run(["modprobe", "--", name], check=False)
        if done.rc:
            warnings.append(
                f"kernel module {name} cannot be loaded: {done.stderr.strip() or 'modprobe failed'}"
            )
    for key, value in plan_.values.items():
        problem = write(key, value)
        if problem:
            warnings.append(f"sysctl {key} cannot be set to {value}: {problem}")
    return warnings


def drop_impossible(plan_: Plan, runner: Runner) -> list[str]:
    """Take out of a plan what this host cannot do itself, without doing anything; return warnings."""
    impossible = [
        name for name in plan_.load if runner.run(["modprobe", "--dry-run", "--", name], check=False).rc
    ]
    plan_.load = [name for name in plan_.load if name not in impossible]
    warnings = [f"kernel module {name} cannot be loaded" for name in impossible]
    for key in list(plan_.values):
        # Some come with a module.
        exists = plan_.before[key] is not None
        if not (os.access(_path(key), os.W_OK) if exists else plan_.load):
            del plan_.values[key]
            warnings.append(f"sysctl {key} cannot be set here")
    return warnings


def is_loaded(name: str) -> bool:
    """Say whether a module is loaded, or built into the kernel."""
    return os.path.isdir(os.path.join(SYS_MODULE, name.replace("-", "_"))) or _is_built_in(name)


def _is_built_in(name: str) -> bool:
    wanted = f"/{name.replace('-', '_')}.ko"
    try:
        with open(f"/lib/modules/{os.uname().release}/modules.builtin", encoding="utf-8") as stream:
            return any(line.strip().replace("-", "_").endswith(wanted) for line in stream)
    except OSError:
        return False


def read(key: str) -> str | None:
    """Return the value of a sysctl, None if the kernel has none."""
    try:
        with open(_path(key), encoding="utf-8") as stream:
            return _normal(stream.read())
    except OSError:
        return None


def write(key: str, value: str) -> str:
    """Set a sysctl; return what went wrong, or ""."""
    try:
        with open(_path(key), "w", encoding="utf-8") as stream:
            stream.write(value)
    except OSError as exc:
        return exc.strerror or str(exc)
    return ""


def load_record(path: str) -> dict[str, dict[str, str | None]]:
    """Return what was noted of former values: ``{key: {"before": …, "set": …}}``."""
    try:
        with open(path, encoding="utf-8") as stream:
            record: dict[str, dict[str, str | None]] = json.load(stream)
    except FileNotFoundError:
        return {}
    except ValueError as exc:
        raise CoreError(
            f"{path} cannot be read: {exc}",
            hint="Move it away; the sysctls then keep the values that they have now",
        ) from exc
    return record


def noted(
    record: t.Mapping[str, dict[str, str | None]], found: Plan, sysctl: t.Mapping[str, str]
) -> dict[str, dict[str, str | None]]:
    """Return the record as it is to be: the first value that was ever found counts."""
    new = {}
    for key, value in sysctl.items():
        before = record[key]["before"] if key in record else found.before[key]
        new[key] = {"before": before, "set": value}
    return new


def save_record(path: str, record: t.Mapping[str, t.Any]) -> None:
    """Write the record."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    write_atomic(path, json.dumps(record, indent=1, sort_keys=True).encode() + b"\n", durable=True)


def to_restore(record: t.Mapping[str, dict[str, str | None]], sysctl: t.Mapping[str, str]) -> dict[str, str]:
    """Return the former values of what is not wanted any more, unless others have changed it since."""
    values = {}
    for key, about in record.items():
        before = about["before"]
        if key not in sysctl and before is not None and read(key) == about["set"] != before:
            values[key] = before
    return values


def _path(key: str) -> str:
    # As sysctl.d(5): with the first separator being a slash, dots are parts of names.
    first = re.search(r"[./]", key)
    parts = key if first and first[0] == "/" else key.translate(str.maketrans("./", "/."))
    return os.path.join(PROC_SYS, parts)


def _normal(value: t.Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return " ".join(str(value).split())
