# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe the ``linux`` object of ``config.json`` (OCI runtime specification, config-linux.md)."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.schema_types import (
    FILE_PATH,
    ID_MAPPINGS,
    INT64,
    STRING,
    STRING_MAP,
    STRINGS,
    UINT16,
    UINT32,
    UINT64,
    Schema,
    array_of,
    map_of,
    one_of,
    structure,
)

_BOOLEAN: t.Final[Schema] = {"type": "boolean"}

_NUMBERED: t.Final = {"major": INT64, "minor": INT64}
_THROTTLES: t.Final = array_of(structure(required=("major", "minor"), **_NUMBERED, rate=UINT64))

NAMESPACE_TYPES: t.Final = ("mount", "pid", "network", "uts", "ipc", "user", "cgroup", "time")

_SECCOMP_ARCHITECTURES: t.Final = (
    "X86 X86_64 X32 ARM AARCH64 LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 "
    "PPC PPC64 PPC64LE S390 S390X SH SHEB PARISC PARISC64 RISCV64"
)
_SECCOMP_ACTIONS: t.Final = "KILL KILL_PROCESS KILL_THREAD TRAP ERRNO TRACE ALLOW LOG NOTIFY"
_SECCOMP_ACTION: t.Final = one_of(*(f"SCMP_ACT_{word}" for word in _SECCOMP_ACTIONS.split()))

_SECCOMP_OPERATORS: t.Final = "NE LT LE EQ GE GT MASKED_EQ"

_SECCOMP: t.Final = structure(
    required=("defaultAction",),
    defaultAction=_SECCOMP_ACTION,
    defaultErrnoRet=UINT32,
    flags=array_of(
        one_of(
            "SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        )
    ),
    listenerPath=FILE_PATH,
    listenerMetadata=STRING,
    architectures=array_of(one_of(*(f"SCMP_ARCH_{word}" for word in _SECCOMP_ARCHITECTURES.split()))),
    syscalls=array_of(
        structure(
            required=("names", "action"),
            names=array_of(STRING, minItems=1),
            action=_SECCOMP_ACTION,
            errnoRet=UINT32,
            args=array_of(
                structure(
                    required=("index", "value", "op"),
                    index=UINT32,
                    value=UINT64,
                    valueTwo=UINT64,
                    op=one_of(*(f"SCMP_CMP_{word}" for word in _SECCOMP_OPERATORS.split())),
                )
            ),
        )
    ),
)

_CPU: t.Final = structure(
    shares=UINT64,
    quota=INT64,
    burst=UINT64,
    period=UINT64,
    realtimeRuntime=INT64,
    realtimePeriod=UINT64,
    cpus=STRING,
    mems=STRING,
    idle=INT64,
)

_MEMORY: t.Final = structure(
    limit=INT64,
    reservation=INT64,
    swap=INT64,
    kernel=INT64,
    kernelTCP=INT64,
    swappiness=UINT64,
    disableOOMKiller=_BOOLEAN,
    useHierarchy=_BOOLEAN,
    checkBeforeUpdate=_BOOLEAN,
)

_BLOCK_IO: t.Final = structure(
    weight=UINT16,
    leafWeight=UINT16,
    weightDevice=array_of(
        structure(required=("major", "minor"), **_NUMBERED, weight=UINT16, leafWeight=UINT16)
    ),
    throttleReadBpsDevice=_THROTTLES,
    throttleWriteBpsDevice=_THROTTLES,
    throttleReadIOPSDevice=_THROTTLES,
    throttleWriteIOPSDevice=_THROTTLES,
)

RESOURCES: t.Final = structure(
    devices=array_of(structure(required=("allow",), allow=_BOOLEAN, type=STRING, **_NUMBERED, access=STRING)),
    memory=_MEMORY,
    cpu=_CPU,
    pids=structure(required=("limit",), limit=INT64),
    blockIO=_BLOCK_IO,
    hugepageLimits=array_of(
        structure(
            required=("pageSize", "limit"),
            pageSize={"type": "string", "pattern": "^[1-9][0-9]*[KMG]B$"},
            limit=UINT64,
        )
    ),
    network=structure(
        classID=UINT32,
        priorities=array_of(structure(required=("name", "priority"), name=STRING, priority=UINT32)),
    ),
    rdma=map_of(structure(hcaHandles=UINT32, hcaObjects=UINT32)),
    unified=STRING_MAP,
)

_TIME_OFFSET: t.Final = structure(secs=INT64, nanosecs=UINT32)

LINUX: t.Final = structure(
    namespaces=array_of(structure(required=("type",), type=one_of(*NAMESPACE_TYPES), path=FILE_PATH)),
    uidMappings=ID_MAPPINGS,
    gidMappings=ID_MAPPINGS,
    timeOffsets=structure(boottime=_TIME_OFFSET, monotonic=_TIME_OFFSET),
    devices=array_of(
        structure(
            required=("type", "path"),
            type={"type": "string", "pattern": "^[cbup]$"},
            path=FILE_PATH,
            **_NUMBERED,
            fileMode={"type": "integer", "minimum": 0, "maximum": 0o777},
            uid=UINT32,
            gid=UINT32,
        )
    ),
    # Newer than 1.2, from here on marked «1.3»: checked, since bundles of others may have it.
    netDevices=map_of(structure(name=STRING)),
    cgroupsPath=STRING,
    resources=RESOURCES,
    intelRdt=structure(
        closID=STRING,
        l3CacheSchema=STRING,
        memBwSchema={"type": "string", "pattern": r"^MB:[^\n]*$"},
        enableCMT=_BOOLEAN,
        enableMBM=_BOOLEAN,
        schemata=STRINGS,  # 1.3
        enableMonitoring=_BOOLEAN,  # 1.3
    ),
    memoryPolicy=structure(  # 1.3
        mode=one_of(
            "MPOL_DEFAULT",
            "MPOL_BIND",
            "MPOL_INTERLEAVE",
            "MPOL_WEIGHTED_INTERLEAVE",
            "MPOL_PREFERRED",
            "MPOL_PREFERRED_MANY",
            "MPOL_LOCAL",
        ),
        nodes=STRING,
        flags=array_of(one_of("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES")),
    ),
    sysctl=STRING_MAP,
    seccomp=_SECCOMP,
    rootfsPropagation=one_of("private", "shared", "slave", "unbindable"),
    maskedPaths=STRINGS,
    readonlyPaths=STRINGS,
    mountLabel=STRING,
    personality=structure(domain=one_of("LINUX", "LINUX32"), flags=STRINGS),
)
