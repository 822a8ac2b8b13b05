# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, records and command lines of LXC containers."""

from __future__ import annotations

import json
import os
import pathlib
import threading

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import commands, removal
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import layout as layouts
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.driver import LxcDriver
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import LxcLayout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord, Stage
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths

PATHS = Paths("/s", "/r", Owner.CRI)


def _record(name: str = "c1", vmid: int = 7) -> LxcRecord:
    return LxcRecord(
        name=name,
        vmid=vmid,
        node="n",
        sandbox_id="s",
        bundle="/b",
        log_path="",
        boot_id="boot",
        created_at=1.0,
        lxc_path="/l",
        upids={"create": "UPID:1"},
    )


@pytest.fixture
def layout(tmp_path: pathlib.Path) -> LxcLayout:
    made = LxcLayout(Paths(str(tmp_path / "s"), str(tmp_path / "r")), "c1")
    layouts.prepare(made.paths)
    return made


def test_layout_names_files_where_everybody_looks_for_them() -> None:
    layout = LxcLayout(PATHS, "c1")
    assert layout.record == "/s/lxc/records/c1.json"
    assert layout.crun.exit_file == "/r/exits/cri/c1"
    monitor = "/r/monitors/cri/c1/"
    assert [layout.settings, layout.block, layout.answer, layout.console, layout.config, layout.writes] == [
        monitor + name for name in ("holder.json", "block", "answer", "console", "config.json", "writes.json")
    ]
    guest = layouts.guest(PATHS, 900001)
    top = "/s/lxc/guests/900001"
    assert guest.directory == layouts.guest_dir(PATHS, 900001) == top
    assert [guest.config, guest.io, guest.launcher, guest.init_socket, guest.sysfs, guest.mounts] == [
        f"{top}/{name}" for name in ("config", "io", "io/run", "io/init", "sys", "mounts")
    ]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\nb"])
def test_layout_refuses_names_that_are_no_files(name: str) -> None:
    with pytest.raises(InvalidSpec):
        LxcLayout(PATHS, name)


def test_layout_lets_the_containers_root_through(layout: LxcLayout) -> None:
    guest = layouts.guest(layout.paths, 7)
    for _attempt in range(2):
        guest.make(100000)
    state = pathlib.Path(layout.paths.state_dir)
    for place in ("lxc", "lxc/guests", "lxc/guests/7/io", "lxc/guests/7/mounts"):
        assert (state / place).stat().st_mode & 0o777 == 0o711
    # And nobody else.
    status = (state / "lxc/guests/7").stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o710, 0, 100000)
    assert (state / "lxc/records").stat().st_mode & 0o777 == 0o700


def test_record_comes_back_as_it_was_saved(layout: LxcLayout) -> None:
    assert records.load(layout) is None
    assert not records.exists(layout)
    assert records.names(layout.paths) == []
    records.save(layout, _record())
    assert records.load(layout) == _record()
    assert records.exists(layout)
    assert records.names(layout.paths) == ["c1"]
    assert os.stat(layout.record).st_mode & 0o777 == 0o600
    records.remove(layout)
    records.remove(layout)
    assert not records.exists(layout)


def test_record_names_are_none_where_nothing_was_ever_made(tmp_path: pathlib.Path) -> None:
    assert records.names(Paths(str(tmp_path), str(tmp_path))) == []


def test_record_keeps_what_a_newer_version_wrote(layout: LxcLayout) -> None:
    records.save(layout, _record())
    values = json.loads(pathlib.Path(layout.record).read_text())
    pathlib.Path(layout.record).write_text(json.dumps({**values, "newer": [1]}))
    record = records.amend(layout, stage=Stage.READY)
    assert (record.extra, record.stage) == ({"newer": [1]}, Stage.READY)
    assert json.loads(pathlib.Path(layout.record).read_text())["newer"] == [1]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x"}', "nonsense"])
def test_record_that_cannot_be_read_is_there_and_unknown(layout: LxcLayout, text: str) -> None:
    pathlib.Path(layout.record).write_text(text)
    assert records.load(layout) is None
    assert records.exists(layout)
    assert records.everyone(layout.paths) == []
    with pytest.raises(WrongState, match="cannot be read"):
        records.loaded(layout)
    with pytest.raises(WrongState, match="cannot be read"):
        records.amend(layout, problem="x")
    driver = LxcDriver(layout.paths, SubprocessRunner())
    with pytest.raises(WrongState, match="cannot be read"):
        driver.clear_away("c1")
    assert driver.knows("c1")


def test_record_of_a_stage_that_is_not_known_cannot_be_read(layout: LxcLayout) -> None:
    records.save(layout, _record())
    text = pathlib.Path(layout.record).read_text()
    pathlib.Path(layout.record).write_text(text.replace('"claimed"', '"frozen"'))
    assert records.load(layout) is None


def test_amend_adds_tasks_to_those_there_are(layout: LxcLayout) -> None:
    records.save(layout, _record())
    assert records.amend(layout, upids={"start": "UPID:2"}).upids == {"create": "UPID:1", "start": "UPID:2"}


def test_amend_by_many_threads_loses_nothing(layout: LxcLayout) -> None:
    records.save(layout, _record())
    threads = [
        threading.Thread(target=records.amend, args=(layout,), kwargs={"upids": {f"t{number}": "x"}})
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records.loaded(layout).upids) == 9


def test_what_is_forgotten_while_it_is_amended_stays_forgotten(
    layout: LxcLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    records.save(layout, _record())
    remover = threading.Thread(target=records.remove, args=(layout,))
    save = records.save

    def slowly(layout: LxcLayout, record: LxcRecord) -> None:
        remover.start()
        remover.join(0.2)
        save(layout, record)

    monkeypatch.setattr(records, "save", slowly)
    records.amend(layout, upids={"stop": "UPID:late"})
    remover.join()
    assert not records.exists(layout)


def test_everyone_is_all_records(layout: LxcLayout) -> None:
    for name, vmid in (("c1", 7), ("c2", 8)):
        records.save(LxcLayout(layout.paths, name), _record(name, vmid))
    assert [record.vmid for record in records.everyone(layout.paths)] == [7, 8]


@pytest.mark.parametrize(
    ("stage", "is_whole"),
    [(Stage.CLAIMED, False), (Stage.INCLUDED, False), (Stage.READY, True), (Stage.DESTROYING, False)],
)
def test_record_says_whether_the_container_is_whole(stage: Stage, *, is_whole: bool) -> None:
    values = {field: getattr(_record(), field) for field in LxcRecord.__dataclass_fields__}
    assert LxcRecord(**{**values, "stage": stage}).is_whole == is_whole


def test_attach_argv() -> None:
    assert commands.attach_argv(commands.LxcPrograms(), "/var/lib/lxc", 900001, "5e") == [
        "/usr/bin/lxc-attach",
        "--lxcpath=/var/lib/lxc",
        "--name=900001",
        "--clear-env",
        "--elevated-privileges=CAP",
        "--",
        "/dev/.pvecri/run",
        "/dev/.pvecri/5e",
    ]


def test_has_monitor_asks_for_lxcs_own_socket() -> None:
    assert not removal.has_monitor("/none", 7)
