# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run what the role does on a Proxmox VE node: the checks, and the endpoint's access to the API.

The node is this machine with a ``pvesh`` that asks a fake cluster (tests/support/pve_access.py).
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import pytest
import yaml

from ansible_collections.pvecri.runtime.plugins.module_utils.pve import node as nodes
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import node_places
from ansible_collections.pvecri.runtime.tests.support import fakepve, pve_access

NODE = socket.gethostname().partition(".")[0]
OTHER = f"{NODE}-other"
TOKEN = f"pvecri@pve!node-{NODE}"
BIN = pathlib.Path(sys.executable).parent


@pytest.fixture
def cluster(tmp_path):
    made = fakepve.FakeCluster(str(tmp_path / "pki"), nodes=())
    # fakepve answers as the first of its nodes.
    made.pve.nodes.clear()
    for name in (NODE, OTHER):
        made.pve.add_node(name)
    made.pve.version = "9.1.2"
    made.access = pve_access.install(made.pve)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def access(cluster):
    return cluster.access


@pytest.fixture
def pvesh(cluster, tmp_path):
    return pve_access.make_pvesh(cluster, tmp_path, fakepve.TOKEN_SECRET)


@pytest.fixture
def etc_pve(tmp_path):
    """Return what stands for /etc/pve."""
    made = tmp_path / "pve"
    (made / "lxc").mkdir(parents=True)
    return made


@pytest.fixture
def look(pvesh, run_module, monkeypatch, etc_pve):
    """Return a function that runs cri_pve_info on a node with all tools."""
    which = shutil.which
    monkeypatch.setattr(
        nodes.shutil, "which", lambda name: f"/bin/{name}" if name in nodes.TOOLS else which(name)
    )

    def run(**options):
        places = {"config_dir": str(etc_pve), "lxc_path": str(etc_pve / "none")}
        result = run_module("cri_pve_info", {"pvesh_command": pvesh.path, **places, **options})
        assert not result["changed"]
        return result

    return run


def test_look_finds_nothing_wrong(look):
    pve = look()["pve"]
    assert pve["problems"] == []
    assert (pve["is_node"], pve["node"]) == (True, NODE)
    assert (pve["rootfs_storage"], pve["template_storage"]) == ("local-lvm", "local")


def test_look_says_what_is_wrong(look, cluster):
    cluster.pve.add_ct(900001, "web", node=OTHER)
    result = look(rootfs_storage="tank", pool="pods")
    found = {problem["check"] for problem in result["pve"]["problems"]}
    assert found == {"pve_rootfs_storage", "pve_pool", "pve_vmids"}
    assert all(problem["remedy"] for problem in result["pve"]["problems"])


def test_look_at_a_node_without_configurations_and_exit_codes(look, etc_pve, monkeypatch):
    shutil.rmtree(etc_pve / "lxc")
    (etc_pve / "storage.cfg").write_text("dir: local\n\tcontent vztmpl\n")
    uname = os.uname()
    old = os.uname_result((uname.sysname, uname.nodename, "6.14.11-4-pve", uname.version, uname.machine))
    monkeypatch.setattr(node_places.os, "uname", lambda: old)
    problems = {problem["check"]: problem for problem in look()["pve"]["problems"]}
    assert list(problems) == ["pve_configs", "pve_template_storage", "pve_exit_codes"]
    assert "has no directory on this node" in problems["pve_template_storage"]["problem"]
    assert "Linux 6.14 is older than 6.15" in problems["pve_exit_codes"]["problem"]
    assert "lxc-monitord.service" in problems["pve_exit_codes"]["remedy"]


def test_look_at_a_node_without_quorum_warns(look, cluster):
    cluster.pve.lose_quorum()
    result = look()
    assert result["pve"]["problems"] == []
    assert any("no quorum" in warning for warning in result["warnings"])


def test_look_at_a_node_that_does_not_answer(look, cluster):
    cluster.pve.fail("GET", "/cluster/status", 500, "ipcc_send_rec failed: Connection refused")
    (problem,) = look()["pve"]["problems"]
    assert problem["check"] == "pve_cluster"
    assert "Connection refused" in problem["problem"]
    assert "systemctl status pve-cluster" in problem["remedy"]


@pytest.mark.parametrize(("required", "checks"), [(False, []), (True, ["pve_node"])])
def test_look_at_a_host_without_proxmox(run_module, tmp_path, required, checks):
    options = {"pvesh_command": str(tmp_path / "none"), "required": required}
    pve = run_module("cri_pve_info", options)["pve"]
    assert not pve["is_node"]
    assert [problem["check"] for problem in pve["problems"]] == checks


def test_look_refuses_half_a_range(run_module):
    assert "first and the last" in run_module("cri_pve_info", {"vmid_range": [1]})["msg"]


def play(directory, pvesh, *stages, expect=0, check=False, **variables):
    """Run stages of the role on this machine, with its directory for configuration in ``directory``."""
    tasks = [
        {
            "name": f"Run {stage}",
            "ansible.builtin.include_role": {
                "name": "pvecri.runtime.cri_endpoint",
                "tasks_from": stage,
                "rolespec_validate": False,
            },
        }
        for stage in stages
    ]
    content = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]
    path = directory / "play.yml"
    path.write_text(yaml.safe_dump(content))
    (directory / "pve/lxc").mkdir(parents=True, exist_ok=True)
    extra = {
        "__cri_endpoint_pve_config_dir": str(directory / "pve"),
        "__cri_endpoint_pvesh": pvesh if isinstance(pvesh, str) else pvesh.path,
        "__cri_endpoint_etc_dir": str(directory / "etc"),
        "ansible_python_interpreter": sys.executable,
        **variables,
    }
    collections = next(place for place in sys.path if os.path.isdir(f"{place}/ansible_collections/pvecri"))
    how = ["--diff", "-v", *(["--check"] if check else [])]
    done = subprocess.run(
        [BIN / "ansible-playbook", *how, "-i", "localhost,", "-e", json.dumps(extra), path],
        env={
            "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(directory),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": collections,
            "ANSIBLE_NOCOLOR": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == expect, printed
    return printed


def recap(printed):
    """Return how many tasks changed something, and how many failed."""
    line = printed[printed.index("PLAY RECAP") :].splitlines()[1]
    counts = dict(pair.split("=") for pair in line.split(":")[1].split())
    return int(counts["changed"]), int(counts["failed"])


@pytest.fixture
def variables(cluster):
    server = {"host": "127.0.0.1", "port": cluster.port, "ca_path": cluster.ca_path}
    return {"cri_endpoint_pve_server": server}


def test_role_gives_and_takes_access(access, pvesh, tmp_path, variables):
    printed = play(tmp_path, pvesh, "preflight_pve.yml", "pve.yml", check=True, **variables)
    assert recap(printed) == (2, 0)
    assert access.roles == {}
    assert recap(play(tmp_path, pvesh, "preflight_pve.yml", "pve.yml", **variables)) == (2, 0)
    file = tmp_path / "etc/pve.json"
    assert json.loads(file.read_text())["secret"] == access.secret(TOKEN)
    assert file.stat().st_mode & 0o777 == 0o600
    assert access.entries(TOKEN) == {
        ("/vms", "CriEndpointContainer", True),
        ("/storage/local-lvm", "CriEndpointRootfs", True),
        ("/storage/local", "CriEndpointTemplate", True),
        (f"/nodes/{NODE}", "CriEndpointNode", True),
    }
    assert access.entries(TOKEN) == access.entries("pvecri@pve")
    secret = access.secret(TOKEN)
    again = play(tmp_path, pvesh, "preflight_pve.yml", "pve.yml", **variables)
    assert recap(again) == (0, 0)
    assert secret not in printed + again + json.dumps(pvesh.calls())
    checked = play(tmp_path, pvesh, "pve_absent.yml", check=True, **variables)
    assert recap(checked) == (1, 0)
    assert TOKEN in access.tokens
    assert recap(play(tmp_path, pvesh, "pve_absent.yml", **variables)) == (1, 0)
    assert (access.tokens, access.roles, list(access.users)) == ({}, {}, ["root@pam"])
    assert not file.exists()
    assert recap(play(tmp_path, pvesh, "pve_absent.yml", **variables)) == (0, 0)


def test_role_confines_the_endpoint_to_a_pool(access, pvesh, tmp_path, cluster, variables):
    cluster.pve.pools["pods"] = set()
    play(tmp_path, pvesh, "preflight_pve.yml", "pve.yml", cri_endpoint_pve_pool="pods", **variables)
    assert ("/pool/pods", "CriEndpointContainer", True) in access.entries(TOKEN)
    assert not any(path == "/vms" for path, _role, _on in access.entries(TOKEN))


def test_role_gives_what_privileged_containers_want_only_when_told(access, pvesh, tmp_path, variables):
    wanted = {"cri_endpoint_pve_privileged": True, **variables}
    play(tmp_path, pvesh, "preflight_pve.yml", "pve.yml", **wanted)
    assert ("/", "CriEndpointPrivileged", False) in access.entries(TOKEN)
    assert access.roles["CriEndpointPrivileged"] == {"Sys.Modify"}
    play(tmp_path, pvesh, "preflight_pve.yml", "pve.yml", **variables)
    assert not any(path == "/" for path, _role, _on in access.entries(TOKEN))
    play(tmp_path, pvesh, "pve_absent.yml", cri_endpoint_state="absent", **variables)
    assert access.roles == {}


@pytest.mark.parametrize("may_end", [False, True], ids=["left", "removed"])
def test_role_takes_pods_from_the_node_or_lets_them_be_used(pvesh, tmp_path, cluster, variables, may_end):
    wanted = {"cri_endpoint_state_dir": str(tmp_path / "state"), **variables}
    play(tmp_path, pvesh, "preflight_pve.yml", "pve.yml", **wanted)
    cluster.pve.add_ct(900001, "web", node=NODE, config={"tags": "pvecri;pvecri-cri"})
    config = tmp_path / "pve/lxc/900001.conf"
    include = tmp_path / "state/lxc/guests/900001/config"
    include.parent.mkdir(parents=True)
    (tmp_path / "state/lxc/endpoint").write_text("0123")
    own = '#pvecri-cri%3A {"endpoint"%3A"0123"}\nhostname: web\ntags: pvecri;pvecri-cri\n'
    config.write_text(f"{own}lxc.include: {include}\n")
    (tmp_path / "pve/local").symlink_to(f"nodes/{NODE}")
    ends = {"cri_endpoint_remove_running_pods": may_end}
    play(tmp_path, pvesh, "pve_absent.yml", cri_endpoint_state="absent", **ends, **wanted)
    assert [ct.vmid for ct in cluster.pve.cts] == ([] if may_end else [900001])
    if not may_end:
        assert config.read_text() == own


def test_role_works_over_https(access, pvesh, tmp_path, cluster):
    options = cluster.options()
    printed = play(tmp_path, pvesh, "preflight_pve.yml", "pve.yml", cri_endpoint_pve_api=options)
    assert fakepve.TOKEN_SECRET not in printed
    assert json.loads((tmp_path / "etc/pve.json").read_text())["host"] == "127.0.0.1"
    # pvesh was asked by the checks only.
    assert {call[0] for call in pvesh.calls()} == {"get"}
    assert not any("/access" in call[1] for call in pvesh.calls())


def test_role_refuses_a_node_without_storage_before_anything_is_made(access, pvesh, tmp_path, cluster):
    cluster.pve.storages["local"]["content"] = "iso"
    printed = play(tmp_path, pvesh, "preflight_pve.yml", "pve.yml", expect=2)
    assert "takes content vztmpl" in printed
    assert access.roles == {}


@pytest.mark.parametrize("wish", ["auto", False])
def test_role_leaves_other_hosts_alone(access, tmp_path, wish, pvesh):
    program = str(tmp_path / "none") if wish == "auto" else pvesh
    stages = ("preflight_pve.yml", "pve.yml", "pve_absent.yml")
    assert recap(play(tmp_path, program, *stages, cri_endpoint_pve=wish)) == (0, 0)
    assert pvesh.calls() == []
