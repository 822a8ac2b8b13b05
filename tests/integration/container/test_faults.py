# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Break what containers depend on, and see that the module says so or mends it."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.rootfs import unmount_below
from ansible_collections.pvecri.runtime.plugins.module_utils.container.places import files_folder
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import driver
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import Programs


def test_two_plays_make_the_same_container(box, image):
    for task in (box.whole(), box.whole(image=f"oci:{image.path}:latest", stop_timeout="0")):
        children = [box.start_apart(task) for _play in range(3)]
        results = [json.loads(child.communicate(timeout=120)[0]) for child in children]
        assert [result.get("failed", False) for result in results] == [False] * 3
        assert sorted(result["changed"] for result in results) == [False, False, True]
        assert len({result["container"]["pid"] for result in results}) == 1
        box.await_processes(1)


def test_plays_that_disagree_wait_for_each_other(box):
    tasks = [box.whole(env={"WHO": str(number)}) for number in range(3)]
    children = [box.start_apart(task) for task in tasks]
    results = [json.loads(child.communicate(timeout=120)[0]) for child in children]
    assert all(result["changed"] for result in results)
    box.await_processes(1)
    assert box.look()[0]["problems"] == []


def test_bundle_that_lost_its_configuration(box):
    container = box.ensure()["container"]
    os.unlink(os.path.join(container["bundle"], "config.json"))
    # It runs on; what is wrong is said.
    assert box.look()[0]["problems"] == ["its config.json is missing"]
    refused = box.run("crun_container", {"name": "c", "state": "restarted", **box.places()})
    assert (refused["failed"], refused["error"]) == (True, "wrong_state")
    assert "its config.json is missing" in refused["msg"]
    mended = box.ensure()
    assert mended["diff"]["before"]["bundle"] == "its config.json is missing"
    assert mended["container"]["state"] == "running"
    assert mended["container"]["problems"] == []


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"schema": 99}'])
def test_bundle_with_a_damaged_record(box, damage):
    container = box.ensure()["container"]
    pathlib.Path(container["bundle"], "pvecri.json").write_text(damage)
    (seen,) = box.look()
    assert seen["state"] == "running"
    assert "pvecri.json" in seen["problems"][0]
    refused = box.run("crun_container", {"name": "c", "state": "stopped", **box.places()})
    assert (refused["failed"], refused["error"]) == (True, "wrong_state")
    assert box.ensure()["container"]["problems"] == []
    pathlib.Path(container["bundle"], "pvecri.json").write_text(damage)
    box.change("absent")
    box.assert_clean()


def test_bundle_that_is_gone(box):
    container = box.ensure()["container"]
    unmount_below(container["bundle"])
    shutil.rmtree(container["bundle"])
    (seen,) = box.look()
    assert seen["state"] == "running"
    assert "its bundle is missing" in seen["problems"]
    mended = box.ensure()
    assert mended["container"]["pid"] != container["pid"]
    unmount_below(container["bundle"])
    shutil.rmtree(container["bundle"])
    box.change("absent")
    box.assert_clean()


def test_root_file_system_that_was_unmounted(box):
    container = box.ensure(state="stopped")["container"]
    unmount_below(container["bundle"])
    assert box.change("started")["container"]["state"] == "running"
    assert box.execute("ls", "/bin/sh") == "/bin/sh\n"


def test_runtime_state_that_is_gone(box):
    box.ensure()
    shutil.rmtree(box.engine.runtime._host.root)
    mended = box.ensure()
    assert mended["changed"] is True
    assert mended["container"]["state"] == "running"
    box.await_processes(1)
    assert box.ensure()["changed"] is False


@pytest.mark.parametrize("damage", ["", "{}", '{"pid": 1}'])
def test_runtime_state_that_is_damaged(box, damage):
    pid = box.ensure()["container"]["pid"]
    pathlib.Path(box.paths.runtime_root, "c", "status").write_text(damage)
    mended = box.ensure()
    assert mended["container"]["state"] == "running"
    assert mended["container"]["pid"] != pid
    box.await_processes(1)
    box.change("absent")
    box.assert_clean()


def test_conmon_that_was_killed_is_reported(box):
    container = box.ensure()["container"]
    state = box.engine.state("c")
    os.kill(state.conmon_pid, signal.SIGKILL)
    await_end(state.conmon_pid)
    (seen,) = box.look()
    assert seen["state"] == "running"
    assert seen["problems"] == ["monitor_lost"]
    unchanged = box.ensure()
    assert (unchanged["changed"], unchanged["container"]["pid"]) == (False, container["pid"])
    assert "no longer logged" in unchanged["warnings"][0]
    mended = box.change("restarted")
    assert mended["container"]["problems"] == []


def await_end(pid):
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        with open(f"/proc/{pid}/stat") as stream:
            if stream.read().rpartition(")")[2].split()[0] in "ZX":
                return
        time.sleep(0.01)


def test_container_and_conmon_that_were_killed(box):
    """A job that nobody saw end counts as failed."""
    task = {"command": ["sleep", "1000"], "rerun": "failed"}
    box.ensure(**task)
    state = box.engine.state("c")
    for pid in (state.conmon_pid, state.pid):
        os.kill(pid, signal.SIGKILL)
        await_end(pid)
    (seen,) = box.look()
    assert (seen["state"], seen["exit_code"]) == ("stopped", None)
    again = box.ensure(**task)
    assert (again["changed"], again["container"]["state"]) == (True, "running")


def test_process_that_has_the_old_number_is_spared(box):
    """After a reboot the recorded process id may be somebody else's."""
    box.ensure()
    box.reboot()
    bystander = subprocess.Popen(["sleep", "100"])
    try:
        os.makedirs(os.path.join(box.paths.runtime_root, "c"), exist_ok=True)
        box.change("started")
        box.change("absent")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("state", ["created", "started", "paused", "stopped"])
def test_reboot(box, state):
    box.ensure(state=state)
    box.execute("touch", "/kept") if state == "started" else None
    box.reboot()
    (seen,) = box.look()
    assert seen["state"] == "stopped"
    if state == "stopped":
        assert box.ensure(state=state)["changed"] is False
    done = box.ensure()
    assert (done["changed"], done["container"]["state"]) == (True, "running")
    if state == "started":
        assert box.execute("ls", "/kept") == "/kept\n"
    box.change("absent")
    box.assert_clean()


def test_missing_crun(box, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(driver, "Programs", lambda: Programs(crun="/nonexistent/crun"))
        refused = box.refuse()
        assert refused["failed"]
        assert "crun" in refused["msg"]
    assert box.ensure()["container"]["state"] == "running"


@pytest.mark.parametrize("program", ["conmon"])
def test_missing_conmon(box, monkeypatch, program):
    with monkeypatch.context() as patch:
        patch.setattr(driver, "Programs", lambda: Programs(conmon="/nonexistent/conmon"))
        refused = box.refuse()
        assert refused["error"] == "missing_dependency"
        assert "Install the Debian package 'conmon'" in refused["msg"]
    assert box.processes() == []
    assert box.ensure()["container"]["state"] == "running"


def test_missing_skopeo(box, image, monkeypatch):
    monkeypatch.setattr(
        "ansible_collections.pvecri.runtime.plugins.module_utils.command.DEFAULT_PATH", "/nonexistent"
    )
    refused = box.refuse(image=f"oci:{image.path}:latest")
    assert refused["error"] == "missing_dependency"
    assert "Install the Debian package 'skopeo'" in refused["msg"]
    assert box.leftovers() == []


def test_program_that_is_not_in_the_image(box):
    refused = box.refuse(command=["/no/such/program"])
    assert refused["failed"]
    assert "/no/such/program" in refused["msg"]
    # What is left is a container that is not running, and can be put right.
    assert box.look()[0]["state"] == "stopped"
    assert box.ensure()["container"]["state"] == "running"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few megabytes."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("needs mkfs.ext4")
    disk, point = tmp_path / "disk", tmp_path / "small"
    with open(disk, "wb") as stream:
        stream.truncate(4 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(disk)], check=True)
    point.mkdir()
    mounted = subprocess.run(["mount", "-o", "loop", str(disk), str(point)], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("needs loop devices")
    yield point
    unmount_below(str(point))
    subprocess.run(["umount", str(point)], check=False)


def test_full_disk(box, small_disk):
    """Whatever is the first file that does not fit: an error that says so, and no harm."""
    places = {"state_dir": str(small_disk / "s")}
    ballast = small_disk / "ballast"
    box.paths = type(box.paths)(places["state_dir"], box.paths.run_dir)
    box.engine = type(box.engine)(box.paths, box.engine.runner)
    refusals = 0
    for free_blocks in (0, 1, 2, 4, 6, 8, 10):
        fill(ballast, small_disk, free_blocks)
        result = box.run("crun_container", box.whole())
        if result["failed"]:
            refusals += 1
            assert "No space left on device" in result["msg"], (free_blocks, result)
        ballast.unlink()
        mended = box.ensure()
        assert mended["container"]["state"] == "running", free_blocks
        box.change("absent", stop_timeout="0")
        assert box.processes() == []
    assert refusals > 1


def fill(path, disk, free_blocks):
    """Take up the disk but for so many blocks of 1 KiB."""
    with open(path, "wb", buffering=0) as stream:
        block = b"x" * 1024
        try:
            while True:
                stream.write(block)
        except OSError:
            stream.truncate(max(stream.tell() - free_blocks * 1024, 0))
        os.fsync(stream.fileno())
    assert os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize >= 0


def test_failed_stage_leaves_no_resolver_files(box):
    folder = pathlib.Path(files_folder(box.paths, "c"))
    missing = {"type": "bind", "destination": "/x", "source": "/nope"}
    refused = box.refuse(mounts=[missing])
    assert "/nope" in refused["msg"]
    assert not folder.exists()
    assert box.look() == []
    # What an earlier container of that name had stays its own.
    box.ensure()
    before = sorted(entry.name for entry in folder.iterdir())
    box.refuse(mounts=[missing])
    assert sorted(entry.name for entry in folder.iterdir()) == before
    assert box.look()[0]["state"] == "running"


def test_pipe_in_place_of_a_configuration(box, tmp_path):
    """Opening it as a file would wait for a writer for ever."""
    os.mkfifo(tmp_path / "config.json")
    refused = box.refuse(bundle=str(tmp_path))
    assert (refused["error"], refused["field"]) == ("invalid_spec", "bundle")
    assert "no regular file" in refused["msg"]


def test_playbook(box):
    """The same through ansible-playbook, with Ansible's own way of sending modules."""
    playbook = shutil.which("ansible-playbook", path=os.path.dirname(sys.executable))
    if playbook is None:
        pytest.skip("needs ansible-playbook")
    task = box.whole(labels={"made": "by a play"}, log={"max_size": "64KiB", "max_files": 2})
    play = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "tasks": [
                {"pvecri.runtime.crun_container": task, "register": "first"},
                {"pvecri.runtime.crun_container": task, "register": "again"},
                {"pvecri.runtime.crun_container_info": {**box.places(), "log_lines": 3}, "register": "seen"},
                {
                    "ansible.builtin.assert": {
                        "that": [
                            "first is changed",
                            "again is not changed",
                            "again.container.pid == first.container.pid",
                            "seen.containers | length == 1",
                            "seen.containers[0].labels.made == 'by a play'",
                        ]
                    }
                },
                {
                    "pvecri.runtime.crun_container": {**task, "imagee": "typo"},
                    "register": "typo",
                    "failed_when": "'imagee' not in typo.msg",
                },
                {
                    "pvecri.runtime.crun_container": {"name": "c", "state": "absent", **box.places()},
                },
            ],
        }
    ]
    file = box.top / "play.yml"
    file.write_text(json.dumps(play))
    done = subprocess.run(
        [playbook, "-i", "localhost,", "-c", "local", str(file)],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": collections_path(),
            "ANSIBLE_LOCAL_TEMP": str(box.top / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(box.top / "tmp"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert box.processes() == []


def collections_path():
    from ansible_collections.pvecri.runtime import plugins

    folder = pathlib.Path(next(iter(plugins.__path__)))
    while folder.name != "ansible_collections":
        folder = folder.parent
    return str(folder.parent)
