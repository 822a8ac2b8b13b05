# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the merge of request and image, and the limits of a process."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    IdMap,
    ImageConfig,
    Namespaces,
    Rlimit,
    Security,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec import process
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import RLIM_INFINITY
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.users import ResolvedUser

LIMITED = HostFacts(
    capabilities=frozenset(), hard_rlimits=(("RLIMIT_NOFILE", 1000),), oom_score_adj=-5, nr_open=5000
)


def built(host=HostFacts(), user=ResolvedUser(), image=ImageConfig(), **asked):  # noqa: B008 - never changed
    warnings: list[str] = []
    asked.setdefault("command", ("x",))
    spec = ContainerSpec(name="web", **asked)
    made = process.build_process(spec, image, user, host, granted=frozenset(), warnings=warnings)
    return made, warnings


@pytest.mark.parametrize(
    ("entrypoint", "command", "expected"),
    [
        (None, None, ["ie", "ic"]),
        (None, ("c",), ["ie", "c"]),
        (None, (), ["ie"]),
        (("e",), None, ["e"]),
        (("e",), ("c",), ["e", "c"]),
        ((), ("c",), ["c"]),
    ],
)
def test_merge_args(entrypoint, command, expected):
    image = ImageConfig(entrypoint=("ie",), command=("ic",))
    spec = ContainerSpec(name="x", entrypoint=entrypoint, command=command)
    assert process.merge_args(spec, image) == expected


@pytest.mark.parametrize("asked", [{}, {"entrypoint": ()}, {"command": ()}, {"command": ("",)}])
def test_merge_args_nothing_to_run(asked):
    with pytest.raises(InvalidSpec, match="nothing to run") as caught:
        process.merge_args(ContainerSpec(name="x", **asked), ImageConfig())
    assert caught.value.field == "command"


def test_merge_args_refuses_nul():
    with pytest.raises(InvalidSpec, match=r"command\[1\]: holds a NUL"):
        process.merge_args(ContainerSpec(name="x", command=("a", "b\0")), ImageConfig())


@pytest.mark.parametrize(
    ("image", "asked", "expected"),
    [
        ((), (), {"HOME": "/h", "PATH": process.DEFAULT_PATH, "HOSTNAME": "web"}),
        ((("PATH", "/i"), ("HOME", "/x")), (), {"PATH": "/i", "HOME": "/x"}),
        ((("A", "1"), ("B", "2")), (("A", ""), ("C", "x=y")), {"A": "", "B": "2", "C": "x=y"}),
        ((("", "bad"), ("a=b", "bad")), (), {"HOME": "/h"}),
        ((), (("HOSTNAME", "mine"),), {"HOSTNAME": "mine"}),
    ],
)
def test_merge_env(image, asked, expected):
    made, _warnings = built(user=ResolvedUser(home="/h"), image=ImageConfig(env=image), env=asked)
    env = dict(line.split("=", 1) for line in made["env"])
    assert expected.items() <= env.items()
    assert "" not in env
    assert "TERM" not in env


def test_merge_env_keeps_order():
    image = ImageConfig(env=(("B", "1"), ("A", "1")))
    made, _warnings = built(image=image, env=(("C", "1"), ("B", "2")))
    assert made["env"][:3] == ["B=2", "A=1", "C=1"]


@pytest.mark.parametrize("name", ["", "A=B", "A\0"])
def test_merge_env_refuses_a_name(name):
    with pytest.raises(InvalidSpec) as caught:
        built(env=((name, "x"),))
    assert caught.value.field == "env"


def test_terminal_has_a_type():
    made, _warnings = built(terminal=True)
    assert made["terminal"] is True
    assert "TERM=xterm" in made["env"]


@pytest.mark.parametrize(
    ("name", "hostname"),
    [("web", "web"), ("a_b", "a-b"), ("x" * 100, "x" * 63), ("-", "container"), ("a" * 62 + ".b", "a" * 62)],
)
def test_default_hostname(name, hostname):
    assert process.default_hostname(name) == hostname


@pytest.mark.parametrize(
    ("asked", "uts", "expected"),
    [
        (None, "private", "web"),
        (None, "host", None),
        (None, "/proc/1/ns/uts", None),
        ("h.example", "private", "h.example"),
    ],
)
def test_hostname_of(asked, uts, expected):
    spec = ContainerSpec(name="web", hostname=asked, namespaces=Namespaces(uts=uts))
    assert process.hostname_of(spec) == expected


@pytest.mark.parametrize(
    ("hostname", "uts", "message"),
    [
        ("h", "host", "namespaces.uts is 'host'"),
        ("h", "/proc/1/ns/uts", "namespaces.uts is '/proc"),
        ("", "private", "not a host name"),
        ("a" * 65, "private", "not a host name"),
        ("a b", "private", "not a host name"),
        ("a-", "private", "not a host name"),
    ],
)
def test_hostname_of_refuses(hostname, uts, message):
    spec = ContainerSpec(name="web", hostname=hostname, namespaces=Namespaces(uts=uts))
    with pytest.raises(InvalidSpec, match=message) as caught:
        process.hostname_of(spec)
    assert caught.value.field == "hostname"


@pytest.mark.parametrize(
    ("image", "asked", "expected"),
    [
        ("", None, "/"),
        ("/srv/", None, "/srv"),
        ("srv", None, "/srv"),
        ("/a/../../b", None, "/a/b"),
        ("/srv", "/mine", "/mine"),
    ],
)
def test_cwd(image, asked, expected):
    made, _warnings = built(image=ImageConfig(cwd=image), cwd=asked)
    assert made["cwd"] == expected


@pytest.mark.parametrize("cwd", ["srv", "/a/../b", "/a//b"])
def test_cwd_refuses(cwd):
    with pytest.raises(InvalidSpec) as caught:
        built(cwd=cwd)
    assert caught.value.field == "cwd"


def test_user_is_written_in_numbers():
    made, _warnings = built(user=ResolvedUser(uid=5, gid=6, additional_gids=(7, 8)))
    assert made["user"] == {"uid": 5, "gid": 6, "additionalGids": [7, 8]}


@pytest.mark.parametrize(
    ("user", "field"),
    [
        (ResolvedUser(uid=2000), "user"),
        (ResolvedUser(gid=2000), "user"),
        (ResolvedUser(additional_gids=(5, 2000)), "supplementary_groups"),
    ],
)
def test_user_must_be_mapped(user, field):
    maps = (IdMap(container_id=0, host_id=1, size=1000),)
    with pytest.raises(InvalidSpec, match="id 2000 does not exist") as caught:
        built(user=user, uid_maps=maps, gid_maps=maps, namespaces=Namespaces(user="private"))
    assert caught.value.field == field
    assert built(user=user, namespaces=Namespaces(user="/proc/1/ns/user"))[0]["user"]["uid"] == user.uid


@pytest.mark.parametrize(
    ("host", "limit", "soft", "hard", "warned"),
    [
        (HostFacts(), Rlimit(kind="nofile", soft=1, hard=2), 1, 2, 0),
        (HostFacts(), Rlimit(kind="RLIMIT_NOFILE", soft=0, hard=-1), 0, RLIM_INFINITY, 0),
        (LIMITED, Rlimit(kind="RLIMIT_NOFILE", soft=10, hard=1000), 10, 1000, 0),
        (LIMITED, Rlimit(kind="RLIMIT_NOFILE", soft=2000, hard=3000), 1000, 1000, 1),
        (LIMITED, Rlimit(kind="RLIMIT_CORE", soft=0, hard=-1), 0, RLIM_INFINITY, 0),
    ],
)
def test_rlimits(host, limit, soft, hard, warned):
    made, warnings = built(host, rlimits=(limit,))
    assert made["rlimits"][0]["type"].startswith("RLIMIT_")
    assert (made["rlimits"][0]["soft"], made["rlimits"][0]["hard"]) == (soft, hard)
    assert len(warnings) == warned


@pytest.mark.parametrize(
    ("limits", "field", "message"),
    [
        ([("NOFILES", 1, 1)], "rlimits[0].type", "Did you mean RLIMIT_NOFILE"),
        ([("CORE", 2, 1)], "rlimits[0].soft", "2 is above the hard limit 1"),
        ([("CORE", -1, 1)], "rlimits[0].soft", "unlimited is above"),
        ([("CORE", -2, 1)], "rlimits[0].soft", "-2 is not a limit"),
        ([("CORE", 0, 1 << 64)], "rlimits[0].hard", "is not a limit"),
        ([("CORE", 0, 0), ("core", 1, 1)], "rlimits[1].type", "limited twice"),
        ([("NOFILE", 0, 6000)], "rlimits[0].hard", "fs.nr_open"),
    ],
)
def test_rlimits_refuses(limits, field, message):
    asked = tuple(Rlimit(kind=kind, soft=soft, hard=hard) for kind, soft, hard in limits)
    with pytest.raises(InvalidSpec, match=message) as caught:
        built(LIMITED, rlimits=asked)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("host", "asked", "score", "warned"),
    [
        (HostFacts(), -1000, -1000, 0),
        (LIMITED, 0, 0, 0),
        (LIMITED, -5, -5, 0),
        (LIMITED, -6, -5, 1),
    ],
)
def test_oom_score_adj(host, asked, score, warned):
    made, warnings = built(host, oom_score_adj=asked)
    assert made["oomScoreAdj"] == score
    assert len(warnings) == warned


@pytest.mark.parametrize("score", [-1001, 1001])
def test_oom_score_adj_refuses(score):
    with pytest.raises(InvalidSpec, match="-1000 to 1000") as caught:
        built(oom_score_adj=score)
    assert caught.value.field == "oom_score_adj"


def test_what_is_not_asked_is_not_written():
    made, warnings = built()
    assert made.keys() == {"terminal", "user", "args", "env", "cwd", "capabilities", "noNewPrivileges"}
    assert not warnings


def test_labels_are_written():
    host = HostFacts(has_apparmor=True, has_selinux=True)
    security = Security(apparmor="unconfined", selinux_process_label="u:r:t:s0")
    made, _warnings = built(host, security=security)
    assert (made["apparmorProfile"], made["selinuxLabel"]) == ("unconfined", "u:r:t:s0")
