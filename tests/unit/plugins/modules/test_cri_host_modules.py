# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the modules that make a host a node as Ansible does."""

from __future__ import annotations

import fcntl
import io
import json
import os
import tarfile

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.host import facts, kernel, remains

OLD, NEW = "0.1.0-000000000000", "0.1.0-111111111111"
MARKER = "# Managed by Ansible (pvecri.runtime.cri_endpoint)"


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "release.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in (("bin", None), ("bin/pvecri", b"#!/bin/sh\n")):
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = 0o755, len(data or b"")
            entry.type = tarfile.REGTYPE if data is not None else tarfile.DIRTYPE
            tar.addfile(entry, io.BytesIO(data or b""))
    return str(path)


@pytest.fixture
def places(tmp_path):
    return {"lib_dir": str(tmp_path / "lib"), "program_link": str(tmp_path / "sbin/pvecri")}


def test_cri_release_installs_switches_and_removes(run_module, places, archive):
    wanted = run_module("cri_release", {**places, "release": OLD})
    assert (wanted["wanted"], wanted["changed"]) == (True, True)
    check = run_module("cri_release", {**places, "release": OLD}, check=True, diff=True)
    assert (check["wanted"], check["changed"], check["current"]) == (False, True, OLD)
    assert check["diff"]["before"] == {"current": None, "releases": []}
    assert os.listdir(places["lib_dir"]) == [".lock"]
    first = run_module("cri_release", {**places, "release": OLD, "src": archive})
    assert (first["former"], first["current"], first["releases"]) == (None, OLD, [OLD])
    assert run_module("cri_release", {**places, "release": OLD})["changed"] is False
    second = run_module("cri_release", {**places, "release": NEW, "src": archive, "keep": 1})
    assert (second["former"], second["releases"]) == (OLD, [OLD, NEW])
    back = run_module("cri_release", {**places, "release": OLD})
    assert (back["changed"], back["former"], back["current"]) == (True, NEW, OLD)
    gone = run_module("cri_release", {**places, "state": "absent"}, check=True)
    assert (gone["changed"], gone["removed"]) == (True, [OLD, NEW])
    assert os.path.exists(places["program_link"])
    assert run_module("cri_release", {**places, "state": "absent"})["changed"] is True
    assert not os.path.lexists(places["program_link"])
    assert run_module("cri_release", {**places, "state": "absent"})["changed"] is False


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "release: it is missing"),
        ({"release": "x"}, "no release"),
        ({"release": OLD, "keep": -1}, "keep"),
    ],
)
def test_cri_release_refuses(run_module, places, params, said):
    result = run_module("cri_release", {**places, **params})
    assert result["failed"] is True
    assert said in result["msg"]


def test_cri_release_stays_while_it_is_run(run_module, places, archive):
    run_module("cri_release", {**places, "release": OLD, "src": archive})
    with open(os.path.join(places["lib_dir"], "releases", OLD, "RELEASE")) as mark:
        fcntl.flock(mark, fcntl.LOCK_SH)
        result = run_module("cri_release", {**places, "state": "absent"})
    assert result["failed"] is True
    assert "Stop pvecri.service" in result["msg"]


def test_cri_release_keeps_the_one_to_go_back_to(run_module, places, archive):
    newest = "0.1.0-222222222222"
    run_module("cri_release", {**places, "release": OLD, "src": archive})
    rollback = os.path.join(places["lib_dir"], "rollback")
    point = {"directory": rollback, "paths": [os.path.join(places["lib_dir"], "current")]}
    run_module("cri_rollback_point", point)
    # The first attempt was cut short, another version comes after it.
    run_module("cri_release", {**places, "release": NEW, "src": archive, "keep": 0})
    second = run_module("cri_release", {**places, "release": newest, "src": archive, "keep": 1})
    assert second["releases"] == [OLD, NEW, newest]
    run_module("cri_rollback_point", {**point, "state": "absent"})
    last = run_module("cri_release", {**places, "release": newest, "keep": 1})
    assert last["releases"] == [NEW, newest]


def test_managed_files_writes_and_removes(run_module, tmp_path):
    files = [{"path": str(tmp_path / "a"), "content": f"{MARKER}\nx\n", "mode": "0600"}]
    check = run_module("managed_files", {"files": files}, check=True, diff=True)
    assert (check["changed"], check["changed_paths"]) == (True, [files[0]["path"]])
    assert check["diff"][0]["after"] == files[0]["content"]
    assert os.listdir(tmp_path) == []
    assert run_module("managed_files", {"files": files})["changed"] is True
    assert os.stat(files[0]["path"]).st_mode & 0o777 == 0o600
    assert run_module("managed_files", {"files": files})["changed"] is False
    absent = [{"path": files[0]["path"], "state": "absent"}]
    assert run_module("managed_files", {"files": absent})["changed_paths"] == [files[0]["path"]]
    assert run_module("managed_files", {"files": absent})["changed"] is False


def test_managed_files_keeps_what_others_made(run_module, tmp_path):
    path = tmp_path / "a"
    path.write_text("theirs")
    result = run_module("managed_files", {"files": [{"path": str(path), "state": "absent"}]})
    assert (result["changed"], result["kept"]) == (False, [str(path)])
    refused = run_module("managed_files", {"files": [{"path": str(path), "content": "ours"}]})
    assert refused["failed"] is True
    assert "Move that away" in refused["msg"]


@pytest.mark.parametrize("mode", ["644x", "9999", "rw", "64"])
def test_managed_files_wants_an_octal_mode(run_module, mode):
    result = run_module("managed_files", {"files": [{"path": "/x", "content": "", "mode": mode}]})
    assert "no octal mode" in result["msg"]


def test_kernel_settings_sets_notes_and_gives_back(run_module, tmp_path, monkeypatch):
    system = tmp_path / "sys"
    (system / "net").mkdir(parents=True)
    (system / "net/x").write_text("0\n")
    monkeypatch.setattr(kernel, "PROC_SYS", str(system))
    monkeypatch.setattr(kernel, "is_loaded", lambda name: name == "overlay")
    given = {
        "modules_file": str(tmp_path / "modules.conf"),
        "sysctl_file": str(tmp_path / "sysctl.conf"),
        "record": str(tmp_path / "lib/sysctl.json"),
    }
    wanted = {**given, "modules": ["overlay"], "sysctl": {"net.x": 1}}
    check = run_module("kernel_settings", wanted, check=True, diff=True)
    assert (check["changed"], check["sysctl"]) == (True, {"net.x": "1"})
    assert check["diff"][-1]["before"] == {"sysctl": {"net.x": "0"}}
    assert sorted(os.listdir(tmp_path)) == ["sys"]
    assert run_module("kernel_settings", wanted)["sysctl"] == {"net.x": "1"}
    assert (system / "net/x").read_text() == "1"
    assert (tmp_path / "sysctl.conf").read_text() == f"{MARKER}\nnet.x = 1\n"
    assert (tmp_path / "modules.conf").read_text() == f"{MARKER}\noverlay\n"
    for is_check in (False, True):
        assert run_module("kernel_settings", wanted, check=is_check)["changed"] is False
    assert run_module("kernel_settings", given, check=True)["sysctl"] == {"net.x": "0"}
    assert run_module("kernel_settings", given)["changed"] is True
    assert (system / "net/x").read_text() == "0"
    assert not os.path.exists(given["record"])
    assert run_module("kernel_settings", given)["changed"] is False


def test_kernel_settings_warns_of_what_a_container_cannot_do(run_module, tmp_path, monkeypatch):
    monkeypatch.setattr(kernel, "PROC_SYS", str(tmp_path / "none"))
    given = {
        "modules_file": str(tmp_path / "modules.conf"),
        "sysctl_file": str(tmp_path / "sysctl.conf"),
        "record": str(tmp_path / "lib/sysctl.json"),
        "sysctl": {"net.x": 1},
    }
    first = run_module("kernel_settings", given)
    assert (first["changed"], first["sysctl"]) == (True, {})
    assert "sysctl net.x cannot be set" in first["warnings"][0]
    for is_check in (False, True):
        assert run_module("kernel_settings", given, check=is_check)["changed"] is False


def test_cri_remains_in_check_mode_removes_nothing(run_module, tmp_path, monkeypatch):
    monkeypatch.setattr(remains, "CGROUPS", str(tmp_path / "cgroup"))
    monkeypatch.setattr(remains, "ADDRESSES", str(tmp_path / "cni/networks"))
    monkeypatch.setattr(remains, "remove_host_ports", lambda _runner, _network: None)
    places = {"state_dir": str(tmp_path / "a/state"), "run_dir": str(tmp_path / "a/run")}
    (tmp_path / "a/state").mkdir(parents=True)
    check = run_module("cri_remains", places, check=True)
    assert (check["changed"], check["removed"], check["running"]) == (True, [places["state_dir"]], [])
    assert run_module("cri_remains", places, diff=True)["diff"]["before"] == {
        "remains": [places["state_dir"]]
    }
    assert not (tmp_path / "a/state").exists()
    assert run_module("cri_remains", places)["changed"] is False


@pytest.mark.parametrize("path", ["/", "/var", "/var/lib", "/usr/..", "/var/lib/"])
def test_cri_remains_refuses_directories_of_everybody(run_module, path):
    result = run_module("cri_remains", {"state_dir": path})
    assert "holds more than an endpoint's data" in result["msg"]


@pytest.mark.parametrize(("noted", "is_installing"), [({"before": []}, True), ({"brought": []}, False)])
def test_cri_host_info_tells_of_an_installation_that_was_cut_short(
    run_module, tmp_path, noted, is_installing
):
    (tmp_path / "packages.json").write_text(json.dumps(noted, indent=1))
    assert run_module("cri_host_info", {"lib_dir": str(tmp_path)})["is_installing"] is is_installing


def test_cri_host_info_tells_of_this_host(run_module, tmp_path):
    result = run_module(
        "cri_host_info",
        {
            "state_dir": str(tmp_path / "state"),
            "lib_dir": str(tmp_path),
            "state_free_mib": 1 << 40,
            "packages": ["dpkg"],
            "time": 0.0,
        },
    )
    assert result["changed"] is False
    checks = [found["check"] for found in result["problems"]]
    assert "space" in checks
    assert set(checks) <= set(result["checks"])
    assert result["packages"]["dpkg"]
    assert result["releases"] == {"all": [], "current": None}
    assert result["installed"] is True


@pytest.mark.parametrize(("written", "is_stale"), [(990.0, False), (995.0, True)])
def test_cri_host_info_tells_that_the_daemon_has_not_read_a_file(
    run_module, tmp_path, monkeypatch, written, is_stale
):
    unit = {"active": True, "enabled": True, "pid": 0, "needs_reload": False, "file": "", "since": 992.5}
    monkeypatch.setattr(facts, "units", lambda _names: {"pvecri.service": unit})
    read = tmp_path / "config.toml"
    read.touch()
    os.utime(read, (written, written))
    result = run_module("cri_host_info", {"reloaded": [str(read), str(tmp_path / "none")]})
    assert result["daemon"]["is_stale"] is is_stale
