# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe requests, hosts and images for hypothesis to make up; every one of them is valid."""

from __future__ import annotations

import string

from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    Device,
    Hook,
    IdMap,
    ImageConfig,
    IoLimit,
    Mount,
    MountKind,
    Namespaces,
    Resources,
    Rlimit,
    Security,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostDevice, HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.mounts import ResolvedMount
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import CAPABILITIES, RLIMITS

WORDS = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=12)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20)
ABSOLUTE = st.lists(WORDS.filter(lambda word: word not in {".", ".."}), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)
PAIRS = st.dictionaries(WORDS, TEXTS, max_size=4).map(lambda d: tuple(d.items()))
NAMES = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,30}", fullmatch=True)

SECCOMP = {"defaultAction": "SCMP_ACT_ALLOW"}
DISK = HostDevice(path="/dev/vda", kind="b", major=254, minor=0, mode=0o660, gid=6)
FUSE = HostDevice(path="/dev/fuse", kind="c", major=10, minor=229)

MODES = st.one_of(st.sampled_from(["private", "host"]), ABSOLUTE)

SYSCTLS = {"ipc": "kernel.shmmax", "network": "net.ipv4.ip_forward", "uts": "kernel.domainname"}


def hosts() -> st.SearchStrategy[HostFacts]:
    """Return hosts of either cgroup version, with more or fewer rights."""
    return st.builds(
        HostFacts,
        cgroup_version=st.sampled_from([1, 2]),
        has_systemd=st.booleans(),
        kernel=st.sampled_from([(6, 1), (6, 8)]),
        machine=st.sampled_from(["x86_64", "aarch64"]),
        capabilities=st.one_of(st.none(), st.frozensets(st.sampled_from(CAPABILITIES))),
        hard_rlimits=st.dictionaries(st.sampled_from(sorted(RLIMITS)), st.integers(-1, 1 << 20)).map(
            lambda d: tuple(d.items())
        ),
        oom_score_adj=st.integers(-1000, 1000),
        crun_version=st.sampled_from([(1, 8, 1), (1, 21)]),
        oci_version=st.sampled_from(["1.0.2", "1.2.0"]),
        seccomp_default=st.just(SECCOMP),
        seccomp_profile=st.just(SECCOMP),
        devices=st.just((DISK, FUSE)),
        has_apparmor=st.booleans(),
    )


def images() -> st.SearchStrategy[ImageConfig]:
    """Return configurations of images, which may say odd things."""
    return st.builds(
        ImageConfig,
        entrypoint=st.lists(WORDS, max_size=2).map(tuple),
        command=st.lists(TEXTS, max_size=2).map(tuple),
        env=PAIRS,
        cwd=st.one_of(st.just(""), WORDS, ABSOLUTE, st.just("../../x/")),
        labels=PAIRS,
        architecture=st.sampled_from(["", "amd64"]),
    )


def resources() -> st.SearchStrategy[Resources]:
    """Return limits that fit each other."""

    @st.composite
    def make(draw) -> Resources:
        memory = draw(st.one_of(st.none(), st.integers(1 << 20, 1 << 40)))
        swap = draw(st.integers(memory, 1 << 41)) if memory and draw(st.booleans()) else None
        return Resources(
            cpu_shares=draw(st.one_of(st.none(), st.integers(2, 262144))),
            cpu_quota_us=draw(st.one_of(st.none(), st.just(-1), st.integers(1000, 1 << 30))),
            cpu_period_us=draw(st.one_of(st.none(), st.integers(1000, 1_000_000))),
            cpuset_cpus=draw(st.sampled_from([None, "0", "0-3, 5"])),
            memory_bytes=memory,
            memory_reservation_bytes=draw(st.one_of(st.none(), st.integers(1, memory or 1 << 30))),
            memory_swap_bytes=swap,
            pids_limit=draw(st.one_of(st.none(), st.integers(-1, 1000))),
            io_weight=draw(st.one_of(st.none(), st.integers(10, 1000))),
            io_limits=draw(st.sampled_from([(), (IoLimit(device="/dev/vda", read_bps=1024),)])),
            hugepages=draw(st.sampled_from([(), (("2MB", 1 << 21),)])),
        )

    return make()


def mounts() -> st.SearchStrategy[tuple[ResolvedMount, ...]]:
    """Return mounts at different destinations with their sources."""

    @st.composite
    def make(draw) -> tuple[ResolvedMount, ...]:
        result = []
        for destination in draw(st.lists(ABSOLUTE, unique=True, max_size=4)):
            kind = draw(st.sampled_from(list(MountKind)))
            if kind == MountKind.TMPFS:
                mount = Mount(
                    kind=kind,
                    destination=destination,
                    read_only=draw(st.booleans()),
                    size_bytes=draw(st.one_of(st.none(), st.integers(1, 1 << 40))),
                    mode=draw(st.one_of(st.none(), st.integers(0, 0o7777))),
                )
                result.append(ResolvedMount(mount=mount))
                continue
            mount = Mount(
                kind=kind,
                destination=destination,
                source="anything",
                read_only=draw(st.booleans()),
                propagation=draw(st.sampled_from(["rprivate", "private", "rslave", "rshared"])),
                options=draw(st.sampled_from([(), ("noexec", "nosuid"), ("bind",)])),
            )
            result.append(ResolvedMount(mount=mount, source=draw(ABSOLUTE)))
        return tuple(result)

    return make()


def securities() -> st.SearchStrategy[Security]:
    """Return what processes may do."""

    @st.composite
    def make(draw) -> Security:
        added = draw(st.frozensets(st.sampled_from(["ALL", *CAPABILITIES]), max_size=4))
        dropped = draw(st.frozensets(st.sampled_from(CAPABILITIES), max_size=4)) - added
        return Security(
            privileged=draw(st.booleans()),
            capabilities_add=tuple(sorted(added)),
            capabilities_drop=tuple(sorted(dropped)),
            no_new_privileges=draw(st.booleans()),
            seccomp=draw(st.sampled_from(["default", "unconfined", "/a/profile.json"])),
            masked_paths=draw(st.one_of(st.none(), st.lists(ABSOLUTE, max_size=2).map(tuple))),
            read_only_paths=draw(st.one_of(st.none(), st.lists(ABSOLUTE, max_size=2).map(tuple))),
            read_only_rootfs=draw(st.booleans()),
        )

    return make()


@st.composite
def requests(draw) -> tuple[ContainerSpec, tuple[ResolvedMount, ...]]:
    """Return a valid request and its mounts with their sources."""
    asked = draw(mounts())
    user = draw(MODES)
    maps = (IdMap(container_id=0, host_id=100000, size=65536),) if user == "private" else ()
    namespaces = Namespaces(
        pid=draw(MODES),
        network=draw(MODES),
        ipc=draw(MODES),
        uts=draw(MODES),
        cgroup=draw(MODES),
        user=user,
    )
    sysctls = tuple((name, "1") for kind, name in SYSCTLS.items() if getattr(namespaces, kind) != "host")
    limits = [
        Rlimit(kind=kind, soft=0, hard=draw(st.integers(-1, 1 << 30)))
        for kind in draw(st.lists(st.sampled_from(sorted(RLIMITS)), unique=True, max_size=3))
    ]
    hooks = [
        Hook(stage=stage, path="/usr/bin/true", args=("x",), timeout_s=draw(st.sampled_from([None, 3])))
        for stage in draw(st.lists(st.sampled_from(["createRuntime", "poststart", "poststop"]), max_size=3))
    ]
    spec = ContainerSpec(
        name=draw(NAMES),
        entrypoint=draw(st.one_of(st.none(), st.lists(WORDS, min_size=1, max_size=2).map(tuple))),
        command=draw(st.lists(WORDS, min_size=1, max_size=3).map(tuple)),
        env=draw(PAIRS),
        cwd=draw(st.one_of(st.none(), ABSOLUTE)),
        terminal=draw(st.booleans()),
        hostname=draw(st.sampled_from([None, "web-1"])) if namespaces.uts == "private" else None,
        labels=draw(PAIRS),
        annotations=draw(PAIRS),
        namespaces=namespaces,
        uid_maps=maps,
        gid_maps=maps,
        mounts=tuple(item.mount for item in asked),
        devices=draw(st.sampled_from([(), (Device(source="/dev/fuse", destination="/dev/fuse"),)])),
        resources=draw(resources()),
        security=draw(securities()),
        rlimits=tuple(limits),
        sysctls=sysctls,
        hooks=tuple(hooks),
        oom_score_adj=draw(st.one_of(st.none(), st.integers(-1000, 1000))),
        cgroups_path=draw(st.one_of(st.none(), ABSOLUTE)),
        shm_size_bytes=None if namespaces.ipc == "host" else draw(st.sampled_from([None, 1 << 20])),
    )
    return spec, asked
