# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log what containers print, and rotate that as kubelet does."""

from __future__ import annotations

import os
import threading

import pytest


def lines(*paths):
    """Return the lines that were printed; conmon may write one in parts."""
    found = ""
    for path in paths:
        with open(path, encoding="utf-8") as stream:
            for record in stream:
                _time, _stream, tag, text = record.rstrip("\n").split(" ", 3)
                found += text + ("\n" if tag == "F" else "")
    return found.splitlines()


def test_reopen_loses_no_line_while_the_container_writes(lab):
    container = lab.run(script="i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; sleep 1000")
    path = lab.status(container).log_path
    moved = []
    for number in range(5):
        moved.append(f"{path}.{number}")
        os.rename(path, moved[-1])
        lab.cri.reopen_log(container)
        assert os.path.exists(path)
    while True:
        found = lines(*moved, path)
        if found and found[-1] == "line 2999":
            break
    assert found == [f"line {number}" for number in range(3000)]


def test_reopen_beside_a_stop_that_takes_long(lab):
    container = lab.run(script="trap '' TERM; while :; do sleep 0.1; done")
    stopper = threading.Thread(target=lab.cri.stop, args=(container, 60))
    stopper.start()
    path = lab.status(container).log_path
    os.rename(path, f"{path}.old")
    lab.cri.reopen_log(container, timeout_s=10)
    assert os.path.exists(path)
    assert stopper.is_alive()
    lab.cri.stop(container, 0)
    stopper.join()


def test_reopen_out_of_turn(lab):
    pod = lab.pod()
    created = lab.create(pod)
    with lab.refused("FAILED_PRECONDITION", "created"):
        lab.cri.reopen_log(created)
    lab.cri.start(created)
    lab.cri.stop(created)
    with lab.refused("FAILED_PRECONDITION", "exited"):
        lab.cri.reopen_log(created)
    with lab.refused("NOT_FOUND"):
        lab.cri.reopen_log("a" * 64)
    silent = lab.run(pod, "echo nobody hears; sleep 1000", log_path="")
    assert lab.status(silent).log_path == ""
    with lab.refused("FAILED_PRECONDITION", "no log"):
        lab.cri.reopen_log(silent)


def test_log_directory_is_made(lab):
    pod = lab.pod()
    container = lab.run(pod, "echo here; sleep 1000", log_path="app/deep/0.log")
    path = os.path.join(lab.config_of(pod).log_directory, "app/deep/0.log")
    assert lab.status(container).log_path == path
    while lines(path) != ["here"]:
        pass


@pytest.mark.parametrize("place", ["link/0.log", "0.log"])
def test_log_follows_no_link_out_of_its_directory(lab, tmp_path, place):
    pod = lab.pod()
    directory = lab.config_of(pod).log_directory
    os.makedirs(directory, exist_ok=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    if place == "0.log":
        os.symlink(outside / "victim", f"{directory}/0.log")
    else:
        os.symlink(outside, f"{directory}/link")
    with lab.refused("INVALID_ARGUMENT", "config.log_path"):
        lab.create(pod, log_path=place)
    assert list(outside.iterdir()) == []


def test_log_directory_that_cannot_be(lab):
    pod = lab.pod(log_directory="/proc/nowhere")
    with lab.refused("FAILED_PRECONDITION", "/proc/nowhere"):
        lab.create(pod)
    lab.cri.remove(lab.create(pod, log_path=""))


def test_long_lines_and_both_streams(lab):
    container = lab.run(script="head -c 20000 /dev/zero | tr '\\0' x; echo; echo over >&2")
    lab.ended(container)
    with open(lab.status(container).log_path, encoding="ascii") as stream:
        records = [line.rstrip("\n").split(" ", 3)[1:] for line in stream]
    out = [record for record in records if record[0] == "stdout"]
    assert "".join(record[2] for record in out) == "x" * 20000
    assert [record[1] for record in out][-1] == "F"
    assert ["stderr", "F", "over"] in records
