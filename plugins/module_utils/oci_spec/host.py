# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what the host can do, as data that the pure builder is given.

`gather_host_facts` reads what holds for every container; a request's own device
nodes and seccomp profile are added by ``host_request.with_request``.
"""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import re
import resource
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed, Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandError
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import (
    CAPABILITIES,
    RLIMITS,
    parse_number_list,
)

SECCOMP_PROFILE = "/usr/share/containers/seccomp.json"

#: cgroup v1 mounts name their controllers among other options.
_V1_CONTROLLERS = frozenset(
    {"blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc", "pids"}
)

#: systemd is the init, and there is the bus on which crun asks it for a scope.
_SYSTEMD_SIGNS = ("run/systemd/system", "run/dbus/system_bus_socket")

#: crun 1.9 and later answer ``crun features``; before, versions other than 1.0.x are refused.
_CRUN_WITH_FEATURES = (1, 9)

#: The newest version of the specification that is ever written.
OCI_VERSION = "1.2.0"
#: What every crun accepts; older ones refuse anything that is not 1.0.
OLDEST_OCI_VERSION = "1.0.2"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostDevice:
    """A device node of the host."""

    path: str
    #: ``c`` or ``b``.
    kind: str
    major: int
    minor: int
    #: Permission bits.
    mode: int = 0o666
    uid: int = 0
    gid: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What a configuration may rely on; the defaults describe a roomy host.

    ``None`` in a collection's place means «not known: do not check».
    """

    #: 1 or 2.
    cgroup_version: int = 2
    #: cgroup controllers that can be used.
    controllers: frozenset[str] | None = None
    #: Whether a new container can limit swap, and weigh its I/O.
    has_swap_accounting: bool = True
    has_io_weight: bool = True
    #: Whether systemd is the init and crun can ask it for scopes.
    has_systemd: bool = False
    #: Whether the host has /dev/mqueue mounted.
    has_mqueue: bool = True
    kernel: tuple[int, int] = (6, 1)
    #: As ``uname -m`` says.
    machine: str = "x86_64"
    #: Capability names (``CAP_…``) in our bounding set; None is all.
    capabilities: frozenset[str] | None = None
    #: Hard limits of our own process by OCI name (``RLIMIT_NOFILE``); -1 is unlimited.
    hard_rlimits: tuple[tuple[str, int], ...] = ()
    #: The largest RLIMIT_NOFILE that the kernel grants anybody.
    nr_open: int | None = None
    #: Our own score: without CAP_SYS_RESOURCE nothing below it can be set.
    oom_score_adj: int = 0
    #: Numbers of CPUs and memory nodes that are online.
    cpus: frozenset[int] | None = None
    memory_nodes: frozenset[int] | None = None
    #: Page sizes as the OCI specification writes them: ``2MB``, ``1GB``.
    hugepage_sizes: frozenset[str] | None = None
    has_apparmor: bool = False
    #: Names of the loaded profiles; None when they cannot be read.
    apparmor_profiles: frozenset[str] | None = None
    #: Profile for containers that name none.
    apparmor_default: str | None = None
    has_selinux: bool = False
    crun_version: tuple[int, ...] = ()
    #: ``ociVersion`` to write.
    oci_version: str = OLDEST_OCI_VERSION
    #: Parsed default profile; None when the host has none.
    seccomp_default: dict[str, t.Any] | None = dataclasses.field(default=None, repr=False)
    #: Parsed profile that the request names.
    seccomp_profile: dict[str, t.Any] | None = dataclasses.field(default=None, repr=False)
    #: Device nodes that the request names, and all of them for a privileged container.
    devices: tuple[HostDevice, ...] = ()

    def has_capability(self, name: str) -> bool:
        """Say whether a process of ours could have the capability at all."""
        return self.capabilities is None or name in self.capabilities


def gather_host_facts(runner: Runner, *, crun: str = "crun", root: str = "/") -> HostFacts:
    """Read what this host can do; ``root`` is where ``proc`` and ``sys`` are looked for.

    Raises MissingDependency without crun and CommandError when crun does not work.
    """
    reader = _Reader(root)
    version_text = runner.run([crun, "--version"]).stdout
    version = parse_crun_version(version_text)
    status = reader.fields("proc/self/status")
    return HostFacts(
        **_cgroup_facts(reader),
        has_systemd="+SYSTEMD" in version_text and all(map(reader.exists, _SYSTEMD_SIGNS)),
        has_mqueue=reader.exists("dev/mqueue"),
        kernel=parse_kernel(os.uname().release),
        machine=os.uname().machine,
        capabilities=_capability_set(status.get("CapBnd", "")),
        hard_rlimits=tuple((name, resource.getrlimit(number)[1]) for name, number in RLIMITS.items()),
        nr_open=reader.number("proc/sys/fs/nr_open"),
        oom_score_adj=reader.number("proc/self/oom_score_adj") or 0,
        cpus=reader.number_set("sys/devices/system/cpu/online"),
        memory_nodes=reader.number_set("sys/devices/system/node/online"),
        hugepage_sizes=_hugepage_sizes(reader),
        has_apparmor=reader.text("sys/module/apparmor/parameters/enabled").strip() == "Y",
        apparmor_profiles=loaded_apparmor_profiles(root),
        has_selinux=reader.exists("sys/fs/selinux/enforce"),
        crun_version=version,
        oci_version=_oci_version(runner, crun, version),
        seccomp_default=_default_profile(reader),
    )


def parse_crun_version(text: str) -> tuple[int, ...]:
    """Return the numbers of ``crun version 1.8.1``; empty when there are none."""
    found = re.search(r"crun version (\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def parse_kernel(release: str) -> tuple[int, int]:
    """Return major and minor of a kernel release such as ``6.8.12-4-pve``."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def choose_oci_version(features: t.Mapping[str, t.Any]) -> str:
    """Return the newest version that both we and a runtime with these features know.

    ``features`` is the runtime's answer (OCI runtime specification, features.md).
    """
    newest = str(features.get("ociVersionMax", "")).partition("-")[0].partition("+")[0]
    try:
        theirs = tuple(int(part) for part in newest.split("."))
    except ValueError:
        return OLDEST_OCI_VERSION
    ours = tuple(int(part) for part in OCI_VERSION.split("."))
    return OCI_VERSION if theirs >= ours else newest


def _oci_version(runner: Runner, crun: str, version: tuple[int, ...]) -> str:
    if version < _CRUN_WITH_FEATURES:
        return OLDEST_OCI_VERSION
    try:
        answer: Completed = runner.run([crun, "features"])
        return choose_oci_version(json.loads(answer.stdout))
    except (CommandError, ValueError, AttributeError):
        # What every version accepts is right here, too: newer fields are no error under it.
        return OLDEST_OCI_VERSION


class _Reader:
    """Read small files below a root; what is missing reads as empty."""

    def __init__(self, root: str) -> None:
        self._root = root

    def path(self, name: str) -> str:
        return os.path.join(self._root, name)

    def exists(self, name: str) -> bool:
        return os.path.exists(self.path(name))

    def text(self, name: str) -> str:
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except OSError:
            return ""

    def number(self, name: str) -> int | None:
        try:
            return int(self.text(name))
        except ValueError:
            return None

    def number_set(self, name: str) -> frozenset[int] | None:
        return parse_number_list(self.text(name).strip())

    def fields(self, name: str) -> dict[str, str]:
        lines = (line.partition(":") for line in self.text(name).splitlines())
        return {key: value.strip() for key, _colon, value in lines}

    def glob(self, pattern: str) -> list[str]:
        return glob.glob(os.path.join(glob.escape(self._root), pattern))


def _capability_set(hexadecimal: str) -> frozenset[str] | None:
    try:
        bits = int(hexadecimal, 16)
    except ValueError:
        return None
    return frozenset(name for number, name in enumerate(CAPABILITIES) if bits >> number & 1)


def _cgroup_facts(reader: _Reader) -> dict[str, t.Any]:
    base = "sys/fs/cgroup"
    if reader.exists(f"{base}/cgroup.controllers"):
        return {
            "cgroup_version": 2,
            "controllers": frozenset(reader.text(f"{base}/cgroup.controllers").split()),
            # Neither file exists in the root cgroup; a child with the controller shows it.
            "has_swap_accounting": _child_has(reader, "memory.max", "memory.swap.max"),
            "has_io_weight": _child_has(reader, "io.max", "io.weight", "io.bfq.weight"),
        }
    mounts = (line.partition(" - ")[2].split() for line in reader.text("proc/self/mountinfo").splitlines())
    options = {name for fields in mounts if fields[:1] == ["cgroup"] for name in fields[2].split(",")}
    return {
        "cgroup_version": 1,
        "controllers": frozenset(options & _V1_CONTROLLERS),
        "has_swap_accounting": reader.exists(f"{base}/memory/memory.memsw.limit_in_bytes"),
        # crun does not know BFQ's own file on v1.
        "has_io_weight": reader.exists(f"{base}/blkio/blkio.weight"),
    }


def _child_has(reader: _Reader, sign: str, *wanted: str) -> bool:
    """Say whether a child cgroup that has ``sign`` has one of ``wanted``, too; unknown counts as yes."""
    for path in reader.glob(f"sys/fs/cgroup/*/{sign}"):
        directory = os.path.dirname(path)
        return any(os.path.exists(os.path.join(directory, name)) for name in wanted)
    return True


def _hugepage_sizes(reader: _Reader) -> frozenset[str] | None:
    found = [
        int(match[1])
        for path in reader.glob("sys/kernel/mm/hugepages/hugepages-*kB")
        if (match := re.search(r"hugepages-(\d+)kB$", path))
    ]
    return frozenset(_page_size(kib) for kib in found)


def _page_size(kib: int) -> str:
    for unit, size in (("GB", 1 << 20), ("MB", 1 << 10)):
        if kib >= size and kib % size == 0:
            return f"{kib // size}{unit}"
    return f"{kib}KB"


def loaded_apparmor_profiles(root: str = "/") -> frozenset[str] | None:
    """Return the names of the profiles that are loaded now, None when they cannot be read."""
    reader = _Reader(root)
    name = "sys/kernel/security/apparmor/profiles"
    if not reader.exists(name):
        return None
    return frozenset(line.rpartition(" (")[0] for line in reader.text(name).splitlines() if " (" in line)


def _default_profile(reader: _Reader) -> dict[str, t.Any] | None:
    try:
        profile = json.loads(reader.text(SECCOMP_PROFILE.lstrip("/")))
    except ValueError:
        return None
    return profile if isinstance(profile, dict) else None
