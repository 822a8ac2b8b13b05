# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold which containers of a node are an endpoint's, and what is done to them without it."""

from __future__ import annotations

import json
import os
import pathlib

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import pod_remains
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.pod_remains import Left, Place

TAGS = "tags: pvecri;pvecri-cri"
#: As Proxmox VE writes notes.
NOTES = '#Container web of pod default/web%%0Ax.\n#\n#pvecri-cri%%3A {"endpoint"%%3A"%s","container"%%3A"0a"}'
MARK = NOTES % "0123"


class Host:
    """A node in a directory."""

    def __init__(self, top: pathlib.Path) -> None:
        self.top = top
        self.configs = top / "pve/lxc"
        self.cgroups = top / "cgroup"
        for path in (self.configs, self.cgroups, top / "lock", top / "state/lxc"):
            path.mkdir(parents=True)
        (top / "state/lxc/endpoint").write_text("0123\n")
        self.place = Place(
            state_dir=str(top / "state"),
            config_dir=str(top / "pve"),
            lock_dir=str(top / "lock"),
            cgroups=(str(self.cgroups),),
        )

    def include(self, vmid: int) -> str:
        return f"lxc.include: {self.top}/state/lxc/guests/{vmid}/config"

    def add(self, vmid: int, *lines: str) -> pathlib.Path:
        path = self.configs / f"{vmid}.conf"
        path.write_text("".join(f"{line}\n" for line in lines))
        return path


@pytest.fixture
def host(tmp_path) -> Host:
    return Host(tmp_path)


def test_a_pods_container_includes_its_own_file_and_has_all_marks(host):
    host.add(900001, MARK, "arch: amd64", "tags: other;pvecri;pvecri-cri", host.include(900001))
    assert pod_remains.containers(host.place) == [Left(900001, is_pod=True, is_running=False)]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([MARK, "tags: pvecri"], id="tag-taken-off"),
        pytest.param([MARK, "hostname: web"], id="no-tags"),
        pytest.param([TAGS], id="no-notes"),
        pytest.param([NOTES % "9876", TAGS], id="another-endpoint's"),
        pytest.param(["#pvecri-cri%3A {}", TAGS], id="line-of-somebody"),
        pytest.param(["#pvecri-cri: {", "#pvecri-cri: {x}", TAGS], id="line-that-is-none"),
        pytest.param([MARK, TAGS, "lxc.include: {top}/state/lxc/guests/900001/config"], id="copy"),
    ],
)
def test_what_is_not_proven_to_be_a_pods_is_not_one(host, lines):
    given = [line.replace("{top}", str(host.top)) for line in lines]
    if not any("lxc.include" in line for line in given):
        given.append(host.include(900009))
    host.add(900009, *given)
    assert pod_remains.containers(host.place) == [Left(900009, is_pod=False, is_running=False)]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([TAGS], id="no-include"),
        pytest.param([TAGS, "lxc.include: /var/lib/other/lxc/guests/900001/config"], id="another-endpoint"),
        # What a snapshot says counts when somebody goes back to it.
        pytest.param([TAGS, "", "[before]", "{include}"], id="snapshot"),
    ],
)
def test_others_are_not_found(host, lines):
    host.add(900001, *(line.format(include=host.include(900001)) for line in lines))
    (host.configs / "notes.txt").write_text(host.include(900001))
    assert pod_remains.containers(host.place) == []


def test_a_host_without_proxmox_has_none(tmp_path):
    assert pod_remains.containers(Place(state_dir=str(tmp_path), config_dir=str(tmp_path / "no"))) == []


def test_release_takes_the_line_out_and_nothing_else(host):
    path = host.add(
        900001, "#notes", TAGS, "lxc.include: /etc/mine", host.include(900001), "lxc.tty.max: 2", "", "[old]",
        host.include(900001),
    )  # fmt: skip
    (left,) = pod_remains.containers(host.place)
    assert left.others == ("/etc/mine",)
    pod_remains.release(host.place, left)
    assert path.read_text() == (
        f"#notes\n{TAGS}\nlxc.include: /etc/mine\nlxc.tty.max: 2\n\n[old]\n{host.include(900001)}\n"
    )
    assert pod_remains.containers(host.place) == []


def test_release_of_one_that_is_gone_is_fine(host):
    pod_remains.release(host.place, Left(900001, is_pod=True, is_running=False))


def test_release_refuses_one_that_runs(host):
    path = host.add(900001, "tags: mine", host.include(900001))
    inner = host.cgroups / "lxc/900001/ns"
    inner.mkdir(parents=True)
    (inner.parent / "cgroup.procs").write_text("")
    (inner / "cgroup.procs").write_text("4711\n")
    before = path.read_text()
    (left,) = pod_remains.containers(host.place)
    with pytest.raises(WrongState, match="container 900001 runs") as caught:
        pod_remains.release(host.place, left)
    assert "pct stop 900001" in str(caught.value.hint)
    assert path.read_text() == before


def archive(host: Host, name: str) -> dict[str, object]:
    path = host.top / name
    path.write_bytes(b"tar")
    status = os.lstat(path)
    stamp = [status.st_ino, status.st_mtime_ns, status.st_size]
    return {"directory": str(host.top), "file": name, "stamp": stamp, "image_id": "0a", "storage": "local"}


def test_archives_are_those_that_were_written_and_are_still_there(host):
    entries = [
        archive(host, "b.tar"),
        archive(host, "a.tar"),
        archive(host, "gone.tar"),
        archive(host, "x.tar"),
    ]
    (host.top / "gone.tar").unlink()
    # Somebody has put another file in its place.
    (host.top / "x.tar").write_bytes(b"another")
    (host.top / "state/lxc/archives.json").write_text(json.dumps({"archives": entries}))
    assert pod_remains.archives(host.place) == [f"{host.top}/a.tar", f"{host.top}/b.tar"]


def test_archives_are_templates_too_that_were_downloaded_for_the_endpoint(host):
    own, others = archive(host, "own.tar.zst"), archive(host, "others.tar.zst")
    entries = [{**own, "is_own": True}, {**others, "is_own": False}]
    (host.top / "state/lxc/native.json").write_text(json.dumps({"templates": entries}))
    assert pod_remains.archives(host.place) == [f"{host.top}/own.tar.zst"]


def test_archives_without_a_list_are_none(host):
    assert pod_remains.archives(host.place) == []


@pytest.mark.parametrize("content", ['{"archives": [{}]}', "[]", "{"])
def test_archives_of_a_list_that_cannot_be_read_are_told(host, content):
    (host.top / "state/lxc/archives.json").write_text(content)
    with pytest.raises(CoreError, match=r"/lxc.* cannot be read"):
        pod_remains.archives(host.place)
