# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold validation: a corpus of what is invalid, and the verdict of jsonschema on everything else."""

from __future__ import annotations

import copy
import json
import subprocess

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec, ImageConfig
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.build import build_config
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.problem import Problem, json_path
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.schema import SCHEMA
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.schema_check import check_schema
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.users import ResolvedUser
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.validate import (
    MAX_PROBLEMS,
    check,
    validate,
)

REFERENCE = jsonschema.Draft4Validator(SCHEMA)

VALID = {
    "ociVersion": "1.2.0",
    "root": {"path": "rootfs"},
    "process": {
        "cwd": "/",
        "args": ["x"],
        "env": ["A=1"],
        "user": {"uid": 0, "gid": 0},
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
        "capabilities": {
            "permitted": ["CAP_KILL"],
            "effective": ["CAP_KILL"],
            "inheritable": [],
            "ambient": [],
        },
    },
    "hostname": "x",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/d", "type": "bind", "source": "/s", "options": ["rbind", "ro"]},
    ],
    "hooks": {"poststop": [{"path": "/bin/x"}]},
    "linux": {
        "namespaces": [
            {"type": kind} for kind in ("mount", "uts", "ipc", "network", "user", "pid", "cgroup", "time")
        ],
        "uidMappings": [{"containerID": 0, "hostID": 1, "size": 5}],
        "gidMappings": [
            {"containerID": 0, "hostID": 1, "size": 5},
            {"containerID": 5, "hostID": 6, "size": 5},
        ],
        "timeOffsets": {"monotonic": {"secs": 1}},
        "devices": [{"path": "/dev/a", "type": "c", "major": 1, "minor": 3}, {"path": "/dev/p", "type": "p"}],
        "sysctl": {"net.ipv4.ip_forward": "1", "kernel.shmmax": "1", "kernel.domainname": "x"},
        "resources": {
            "devices": [{"allow": False, "access": "rwm"}],
            "memory": {"limit": 4096, "swap": 8192, "reservation": 1024, "swappiness": 60},
            "cpu": {"quota": 1000, "cpus": "0-1", "mems": "0"},
            "unified": {"memory.high": "1"},
        },
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 1,
            "syscalls": [
                {
                    "names": ["read"],
                    "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}],
                }
            ],
        },
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
    },
    "annotations": {"a": "b"},
}

#: (keys to the value, new value or REMOVED, JSON path of the problem, rule)
REMOVED = object()
INVALID = [
    # what the schema says
    (("ociVersion",), REMOVED, "$", "schema/required"),
    (("ociVersion",), 1, "$.ociVersion", "schema/type"),
    (("root", "path"), REMOVED, "$.root", "schema/required"),
    (("root", "readonly"), "yes", "$.root.readonly", "schema/type"),
    (("process", "cwd"), REMOVED, "$.process", "schema/required"),
    (("process", "args"), "sh", "$.process.args", "schema/type"),
    (("process", "args", 0), 1, "$.process.args[0]", "schema/type"),
    (("process", "terminal"), 1, "$.process.terminal", "schema/type"),
    (("process", "user", "uid"), -1, "$.process.user.uid", "schema/minimum"),
    (("process", "user", "uid"), True, "$.process.user.uid", "schema/type"),
    (("process", "user", "gid"), 1 << 32, "$.process.user.gid", "schema/maximum"),
    (("process", "user", "gid"), 1.5, "$.process.user.gid", "schema/type"),
    (("process", "rlimits", 0, "type"), "NOFILE", "$.process.rlimits[0].type", "schema/pattern"),
    (("process", "rlimits", 0, "soft"), REMOVED, "$.process.rlimits[0]", "schema/required"),
    (("process", "rlimits", 0, "hard"), 1 << 64, "$.process.rlimits[0].hard", "schema/maximum"),
    (("mounts", 0, "destination"), REMOVED, "$.mounts[0]", "schema/required"),
    (("mounts",), {}, "$.mounts", "schema/type"),
    (("hooks", "poststop", 0, "timeout"), 0, "$.hooks.poststop[0].timeout", "schema/minimum"),
    (("hooks", "poststop", 0, "path"), REMOVED, "$.hooks.poststop[0]", "schema/required"),
    (("annotations", "x.y/z"), 5, "$.annotations['x.y/z']", "schema/type"),
    (("linux", "namespaces", 0, "type"), "disk", "$.linux.namespaces[0].type", "schema/enum"),
    (("linux", "devices", 0, "type"), "x", "$.linux.devices[0].type", "schema/pattern"),
    (("linux", "devices", 0, "fileMode"), 0o1000, "$.linux.devices[0].fileMode", "schema/maximum"),
    (("linux", "resources", "memory", "limit"), "64m", "$.linux.resources.memory.limit", "schema/type"),
    (("linux", "resources", "cpu", "shares"), -1, "$.linux.resources.cpu.shares", "schema/minimum"),
    (("linux", "resources", "pids"), {}, "$.linux.resources.pids", "schema/required"),
    (
        ("linux", "resources", "hugepageLimits"),
        [{"pageSize": "2M", "limit": 1}],
        "$.linux.resources.hugepageLimits[0].pageSize",
        "schema/pattern",
    ),
    (("linux", "seccomp", "defaultAction"), "ALLOW", "$.linux.seccomp.defaultAction", "schema/enum"),
    (
        ("linux", "seccomp", "syscalls", 0, "names"),
        [],
        "$.linux.seccomp.syscalls[0].names",
        "schema/minItems",
    ),
    (("linux", "seccomp", "architectures"), ["amd64"], "$.linux.seccomp.architectures[0]", "schema/enum"),
    (("linux", "rootfsPropagation"), "rshared", "$.linux.rootfsPropagation", "schema/enum"),
    (("linux", "intelRdt"), {"memBwSchema": "L3:0=f"}, "$.linux.intelRdt.memBwSchema", "schema/pattern"),
    # what it cannot say
    (("ociVersion",), "one", "$.ociVersion", "oci-version"),
    (("ociVersion",), "2.0.0", "$.ociVersion", "oci-version"),
    (("root",), REMOVED, "$", "root-required"),
    (("root", "path"), "", "$.root.path", "root-path"),
    (("process", "cwd"), "tmp", "$.process.cwd", "cwd-absolute"),
    (("process", "args"), [], "$.process.args", "args-required"),
    (("process", "args"), REMOVED, "$.process.args", "args-required"),
    (("process", "args", 0), "a\0", "$.process.args[0]", "args-form"),
    (("process", "env", 0), "A", "$.process.env[0]", "env-form"),
    (("process", "env", 0), "=1", "$.process.env[0]", "env-form"),
    (("process", "consoleSize"), {"height": 1, "width": 1}, "$.process.consoleSize", "console-terminal"),
    (("process", "oomScoreAdj"), 1001, "$.process.oomScoreAdj", "oom-score-range"),
    (
        ("process", "rlimits"),
        [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}] * 2,
        "$.process.rlimits[1].type",
        "rlimit-duplicate",
    ),
    (("process", "rlimits", 0, "type"), "RLIMIT_FUN", "$.process.rlimits[0].type", "rlimit-unknown"),
    (("process", "rlimits", 0, "soft"), 1, "$.process.rlimits[0].soft", "rlimit-soft-hard"),
    (
        ("process", "capabilities", "bounding"),
        ["KILL"],
        "$.process.capabilities.bounding[0]",
        "capability-name",
    ),
    (
        ("process", "capabilities", "permitted"),
        [],
        "$.process.capabilities.effective[0]",
        "capability-effective",
    ),
    (
        ("process", "capabilities", "ambient"),
        ["CAP_CHOWN"],
        "$.process.capabilities.ambient[0]",
        "capability-ambient",
    ),
    (("hooks", "poststop", 0, "path"), "x", "$.hooks.poststop[0].path", "hook-absolute"),
    (("annotations", ""), "x", "$.annotations", "annotation-name"),
    (("mounts", 0, "destination"), "proc", "$.mounts[0].destination", "mount-absolute"),
    (("mounts", 0, "destination"), "/a/../b", "$.mounts[0].destination", "mount-clean"),
    (("mounts", 1, "source"), REMOVED, "$.mounts[1].source", "mount-bind-source"),
    (("mounts", 1, "options"), ["rbind", "ro", "rw"], "$.mounts[1].options", "mount-options"),
    (
        ("mounts", 1, "uidMappings"),
        [{"containerID": 0, "hostID": 0, "size": 1}],
        "$.mounts[1]",
        "mount-id-maps",
    ),
    (("linux", "namespaces", 1, "type"), "mount", "$.linux.namespaces[1].type", "namespace-duplicate"),
    (("linux", "namespaces", 3, "path"), "netns/x", "$.linux.namespaces[3].path", "namespace-absolute"),
    (("linux", "namespaces", 1), REMOVED, "$.hostname", "needs-uts-namespace"),
    (("linux", "namespaces", 4), REMOVED, "$.linux.uidMappings", "needs-user-namespace"),
    (("linux", "namespaces", 4, "path"), "/proc/1/ns/user", "$.linux.uidMappings", "needs-user-namespace"),
    (("linux", "uidMappings"), REMOVED, "$.linux", "needs-id-maps"),
    (("linux", "namespaces", 7), REMOVED, "$.linux.timeOffsets", "needs-time-namespace"),
    (("linux", "namespaces", 0), REMOVED, "$.mounts", "needs-mount-namespace"),
    (("linux", "namespaces", 0), REMOVED, "$.linux.maskedPaths", "needs-mount-namespace"),
    (("linux", "gidMappings", 0, "size"), 0, "$.linux.gidMappings[0].size", "id-map-size"),
    (("linux", "gidMappings", 1, "hostID"), (1 << 32) - 1, "$.linux.gidMappings[1].hostID", "id-map-range"),
    (("linux", "gidMappings", 1, "hostID"), 3, "$.linux.gidMappings[1].hostID", "id-map-overlap"),
    (("linux", "sysctl", "vm.swappiness"), "1", "$.linux.sysctl['vm.swappiness']", "sysctl-namespace"),
    (("linux", "namespaces", 3), REMOVED, "$.linux.sysctl['net.ipv4.ip_forward']", "sysctl-namespace"),
    (("linux", "namespaces", 2), REMOVED, "$.linux.sysctl['kernel.shmmax']", "sysctl-namespace"),
    (("linux", "devices", 0, "path"), "dev/a", "$.linux.devices[0].path", "device-absolute"),
    (("linux", "devices", 1, "path"), "/dev/a", "$.linux.devices[1].path", "device-duplicate"),
    (("linux", "devices", 0, "minor"), REMOVED, "$.linux.devices[0]", "device-numbers"),
    (
        ("linux", "resources", "devices", 0, "type"),
        "x",
        "$.linux.resources.devices[0].type",
        "device-rule-type",
    ),
    (
        ("linux", "resources", "devices", 0, "access"),
        "rx",
        "$.linux.resources.devices[0].access",
        "device-rule-access",
    ),
    (
        ("linux", "resources", "memory", "limit"),
        REMOVED,
        "$.linux.resources.memory.swap",
        "swap-needs-limit",
    ),
    (("linux", "resources", "memory", "swap"), 4095, "$.linux.resources.memory.swap", "swap-range"),
    (
        ("linux", "resources", "memory", "reservation"),
        4097,
        "$.linux.resources.memory.reservation",
        "reservation-range",
    ),
    (
        ("linux", "resources", "memory", "swappiness"),
        101,
        "$.linux.resources.memory.swappiness",
        "swappiness-range",
    ),
    (("linux", "resources", "cpu", "cpus"), "0-", "$.linux.resources.cpu.cpus", "cpuset-list"),
    (("linux", "resources", "cpu", "quota"), 999, "$.linux.resources.cpu.quota", "quota-range"),
    (
        ("linux", "resources", "unified", "../x.y"),
        "1",
        "$.linux.resources.unified['../x.y']",
        "unified-name",
    ),
    (
        ("linux", "seccomp", "syscalls", 0, "errnoRet"),
        1,
        "$.linux.seccomp.syscalls[0].errnoRet",
        "seccomp-errno",
    ),
    (
        ("linux", "seccomp", "defaultAction"),
        "SCMP_ACT_ALLOW",
        "$.linux.seccomp.defaultErrnoRet",
        "seccomp-errno",
    ),
    (
        ("linux", "seccomp", "syscalls", 0, "action"),
        "SCMP_ACT_NOTIFY",
        "$.linux.seccomp.syscalls[0]",
        "seccomp-listener",
    ),
    (
        ("linux", "seccomp", "syscalls", 0, "args", 0, "index"),
        6,
        "$.linux.seccomp.syscalls[0].args[0].index",
        "seccomp-argument",
    ),
    (("linux", "maskedPaths", 0), "proc", "$.linux.maskedPaths[0]", "path-absolute"),
    (("linux", "readonlyPaths", 0), "", "$.linux.readonlyPaths[0]", "path-absolute"),
]


def changed(keys, value):
    config = copy.deepcopy(VALID)
    holder = config
    for key in keys[:-1]:
        holder = holder[key]
    if value is REMOVED:
        del holder[keys[-1]]
    else:
        holder[keys[-1]] = value
    return config


def test_validate_accepts():
    assert validate(VALID) == []
    check(VALID)


@pytest.mark.parametrize(("keys", "value", "path", "rule"), INVALID)
def test_validate_refuses(keys, value, path, rule):
    found = validate(changed(keys, value))
    assert (path, rule) in {(problem.path, problem.rule) for problem in found}
    assert all(problem.message for problem in found)


@pytest.mark.parametrize("config", [None, [], "x", 1, {}, {"ociVersion": "1.0.0", "linux": []}])
def test_validate_refuses_other_documents(config):
    assert validate(config)


@pytest.mark.parametrize(
    "config",
    [
        {"ociVersion": "1.0.2", "root": {"path": "r"}},
        {"ociVersion": "1.2.0-rc.1+dev", "root": {"path": "r"}, "org.example": {"any": ["thing"]}},
        {"ociVersion": "1.0.2", "root": {"path": "r"}, "hooks": {"later": "unknown"}},
        {"ociVersion": "1.0.2", "root": {"path": "r"}, "hooks": {"later": ["unknown"]}},
        {"ociVersion": "1.0.2", "root": {"path": "r"}, "linux": {"resources": {"memory": {"swap": -1}}}},
    ],
)
def test_validate_accepts_little_and_unknown(config):
    assert validate(config) == []


def test_check_tells_path_rule_and_how_many():
    config = changed(("mounts", 0, "destination"), "proc")
    config["process"]["cwd"] = "x"
    with pytest.raises(InvalidSpec) as caught:
        check(config, what="the bundle's config.json")
    assert caught.value.field == "$.process.cwd"
    assert str(caught.value) == (
        "$.process.cwd: 'x' is not an absolute path [cwd-absolute] (and 1 more). "
        "the bundle's config.json was refused"
    )


def test_validate_stops_somewhere():
    config = changed(("process", "args"), list(range(1000)))
    assert len(validate(config)) == MAX_PROBLEMS


def test_problem_never_shows_the_environment():
    config = changed(("process", "env", 0), "hunter2")
    assert "hunter2" not in str(validate(config)[0])


def test_problem_cuts_long_values():
    assert len(str(validate(changed(("root", "readonly"), "x" * 10000))[0])) < 300


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((), "$"),
        (("a", 0, "b_1"), "$.a[0].b_1"),
        (("a.b",), "$['a.b']"),
        (("it's",), "$['it\\'s']"),
        (("back\\slash", ""), "$['back\\\\slash']['']"),
    ],
)
def test_json_path(parts, expected):
    assert json_path(parts) == expected


def test_problem_reads_as_a_line():
    assert str(Problem("$.a", "rule", "is wrong")) == "$.a: is wrong [rule]"


def test_schema_is_a_schema():
    jsonschema.Draft4Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw):
    """Return the valid configuration with one value anywhere in it replaced, removed or added."""
    config = copy.deepcopy(VALID)
    holder = config
    while True:
        keys = sorted(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return config
        key = draw(st.sampled_from(keys))
        if isinstance(holder[key], (dict, list)) and draw(st.integers(0, 3)):
            holder = holder[key]
            continue
        action = draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "replace":
            holder[key] = draw(JSON)
        elif action == "remove":
            del holder[key]
        elif isinstance(holder, list):
            holder.append(draw(JSON))
        else:
            holder[draw(st.text(max_size=4))] = draw(JSON)
        return config


@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(config=mutated())
def test_check_schema_agrees_with_jsonschema(config):
    ours = {problem.path for problem in check_schema(config, SCHEMA)}
    theirs = {json_path(error.absolute_path) for error in REFERENCE.iter_errors(config)}
    assert ours == theirs


@settings(max_examples=100, deadline=None)
@given(config=JSON)
def test_validate_survives_anything(config):
    validate(config)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(config=mutated())
def test_validate_survives_whatever_passes_the_schema(config):
    for problem in validate(config):
        assert problem.path.startswith("$")
        assert problem.rule


@pytest.mark.host
def test_validate_accepts_what_crun_writes(tmp_path):
    try:
        subprocess.run(["crun", "spec"], cwd=tmp_path, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs crun")
    assert validate(json.loads((tmp_path / "config.json").read_text())) == []


def test_validate_needs_no_package_for_a_usual_config(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jsonschema", None)
    host = HostFacts(seccomp_default={"defaultAction": "SCMP_ACT_ALLOW"})
    config = build_config(ContainerSpec(name="x", command=("x",)), ImageConfig(), ResolvedUser(), host)
    assert validate(config) == []
