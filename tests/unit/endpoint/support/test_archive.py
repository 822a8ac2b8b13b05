# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what a support bundle holds, whole or damaged."""

from __future__ import annotations

import json
import os
import pathlib
import sqlite3
import stat
import subprocess
import sys
import tarfile
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.api import cri_pb2 as pb
from pvecri.config.load import Loaded, parse
from pvecri.daemon.assembly import database_path
from pvecri.state.registry import Registry
from pvecri.support import parts
from pvecri.support.archive import write_bundle

SECRET = "hunter2-and-more"


@pytest.fixture
def paths(tmp_path: pathlib.Path) -> Paths:
    found = Paths(str(tmp_path / "s"), str(tmp_path / "r"), owner=Owner.CRI)
    os.makedirs(found.state_dir)
    os.makedirs(found.run_dir)
    return found


@pytest.fixture
def loaded(paths: Paths, tmp_path: pathlib.Path) -> Loaded:
    text = f'[paths]\nstate_dir = "{paths.state_dir}"\nrun_dir = "{paths.run_dir}"\n'
    return parse(
        (text + f'[network]\nconf_dir = "{tmp_path}/net.d"\nplugin_dirs = []\n').encode(), "/etc/c.toml"
    )


def fill(paths: Paths) -> tuple[str, str]:
    """Write records of a sandbox and a container with a secret each; return their ids."""
    registry = Registry.open(database_path(paths.state_dir))
    pod = pb.PodSandboxConfig(annotations={"last-applied": SECRET, "io.kubernetes.x": "1"})
    app = pb.ContainerConfig(envs=[pb.KeyValue(key="PASSWORD", value=SECRET.encode())])
    sandbox = records.sandbox(config=pod.SerializeToString())
    container = records.container(sandbox.id, config=app.SerializeToString())
    registry.reserve_sandbox(sandbox)
    registry.reserve_container(container)
    registry.close()
    return sandbox.id, container.id


def test_records_are_decoded_without_their_secrets(paths: Paths) -> None:
    sandbox, container = fill(paths)
    found = parts.records(database_path(paths.state_dir))
    assert [record["id"] for record in found["sandboxes"]] == [sandbox]
    assert found["sandboxes"][0]["config"]["annotations"]["io.kubernetes.x"] == "1"
    assert [record["id"] for record in found["containers"]] == [container]
    assert found["containers"][0]["config"]["envs"][0]["key"] == "PASSWORD"
    assert SECRET not in json.dumps(found)


def test_records_that_are_damaged_are_shown_as_such(paths: Paths) -> None:

    sandbox, _unused = fill(paths)
    with sqlite3.connect(database_path(paths.state_dir)) as database:
        database.execute("UPDATE sandboxes SET record = 'x{'")
        database.execute("UPDATE configs SET config = ?", (b"\xff\xff",))
    found = parts.records(database_path(paths.state_dir))
    assert [(record["id"], record["unreadable"]) for record in found["sandboxes"]] == [(sandbox, "x{")]
    assert found["containers"][0]["config"]["bytes"] == 2
    with sqlite3.connect(database_path(paths.state_dir)) as database:
        database.execute("UPDATE sandboxes SET record = '[]'")
        database.execute("UPDATE containers SET record = '{\"resources\": 7}'")
    found = parts.records(database_path(paths.state_dir))
    assert found["sandboxes"][0]["unreadable"] == "[]"
    assert found["containers"][0]["resources"]["bytes"] == 1


def test_json_files_hides_secrets_and_says_what_is_no_json(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/config.json").write_text(json.dumps({"process": {"env": [f"K={SECRET}"]}}))
    (tmp_path / "a/pvecri.json").write_text("{")
    (tmp_path / "a/other").write_text(SECRET)
    (tmp_path / "a/loop.json").symlink_to("loop.json")
    found = parts.json_files(str(tmp_path), "config.json", "pvecri.json", "loop.json")
    assert set(found) == {"a/config.json", "a/pvecri.json", "a/loop.json"}
    assert found["a/pvecri.json"] == {"text": "{"}
    assert "unreadable" in found["a/loop.json"]
    assert SECRET not in json.dumps(found)
    with pytest.raises(FileNotFoundError):
        parts.json_files(str(tmp_path / "none"))


def test_small_files(tmp_path: pathlib.Path) -> None:
    (tmp_path / "abc").write_text("137")
    (tmp_path / "folder").mkdir()
    assert parts.small_files(str(tmp_path)) == {"abc": "137"}


def test_guests_are_told_with_what_lxc_includes(paths: Paths, tmp_path: pathlib.Path) -> None:
    assert parts.guests(paths, "/none") == {}
    top = pathlib.Path(paths.state_dir, "lxc")
    for place, text in {
        "records/abc.json": json.dumps({"vmid": 900001, "token": SECRET}),
        "archives.json": '{"archives": []}',
        "guests/900001/config": "lxc.tty.max = 0\nlxc.init.cwd = /\n",
        "guests/900001/io/run": "ELF",
    }.items():
        (top / place).parent.mkdir(parents=True, exist_ok=True)
        (top / place).write_text(text)
    (tmp_path / "lxc").mkdir()
    (tmp_path / "lxc/900001.conf").write_text("memory: 64\n")
    found = parts.guests(paths, str(tmp_path))
    include, own = f"{top}/guests/900001/config", f"{tmp_path}/lxc/900001.conf"
    assert found.keys() == {"abc.json", "archives.json", include, own}
    assert found[own] == ["memory: 64"]
    assert found["abc.json"]["vmid"] == 900001
    assert found[include] == ["lxc.tty.max = 0", "lxc.init.cwd = /"]
    assert SECRET not in json.dumps(found)
    groups = tmp_path / "cgroup"
    for name in ("lxc/900001/ns", "lxc/9000011", "lxc/900002"):
        (groups / name).mkdir(parents=True)
    (groups / "lxc/900001/pids.current").write_text("3\n")
    assert parts.guest_groups(paths, str(groups)) == {f"{groups}/lxc/900001": {"pids.current": "3\n"}}


def test_mounts_are_those_below_our_directories(paths: Paths, tmp_path: pathlib.Path) -> None:
    ours = f"90 1 0:5 / {paths.state_dir}/bundles/x rw - overlay overlay rw\n"
    source = tmp_path / "mountinfo"
    source.write_text(
        f"1 0 0:1 / / rw - ext4 /dev/sda rw\n{ours}2 1 0:2 / {paths.state_dir}-other rw - tmpfs t rw\n"
    )
    assert parts.mounts(paths, str(source)) == ours


def test_cgroups_are_those_of_our_objects(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "kubepods/pod1/crun-abc.scope"
    folder.mkdir(parents=True)
    (folder / "pids.current").write_text("3\n")
    (folder / "other").write_text("x")
    (tmp_path / "else").mkdir()
    assert parts.cgroups(["abc"], str(tmp_path)) == {str(folder): {"pids.current": "3\n"}}


def test_processes_of_holders_are_ours(tmp_path: pathlib.Path) -> None:
    holder = tmp_path / "lxc/holder.py"
    holder.parent.mkdir()
    holder.write_text("import time; time.sleep(60)")
    with subprocess.Popen([sys.executable, "-I", "-S", str(holder), "create", "4711.27"]) as child:
        try:
            while b"4711.27" not in pathlib.Path(f"/proc/{child.pid}/cmdline").read_bytes():
                time.sleep(0.001)
            found = parts.processes(["4711.27"])
        finally:
            child.kill()
    assert [process["pid"] for process in found] == [child.pid]


def test_processes_are_crun_s_and_conmon_s_of_our_objects(tmp_path: pathlib.Path) -> None:
    conmon = tmp_path / "conmon"
    conmon.symlink_to("/bin/sleep")
    with subprocess.Popen([str(conmon), "4711.25"]) as child:
        try:
            # The kernel lets go of the parent a moment before the arguments can be read.
            while not pathlib.Path(f"/proc/{child.pid}/cmdline").read_bytes():
                time.sleep(0.001)
            found = parts.processes(["4711.25"])
            assert parts.processes(["4711.26"]) == []
        finally:
            child.kill()
    (process,) = [entry for entry in found if entry["pid"] == child.pid]
    assert process["argv"] == [str(conmon), "4711.25"]
    assert "pid" in process["state"]


def bundle(path: str, name: str) -> t.Any:
    with tarfile.open(path) as tar:
        (member,) = [each for each in tar.getmembers() if each.name.endswith(f"/{name}")]
        stream = tar.extractfile(member)
        assert stream is not None
        return json.load(stream) if name.endswith(".json") else stream.read().decode()


def test_write_bundle_has_what_there_is_and_says_what_there_is_not(
    paths: Paths, loaded: Loaded, tmp_path: pathlib.Path
) -> None:
    sandbox, container = fill(paths)
    os.makedirs(paths.exits)
    pathlib.Path(paths.exits, container).write_text("1")
    path = str(tmp_path / "b.tar.gz")
    missing = write_bundle(path, loaded, SubprocessRunner())
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert bundle(path, "records.json")["sandboxes"][0]["id"] == sandbox
    assert bundle(path, "exits.json") == {container: "1"}
    assert bundle(path, "daemon.json")["pid"] is None
    assert bundle(path, "host.json")["cgroup_version"] in {1, 2}
    assert "[paths]" in bundle(path, "config.toml")
    assert any(text.startswith("bundles.json: FileNotFoundError") for text in missing)
    assert set(bundle(path, "missing.json")) == {text.partition(":")[0] for text in missing}
    with tarfile.open(path) as tar:
        everything = b"".join(stream.read() for member in tar if (stream := tar.extractfile(member)))
    assert SECRET.encode() not in everything


def test_write_bundle_overwrites_nothing(loaded: Loaded, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "b"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_bundle(str(path), loaded, SubprocessRunner())
    assert not (tmp_path / "elsewhere").exists()
