# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe ``config.json`` as a JSON schema (draft 4), written from the OCI runtime specification 1.2.

It covers what Linux containers have, and is nested rather than linked: a validator
walks it without resolving references, and every schema in it names one type.
Unknown properties are allowed, as the specification asks (config.md,
«Extensibility»); values of a known property are not free.  What a schema cannot
say is in ``rules.py``.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.schema_linux import LINUX
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.schema_types import (
    FILE_PATH,
    ID_MAPPINGS,
    INT32,
    STRING,
    STRING_MAP,
    STRINGS,
    UINT32,
    UINT64,
    Schema,
    array_of,
    one_of,
    structure,
)

_HOOK: t.Final = structure(
    required=("path",),
    path=FILE_PATH,
    args=STRINGS,
    env=STRINGS,
    timeout={"type": "integer", "minimum": 1},
)

_MOUNT: t.Final = structure(
    required=("destination",),
    destination=FILE_PATH,
    source=FILE_PATH,
    type=STRING,
    options=STRINGS,
    uidMappings=ID_MAPPINGS,
    gidMappings=ID_MAPPINGS,
)

_CPU_LIST: t.Final[Schema] = {"type": "string", "pattern": r"^[0-9, -]*$"}

_SCHEDULER: t.Final = structure(
    required=("policy",),
    policy=one_of(
        "SCHED_OTHER",
        "SCHED_FIFO",
        "SCHED_RR",
        "SCHED_BATCH",
        "SCHED_ISO",
        "SCHED_IDLE",
        "SCHED_DEADLINE",
    ),
    nice=INT32,
    priority=INT32,
    flags=array_of(
        one_of(
            "SCHED_FLAG_RESET_ON_FORK",
            "SCHED_FLAG_RECLAIM",
            "SCHED_FLAG_DL_OVERRUN",
            "SCHED_FLAG_KEEP_POLICY",
            "SCHED_FLAG_KEEP_PARAMS",
            "SCHED_FLAG_UTIL_CLAMP_MIN",
            "SCHED_FLAG_UTIL_CLAMP_MAX",
        )
    ),
    runtime=UINT64,
    deadline=UINT64,
    period=UINT64,
)

_PROCESS: t.Final = structure(
    required=("cwd",),
    args=STRINGS,
    commandLine=STRING,
    consoleSize=structure(required=("height", "width"), height=UINT64, width=UINT64),
    cwd=STRING,
    env=STRINGS,
    terminal={"type": "boolean"},
    user=structure(uid=UINT32, gid=UINT32, umask=UINT32, additionalGids=array_of(UINT32), username=STRING),
    capabilities=structure(
        bounding=STRINGS, permitted=STRINGS, effective=STRINGS, inheritable=STRINGS, ambient=STRINGS
    ),
    apparmorProfile=STRING,
    oomScoreAdj={"type": "integer"},
    selinuxLabel=STRING,
    ioPriority=structure(
        required=("class",),
        **{"class": one_of("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE")},
        priority=INT32,
    ),
    noNewPrivileges={"type": "boolean"},
    scheduler=_SCHEDULER,
    rlimits=array_of(
        structure(
            required=("type", "soft", "hard"),
            type={"type": "string", "pattern": "^RLIMIT_[A-Z]+$"},
            soft=UINT64,
            hard=UINT64,
        )
    ),
    execCPUAffinity=structure(initial=_CPU_LIST, final=_CPU_LIST),
)

SCHEMA: t.Final[Schema] = structure(
    required=("ociVersion",),
    ociVersion=STRING,
    root=structure(required=("path",), path=FILE_PATH, readonly={"type": "boolean"}),
    process=_PROCESS,
    hostname=STRING,
    domainname=STRING,
    mounts=array_of(_MOUNT),
    hooks=structure(
        prestart=array_of(_HOOK),
        createRuntime=array_of(_HOOK),
        createContainer=array_of(_HOOK),
        startContainer=array_of(_HOOK),
        poststart=array_of(_HOOK),
        poststop=array_of(_HOOK),
    ),
    annotations=STRING_MAP,
    linux=LINUX,
)
