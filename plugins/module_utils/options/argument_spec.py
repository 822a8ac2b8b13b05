# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List the options of a container and of its root file system.

They are documented in the doc fragments ``container`` and ``source``; a test holds
the two against each other.
"""

from __future__ import annotations

import typing as t

Spec = dict[str, dict[str, t.Any]]


def container_argument_spec() -> Spec:
    """Return the options that `spec_from_options` reads, besides the module's own ``name``."""
    return {
        "entrypoint": {"type": "raw"},
        "command": {"type": "raw"},
        "env": {"type": "dict", "default": {}},
        "secret_env": {"type": "dict", "no_log": True},
        "cwd": {"type": "str"},
        "user": {"type": "str"},
        "supplementary_groups": _list_of("str"),
        "merge_image_groups": {"type": "bool", "default": True},
        "terminal": {"type": "bool", "default": False},
        "hostname": {"type": "str"},
        "labels": {"type": "dict", "default": {}},
        "annotations": {"type": "dict", "default": {}},
        "namespaces": {"type": "dict", "options": _namespaces()},
        "uid_maps": _list_of("dict", options=_id_map()),
        "gid_maps": _list_of("dict", options=_id_map()),
        "mounts": _list_of("dict", options=_mount()),
        "devices": _list_of("dict", options=_device()),
        "resources": {"type": "dict", "options": _resources(), "mutually_exclusive": _CPU_CHOICES},
        "security": {"type": "dict", "options": _security()},
        "rlimits": _list_of("dict", options=_rlimit()),
        "sysctls": {"type": "dict", "default": {}},
        "hooks": _list_of("dict", options=_hook()),
        "oom_score_adj": {"type": "int"},
        "cgroups_path": {"type": "str"},
        "stop_signal": {"type": "str"},
        "shm_size": {"type": "str"},
    }


def source_argument_spec() -> Spec:
    """Return the options that `source_from_options` reads."""
    return {
        "image": {"type": "str"},
        "tarball": {"type": "path"},
        "directory": {"type": "path"},
        "directory_mode": {"type": "str", "choices": ["overlay", "direct"], "default": "overlay"},
        "pull": {"type": "dict", "options": _pull(), "required_together": [("username", "password")]},
    }


#: For AnsibleModule: a container has one root file system.
SOURCE_MUTUALLY_EXCLUSIVE: t.Final = [("image", "tarball", "directory")]

#: A number of CPUs is a quota in other words.
_CPU_CHOICES: t.Final = [("cpus", "cpu_quota"), ("cpus", "cpu_period")]

_NAMESPACES: t.Final = ("pid", "ipc", "uts", "cgroup")


def _list_of(elements: str, **more: t.Any) -> dict[str, t.Any]:
    return {"type": "list", "elements": elements, "default": [], **more}


def _namespaces() -> Spec:
    own: Spec = {kind: {"type": "str", "default": "private"} for kind in _NAMESPACES}
    return {**own, "user": {"type": "str", "default": "host"}}


def _id_map() -> Spec:
    return {
        "container_id": {"type": "int", "required": True},
        "host_id": {"type": "int", "required": True},
        "size": {"type": "int", "required": True},
    }


def _mount() -> Spec:
    return {
        "type": {
            "type": "str",
            "choices": ["bind", "tmpfs", "volume", "image", "secret", "file"],
            "default": "bind",
        },
        "destination": {"type": "str", "required": True},
        "source": {"type": "str"},
        "content": {"type": "str"},
        "secret": {"type": "str", "no_log": True},
        "encoding": {"type": "str", "choices": ["utf-8", "base64"], "default": "utf-8"},
        "read_only": {"type": "bool", "default": False},
        "recursive_read_only": {"type": "bool", "default": False},
        "propagation": {
            "type": "str",
            "choices": ["rprivate", "private", "rslave", "slave", "rshared", "shared"],
            "default": "rprivate",
        },
        "options": _list_of("str"),
        "sub_path": {"type": "str"},
        "size": {"type": "str"},
        "mode": {"type": "raw"},
        "uid": {"type": "int"},
        "gid": {"type": "int"},
        "uid_maps": _list_of("dict", options=_id_map()),
        "gid_maps": _list_of("dict", options=_id_map()),
        "create_source": {"type": "bool", "default": False},
    }


def _device() -> Spec:
    return {
        "source": {"type": "str", "required": True},
        "destination": {"type": "str"},
        "permissions": {"type": "str", "default": "rwm"},
    }


def _resources() -> Spec:
    return {
        "cpus": {"type": "str"},
        "cpu_shares": {"type": "int"},
        "cpu_quota": {"type": "int"},
        "cpu_period": {"type": "int"},
        "cpuset_cpus": {"type": "str"},
        "cpuset_mems": {"type": "str"},
        "memory": {"type": "str"},
        "memory_reservation": {"type": "str"},
        "memory_swap": {"type": "str"},
        "pids_limit": {"type": "int"},
        "io_weight": {"type": "int"},
        "io_limits": _list_of(
            "dict",
            options={
                "device": {"type": "str", "required": True},
                "read_bps": {"type": "str"},
                "write_bps": {"type": "str"},
                "read_iops": {"type": "int"},
                "write_iops": {"type": "int"},
            },
        ),
        "hugepages": {"type": "dict", "default": {}},
        "unified": {"type": "dict", "default": {}},
    }


def _security() -> Spec:
    return {
        "privileged": {"type": "bool", "default": False},
        "capabilities_add": _list_of("str"),
        "capabilities_drop": _list_of("str"),
        "no_new_privileges": {"type": "bool", "default": False},
        "seccomp": {"type": "str", "default": "default"},
        "apparmor": {"type": "str"},
        "selinux_process_label": {"type": "str"},
        "selinux_mount_label": {"type": "str"},
        "masked_paths": {"type": "list", "elements": "str"},
        "read_only_paths": {"type": "list", "elements": "str"},
        "read_only_rootfs": {"type": "bool", "default": False},
    }


def _rlimit() -> Spec:
    return {
        "type": {"type": "str", "required": True},
        "soft": {"type": "str", "required": True},
        "hard": {"type": "str"},
    }


def _hook() -> Spec:
    return {
        "stage": {
            "type": "str",
            "required": True,
            "choices": [
                "createRuntime",
                "createContainer",
                "startContainer",
                "poststart",
                "poststop",
                "prestart",
            ],
        },
        "path": {"type": "str", "required": True},
        "args": _list_of("str"),
        "env": {"type": "dict", "default": {}},
        "timeout": {"type": "int"},
    }


def _pull() -> Spec:
    return {
        "policy": {"type": "str", "choices": ["missing", "always", "newer", "never"], "default": "missing"},
        "platform": {"type": "str"},
        "username": {"type": "str"},
        "password": {"type": "str", "no_log": True},
        "authfile": {"type": "path"},
        "tls_verify": {"type": "bool"},
        "cert_dir": {"type": "path"},
        "ca_file": {"type": "path"},
        "signature_policy": {"type": "path"},
        "retries": {"type": "int", "default": 2},
        "timeout": {"type": "str", "default": "30m"},
    }
