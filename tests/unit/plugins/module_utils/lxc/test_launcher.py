# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher, as a plain process: what it becomes, and what it says when it cannot."""

from __future__ import annotations

import errno
import functools
import inspect
import os
import pathlib
import re
import shutil
import signal
import tempfile
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.elf import MACHINES
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import (
    handover,
    launcher,
    launcher_aarch64,
    launcher_x86_64,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.launcher import Stage
from ansible_collections.pvecri.runtime.tests.support import machine_code
from ansible_collections.pvecri.runtime.tests.support.launched import Launched

_EMULATOR = {"x86_64": "qemu-x86_64-static", "aarch64": "qemu-aarch64-static"}
_LISTINGS = {"x86_64": launcher_x86_64, "aarch64": launcher_aarch64}
_PATH = "PATH=/usr/bin:/bin"


@pytest.fixture(params=["x86_64", "aarch64"])
def launched(request: pytest.FixtureRequest) -> t.Iterator[Launched]:
    """The launcher of each machine, the other one's under an emulator."""
    machine = str(request.param)
    if os.geteuid() != 0:
        pytest.skip("needs root")
    before = []
    if machine != os.uname().machine:
        emulator = shutil.which(_EMULATOR[machine])
        if emulator is None:
            pytest.skip(f"needs {_EMULATOR[machine]}")
        before = [emulator]
    directory = tempfile.mkdtemp(prefix="pvecri-")
    pathlib.Path(directory).chmod(0o755)
    yield Launched(pathlib.Path(directory), machine, before)
    shutil.rmtree(directory)


@pytest.mark.parametrize("machine", sorted(_LISTINGS))
def test_listing_is_what_its_comments_say(machine: str) -> None:
    if shutil.which("llvm-mc") is None:
        pytest.skip("needs llvm-mc, LLVM's assembler")
    listing = inspect.getsource(_LISTINGS[machine])
    assert machine_code.relisted(machine, listing) == listing
    code, _starts = machine_code.assembled(machine, machine_code.source_of(listing))
    assert code == _LISTINGS[machine].CODE


def test_program_is_an_elf_file_of_each_machine() -> None:
    for machine, number in MACHINES.items():
        content = launcher.program(machine)
        assert content is not None
        assert content[:4] == b"\x7fELF"
        assert int.from_bytes(content[18:20], "little") == number
    assert launcher.program() == launcher.program(os.uname().machine)
    assert launcher.program("s390x") is None


def _process(*args: str, **fields: t.Any) -> dict[str, t.Any]:
    return {"args": list(args), "env": [_PATH], "cwd": "/", **fields}


def test_run_passes_streams_arguments_environment_and_exit_code(launched: Launched) -> None:
    script = 'printf %s "$A" "$0" "$1"; cat; pwd >&2; exit 9'
    process = _process("sh", "-c", script, "a\nb", "\udcff", env=[_PATH, "A=x\n'y\""], cwd="/usr")
    outcome = launched.run(process, stdin=b"in")
    assert outcome.stdout == b"x\n'y\"a\nb\xffin"
    assert outcome.stderr == b"/usr\n"
    assert outcome.code == 9


def _status(text: bytes) -> dict[str, str]:
    return dict(re.findall(r"^(\w+):\s*(.*?)\s*$", text.decode(), re.MULTILINE))


def test_run_becomes_the_user_with_nothing_but_what_is_asked_for(launched: Launched) -> None:
    process = _process(
        "cat",
        "/proc/self/status",
        user={"uid": 1000, "gid": 1001, "additionalGids": [7, 5], "umask": 0o27},
        capabilities={"bounding": ["CAP_CHOWN", "CAP_KILL"]},
        noNewPrivileges=True,
    )
    status = _status(launched.run(process).stdout)
    assert status["Uid"].split() == ["1000"] * 4
    assert status["Gid"].split() == ["1001"] * 4
    assert status["Groups"].split() == ["5", "7"]
    assert status["Umask"] == "0027"
    assert status["NoNewPrivs"] == "1"
    assert int(status["CapBnd"], 16) == 1 | 1 << 5
    for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(status[name], 16) == 0
    assert int(status["SigBlk"], 16) == 0


def test_run_lets_a_broken_pipe_end_the_program(launched: Launched, monkeypatch: pytest.MonkeyPatch) -> None:
    # Python ignores the signal, and so does systemd for its services, of which LXC's process is one.
    start = functools.partial(launched.start, restore_signals=False)
    monkeypatch.setattr(Launched, "start", lambda _self: start())
    status = _status(launched.run(_process("cat", "/proc/self/status")).stdout)
    assert not int(status["SigIgn"], 16) & 1 << (signal.SIGPIPE - 1)


def test_run_gives_a_user_ambient_capabilities(launched: Launched) -> None:
    names = ["CAP_NET_BIND_SERVICE", "CAP_CHECKPOINT_RESTORE"]
    process = _process(
        "cat",
        "/proc/self/status",
        user={"uid": 1000, "gid": 1000},
        capabilities=dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), names),
    )
    status = _status(launched.run(process).stdout)
    own = _status(pathlib.Path("/proc/self/status").read_bytes())
    wanted = (1 << 10 | 1 << 40) & int(own["CapPrm"], 16)
    assert wanted & 1 << 10
    for name in ("CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(status[name], 16) == wanted, name
    assert status["NoNewPrivs"] == "0"


def test_run_keeps_root_within_its_bounding_set(launched: Launched) -> None:
    sets = {name: ["CAP_CHOWN"] for name in ("bounding", "effective", "permitted")}
    status = _status(launched.run(_process("cat", "/proc/self/status", capabilities=sets)).stdout)
    for name in ("CapBnd", "CapEff", "CapPrm"):
        assert int(status[name], 16) == 1
    assert status["Umask"] == "0022"
    # Standard streams, and the one that lists them: neither socket nor block is left.
    assert launched.run(_process("ls", "/proc/self/fd")).stdout.split() == [b"0", b"1", b"2", b"3"]


def test_run_finds_the_program_on_its_path(launched: Launched, tmp_path: pathlib.Path) -> None:
    (tmp_path / "plain").write_text("no program")
    (tmp_path / "no").mkdir(mode=0o755)
    directories = f"{tmp_path}/missing:{tmp_path}/plain:{tmp_path}/no:/usr/bin:/bin"
    assert launched.run(_process("true", env=["A=b", f"PATH={directories}"])).code == 0
    assert launched.run(_process("true", env=[])).code == 0
    assert launched.run(_process("./true", cwd="/bin")).code == 0


@pytest.mark.parametrize(
    ("fields", "stage", "number"),
    [
        pytest.param({"args": ["nope"]}, Stage.PROGRAM, errno.ENOENT, id="no-program"),
        pytest.param({"args": ["/etc/passwd"]}, Stage.PROGRAM, errno.EACCES, id="not-executable"),
        pytest.param({"args": ["/etc/passwd/x"]}, Stage.PROGRAM, errno.ENOENT, id="below-a-file"),
        pytest.param(
            {"args": ["passwd"], "env": ["PATH=/etc:/nowhere"]}, Stage.PROGRAM, errno.EACCES, id="on-path"
        ),
        pytest.param({"args": ["true", "x" * (1 << 18)]}, Stage.PROGRAM, errno.E2BIG, id="argument-too-long"),
        pytest.param({"cwd": "/nope/x"}, Stage.DIRECTORY, errno.ENOENT, id="no-directory"),
        pytest.param({"cwd": "/etc/passwd"}, Stage.DIRECTORY, errno.ENOTDIR, id="directory-is-a-file"),
        pytest.param({"terminal": True}, Stage.TERMINAL, errno.ENOTTY, id="no-terminal"),
    ],
)
def test_run_says_where_it_failed(
    launched: Launched, fields: dict[str, t.Any], stage: Stage, number: int
) -> None:
    with pytest.raises(handover.StartFailed) as caught:
        launched.run({**_process("true"), **fields})
    assert (caught.value.stage, caught.value.errno) == (stage, number)


def test_run_refuses_a_file_that_is_no_program(launched: Launched, tmp_path: pathlib.Path) -> None:
    script = tmp_path / "script"
    script.write_text("true\n")
    script.chmod(0o755)
    with pytest.raises(handover.StartFailed) as caught:
        launched.run(_process(str(script)))
    assert (caught.value.stage, caught.value.errno) == (Stage.PROGRAM, errno.ENOEXEC)


def test_run_makes_a_missing_working_directory(launched: Launched) -> None:
    place = launched.program.parent / "made" / "deep"
    process = _process("pwd", cwd=str(place), user={"uid": 1000, "gid": 1000, "umask": 0o77})
    assert launched.run(process, make_directory=True).stdout.decode() == f"{place}\n"
    assert place.stat().st_mode & 0o777 == 0o755
    assert place.stat().st_uid == 0
    assert launched.run(process, make_directory=True).code == 0


def test_launcher_ends_by_itself_when_nobody_listens(launched: Launched) -> None:
    assert launched.start().wait(20) == 127
    with handover.listen(launched.socket, 0, 0):
        pass
    assert launched.start().wait(20) == 127
