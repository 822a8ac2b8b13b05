# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the checks of a Proxmox VE node against nodes that lack something."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import node
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import Guest
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.node import Facts, Storage, Wanted

GIB = 1024**3
LOCAL = Storage("local", frozenset({"vztmpl", "iso"}), free_bytes=GIB)
LVM = Storage("local-lvm", frozenset({"rootdir", "images"}), free_bytes=100 * GIB)
FACTS = Facts("pve1", "9.1.2", "pve1", True, (LVM, LOCAL), frozenset({"pods"}), ())
WANTED = Wanted(vmids=(9000, 9999), min_free_mib=8192)


def with_storages(*storages):
    return {"storages": storages}


@pytest.mark.parametrize(
    "changes", [{}, {"is_quorate": None}, {"version": "9.1"}, {"version": "10.0", "node": "x"}]
)
def test_examine_names_storages_of_a_node_that_is_fine(changes):
    found = node.examine(dataclasses.replace(FACTS, **changes), WANTED)
    if "node" not in changes:
        assert (found.problems, found.warnings) == ([], [])
        assert (found.rootfs_storage, found.template_storage) == ("local-lvm", "local")
    else:
        assert [problem["check"] for problem in found.problems] == ["pve_version", "pve_node_name"]
        assert (found.rootfs_storage, found.template_storage) == ("", "")


@pytest.mark.parametrize(
    ("facts", "wanted", "check", "problem", "remedy"),
    [
        ({"version": "7.4-3"}, {}, "pve_version", "this is Proxmox VE 7.4-3", "cri_endpoint_pve: false"),
        ({"version": "?"}, {}, "pve_version", "this is Proxmox VE ?", "8 or 9"),
        ({"node": "old"}, {}, "pve_node_name", "and the node is called 'old'", "hostnamectl"),
        ({"node": ""}, {}, "pve_node_name", "the cluster does not know this node", "restart pve-cluster"),
        (with_storages(LOCAL), {}, "pve_rootfs_storage", "no active storage of node 'pve1'", "pvesm set"),
        (with_storages(LVM), {}, "pve_template_storage", "takes content vztmpl", "pvesm set"),
        ({}, {"rootfs_storage": "x"}, "pve_rootfs_storage", "does not exist on node 'pve1'", "pvesm status"),
        (
            {},
            {"rootfs_storage": "local"},
            "pve_rootfs_storage",
            "does not take content rootdir, only iso,vztmpl",
            "pvesm set local --content iso,rootdir,vztmpl",
        ),
        (
            with_storages(LOCAL, LVM, dataclasses.replace(LVM, name="nfs", is_active=False)),
            {"rootfs_storage": "nfs"},
            "pve_rootfs_storage",
            "is not active",
            "Mount or connect",
        ),
        (
            with_storages(LVM, LOCAL, Storage("off", frozenset(), is_enabled=False)),
            {"template_storage": "off"},
            "pve_template_storage",
            "is disabled",
            "cri_endpoint_pve_template_storage",
        ),
        (
            with_storages(LVM, LOCAL, Storage("none")),
            {"template_storage": "none"},
            "pve_template_storage",
            "only none",
            "Add it",
        ),
        ({}, {"min_free_mib": 200 * 1024}, "pve_space", "has 102400 MiB left, 204800", "Free some"),
        ({"missing_tools": ("pct",)}, {}, "pve_tools", "the program pct is missing", "pve-container"),
        ({}, {"pool": "nope"}, "pve_pool", "there is no pool 'nope'", "--poolid nope"),
        ({}, {"vmids": (99, 200)}, "pve_vmids", "is no range", "from 100"),
        ({}, {"vmids": (300, 200)}, "pve_vmids", "is no range", "from 100"),
        (
            {"guests": tuple(Guest(9000 + number, "pve2") for number in range(6))},
            {},
            "pve_vmids",
            "from 9000 to 9999: 9000, 9001, 9002, 9003, 9004, …",
            "a range that nothing else uses",
        ),
    ],
)
def test_examine_refuses(facts, wanted, check, problem, remedy):
    found = node.examine(dataclasses.replace(FACTS, **facts), dataclasses.replace(WANTED, **wanted))
    (refusal,) = found.problems
    assert refusal["check"] == check
    assert problem in refusal["problem"]
    assert remedy in refusal["remedy"]


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"is_quorate": False}, "no quorum"),
        ({"version": "8.4.1"}, "takes no OCI images"),
        ({"version": "9.0.3"}, "takes no OCI images"),
    ],
)
def test_examine_warns(facts, text):
    found = node.examine(dataclasses.replace(FACTS, **facts), WANTED)
    assert found.problems == []
    assert text in found.warnings[0]


def test_examine_counts_pods_as_its_own():
    pods = (Guest(9000, "pve1", tags=("pvecri-cri",)), Guest(100, "pve1"), Guest(10000, "pve1"))
    assert node.examine(dataclasses.replace(FACTS, guests=pods), WANTED).problems == []


@pytest.mark.parametrize(
    ("names", "chosen"),
    [(("a", "local-zfs"), "local-zfs"), (("b", "a"), "a"), (("local-zfs", "local-lvm"), "local-lvm")],
)
def test_examine_takes_the_same_storage_every_time(names, chosen):
    storages = (LOCAL, *(dataclasses.replace(LVM, name=name) for name in names))
    assert node.examine(dataclasses.replace(FACTS, storages=storages), WANTED).rootfs_storage == chosen


class Answers:
    """Answer requests from a table; what is missing is an error."""

    def __init__(self, **answers):
        self.answers = answers

    def get(self, path, **_params):
        try:
            return self.answers[path[-1]]
        except KeyError:
            raise errors.ApiError(f"no {path[-1]}") from None


STATUS = [{"type": "cluster", "quorate": 1}, {"type": "node", "name": "pve1", "local": 1}]
VERSION = {"version": "9.1.2", "release": "9.1"}


def test_gather_reads_what_the_node_tells(monkeypatch):
    monkeypatch.setattr(node.shutil, "which", lambda name: None if name == "pct" else name)
    facts = node.gather(
        Answers(
            version=VERSION,
            status=STATUS,
            storage=[{"storage": "local", "content": "vztmpl,iso", "active": 1, "enabled": 1, "avail": 7}],
            pools=[{"poolid": "pods"}],
            resources=[{"vmid": 100, "type": "qemu", "node": "pve1", "tags": "a"}],
        ),
        "pve1",
    )
    assert facts == Facts(
        "pve1",
        "9.1.2",
        "pve1",
        True,
        (Storage("local", frozenset({"vztmpl", "iso"}), free_bytes=7),),
        frozenset({"pods"}),
        (Guest(100, "pve1", "qemu", tags=("a",)),),
        ("pct",),
    )


def test_gather_of_a_single_node_knows_no_quorum():
    status = [{"type": "node", "name": "pve1", "local": 1}]
    facts = node.gather(Answers(version={"release": "8.4"}, status=status, storage=[]), "pve1")
    assert (facts.is_quorate, facts.version) == (None, "8.4")


@pytest.mark.parametrize(
    "answers", [{"status": STATUS}, {"version": VERSION}, {"version": VERSION, "status": STATUS}]
)
def test_gather_fails_when_the_node_does_not_answer(answers):
    with pytest.raises(errors.ApiError):
        node.gather(Answers(**answers), "pve1")


def test_gather_asks_no_storage_of_a_node_that_is_called_otherwise():
    assert node.gather(Answers(version=VERSION, status=STATUS), "other").node == "pve1"


def test_is_node(tmp_path):
    assert not node.is_node(str(tmp_path / "pvesh"))
    (tmp_path / "pvesh").write_text("")
    (tmp_path / "pvesh").chmod(0o755)
    assert node.is_node(str(tmp_path / "pvesh"))
    assert "." not in node.own_hostname()
