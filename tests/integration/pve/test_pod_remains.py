# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take LXC pods from a node whose endpoint goes, with a Proxmox VE that keeps real configuration files."""

from __future__ import annotations

import json
import os
import pathlib

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_raw
from ansible_collections.pvecri.runtime.tests.support.pve_node import NODE, FakePveNode


@pytest.fixture
def node():
    with FakePveNode() as made:
        yield made


@pytest.fixture
def run(node, run_module, tmp_path):
    """Return a function that runs the module for an endpoint in a directory of its own."""

    def call(*, check=False, **options):
        places = {
            "state_dir": str(tmp_path / "state"),
            "config_dir": node.config_dir,
            "lock_dir": node.lock_dir,
            "access_file": node.access_file,
        }
        return run_module("cri_pve_remains", {**places, **options}, check=check)

    return call


def add_pod(node, tmp_path, number=0, tags="pvecri;pvecri-cri"):
    """Add a container as the endpoint makes it, and return its number."""
    endpoint = tmp_path / "state/lxc/endpoint"
    endpoint.parent.mkdir(parents=True, exist_ok=True)
    endpoint.write_text("0123\n")
    notes = 'Of a pod.\n\npvecri-cri: {"endpoint":"0123","container":"0a","sandbox":"0b"}'
    vmid = node.add_ct(vmid=node.vmid_range[0] + number, tags=tags, description=notes)
    include = f"{tmp_path}/state/lxc/guests/{vmid}/config"
    lxc_raw.write(
        vmid, {"lxc.include": (include,)}, config_dir=f"{node.config_dir}/lxc", lock_dir=node.lock_dir
    )
    return vmid


def test_pods_go_and_others_lose_the_line(node, run, tmp_path):
    pod = add_pod(node, tmp_path)
    taken = add_pod(node, tmp_path, 1, tags="mine")
    other = node.add_ct(vmid=node.vmid_range[0] + 2, tags="pvecri")
    archive = pathlib.Path(node.storage.cache, "pvecri_web.tar")
    archive.write_bytes(b"tar")
    status = os.lstat(archive)
    entry = {
        "directory": str(archive.parent),
        "file": archive.name,
        "stamp": [status.st_ino, status.st_mtime_ns, status.st_size],
    }
    (tmp_path / "state/lxc/archives.json").write_text(json.dumps({"archives": [entry]}))
    wanted = {"removed": [f"container {pod}", str(archive)], "released": [taken]}
    planned = run(destroy=True, archives=True, check=True)
    assert {key: planned[key] for key in wanted} == wanted
    assert planned["changed"]
    assert node.vmids() == [pod, taken, other]
    done = run(destroy=True, archives=True)
    assert {key: done[key] for key in wanted} == wanted
    assert node.vmids() == [taken, other]
    assert "lxc.include" not in pathlib.Path(node.config_dir, "lxc", f"{taken}.conf").read_text()
    assert not archive.exists()
    assert not run(destroy=True, archives=True)["changed"]


def test_pods_that_are_left_lose_the_line(node, run, tmp_path):
    pod = add_pod(node, tmp_path)
    assert run()["released"] == [pod]
    assert node.vmids() == [pod]
    assert not run()["changed"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"access_file": "/nonexistent/pve.json"}, "does not say how to reach Proxmox VE"),
        ({"node": f"{NODE}-other"}, "other"),
    ],
    ids=["no-access", "another-node"],
)
def test_pods_that_cannot_be_removed_are_told(node, run, tmp_path, options, says):
    pod = add_pod(node, tmp_path)
    assert says in run(destroy=True, **options)["msg"]
    assert node.vmids() == [pod]


def test_a_directory_that_names_no_node_is_told(node, run, tmp_path):
    add_pod(node, tmp_path)
    os.unlink(f"{node.config_dir}/local")
    assert "does not say which node this is" in run(destroy=True)["msg"]
