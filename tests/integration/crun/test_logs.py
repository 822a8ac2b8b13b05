# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs of real containers: their bound, their older files, and who keeps them."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import typing as t
import zipfile

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.container import logs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import keeper, procfs, rotation
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.files import is_locked
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

pytestmark = pytest.mark.host

Bundle = t.Callable[..., str]

#: Writes its numbers slowly enough for the keeper to see every new file.
COUNT = "i=0; while [ $i -lt {0} ]; do i=$((i+1)); echo $i; [ $((i % 50)) -eq 0 ] && sleep 0.01; done"


def until(condition: t.Callable[[], object]) -> None:
    for _attempt in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come true")


def numbers(path: str) -> list[int]:
    return [int(record.text) for record in logs.read_records(path)]


def keeper_pid(paths: Paths) -> int:
    """Return the process that holds the keeper's lock (/proc/locks)."""
    inode = os.stat(keeper.lock_path(Layout(paths, "x"))).st_ino
    with open("/proc/locks", encoding="ascii") as stream:
        return next(int(line.split()[4]) for line in stream if f":{inode} " in line)


def test_nothing_is_lost_while_files_are_replaced(runtime: CrunRuntime, paths: Paths, bundle: Bundle) -> None:
    runtime.create(bundle("sh", "-c", COUNT.format(4000)), "one", log_size_max=20_000, log_max_files=20)
    runtime.start("one")
    assert runtime.wait("one", 60) == 0
    state = runtime.state("one")
    assert state is not None
    log = str(state.log_path)
    runtime.settle_log("one")
    until(lambda: len(numbers(log)) == 4000)
    assert numbers(log) == list(range(1, 4001))
    files = logs.log_files(log)
    assert len(files) > 5
    assert all(os.path.getsize(name) <= 20_000 for name in files)
    runtime.delete("one")
    assert numbers(log) == list(range(1, 4001))
    assert not [name for name in os.listdir(paths.logs) if name.startswith(".")], "no hidden file is left"


def test_no_more_files_than_asked_for(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle("sh", "-c", COUNT.format(4000)), "one", log_size_max=20_000, log_max_files=3)
    runtime.start("one")
    assert runtime.wait("one", 60) == 0
    state = runtime.state("one")
    assert state is not None
    log = str(state.log_path)
    runtime.settle_log("one")
    kept = numbers(log)
    assert kept == list(range(kept[0], 4001)), "what is kept is the newest, without a gap"
    assert 1 < kept[0] < 4000
    assert logs.log_files(log) == [log + ".2", log + ".1", log]


def test_log_without_older_files_is_bounded(runtime: CrunRuntime, paths: Paths, bundle: Bundle) -> None:
    runtime.create(bundle("sh", "-c", "yes | head -c 1000000; echo end"), "one", log_size_max=50_000)
    runtime.start("one")
    assert runtime.wait("one", 60) == 0
    state = runtime.state("one")
    assert state is not None
    assert logs.log_files(str(state.log_path)) == [state.log_path]
    assert os.path.getsize(str(state.log_path)) <= 50_000
    assert logs.tail(str(state.log_path), 1) == ["end"]
    assert not is_locked(keeper.lock_path(Layout(paths, "one")))


def test_one_keeper_for_all_and_it_ends_with_the_last(
    runtime: CrunRuntime, paths: Paths, bundle: Bundle
) -> None:
    lock = keeper.lock_path(Layout(paths, "x"))
    for name in ("one", "two"):
        runtime.create(bundle(), name, log_size_max=20_000, log_max_files=2)
    until(lambda: is_locked(lock))
    pid = keeper_pid(paths)
    with open(f"/proc/{pid}/cmdline", "rb") as stream:
        assert b"pvecri-log-keeper" in stream.read()
    runtime.delete("one")
    runtime.stop("two")
    with procfs.held(pid) as pidfd:
        assert pidfd is None or procfs.await_end(pidfd, 20)
    assert not is_locked(lock)
    runtime.delete("two")


_FROM_ZIP = """
import sys
archive, state_dir, run_dir, bundle, crun, conmon = sys.argv[1:]
sys.path.insert(0, archive)
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime, Programs
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
assert archive in CrunRuntime.create.__code__.co_filename
CrunRuntime(
    Paths(state_dir, run_dir), SubprocessRunner(), programs=Programs(crun=crun, conmon=conmon)
).create(bundle, "one", log_size_max=20000, log_max_files=2)
"""


def test_keeper_of_a_module_that_comes_as_a_zip_file(
    runtime: CrunRuntime, paths: Paths, bundle: Bundle, tmp_path: pathlib.Path
) -> None:
    """As on a host that Ansible sent a module to: there are no files of sources, and soon no archive."""
    archive = tmp_path / "payload.zip"
    top = pathlib.Path(rotation.__file__).parents[2]
    with zipfile.ZipFile(archive, "w") as payload:
        folder = pathlib.PurePath()
        for part in ("ansible_collections", "pvecri", "runtime", "plugins", "module_utils"):
            folder /= part
            payload.writestr(f"{folder}/__init__.py", "")
        for source in (top / "module_utils").rglob("*.py"):
            payload.write(source, str(folder.parent / source.relative_to(top)))
    programs = runtime._host.programs
    arguments = [archive, paths.state_dir, paths.run_dir, bundle(), programs.crun, programs.conmon]
    subprocess.run([sys.executable, "-I", "-c", _FROM_ZIP, *arguments], check=True)
    archive.unlink()
    until(lambda: is_locked(keeper.lock_path(Layout(paths, "one"))))
    log = str(getattr(runtime.state("one"), "log_path", ""))
    until(lambda: os.stat(log).st_nlink == 2)


def test_another_keeper_follows_one_that_was_killed(
    runtime: CrunRuntime, paths: Paths, bundle: Bundle
) -> None:
    lock = keeper.lock_path(Layout(paths, "x"))
    runtime.create(bundle(), "one", log_size_max=20_000, log_max_files=2)
    until(lambda: is_locked(lock))
    os.kill(keeper_pid(paths), signal.SIGKILL)
    until(lambda: not is_locked(lock))
    runtime.create(bundle("sh", "-c", COUNT.format(2000)), "two", log_size_max=20_000, log_max_files=9)
    until(lambda: is_locked(lock))
    runtime.start("two")
    assert runtime.wait("two", 60) == 0
    state = runtime.state("two")
    assert state is not None
    runtime.settle_log("two")
    assert numbers(str(state.log_path)) == list(range(1, 2001))


def test_log_of_a_container_made_anew_begins_a_file(runtime: CrunRuntime, bundle: Bundle) -> None:
    log = ""
    for text in ("first", "second"):
        runtime.create(bundle("echo", text), "one", log_size_max=20_000, log_max_files=3)
        runtime.start("one")
        runtime.wait("one", 20)
        log = str(getattr(runtime.state("one"), "log_path", ""))
        runtime.delete("one")
    assert logs.log_files(log) == [log + ".1", log]
    assert logs.tail(log, 5) == ["first", "second"]


def test_reopen_log_after_a_rename(runtime: CrunRuntime, paths: Paths, bundle: Bundle) -> None:
    log = os.path.join(paths.state_dir, "elsewhere", "box.log")
    script = "trap 'echo again' USR1; echo begun; while true; do sleep 0.02; done"
    runtime.create(bundle("sh", "-c", script), "one", log_path=log)
    runtime.start("one")
    until(lambda: logs.tail(log, 1) == ["begun"])
    os.rename(log, log + ".old")
    runtime.reopen_log("one")
    until(lambda: os.path.exists(log))
    runtime.kill("one", "USR1")
    until(lambda: logs.tail(log, 1) == ["again"])
    assert logs.tail(log + ".old", 5) == ["begun"]


def test_format_of_a_record(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle("sh", "-c", "echo whole; printf part"), "one")
    runtime.start("one")
    runtime.wait("one", 20)
    with open(str(getattr(runtime.state("one"), "log_path", "")), encoding="ascii") as stream:
        first, second = stream.read().splitlines()
    when = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}[+-]\d\d:\d\d"
    assert re.fullmatch(when + " stdout F whole", first)
    assert re.fullmatch(when + " stdout P part", second)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"log_path": "relative.log"}, "log_path"),
        ({"log_path": "/tmp/with:colon.log"}, "log_path"),
        ({"log_size_max": 100}, "log_size_max"),
        ({"log_max_files": 0}, "log_max_files"),
    ],
)
def test_log_options_that_cannot_be(
    runtime: CrunRuntime, bundle: Bundle, options: dict[str, t.Any], field: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        runtime.create(bundle(), "one", **options)
    assert caught.value.field == field
    assert runtime.state("one") is None
