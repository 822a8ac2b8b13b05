# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn the options of a container into a `ContainerSpec`.

Errors name the option as a playbook writes it: ``mounts[2].destination``.  What the
image, the rootfs or the host decide is checked later, when a configuration is built.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.signals import signal_number
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    Device,
    Hook,
    IdMap,
    Mount,
    Namespaces,
    Resources,
    Rlimit,
    Security,
    check_container_name,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.options.values import (
    Params,
    argv_of,
    pairs_of,
    secret_pairs_of,
    text_of,
    texts_of,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.units import parse_size

_UNLIMITED: t.Final = ("-1", "unlimited", "infinity")


def spec_from_options(params: Params) -> ContainerSpec:
    """Return what a module's parameters ask of a container.

    ``params`` are those of `container_argument_spec` and ``name``; ``network_namespace``
    (``private``, ``host`` or a path) is read if the module has it.
    """
    env, secret_env = _environment(params)
    return ContainerSpec(
        name=check_container_name(params["name"]),
        entrypoint=argv_of(params.get("entrypoint"), "entrypoint"),
        command=argv_of(params.get("command"), "command"),
        env=env,
        secret_env=secret_env,
        cwd=params.get("cwd"),
        user=params.get("user"),
        supplementary_groups=texts_of(params.get("supplementary_groups"), "supplementary_groups"),
        merge_image_groups=params.get("merge_image_groups", True),
        terminal=params.get("terminal", False),
        hostname=params.get("hostname"),
        labels=pairs_of(params.get("labels"), "labels"),
        annotations=pairs_of(params.get("annotations"), "annotations"),
        namespaces=_namespaces(params),
        uid_maps=_id_maps(params.get("uid_maps")),
        gid_maps=_id_maps(params.get("gid_maps")),
        mounts=_mounts(params.get("mounts")),
        devices=_devices(params.get("devices")),
        resources=_resources(params.get("resources")),
        security=_security(params.get("security")),
        rlimits=_rlimits(params.get("rlimits")),
        sysctls=pairs_of(params.get("sysctls"), "sysctls"),
        hooks=_hooks(params.get("hooks")),
        oom_score_adj=params.get("oom_score_adj"),
        cgroups_path=params.get("cgroups_path"),
        stop_signal=_signal(params.get("stop_signal")),
        shm_size_bytes=_optional_size(params.get("shm_size"), "shm_size"),
    )


# What reads an option that is seldom set is loaded when it is: modules in Ansible's zip file are compiled
# anew in every run.


def _id_maps(items: t.Sequence[Params] | None) -> tuple[IdMap, ...]:
    if not items:
        return ()
    from ansible_collections.pvecri.runtime.plugins.module_utils.options.mounts import (  # noqa: PLC0415
        id_maps_from,
    )

    return id_maps_from(items)


def _mounts(items: t.Sequence[Params] | None) -> tuple[Mount, ...]:
    if not items:
        return ()
    from ansible_collections.pvecri.runtime.plugins.module_utils.options.mounts import (  # noqa: PLC0415
        mounts_from,
    )

    return mounts_from(items)


def _resources(given: Params | None) -> Resources:
    if not given:
        return Resources()
    from ansible_collections.pvecri.runtime.plugins.module_utils.options.resources import (  # noqa: PLC0415
        resources_from,
    )

    return resources_from(given)


def _environment(params: Params) -> tuple[tuple[tuple[str, str], ...], frozenset[str]]:
    plain = pairs_of(params.get("env"), "env")
    secret = secret_pairs_of(params.get("secret_env"), "secret_env")
    names = {name for name, _value in plain}
    for name, _value in (*plain, *secret):
        if "=" in name:
            raise InvalidSpec("env", f"'{name}' is not a name of a variable")
    for name, _value in secret:
        if name in names:
            raise InvalidSpec(f"secret_env.{name}", "is also in env", hint="Take it out of one of the two")
    return (*plain, *secret), frozenset(name for name, _value in secret)


def _namespaces(params: Params) -> Namespaces:
    given: dict[str, str] = {k: v for k, v in (params.get("namespaces") or {}).items() if v is not None}
    for kind, mode in given.items():
        _check_mode(mode, f"namespaces.{kind}")
    network = params.get("network_namespace")
    if network is not None:
        given["network"] = _check_mode(network, "network_namespace")
    return Namespaces(**given)


def _check_mode(mode: str, field: str) -> str:
    if mode not in ("private", "host") and not mode.startswith("/"):
        raise InvalidSpec(
            field, f"'{mode}' is no mode", hint="Use 'private', 'host' or the path of a namespace file"
        )
    return mode


def _devices(items: t.Sequence[Params] | None) -> tuple[Device, ...]:
    return tuple(
        Device(
            source=item["source"],
            destination=item.get("destination") or item["source"],
            permissions=item.get("permissions") or "rwm",
        )
        for item in items or ()
    )


def _security(given: Params | None) -> Security:
    if not given:
        return Security()
    values: dict[str, t.Any] = {
        key: None if given.get(key) is None else texts_of(given[key], f"security.{key}")
        for key in ("masked_paths", "read_only_paths")
    }
    values |= {
        key: _capabilities(given.get(key), f"security.{key}")
        for key in ("capabilities_add", "capabilities_drop")
    }
    values |= {
        key: given[key]
        for key in (
            "privileged",
            "no_new_privileges",
            "seccomp",
            "apparmor",
            "selinux_process_label",
            "selinux_mount_label",
            "read_only_rootfs",
        )
        if given.get(key) is not None
    }
    return Security(**values)


def _capabilities(items: t.Sequence[str] | None, field: str) -> tuple[str, ...]:
    if not items:
        return ()
    from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import (  # noqa: PLC0415
        normalise_capability,
    )

    return tuple(normalise_capability(name, f"{field}[{i}]") for i, name in enumerate(items))


def _rlimits(items: t.Sequence[Params] | None) -> tuple[Rlimit, ...]:
    if not items:
        return ()
    from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import (  # noqa: PLC0415
        normalise_rlimit,
    )

    result = []
    for i, item in enumerate(items):
        soft = _limit(item["soft"], f"rlimits[{i}].soft")
        hard = soft if item.get("hard") is None else _limit(item["hard"], f"rlimits[{i}].hard")
        result.append(Rlimit(kind=normalise_rlimit(item["type"], f"rlimits[{i}].type"), soft=soft, hard=hard))
    return tuple(result)


def _limit(value: str, field: str) -> int:
    text = value.strip().lower()
    if text in _UNLIMITED:
        return -1
    if not re.fullmatch(r"[0-9]{1,20}", text):
        raise InvalidSpec(field, f"'{value}' is not a limit", hint="Use a whole number or 'unlimited'")
    return int(text)


def _hooks(items: t.Sequence[Params] | None) -> tuple[Hook, ...]:
    return tuple(
        Hook(
            stage=item["stage"],
            path=item["path"],
            args=texts_of(item.get("args"), f"hooks[{i}].args"),
            env=tuple(f"{k}={v}" for k, v in pairs_of(item.get("env"), f"hooks[{i}].env")),
            timeout_s=item.get("timeout"),
        )
        for i, item in enumerate(items or ())
    )


def _signal(text: str | None) -> str | None:
    """Return a signal as ``SIGTERM`` or as a number; real-time signals are numbers or ``SIGRTMIN+3``."""
    if text is None:
        return None
    signal_number(text, "stop_signal")
    upper = text.strip().upper()
    return upper if upper.isdigit() or upper.startswith("SIG") else f"SIG{upper}"


def _optional_size(value: t.Any, field: str) -> int | None:
    return None if value is None else parse_size(text_of(value, field), field)
