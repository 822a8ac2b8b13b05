# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The played node does to real containers what its API says it does."""

from __future__ import annotations

import os
import pathlib
import subprocess
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_raw, tasks, token_file
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.tests.support import fakepve, images, pve_machine
from ansible_collections.pvecri.runtime.tests.support.pve_node import NODE, TOKEN, USER, FakePveNode
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

LXC = f"/nodes/{NODE}/lxc"


class Made:
    """A node with a template, and its client."""

    def __init__(self, node: FakePveNode, layout: str) -> None:
        self.node = node
        self.client = PveClient(node.connection(user=USER, token_id=TOKEN))
        archive = node.storage.cache / "app.tar"
        members = ["oci-layout", "index.json", "blobs"]
        subprocess.run(["tar", "-C", layout, "-cf", str(archive), *members], check=True)
        self.vmid = node.vmid_range[0] + 7

    def wait(self, upid: str) -> None:
        tasks.wait_task(self.client, upid, 30)

    def create(self, **options: t.Any) -> int:
        template = {"ostemplate": "local:vztmpl/app.tar", "rootfs": "local-lvm:1", "unprivileged": True}
        usual = {"memory": 64, "swap": 0, "onboot": False, "console": False, "hostname": "web"}
        self.wait(self.client.post(LXC, vmid=self.vmid, **{**template, **usual, **options}))
        return self.vmid

    def act(self, verb: str, **options: t.Any) -> None:
        self.wait(self.client.post(f"{LXC}/{self.vmid}/status/{verb}", **options))

    def status(self) -> str:
        return str(self.client.get(f"{LXC}/{self.vmid}/status/current")["status"])

    def inside(self, *command: str) -> str:
        argv = [
            "lxc-attach",
            "-P",
            self.node.machine.lxc_path,
            "-n",
            str(self.vmid),
            "--clear-env",
            "--",
            *command,
        ]
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=20).stdout.strip(
            "\0\n"
        )


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = images.OciLayout(tmp_path_factory.mktemp("image"))
    hidden = [images.File("etc/.wh.group"), images.File("home/.wh..wh..opq"), images.File("home/new", b"1")]
    config = {"Cmd": ["/bin/sleep", "1000"], "Env": ["PATH=/bin", "A=b c"], "WorkingDir": "/tmp"}
    made.add_image("latest", [images.busybox_layer(), images.tar_layer(hidden)], config)
    return made.path


@pytest.fixture
def made(layout: str) -> t.Iterator[Made]:
    reason = pve_machine.missing() or ("needs root" if os.geteuid() else None)
    if reason:
        pytest.skip(reason)
    with FakePveNode() as node:
        yield Made(node, layout)
    assert not os.path.exists(node.top)


def test_life_of_a_container(made: Made) -> None:
    vmid, node = made.create(tags="one;two", description="notes: 100 %"), made.node
    text = pathlib.Path(node.config_dir, "lxc", f"{vmid}.conf").read_text()
    assert text.startswith("#notes%3A 100 %25\n")
    assert text.endswith("lxc.init.cwd: /tmp\n")
    rootfs = pathlib.Path(node.machine.rootfs(vmid))
    assert (rootfs / "bin").stat().st_uid == pve_machine.SHIFT
    assert not (rootfs / "etc/group").exists()
    assert os.listdir(rootfs / "home") == ["new"]
    made.act("start")
    assert made.status() == "running"
    assert made.inside("cat", "/proc/1/cmdline") == "/bin/sleep\x001000"
    assert "A=b c" in made.inside("cat", "/proc/1/environ").split("\0")
    assert made.inside("ls", "-l", "/proc/1/cwd").endswith("-> /tmp")
    made.act("shutdown", timeout=1, forceStop=True)
    assert made.status() == "stopped"
    made.act("start")
    made.act("stop")
    made.wait(made.client.delete(f"{LXC}/{vmid}", purge=True))
    assert node.vmids() == []
    assert node.leftovers() == []


def test_limits_are_written_at_start_and_live(made: Made) -> None:
    vmid = made.create(cpulimit=0.5)
    made.act("start")
    name = "memory.max" if pve_machine.uses_v2() else "memory.limit_in_bytes"
    assert made.node.limits(vmid, name) == str(64 << 20)
    made.client.put(f"{LXC}/{vmid}/config", memory=128, cpulimit=1)
    assert made.node.limits(vmid, name) == str(128 << 20)
    made.client.put(f"{LXC}/{vmid}/config", memory=32)
    assert made.node.limits(vmid, name) == str(32 << 20)


def test_raw_lines_of_the_file_count(made: Made, tmp_path: pathlib.Path) -> None:
    vmid, node = made.create(), made.node
    include = tmp_path / "include"
    include.write_text("lxc.init.cmd = /bin/sleep 7000\n")
    places = {"config_dir": f"{node.config_dir}/lxc", "lock_dir": node.lock_dir}
    assert lxc_raw.write(vmid, {"lxc.include": (str(include),)}, **places)
    assert ["lxc.include", str(include)] in made.client.get(f"{LXC}/{vmid}/config")["lxc"]
    made.client.put(f"{LXC}/{vmid}/config", tags="three")
    made.act("start")
    assert made.inside("cat", "/proc/1/cmdline") == "/bin/sleep\x007000"
    assert node.config(vmid)["tags"] == "three"


def test_failed_start_has_lxc_s_words_in_the_log(made: Made) -> None:
    vmid, node = made.create(), made.node
    lxc_raw.write(
        vmid, {"lxc.include": ("/no/such",)}, config_dir=f"{node.config_dir}/lxc", lock_dir=node.lock_dir
    )
    with pytest.raises(errors.TaskFailed) as caught:
        made.act("start")
    assert caught.value.exitstatus == f"startup for container '{vmid}' failed"
    assert any("/no/such" in line for line in caught.value.log_tail)
    assert made.status() == "stopped"


def test_container_that_ends_by_itself_is_stopped(made: Made) -> None:
    made.create()
    made.act("start")
    assert made.client.get(f"{LXC}/{made.vmid}/status/current")["pid"] > 1
    subprocess.run(["lxc-stop", "-P", made.node.machine.lxc_path, "-n", str(made.vmid), "-k"], check=True)
    eventually(lambda: made.status() == "stopped")


def test_privileged_container_is_not_made_from_an_image(made: Made) -> None:
    # The endpoint's token may not even ask.
    made.client = PveClient(made.node.connection())
    with pytest.raises(errors.TaskFailed, match="setgid"):
        made.create(unprivileged=False)
    assert made.node.vmids() == []
    assert made.node.leftovers() == []


def test_native_template_keeps_its_command(made: Made) -> None:
    archive = made.node.storage.cache / "native-1_1.0_amd64.tar.gz"
    files = [images.File("sbin/init", b"#!/bin/sh\nexec sleep 100\n", 0o755)]
    archive.write_bytes(images.tar_layer([*images.busybox_files(), *files]))
    made.create(ostemplate=f"local:vztmpl/{archive.name}")
    made.act("start")
    assert made.inside("cat", "/proc/1/comm") in ("init", "sleep")


def test_faults_and_gates_of_tasks(made: Made) -> None:
    node = made.node
    node.fill()
    with pytest.raises(errors.TaskFailed, match="Insufficient free space"):
        made.create()
    node.empty()
    node.fault("vzcreate", "it broke", log=("first line",))
    with pytest.raises(errors.TaskFailed, match="it broke") as caught:
        made.create()
    assert "first line" in caught.value.log_tail
    assert (node.vmids(), node.leftovers()) == ([], [])
    with node.holding("vzcreate", at_end=True) as gate:
        upid = made.client.post(LXC, vmid=made.vmid, ostemplate="local:vztmpl/app.tar", rootfs="local-lvm:1")
        assert gate.reached.wait(10)
        assert node.pve.tasks[upid]["status"] == "running"
        assert not lxc_lock_is_free(node, made.vmid)
    made.wait(upid)
    assert lxc_lock_is_free(node, made.vmid)


def lxc_lock_is_free(node: FakePveNode, vmid: int) -> bool:
    path = f"{node.lock_dir}/pve-config-{vmid}.lock"
    return subprocess.run(["flock", "--nonblock", path, "true"], check=False).returncode == 0


def test_what_an_administrator_does(made: Made) -> None:
    node = made.node
    vmid = made.create(tags="pvecri")
    made.act("start")
    assert node.gui_set(vmid, hostname="renamed", delete="tags") == "OK"
    assert (node.config(vmid)["hostname"], "tags" in node.config(vmid)) == ("renamed", False)
    assert node.gui("snapshot", vmid, snapname="before") == "OK"
    assert "[before]\n" in pathlib.Path(node.config_dir, "lxc", f"{vmid}.conf").read_text()
    node.lock(vmid)
    assert node.gui_stop(vmid) == "CT is locked (backup)"
    assert node.machine.is_up(vmid)
    node.unlock(vmid)
    assert node.gui_migrate(vmid) == "OK"
    assert not pathlib.Path(node.config_dir, "lxc", f"{vmid}.conf").exists()
    assert not node.machine.is_up(vmid)
    other = node.add_ct()
    assert node.gui_destroy(other) == "OK"
    assert node.vmids() == [vmid]


def test_api_that_is_down_or_loses_answers(made: Made) -> None:
    node = made.node
    node.down()
    with pytest.raises(errors.ApiError):
        made.client.get("/version")
    node.up()
    assert made.client.get("/version")["release"]
    node.lose_answers("POST", "/status/start")
    made.create()
    with pytest.raises(errors.ApiError):
        made.client.request("POST", f"{LXC}/{made.vmid}/status/start", {})
    eventually(lambda: made.status() == "running")


def test_access_file_holds_what_the_role_leaves(made: Made) -> None:
    found = token_file.read(made.node.access_file)
    assert found.is_private
    assert found.credentials is not None
    assert found.credentials.server.fingerprint == made.node.fingerprint
    assert token_file.is_accepted(found.credentials)
    assert found.credentials.secret == fakepve.TOKEN_SECRET
