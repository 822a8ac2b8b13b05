# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold capabilities, profiles, labels and hidden paths."""

from __future__ import annotations

import json
import pathlib

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    InvalidSpec,
    MissingDependency,
    NotFound,
    Unsupported,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Security
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec import (
    capabilities,
    seccomp,
    security,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import SECCOMP_PROFILE, HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import CAPABILITIES

DEFAULT = set(capabilities.DEFAULT_CAPABILITIES)
EVERYTHING = set(CAPABILITIES)


def granted(host=HostFacts(), **asked):  # noqa: B008 - never changed
    warnings: list[str] = []
    return set(capabilities.effective_capabilities(Security(**asked), host, warnings)), warnings


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ((), (), DEFAULT),
        (("NET_ADMIN",), (), DEFAULT | {"CAP_NET_ADMIN"}),
        (("cap_sys_time", " Net_Raw "), (), DEFAULT | {"CAP_SYS_TIME", "CAP_NET_RAW"}),
        ((), ("CHOWN",), DEFAULT - {"CAP_CHOWN"}),
        ((), ("SYS_TIME",), DEFAULT),
        (("ALL",), (), EVERYTHING),
        (("all",), ("SYS_ADMIN",), EVERYTHING - {"CAP_SYS_ADMIN"}),
        ((), ("ALL",), set()),
        (("CHOWN",), ("ALL",), {"CAP_CHOWN"}),
    ],
)
def test_effective_capabilities(add, drop, expected):
    assert granted(capabilities_add=add, capabilities_drop=drop) == (expected, [])


def test_effective_capabilities_exact():
    exact = ("CAP_CHOWN", "CAP_NET_RAW")
    assert granted(capabilities_exact=exact, privileged=True) == (set(exact), [])
    assert granted(capabilities_exact=()) == (set(), [])
    few = HostFacts(capabilities=frozenset({"CAP_CHOWN"}))
    warnings: list[str] = []
    security = Security(capabilities_exact=exact)
    assert capabilities.effective_capabilities(security, few, warnings) == {"CAP_CHOWN"}
    assert len(warnings) == 1
    assert "CAP_NET_RAW" in warnings[0]


@pytest.mark.parametrize("uid", [0, 1000])
def test_capability_sets_exact(uid):
    both = frozenset({"CAP_CHOWN", "CAP_KILL"})
    plain = capabilities.capability_sets(Security(capabilities_exact=tuple(both)), uid, both)
    assert plain == {key: ["CAP_CHOWN", "CAP_KILL"] for key in ("bounding", "effective", "permitted")}
    security = Security(capabilities_exact=tuple(both), capabilities_ambient=("CAP_KILL", "CAP_BPF"))
    sets = capabilities.capability_sets(security, uid, both)
    assert sets["ambient"] == sets["inheritable"] == ["CAP_KILL"]
    assert sets["permitted"] == ["CAP_CHOWN", "CAP_KILL"]


def test_effective_capabilities_privileged():
    assert granted(privileged=True)[0] == EVERYTHING
    assert granted(privileged=True, capabilities_drop=("SYS_BOOT",))[0] == EVERYTHING - {"CAP_SYS_BOOT"}


@pytest.mark.parametrize(
    ("asked", "missing"),
    [
        ({}, ["CAP_CHOWN"]),
        ({"capabilities_add": ("SYS_TIME",)}, ["CAP_CHOWN", "CAP_SYS_TIME"]),
        ({"capabilities_add": ("SYS_TIME",), "capabilities_drop": ("ALL",)}, ["CAP_SYS_TIME"]),
    ],
)
def test_effective_capabilities_clamps_with_a_warning(asked, missing):
    host = HostFacts(capabilities=frozenset(EVERYTHING - {"CAP_CHOWN", "CAP_SYS_TIME"}))
    found, warnings = granted(host, **asked)
    assert not found & {"CAP_CHOWN", "CAP_SYS_TIME"}
    assert len(warnings) == 1
    assert all(name in warnings[0] for name in missing)


def test_effective_capabilities_all_is_what_there_is():
    host = HostFacts(capabilities=frozenset(DEFAULT))
    assert granted(host, capabilities_add=("ALL",)) == (DEFAULT, [])


@pytest.mark.parametrize(
    ("asked", "field", "hint"),
    [
        ({"capabilities_add": ("KILL", "NET_ADMN")}, "security.capabilities_add[1]", "CAP_NET_ADMIN"),
        ({"capabilities_drop": ("nothing-like-it",)}, "security.capabilities_drop[0]", "Known are CAP_CHOWN"),
        (
            {"capabilities_add": ("KILL",), "capabilities_drop": ("cap_kill",)},
            "security.capabilities_drop",
            "one of the two lists",
        ),
        (
            {"capabilities_add": ("ALL",), "capabilities_drop": ("ALL",)},
            "security.capabilities_drop",
            "one of the two lists",
        ),
    ],
)
def test_effective_capabilities_refuses(asked, field, hint):
    with pytest.raises(InvalidSpec) as caught:
        granted(**asked)
    assert caught.value.field == field
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("asked", "uid", "bounding", "own"),
    [
        ({}, 0, {"CAP_KILL", "CAP_CHOWN"}, None),
        ({}, 5, {"CAP_KILL", "CAP_CHOWN"}, set()),
        ({"capabilities_add": ("KILL",)}, 5, {"CAP_KILL", "CAP_CHOWN"}, {"CAP_KILL"}),
        ({"capabilities_add": ("SYS_TIME",)}, 5, {"CAP_KILL", "CAP_CHOWN"}, set()),
        ({"capabilities_add": ("ALL",)}, 5, {"CAP_KILL", "CAP_CHOWN"}, {"CAP_KILL", "CAP_CHOWN"}),
        ({"privileged": True}, 5, {"CAP_KILL", "CAP_CHOWN"}, {"CAP_KILL", "CAP_CHOWN"}),
    ],
)
def test_capability_sets(asked, uid, bounding, own):
    sets = capabilities.capability_sets(Security(**asked), uid, frozenset({"CAP_KILL", "CAP_CHOWN"}))
    assert set(sets["bounding"]) == bounding
    if own is None:
        assert sets.keys() == {"bounding", "effective", "permitted"}
        assert set(sets["effective"]) == set(sets["permitted"]) == bounding
    else:
        for name in ("effective", "permitted", "inheritable", "ambient"):
            assert set(sets[name]) == own


def test_capability_sets_are_in_the_kernels_order():
    sets = capabilities.capability_sets(Security(), 0, frozenset({"CAP_SETFCAP", "CAP_CHOWN"}))
    assert sets["bounding"] == ["CAP_CHOWN", "CAP_SETFCAP"]


# ---- seccomp ---------------------------------------------------------------------------------------------

ENGINE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrno": "ENOSYS",
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": None},
    ],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {}},
        {"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}},
        {"names": ["b"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["c"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.10"}},
        {
            "names": ["d"],
            "action": "SCMP_ACT_ERRNO",
            "errno": "EPERM",
            "excludes": {"caps": ["CAP_SYS_ADMIN"]},
        },
        {"names": ["e"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["arm64"]}},
        {"names": ["f"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "5.10"}},
        {"names": [], "action": "SCMP_ACT_ALLOW"},
        {"name": "g", "names": None, "action": "SCMP_ACT_ALLOW", "args": None},
    ],
}


@pytest.mark.parametrize(
    ("host", "caps", "expected"),
    [
        (HostFacts(), (), "read a c d e g"),
        (HostFacts(), ("CAP_SYS_ADMIN",), "read a b c e g"),
        (HostFacts(machine="aarch64"), (), "read c d g"),
        (HostFacts(kernel=(4, 19)), (), "read a d e f g"),
        (HostFacts(kernel=(5, 10)), (), "read a c d e g"),
        (HostFacts(machine="unheard-of"), (), "read c d e g"),
    ],
)
def test_convert_profile_conditions(host, caps, expected):
    converted = seccomp.convert_profile(ENGINE, host, caps)
    assert [name for rule in converted["syscalls"] for name in rule["names"]] == expected.split()
    assert converted["defaultErrnoRet"] == 38
    assert not {"archMap", "defaultErrno"} & converted.keys()
    for rule in converted["syscalls"]:
        assert rule.keys() <= {"names", "action", "args", "errnoRet"}
    errors = [rule.get("errnoRet") for rule in converted["syscalls"] if rule["names"] == ["d"]]
    assert errors in ([], [1])


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("x86_64", ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]),
        ("aarch64", ["SCMP_ARCH_AARCH64"]),
        ("riscv64", None),
    ],
)
def test_convert_profile_architectures(machine, expected):
    converted = seccomp.convert_profile(ENGINE, HostFacts(machine=machine), ())
    assert converted.get("architectures") == expected


def test_convert_profile_keeps_the_specifications_shape():
    profile = {
        "defaultAction": "SCMP_ACT_KILL",
        "architectures": ["SCMP_ARCH_X86_64"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [
            {
                "names": ["read"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 5,
                "args": [{"index": 0, "value": 1, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
            }
        ],
    }
    assert seccomp.convert_profile(profile, HostFacts(), ()) == profile


def test_convert_profile_without_rules():
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}
    assert seccomp.convert_profile(profile, HostFacts(), ()) == {"defaultAction": "SCMP_ACT_ALLOW"}


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({}, "no 'defaultAction'"),
        ({"defaultAction": 1}, "no 'defaultAction'"),
        ({"defaultAction": "SCMP_ACT_KILL", "syscalls": {}}, "not a list of rules"),
        ({"defaultAction": "SCMP_ACT_KILL", "syscalls": ["read"]}, "not a list of rules"),
        (
            {
                "defaultAction": "SCMP_ACT_KILL",
                "syscalls": [{"names": ["x"], "action": "a", "includes": {"minKernel": "new"}}],
            },
            "'new' in the profile is not a kernel version",
        ),
    ],
)
def test_convert_profile_refuses(profile, message):
    with pytest.raises(InvalidSpec, match=message) as caught:
        seccomp.convert_profile(profile, HostFacts(), ())
    assert caught.value.field == "security.seccomp"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, "SCMP_ACT_ALLOW"),
        ({"seccomp": "unconfined"}, None),
        ({"privileged": True}, None),
        ({"seccomp": "/p.json"}, "SCMP_ACT_KILL"),
        ({"seccomp": "/p.json", "privileged": True}, "SCMP_ACT_KILL"),
    ],
)
def test_seccomp_filter(asked, expected):
    host = HostFacts(
        seccomp_default={"defaultAction": "SCMP_ACT_ALLOW"},
        seccomp_profile={"defaultAction": "SCMP_ACT_KILL"},
    )
    found = seccomp.seccomp_filter(Security(**asked), host, frozenset())
    assert (found and found["defaultAction"]) == expected


def test_seccomp_filter_names_the_package():
    with pytest.raises(MissingDependency, match="golang-github-containers-common"):
        seccomp.seccomp_filter(Security(), HostFacts(), frozenset())


def test_seccomp_filter_of_the_default_is_kept_for_each_set_of_capabilities(monkeypatch):
    monkeypatch.setattr(seccomp, "_converted", {})
    monkeypatch.setattr(seccomp, "_CONVERTED_MAX", 3)
    rule = {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}
    host = HostFacts(seccomp_default={"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]})
    none = seccomp.seccomp_filter(Security(), host, frozenset())
    admin = seccomp.seccomp_filter(Security(), host, frozenset({"CAP_SYS_ADMIN"}))
    assert "syscalls" not in none
    assert admin["syscalls"][0]["names"] == ["mount"]
    assert seccomp.seccomp_filter(Security(), host, frozenset()) is none
    other = HostFacts(seccomp_default={"defaultAction": "SCMP_ACT_KILL"})
    assert seccomp.seccomp_filter(Security(), other, frozenset())["defaultAction"] == "SCMP_ACT_KILL"
    for name in ("a", "b"):
        seccomp.seccomp_filter(Security(), host, frozenset({name}))
    assert len(seccomp._converted) <= 3


def test_seccomp_filter_profile_not_read():
    with pytest.raises(InvalidSpec, match="was not read"):
        seccomp.seccomp_filter(Security(seccomp="/p.json"), HostFacts(), frozenset())


def test_convert_profile_of_this_host():
    path = pathlib.Path(SECCOMP_PROFILE)
    if not path.exists():
        pytest.skip(f"this host has no {path}")
    converted = seccomp.convert_profile(json.loads(path.read_text()), HostFacts(), DEFAULT)
    names = [name for rule in converted["syscalls"] for name in rule["names"]]
    assert {"read", "execve", "openat"} <= set(names)
    allowed = {n for r in converted["syscalls"] if r["action"] == "SCMP_ACT_ALLOW" for n in r["names"]}
    assert not {"kexec_load", "init_module", "open_by_handle_at"} & allowed


# ---- labels and paths ------------------------------------------------------------------------------------

APPARMOR = HostFacts(has_apparmor=True, apparmor_profiles=frozenset({"mine"}), apparmor_default="mine")


@pytest.mark.parametrize(
    ("host", "asked", "expected"),
    [
        (HostFacts(), {}, None),
        (APPARMOR, {}, "mine"),
        (APPARMOR, {"privileged": True}, None),
        (APPARMOR, {"apparmor": "mine", "privileged": True}, "mine"),
        (APPARMOR, {"apparmor": "unconfined"}, "unconfined"),
        (HostFacts(), {"apparmor": "unconfined"}, None),
        (HostFacts(has_apparmor=True), {"apparmor": "cannot-look"}, "cannot-look"),
    ],
)
def test_apparmor_profile(host, asked, expected):
    assert security.apparmor_profile(Security(**asked), host) == expected


def test_apparmor_profile_refuses():
    with pytest.raises(Unsupported, match="AppArmor is not enabled"):
        security.apparmor_profile(Security(apparmor="mine"), HostFacts())
    with pytest.raises(NotFound, match="apparmor_parser"):
        security.apparmor_profile(Security(apparmor="other"), APPARMOR)


def test_selinux_labels():
    host = HostFacts(has_selinux=True)
    asked = Security(selinux_process_label="u:r:t:s0:c1,c2", selinux_mount_label="u:r:t:s0")
    assert security.selinux_labels(asked, host) == ("u:r:t:s0:c1,c2", "u:r:t:s0")
    assert security.selinux_labels(Security(), HostFacts()) == (None, None)
    with pytest.raises(Unsupported, match="selinux_mount_label: SELinux is not enabled"):
        security.selinux_labels(Security(selinux_mount_label="u:r:t:s0"), HostFacts())
    with pytest.raises(InvalidSpec, match="'spc_t' is not a label"):
        security.selinux_labels(Security(selinux_process_label="spc_t"), host)


@pytest.mark.parametrize(
    ("asked", "masked", "read_only"),
    [
        ({}, security.DEFAULT_MASKED_PATHS, security.DEFAULT_READ_ONLY_PATHS),
        ({"privileged": True}, (), ()),
        ({"masked_paths": (), "read_only_paths": ()}, (), ()),
        ({"privileged": True, "masked_paths": ("/a",)}, ("/a",), ()),
        ({"masked_paths": ("/a/",), "read_only_paths": ("/b",)}, ("/a",), ("/b",)),
    ],
)
def test_hidden_paths(asked, masked, read_only):
    assert tuple(security.masked_paths(Security(**asked))) == masked
    assert tuple(security.read_only_paths(Security(**asked))) == read_only


def test_hidden_paths_refuse_what_is_relative():
    with pytest.raises(InvalidSpec) as caught:
        security.masked_paths(Security(masked_paths=("/a", "proc")))
    assert caught.value.field == "security.masked_paths[1]"
