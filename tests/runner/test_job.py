# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a job through ansible-runner in an isolated folder, with the collection installed from its tarball.

This is how AWX runs a job: project, inventory, environment and variables in one private folder,
collections installed into it, and nothing taken from the checkout.  scripts/test builds the tarball and
names it in PVECRI_TARBALL.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support import images

HERE = pathlib.Path(__file__).parent
BIN = pathlib.Path(sys.executable).parent

Event = dict[str, t.Any]


@dataclasses.dataclass
class Job:
    """One folder of ansible-runner, and what its runs left in it."""

    folder: pathlib.Path
    variables: dict[str, t.Any]
    timeout_s: float = 300

    def run(self, ident: str, playbook: str = "job.yml") -> list[Event]:
        """Run a playbook and return its events in their order; fails unless the job succeeded."""
        (self.folder / "env/extravars").write_text(json.dumps(self.variables))
        done = subprocess.run(
            [str(BIN / "ansible-runner"), "run", str(self.folder), "-p", playbook, "-i", ident, "-q"],
            env=isolated_environment(self.folder),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=self.timeout_s,
            check=False,
        )
        artifacts = self.folder / "artifacts" / ident
        output = (artifacts / "stdout").read_text() if (artifacts / "stdout").exists() else ""
        assert done.returncode == 0, output + done.stdout + done.stderr
        assert (artifacts / "status").read_text() == "successful"
        events = [json.loads(path.read_text()) for path in (artifacts / "job_events").glob("*.json")]
        return sorted(events, key=lambda event: t.cast("int", event["counter"]))


def isolated_environment(folder: pathlib.Path) -> dict[str, str]:
    """Return the environment of an execution node: no word of the checkout's collections."""
    return {
        "PATH": f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder / "home"),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(folder / "project/collections"),
        "ANSIBLE_HOME": str(folder / "home/.ansible"),
    }


def install_collection(folder: pathlib.Path, tarball: str) -> None:
    """Install the collection into a job's project."""
    subprocess.run(
        [
            str(BIN / "ansible-galaxy"),
            "collection",
            "install",
            "--offline",
            tarball,
            "-p",
            "project/collections",
        ],
        env=isolated_environment(folder),
        cwd=folder,
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )


def ok_results(events: list[Event]) -> dict[str, dict[str, t.Any]]:
    """Return the results of the tasks that succeeded, by task name."""
    return {
        event["event_data"]["task"]: event["event_data"]["res"]
        for event in events
        if event["event"] == "runner_on_ok"
    }


def changes(events: list[Event]) -> int:
    """Return how many tasks of a job changed something."""
    stats = next(event for event in events if event["event"] == "playbook_on_stats")
    return sum(stats["event_data"]["changed"].values())


@pytest.fixture
def job(tmp_path: pathlib.Path) -> t.Iterator[Job]:
    tarball = os.environ.get("PVECRI_TARBALL", "")
    assert tarball, "PVECRI_TARBALL is not set: run scripts/test --only runner"
    folder = tmp_path / "job"
    shutil.copytree(HERE / "job", folder)
    (folder / "home").mkdir()
    install_collection(folder, tarball)
    layout = images.OciLayout(tmp_path / "layout")
    layout.add_image("latest", [images.busybox_layer()], {"Cmd": ["/bin/sh"]})
    # conmon's sockets must have short paths.
    with tempfile.TemporaryDirectory(prefix="pvecri-", dir="/tmp") as run_dir:
        state_dir = str(tmp_path / "state")
        job = Job(folder, {"image": f"oci:{layout.path}:latest", "state_dir": state_dir, "run_dir": run_dir})
        try:
            yield job
        finally:
            job.run("clean", "clean.yml")
            detach_mounts(state_dir, run_dir)


def detach_mounts(*folders: str) -> None:
    """Unmount what the image store mounted onto itself, so that the test's folders can be removed."""
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        points = [line.split()[1] for line in mounts]
    for point in sorted((p for p in points if p.startswith(folders)), reverse=True):
        subprocess.run(["umount", point], check=True)


@pytest.mark.host
def test_job_runs_with_nothing_but_its_own_folder(job: Job) -> None:
    events = job.run("first")
    results = ok_results(events)
    assert results["Choose"]["selection"]["runtime"] == "crun"
    assert results["Bundle"]["changed"]
    assert results["Run"]["rc"] == 3
    assert results["Run"]["stdout"] == "hello from the job\n1000\n"
    assert results["Serve"]["container"]["state"] == "running"
    assert changes(events) == 3
    installed = job.folder / "project/collections/ansible_collections/pvecri/runtime/MANIFEST.json"
    assert json.loads(installed.read_text())["collection_info"]["name"] == "runtime"


@pytest.mark.host
def test_job_that_runs_again_changes_nothing(job: Job) -> None:
    first = ok_results(job.run("first"))
    events = job.run("second")
    again = ok_results(events)
    assert changes(events) == 0
    assert again["Serve"]["container"]["pid"] == first["Serve"]["container"]["pid"]
    assert again["Run"]["stdout"] == first["Run"]["stdout"]
