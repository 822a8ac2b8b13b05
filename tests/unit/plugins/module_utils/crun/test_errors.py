# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""crun's own words, as versions 1.8 and 1.21 print them, and what they mean."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.error_rules import RULES
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.errors import shell_code, translate
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    Conflict,
    CoreError,
    InvalidSpec,
    MissingDependency,
    NotFound,
    Unsupported,
    WrongState,
)

NO_FILE = "No such file or directory"

#: Each text was printed by a real crun, with the field of config.json that is to blame.
FIELDS = [
    ("cannot set swap limit without the memory limit", "linux.resources.memory.swap", "swap"),
    ("cannot set memory+swap limit less than the memory limit", "linux.resources.memory.swap", "swap"),
    ("write file `cpu.max`: Invalid argument", "linux.resources.cpu", "cpu.max"),
    (f"open `memory.nope`: {NO_FILE}", "linux.resources.unified", "memory.nope"),
    ("write to `memory.high`: Invalid argument", "linux.resources.unified", "memory.high"),
    ("write `rbps`: No such device", "linux.resources.blockIO", "No such device"),
    ("sd-bus call: Invalid unit name 'x': Invalid argument", "linux.cgroupsPath", "Invalid unit name"),
    ("seccomp unknown architecture `NOPE`", "linux.seccomp", "NOPE"),
    ("invalid seccomp index `0`", "linux.seccomp", "argument"),
    ("write file `/proc/593/uid_map`: Invalid argument", "linux.uidMappings", "uid"),
    ("write to `/proc/self/oom_score_adj`: Invalid argument", "process.oomScoreAdj", "range"),
    (
        f"write file `/proc/thread-self/attr/apparmor/exec`: {NO_FILE}",
        "process.apparmorProfile",
        "not loaded",
    ),
    (f"executable file `nope` not found in $PATH: {NO_FILE}", "process.args", "'nope'"),
    (f"executable file `/no/pe` not found: {NO_FILE}", "process.args", "'/no/pe'"),
    ("open executable: Permission denied", "process.args", "Permission denied"),
    ("the path `/etc` is not a regular file: Operation not permitted", "process.args", "'/etc'"),
    (
        "the path `/etc/passwd` exists but it is not executable: Operation not permitted",
        "process.args",
        "passwd",
    ),
    ("exec container process `/bad`: Exec format error", "process.args", "architecture"),
    (f"exec container process (missing dynamic library?) `/b`: {NO_FILE}", "process.args", "library"),
    ("exec: Exec format error", "process.args", "Exec format error"),
    ("exec: Argument list too long", "process.args", "longer than"),
    ("exec container process `/bin/sh`: Argument list too long", "process.args", "longer than"),
    ("exec: Permission denied", "process.args", "Permission denied"),
    ("executable path not specified", "process.args", "no program"),
    (f"chdir to `/nodir`: {NO_FILE}", "process.cwd", "'/nodir'"),
    (f"make `noroot` private: {NO_FILE}", "root.path", "missing"),
    (f"open `/b/rootfs`: {NO_FILE}", "root.path", "missing"),
    (f"error stat'ing file `/does/not/exist`: {NO_FILE}", "mounts", "'/does/not/exist'"),
    (f"cannot stat `/does/not/exist`: {NO_FILE}", "mounts", "'/does/not/exist'"),
    ("mount `x` to `mnt`: No such device", "mounts", "'/mnt'"),
    ("mount `tmpfs` to `mnt`: Invalid argument", "mounts", "Invalid argument"),
    ("mount `devpts` to `dev/pts`: Invalid argument", "linux.gidMappings", "user namespace"),
    ("mkdir `/etc/passwd/x`: Not a directory", "mounts", "file of the image"),
    (
        "error creating directory `etc/passwd/x` since `etc/passwd` exists and it is not a directory: "
        "Not a directory",
        "mounts",
        "file of the image",
    ),
    ("writing file `memory.memsw.limit_in_bytes`: Invalid argument", "linux.resources.memory.swap", "swap"),
    ("write file `memory.memsw.limit_in_bytes`: Invalid argument", "linux.resources.memory.swap", "swap"),
    (
        "writing file `memory.limit_in_bytes`: Device or resource busy",
        "linux.resources.memory.limit",
        "already use",
    ),
    (
        "OOM: the memory limit could be too low: read from sync socket: Connection reset by peer",
        "linux.resources.memory.limit",
        "too low",
    ),
    ("writing file `cpuset.cpus`: Numerical result out of range", "linux.resources.cpu.cpus", "processors"),
    ("write file `cpu.cfs_quota_us`: Invalid argument", "linux.resources.cpu", "cpu.cfs_quota_us"),
    ("writing file `pids.max`: Invalid argument", "linux.resources.pids.limit", "processes"),
    (
        f"opening file `hugetlb.7MB.limit_in_bytes` for writing: {NO_FILE}",
        "linux.resources.hugepageLimits",
        "7MB",
    ),
    ("invalid configuration: cannot use unified on cgroup v1", "linux.resources.unified", "v2"),
    (f"opening file `blkio.weight` for writing: {NO_FILE}", "linux.resources.blockIO", "blkio.weight"),
    ("AppArmor is not initialized correctly", "process.apparmorProfile", "no AppArmor"),
    (f"write to `/proc/self/attr/apparmor/exec`: {NO_FILE}", "process.apparmorProfile", "loaded"),
    ("write to `/proc/self/attr/keycreate`: Invalid argument", "process.selinuxLabel", "SELinux"),
    ("invalid seccomp action `SCMP_ACT_NOPE`", "linux.seccomp", "SCMP_ACT_NOPE"),
    ("seccomp_rule_add `socket`: Invalid argument", "linux.seccomp", "Invalid argument"),
    ("write to /proc/self/oom_score_adj: Permission denied", "process.oomScoreAdj", "lower"),
    ("write to `/proc/self/oom_score_adj`: Permission denied", "process.oomScoreAdj", "lower"),
    ("setrlimit `RLIMIT_NOFILE`: Operation not permitted", "process.rlimits", "RLIMIT_NOFILE"),
    ("invalid rlimit `RLIMIT_X`", "process.rlimits", "RLIMIT_X"),
    (f"open /proc/sys/net/nope: {NO_FILE}", "linux.sysctl", "net/nope"),
    (f"open `/proc/sys/net/nope`: {NO_FILE}", "linux.sysctl", "net/nope"),
    ("the sysctl `vm.swappiness` is not namespaced", "linux.sysctl", "whole host"),
    ("the sysctl `net.ipv4.ip_forward` requires a new network namespace", "linux.sysctl", "network"),
    (f"open `/run/netns/nope`: {NO_FILE}", "linux.namespaces", "gone"),
    ("cannot setns `/etc/passwd`: Invalid argument", "linux.namespaces", "/etc/passwd"),
    ("invalid namespace type: `foo`", "linux.namespaces", "foo"),
    ("duplicate namespace type: `pid`", "linux.namespaces", "twice"),
    ("error executing hook `/bin/false` (exit code: 1)", "hooks", "exit code 1"),
    (
        "error executing hook `/bin/sleep` (exit code: -1)\ntimeout expired for `/bin/sleep`",
        "hooks",
        "did not end in time",
    ),
    ("unknown version specified", "ociVersion", "does not know"),
    ("load `config.json`: cannot parse the data: parse error: premature EOF", "config.json", "premature EOF"),
]

KINDS = [
    ("container `q1` already exists", Conflict, "'q1'"),
    (f"error opening file `/run/x/nope/status`: {NO_FILE}", NotFound, "'web'"),
    ("the container `q1` is paused", WrongState, "paused"),
    ("the container `q1` is not running", WrongState, "does not run"),
    ("kill container: No such process", WrongState, "does not run"),
    ("the container `q1` is not in `created` or `stopped` state", WrongState, "runs"),
    ("cgroups in hybrid mode not supported, drop all controllers from cgroupv2", Unsupported, "cgroup v2"),
    ("the requested cgroup controller `cpu` is not available", Unsupported, "'cpu'"),
    ("realtime period not supported on cgroupv2", Unsupported, "realtime period"),
    ("cannot set kernel memory with cgroupv2", Unsupported, "kernel memory"),
    ("network limits not supported on cgroupv2", Unsupported, "network limits"),
    (
        "controller `nope` is not available under /sys/fs/cgroup/err/cgroup.controllers",
        Unsupported,
        "'nope'",
    ),
    ("open `/sys/fs/cgroup/freezer/q1/freezer.state`: No such file", Unsupported, "pause"),
    (f"cannot open sd-bus: {NO_FILE}", MissingDependency, "systemd"),
    ("write: No space left on device", WrongState, "full"),
]


def said(text: str) -> CoreError:
    return translate(CommandError("crun failed", argv=["crun"], rc=1, stderr=text + "\n"), name="web")


@pytest.mark.parametrize(("text", "field", "part"), FIELDS)
def test_translate_names_the_field(text: str, field: str, part: str) -> None:
    error = said(text)
    assert isinstance(error, InvalidSpec)
    assert (error.field, part in error.problem) == (field, True), error
    assert error.hint


@pytest.mark.parametrize(("text", "kind", "part"), KINDS)
def test_translate_chooses_the_class(text: str, kind: type[CoreError], part: str) -> None:
    error = said(text)
    assert error.__class__ is kind
    assert part in error.message
    assert error.hint


def test_translate_keeps_what_it_does_not_know() -> None:
    error = said("line one\n\n  line two")
    assert error.__class__ is CommandError
    assert (error.rc, error.argv) == (1, ["crun"])
    assert error.message == "crun failed for container 'web': line one; line two"
    silent = translate(CommandError("x", argv=["crun"], rc=1), name="web")
    assert silent.message == "crun failed for container 'web': without a message"


@pytest.mark.parametrize(
    ("complaint", "code"),
    [
        ("executable file `sh` not found in $PATH: No such file or directory", 127),
        ("open executable: Permission denied", 126),
        ("the moon is full", None),
        ("chdir to `/x`: No such file or directory", None),
    ],
)
def test_shell_code_is_that_of_a_program_that_cannot_be_run(complaint: str, code: int | None) -> None:
    assert shell_code(complaint) == code


def test_translate_leaves_time_outs() -> None:
    late = CommandTimeout("late")
    assert translate(late, name="web") is late


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.pattern[:40])
def test_every_rule_has_an_example(rule: t.Any) -> None:
    import re

    texts = [row[0] for row in [*FIELDS, *KINDS]]
    assert any(re.search(rule.pattern, text, re.IGNORECASE | re.MULTILINE) for text in texts)
