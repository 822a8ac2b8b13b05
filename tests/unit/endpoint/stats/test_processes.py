# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What processes have open."""

from __future__ import annotations

import contextlib
import os
import resource
import socket

from pvecri.stats.processes import Open, count_open, open_files_limit


def test_open_files_of_a_process_are_counted():
    before = count_open([os.getpid()])
    with contextlib.ExitStack() as stack:
        one, two = socket.socketpair()
        stack.enter_context(one)
        stack.enter_context(two)
        stack.enter_context(open("/dev/null"))
        assert count_open([os.getpid()]) == Open(before.files + 3, before.sockets + 2)


def test_process_that_has_ended_has_nothing_open(tmp_path):
    assert count_open([1, 2], str(tmp_path)) == Open(0, 0)
    assert open_files_limit(1, str(tmp_path)) is None


def test_file_that_is_closed_meanwhile_does_not_count(tmp_path):
    directory = tmp_path / "7" / "fd"
    directory.mkdir(parents=True)
    (directory / "0").symlink_to("socket:[1]")
    (directory / "1").symlink_to("/dev/null")
    # What is no link any more cannot be read as one.
    (directory / "2").touch()
    assert count_open([7], str(tmp_path)) == Open(2, 1)


def test_more_than_can_be_looked_at_is_what_the_kernel_says(tmp_path):
    with socket.socket():
        before = os.stat("/proc/self/fd").st_size
        found = count_open([os.getpid()] * 2, most=os.sysconf("SC_OPEN_MAX"))
        assert None not in found
        assert count_open([os.getpid()] * 2, most=found.files) == found
        less = count_open([os.getpid()] * 2, most=found.files - 1)
    # While it looked, the directory itself was open.
    assert less == Open(2 * (before + 1) if before else None, None)
    (tmp_path / "7" / "fd").mkdir(parents=True)
    (tmp_path / "7" / "fd" / "0").symlink_to("socket:[1]")
    assert count_open([7, 8], str(tmp_path), most=0).sockets is None


def test_limit_is_the_soft_one(tmp_path):
    assert open_files_limit(os.getpid()) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "limits").write_text(
        "Limit Soft Hard Units\nMax open files   unlimited  unlimited files\n"
    )
    assert open_files_limit(7, str(tmp_path)) is None
    (tmp_path / "7" / "limits").write_text("Limit Soft Hard Units\n")
    assert open_files_limit(7, str(tmp_path)) is None
