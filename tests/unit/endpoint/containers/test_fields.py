# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold that errors name the request's fields, whoever found the fault."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.error_rules import RULES
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.api import cri_pb2 as pb
from pvecri.containers import fields

CONTEXT = "config.linux.security_context"


def request(**context):
    config = pb.ContainerConfig(mounts=[pb.Mount()], devices=[pb.Device()])
    config.linux.security_context.CopyFrom(pb.LinuxContainerSecurityContext(**context))
    return config


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("command", "config.command"),
        ("command[2]", "config.command[2]"),
        ("cwd", "config.working_dir"),
        ("env", "config.envs"),
        ("env.NAME", "config.envs[NAME]"),
        ("annotations.a.b", "config.annotations[a.b]"),
        ("image", "config.image.image"),
        ("user", "config.image.image"),
        ("supplementary_groups[1]", f"{CONTEXT}.supplemental_groups[1]"),
        ("security.seccomp", f"{CONTEXT}.seccomp"),
        ("security.masked_paths[0]", f"{CONTEXT}.masked_paths[0]"),
        ("oom_score_adj", "config.linux.resources.oom_score_adj"),
        ("resources.memory", "config.linux.resources.memory_limit_in_bytes"),
        ("resources.unified.memory.high", "config.linux.resources.unified[memory.high]"),
        ("resources.hugepages.2MB", "config.linux.resources.hugepage_limits[2MB]"),
        ("mounts[0].source", "config.mounts[0].host_path"),
        ("mounts[0].uid_maps[1].size", "config.mounts[0].uidMappings[1].size"),
        ("mounts[0].unheard_of", "config.mounts[0].unheard_of"),
        ("mounts[1].source", "config.mounts"),
        ("devices[0].destination", "config.devices[0].container_path"),
        ("process.args", "config.command"),
        ("process.cwd", "config.working_dir"),
        ("linux.resources.memory.limit", "config.linux.resources.memory_limit_in_bytes"),
        ("linux.resources.pids.limit", "config.linux.resources"),
        ("linux.seccomp", f"{CONTEXT}.seccomp"),
        ("mounts", "config.mounts"),
        ("something.else", "something.else"),
    ],
)
def test_request_field(field, expected):
    assert fields.request_field(field, request()) == expected


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"run_as_username": "web"}, f"{CONTEXT}.run_as_username"),
        ({"run_as_user": pb.Int64Value(value=5)}, f"{CONTEXT}.run_as_user"),
    ],
)
def test_request_field_of_the_user(context, expected):
    assert fields.request_field("user", request(**context)) == expected


@pytest.mark.parametrize("field", sorted({rule.field for rule in RULES if rule.field}))
def test_what_crun_blames_is_a_field_of_the_request_or_not_its_matter(field):
    ours = fields.request_field(field, request())
    not_asked_for = {"root.path", "linux.cgroupsPath", "ociVersion", "config.json", "hooks", "linux.sysctl"}
    assert ours.startswith("config.") or field in {*not_asked_for, "process.rlimits"}


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("resources.memory", "linux.memory_limit_in_bytes"),
        ("linux.resources.memory.limit", "linux.memory_limit_in_bytes"),
        ("linux.resources.devices", "linux"),
    ],
)
def test_update_field(field, expected):
    assert fields.update_field(field) == expected


@pytest.mark.parametrize(("field", "expected"), [("command", "cmd"), ("process.args", "cmd"), ("env", "env")])
def test_exec_field(field, expected):
    assert fields.exec_field(field) == expected


def test_named():
    with pytest.raises(InvalidSpec) as caught, fields.named(lambda field: f"config.{field}"):
        raise InvalidSpec("a", "is wrong", hint="Mend it")
    assert str(caught.value) == "config.a: is wrong. Mend it"
    with pytest.raises(InvalidSpec) as caught, fields.named(lambda field: field):
        raise InvalidSpec("a", "is wrong")
    assert caught.value.__cause__ is None
