# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch programs that stand in for skopeo: the argument «copy» makes them watched."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import threading

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    MissingDependency,
    WrongState,
)
from ansible_collections.pvecri.runtime.tests.support.image_service import LogRecords
from pvecri.images import progress
from pvecri.images.progress import PullRunner


class Watched:
    def __init__(self, **options):
        self.logged = LogRecords()
        log = logging.Logger("test", logging.DEBUG)
        log.addHandler(self.logged)
        self.stop = threading.Event()
        self.idle = []
        options = {"no_progress_s": 30.0, "stop": self.stop, "on_idle": self.idle.append, **options}
        self.runner = PullRunner("the image", log, SubprocessRunner(), **options)

    def sh(self, script, **options):
        return self.runner.run(["sh", "-c", script, "copy"], **options)


def test_lines_are_logged_and_returned():
    watched = Watched()
    done = watched.sh(
        "echo 'Copying blob sha256:abc'; printf 'Writing'; printf ' manifest\\n' >&2; printf rest"
    )
    assert done.rc == 0
    assert done.argv == ["sh", "-c", done.argv[2], "copy"]
    assert done.stderr == "Copying blob sha256:abc\nWriting manifest\nrest"
    assert [fields["skopeo"] for fields in watched.logged.of("pulling")] == [
        "Copying blob sha256:abc",
        "Writing manifest",
    ]


def test_error_has_its_text_and_is_not_logged_as_progress():
    watched = Watched()
    with pytest.raises(CommandError, match="exit code 3: time=now level=fatal") as caught:
        watched.sh("echo one; echo 'time=now level=fatal msg=\"no\"' >&2; exit 3")
    assert caught.value.rc == 3
    assert 'msg="no"' in caught.value.stderr
    assert [fields["skopeo"] for fields in watched.logged.of("pulling")] == ["one"]
    assert watched.sh("exit 3", check=False).rc == 3


def test_long_output_is_cut():
    done = Watched().sh(f"head -c {progress._KEPT_BYTES * 3} /dev/zero | tr '\\0' x; echo; echo the end")
    assert len(done.stderr) == progress._KEPT_BYTES
    assert done.stderr.endswith("the end\n")


def test_killed_child():
    with pytest.raises(CommandError) as caught:
        Watched().sh("kill -9 $$")
    assert caught.value.rc == -9


def test_nothing_moves():
    watched = Watched(no_progress_s=1.0)
    with pytest.raises(CommandTimeout, match="nothing has come for 1 s"):
        watched.sh("sleep 60 & wait")
    assert watched.runner.has_stalled


def test_idle_is_told_and_taken_back(monkeypatch):
    monkeypatch.setattr(progress, "_TICK_S", 0.05)
    script = (
        "import time; print('begun', flush=True); time.sleep(1)\n"
        "zeros = open('/dev/zero', 'rb', buffering=0)\n"
        "for _ in range(20): zeros.read(100_000); time.sleep(0.05)\n"
        "print('over', flush=True); time.sleep(0.5)"
    )
    seen = []
    watched = Watched(on_idle=lambda is_idle: seen.append((is_idle, len(watched.logged.of("pulling")))))
    watched.runner.run([sys.executable, "-c", script, "copy"])
    assert seen[:2] == [(True, 1), (False, 1)], "after the first line and before the second"


def test_time_is_up():
    watched = Watched()
    with pytest.raises(CommandTimeout, match="it has taken"):
        watched.sh("sleep 60 & wait", timeout_s=0.1)
    assert not watched.runner.has_stalled


def test_stop():
    watched = Watched()
    threading.Timer(0.2, watched.stop.set).start()
    with pytest.raises(WrongState, match="pull of the image was ended: the endpoint stops"):
        watched.sh("sleep 60 & wait")


def test_notes(monkeypatch):
    monkeypatch.setattr(progress, "_TICK_S", 0.05)
    monkeypatch.setattr(progress, "_FIRST_NOTE_S", 0.3)
    watched = Watched()
    watched.sh("echo 'Copying blob sha256:0123456789abcdef'; sleep 1.5")
    notes = watched.logged.of("still pulling")
    assert 1 <= len(notes) <= 4, "each pause is as long as all before"
    assert notes[0]["last_blob"] == "sha256:0123456789ab"
    assert any("seconds_without_progress" in note for note in notes)


def test_other_programs_are_not_watched():
    watched = Watched(no_progress_s=0.01)
    done = watched.runner.run(["sh", "-c", "sleep 0.2; cat", "delete"], stdin=b"in")
    assert done.stdout == "in"


def test_missing_program_is_told(monkeypatch):
    monkeypatch.setattr(progress, "_WITH_PARENT", ("no-such-setpriv",))
    with pytest.raises(MissingDependency, match="no-such-setpriv"):
        Watched().sh("true")


def test_moved_bytes():
    assert progress._moved_bytes(os.getpid()) > 0
    assert progress._moved_bytes(2**22 + 1) == 0


def test_waits_for_lock(tmp_path):
    path = tmp_path / "lock"
    script = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); print('open', flush=True); "
        "fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    )
    with path.open("w") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        argv = [sys.executable, "-c", script, str(path)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout.readline() == b"open\n"
            while not progress._waits_for_lock(child.pid):
                assert child.poll() is None
            fcntl.lockf(held, fcntl.LOCK_UN)
            assert child.stdout.readline() == b"held\n"
            assert not progress._waits_for_lock(child.pid)
            child.stdin.close()
    assert not progress._waits_for_lock(2**22 + 1)
