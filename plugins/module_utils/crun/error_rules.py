# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List what crun says when it fails, and what that means.

A table and nothing else, which is why it is long.  The wordings are those of
crun 1.8 and 1.21 on cgroup v1 and v2; the first rule that matches counts.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    Conflict,
    MissingDependency,
    NotFound,
    Unsupported,
    WrongState,
)

_Other: t.TypeAlias = (
    "type[NotFound] | type[Conflict] | type[WrongState] | type[Unsupported] | type[MissingDependency]"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One wording, and what it means.

    ``problem`` is a format string over the groups of ``pattern`` (``{0}`` is the
    first) and ``{name}``.  ``field`` is the path in the bundle's ``config.json``
    that is to blame; with it the error is an InvalidSpec, else of class ``kind``.
    """

    pattern: str
    problem: str
    hint: str
    field: str | None = None
    kind: _Other = WrongState
    #: What a shell would end with (POSIX, "Exit Status for Commands"), where it is the program's fault.
    shell_code: int | None = None


_EXECUTABLE_HINT = "Give the path of a program that the image has, or correct PATH in the environment"

RULES: tuple[Rule, ...] = (
    # ---- the program ----
    Rule(
        r"executable file [`']([^`']*)[`'] not found",
        "'{0}' is not in the container",
        _EXECUTABLE_HINT,
        field="process.args",
        shell_code=127,
    ),
    Rule(
        r"exec container process \(missing dynamic library\?\) `([^`]*)`",
        "'{0}' is there, but its interpreter or a library is not",
        "Use an image of the same C library and architecture, or a static program",
        field="process.args",
        shell_code=126,
    ),
    Rule(
        r"exec container process `([^`]*)`: Exec format error",
        "'{0}' is no program for this host's architecture, or a script without '#!'",
        "Use an image of this architecture, or name the interpreter first",
        field="process.args",
        shell_code=126,
    ),
    Rule(
        r"the path `([^`]*)` (?:exists but it is not executable|is not a regular file)",
        "'{0}' cannot be executed",
        "Name a file with permission to execute",
        field="process.args",
        shell_code=126,
    ),
    Rule(
        r"exec\b.*: Argument list too long",
        "its arguments and environment are longer than the kernel takes",
        "Pass what is long in a file or on standard input",
        field="process.args",
        shell_code=126,
    ),
    Rule(
        r"open executable: (.+)",
        "the program cannot be executed: {0}",
        "Name a file with permission to execute",
        field="process.args",
        shell_code=126,
    ),
    Rule(
        r"^exec: (.+)",
        "the program cannot be executed: {0}",
        "Name a program for this architecture that the user may read and execute",
        field="process.args",
        shell_code=126,
    ),
    Rule(
        r"executable path not specified",
        "there is no program to run",
        "Give a command",
        field="process.args",
        shell_code=127,
    ),
    Rule(
        r"chdir(?: to)? `([^`]*)`",
        "'{0}' is no directory of the container",
        "Correct it",
        field="process.cwd",
    ),
    # ---- rootfs and mounts ----
    Rule(
        r"(?:make `([^`]*)` private|open `(rootfs|[^`]*/rootfs)`): No such file",
        "the rootfs is missing",
        "Mount the bundle's rootfs, or make the bundle again",
        field="root.path",
    ),
    Rule(
        r"(?:error stat'ing file|cannot stat) `([^`]*)`: No such file",
        "'{0}' does not exist on the host",
        "Create it, or correct the source of the mount",
        field="mounts",
    ),
    Rule(
        r"mount `([^`]*)` to `([^`]*)`: No such device",
        "'/{1}': the kernel does not know this type of file system",
        "Correct the type of the mount, or load the kernel module",
        field="mounts",
    ),
    Rule(
        r"mount `devpts` to `dev/pts`: Invalid argument",
        "the user namespace has no mapping for the group of terminals",
        "Give uidMappings and gidMappings that cover the ids in use",
        field="linux.gidMappings",
    ),
    Rule(
        r"mount `([^`]*)` to `([^`]*)`: (.+)",
        "'{0}' cannot be mounted on '/{1}': {2}",
        "Look at its options and at the type of its source",
        field="mounts",
    ),
    Rule(
        r"(?:mkdir `([^`]*)`: Not a directory|error creating directory `([^`]*)` since)",
        "a file of the image is where a directory for a mount has to be",
        "Mount it elsewhere",
        field="mounts",
    ),
    # ---- resources ----
    Rule(
        r"(?:writ(?:e|ing) file `memory\.memsw\.limit_in_bytes`: Invalid argument"
        r"|cannot set swap limit without the memory limit"
        r"|cannot set memory\+swap limit less than the memory limit)",
        "a limit on swap needs a limit on memory that is not above it",
        "Give both; the swap limit counts memory and swap together",
        field="linux.resources.memory.swap",
    ),
    Rule(
        r"writ(?:e|ing) file `(memory\.(?:limit_in_bytes|max))`: (?:Device or resource busy|Resource busy)",
        "the processes of the container already use more memory than the new limit",
        "Choose a higher limit, or restart the container with it",
        field="linux.resources.memory.limit",
    ),
    Rule(
        r"OOM: the memory limit could be too low|memory limit too low",
        "the memory limit is too low to start anything",
        "Give at least some mebibytes",
        field="linux.resources.memory.limit",
    ),
    Rule(
        r"writ(?:e|ing) file `(cpuset\.[a-z]+)`: (.+)",
        "the host lacks these processors or memory nodes ({1})",
        "Look at /sys/fs/cgroup for what is there",
        field="linux.resources.cpu.cpus",
    ),
    Rule(
        r"writ(?:e|ing) file `(cpu\.[a-z_.]+)`: (.+)",
        "the kernel refuses the value of {0} ({1})",
        "A quota is at least 1000 µs and within the parent's; a period 1000 to 1000000 µs",
        field="linux.resources.cpu",
    ),
    Rule(
        r"(?:writ(?:e|ing)|opening) file `pids\.max`.*: (.+)",
        "the kernel refuses the limit on processes ({0})",
        "Give a positive number, or none",
        field="linux.resources.pids.limit",
    ),
    Rule(
        r"opening file `hugetlb\.([^`.]*)\.",
        "the host has no huge pages of size {0}",
        "Use a size that /sys/kernel/mm/hugepages lists",
        field="linux.resources.hugepageLimits",
    ),
    Rule(
        r"cannot use unified on cgroup v1",
        "raw cgroup v2 values need a host with cgroup v2 only",
        "Leave them out, or boot with systemd.unified_cgroup_hierarchy=1",
        field="linux.resources.unified",
    ),
    Rule(
        r"opening file `((?:blkio|io)\.[^`]*)` for writing",
        "the kernel cannot set {0}",
        "Leave the weight or throttle out, or enable the I/O scheduler that offers it",
        field="linux.resources.blockIO",
    ),
    Rule(
        r"open `((?:memory|cpu|cpuset|io|pids|hugetlb|rdma|misc)\.[^`]*)`: No such file",
        "the kernel has no '{0}'",
        "Use a file name that /sys/fs/cgroup has in a group",
        field="linux.resources.unified",
    ),
    Rule(
        r"write to `((?:memory|cpu|cpuset|io|pids|hugetlb|rdma|misc)\.[^`]*)`: (.+)",
        "the kernel refuses the value of '{0}' ({1})",
        "Give it as the kernel's documentation of cgroup v2 has it",
        field="linux.resources.unified",
    ),
    Rule(
        r"write `[rw](?:bps|iops)`: (.+)",
        "a throttle cannot be set: {0}",
        "Name a whole block device of the host, not a partition",
        field="linux.resources.blockIO",
    ),
    Rule(
        r"(realtime period|realtime runtime|kernel memory|kernel tcp|network limits).*cgroup ?v2",
        "cgroup v2 has no {0}",
        "Leave it out",
        kind=Unsupported,
    ),
    Rule(
        r"controller `([^`]*)` is not available",
        "this host cannot limit '{0}': the cgroup controller is not available",
        "Enable the controller on the kernel command line, or leave the limit out",
        kind=Unsupported,
    ),
    Rule(
        r"cgroups in hybrid mode not supported",
        "crun cannot work while cgroup v2 has controllers beside cgroup v1",
        "Boot with systemd.unified_cgroup_hierarchy=1, or mount the remaining controllers as cgroup v1",
        kind=Unsupported,
    ),
    Rule(
        r"sd-bus call: (.+)",
        "systemd refuses to make the cgroup: {0}",
        "Give 'slice:prefix:name' with a slice whose name ends in .slice",
        field="linux.cgroupsPath",
    ),
    Rule(
        r"cannot open sd-bus|Failed to connect to (?:system|user)? ?bus",
        "systemd does not answer on the system bus, and it was to make the cgroup",
        "Use cgroupfs, or run on a host whose init is systemd",
        kind=MissingDependency,
    ),
    # ---- security ----
    Rule(
        r"AppArmor is not initialized correctly|apparmor.*not enabled",
        "an AppArmor profile was asked for, and the kernel has no AppArmor",
        "Leave the profile out, or say 'unconfined'",
        field="process.apparmorProfile",
    ),
    Rule(
        r"(?:write|set) (?:apparmor|AppArmor) profile|/attr/(?:apparmor/)?exec`?: No such file",
        "the AppArmor profile is not loaded",
        "Load it with apparmor_parser, or name another; /sys/kernel/security/apparmor/profiles lists them",
        field="process.apparmorProfile",
    ),
    Rule(
        r"/attr/(?:keycreate|exec|sockcreate|fscreate)`?: ",
        "the kernel refuses the SELinux label",
        "Leave it out where SELinux is not enforced",
        field="process.selinuxLabel",
    ),
    Rule(
        r"invalid seccomp action `([^`]*)`",
        "the seccomp profile has the unknown action '{0}'",
        "Use one of the SCMP_ACT_ actions of the OCI runtime specification",
        field="linux.seccomp",
    ),
    Rule(
        r"seccomp[^:]*: (.+)",
        "the seccomp profile cannot be loaded: {0}",
        "Look for system calls and arguments that this libseccomp does not know",
        field="linux.seccomp",
    ),
    Rule(
        r"seccomp unknown architecture `([^`]*)`",
        "the seccomp profile has the unknown architecture '{0}'",
        "Use one of the SCMP_ARCH_ names of the OCI runtime specification",
        field="linux.seccomp",
    ),
    Rule(
        r"invalid seccomp index",
        "the seccomp profile looks at an argument that no system call has",
        "Arguments have the indexes 0 to 5",
        field="linux.seccomp",
    ),
    Rule(
        r"write file `/proc/\d+/(uid|gid)_map`: (.+)",
        "the kernel refuses the map of {0}s ({1})",
        "Maps must not overlap, and each needs a size above 0",
        field="linux.uidMappings",
    ),
    Rule(
        r"/proc/self/oom_score_adj`?: Invalid argument",
        "the score is out of range",
        "Give -1000 to 1000",
        field="process.oomScoreAdj",
    ),
    Rule(
        r"/proc/self/oom_score_adj`?: Permission denied",
        "the score may not be lower than our own",
        "Choose a higher one, or run with CAP_SYS_RESOURCE",
        field="process.oomScoreAdj",
    ),
    Rule(
        r"setrlimit `([^`]*)`: (.+)",
        "{0} may not be set so high here ({1})",
        "Choose a hard limit that is not above the caller's own, or run with CAP_SYS_RESOURCE",
        field="process.rlimits",
    ),
    Rule(
        r"invalid rlimit `([^`]*)`",
        "the kernel knows no limit '{0}'",
        "Use a name of setrlimit(2)",
        field="process.rlimits",
    ),
    # ---- namespaces and kernel parameters ----
    Rule(
        r"the sysctl `([^`]*)` is not namespaced",
        "'{0}' holds for the whole host",
        "Set it on the host",
        field="linux.sysctl",
    ),
    Rule(
        r"the sysctl `([^`]*)` requires a new ([a-z]+) namespace",
        "'{0}' may only be set in a private {1} namespace",
        "Make that namespace private, or leave the parameter out",
        field="linux.sysctl",
    ),
    Rule(
        r"open `?/proc/sys/([^`:]*)`?: (.+)",
        "the kernel parameter '{0}' cannot be set ({1})",
        "Look for its name in /proc/sys",
        field="linux.sysctl",
    ),
    Rule(
        r"cannot setns `([^`]*)`",
        "'{0}' is no namespace of that kind",
        "Give the path of a namespace file",
        field="linux.namespaces",
    ),
    Rule(
        r"open `(/(?:var/)?run/[^`]*|/proc/\d+/ns/[^`]*)`: No such file",
        "the namespace '{0}' is gone",
        "Make it again, or start the container that it belongs to",
        field="linux.namespaces",
    ),
    Rule(
        r"invalid namespace type: `([^`]*)`",
        "there is no namespace '{0}'",
        "Use one of the OCI runtime specification",
        field="linux.namespaces",
    ),
    Rule(
        r"duplicate namespace type: `([^`]*)`",
        "the namespace '{0}' is listed twice",
        "List it once",
        field="linux.namespaces",
    ),
    # ---- hooks and the file itself ----
    Rule(
        r"timeout expired for `([^`]*)`",
        "the hook '{0}' did not end in time",
        "Raise its timeout, or look at what it waits for",
        field="hooks",
    ),
    Rule(
        r"error executing hook `([^`]*)` \(exit code: (-?\d+)\)",
        "the hook '{0}' failed with exit code {1}, or does not exist",
        "Run it by hand with the container's state on its input",
        field="hooks",
    ),
    Rule(
        r"unknown version specified",
        "this crun does not know the version",
        "crun 1.8 knows 1.0.x only",
        field="ociVersion",
    ),
    Rule(
        r"load `config\.json`: (.+)",
        "config.json cannot be read: {0}",
        "Make the bundle again",
        field="config.json",
    ),
    # ---- life ----
    Rule(
        r"container `([^`]*)` already exists",
        "a container '{0}' exists",
        "Delete it first, or choose another name",
        kind=Conflict,
    ),
    Rule(
        r"(?:error opening file|open) `[^`]*/status`: No such file",
        "there is no container '{name}'",
        "Create it first",
        kind=NotFound,
    ),
    Rule(
        r"container `([^`]*)` is paused|the container is paused",
        "container '{name}' is paused",
        "Resume it first",
    ),
    Rule(
        r"container `([^`]*)` is not running|container not running|kill container: No such process",
        "container '{name}' does not run",
        "Start it first",
    ),
    Rule(
        r"is not in `created` or `stopped` state",
        "container '{name}' runs",
        "Stop it first, or force it",
    ),
    Rule(
        r"(?:open|writ)[a-z]* (?:file )?`?[^`]*freezer|cgroup freezer.*not",
        "this host cannot pause: the freezer cgroup is missing",
        "Mount the freezer controller of cgroup v1, or use cgroup v2",
        kind=Unsupported,
    ),
    Rule(
        r"No space left on device",
        "a file system of the host is full",
        "Free some space below /run and the state directory",
    ),
)
