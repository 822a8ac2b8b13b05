# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run programs under conmon and the holder, as first processes of a PID namespace or of LXC containers."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import conmon, procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import block, handover, holder, launcher
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

DEADLINE_S = 20.0
_LOG_LINE = re.compile(rb"^\S+ (stdout|stderr) [FP] (.*)$", re.MULTILINE)


@dataclasses.dataclass
class Held:
    """A holder under conmon, with its files below one short directory."""

    top: pathlib.Path
    name: str
    lxc_path: str
    uid: int = 0
    oom: list[str] = dataclasses.field(default_factory=list)
    cgroup: str = ""
    conmon_pid: int = 0

    def __post_init__(self) -> None:
        self.io = self.top / "io"
        self.monitor_dir = self.top / "m"
        for place in (self.io, self.monitor_dir, self.top / "exits", self.top / "s"):
            place.mkdir()
        self.io.chmod(0o755)
        program = launcher.program()
        assert program is not None
        (self.io / "run").write_bytes(program)
        (self.io / "run").chmod(0o755)

    @property
    def socket(self) -> str:
        """Where the launcher is awaited."""
        return str(self.io / "init")

    def settings(self, **changes: t.Any) -> dict[str, t.Any]:
        """Return what the holder reads."""
        place = self.monitor_dir
        return {
            "block": str(place / "block"),
            "owner_uid": self.uid,
            "owner_gid": self.uid,
            "socket": self.socket,
            "lxc_path": self.lxc_path,
            "name": self.name,
            "cgroup": self.cgroup,
            "oom": self.oom,
            "answer": str(place / "answer"),
            "oom_file": str(place / "oom"),
            "console": str(place / "console"),
            **changes,
        }

    def empty(self) -> None:
        """Forget what was, for another holder."""
        shutil.rmtree(self.monitor_dir)
        self.monitor_dir.mkdir()
        for place in (self.top / "exits" / self.name, self.top / "log"):
            place.unlink(missing_ok=True)

    def hold(
        self, process: dict[str, t.Any], *, stdin: bool = False, timeout_s: float = DEADLINE_S, **how: bool
    ) -> conmon.Answer:
        """Start conmon and the holder for an OCI process."""
        (self.monitor_dir / "block").write_bytes(block.encode(process, **how))
        (self.monitor_dir / "holder.json").write_text(json.dumps(self.settings()))
        try:
            return self.launch(terminal=bool(process.get("terminal")), stdin=stdin, timeout_s=timeout_s)
        finally:
            self.conmon_pid = int((self.monitor_dir / "conmon.pid").read_text())

    def launch(
        self, *, terminal: bool = False, stdin: bool = False, timeout_s: float = DEADLINE_S
    ) -> conmon.Answer:
        """Start conmon, with what is in the directory for settings."""
        place = str(self.monitor_dir)
        argv = [
            "/usr/bin/conmon",
            "--api-version=1",
            f"--cid={self.name}",
            f"--name={self.name}",
            "--cuuid=held",
            "--runtime=/usr/bin/python3",
            *(f"--runtime-arg={word}" for word in ("-I", "-S", holder.PATH)),
            f"--bundle={place}",
            f"--container-pidfile={place}/pid",
            f"--conmon-pidfile={place}/conmon.pid",
            f"--persist-dir={place}",
            f"--exit-dir={self.top}/exits",
            f"--socket-dir-path={self.top}/s",
            f"--log-path=k8s-file:{self.top}/log",
            "--log-level=warning",
            "--no-sync-log",
            *(["--terminal"] if terminal else []),
            *(["--stdin"] if stdin else []),
        ]
        return conmon.launch(SubprocessRunner(), argv, cwd=place, timeout_s=timeout_s)

    @contextlib.contextmanager
    def process(self) -> t.Iterator[subprocess.Popen[bytes]]:
        """Run the launcher as the first process of a PID namespace of this host; wait for its end."""
        argv = ["unshare", "--pid", "--fork", "--kill-child", str(self.io / "run"), self.socket]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise

    def holder_pid(self) -> int:
        """Return the process that conmon takes for the container's first."""
        return int((self.monitor_dir / "pid").read_text())

    def answer(self) -> handover.Answer:
        """Return the holder's answer once it is known what became of the start."""
        return eventually(lambda: found if (found := self.told()) and found.is_final else None)  # type: ignore[return-value]

    def told(self) -> handover.Answer | None:
        """Return the holder's answer so far."""
        return handover.read_answer(str(self.monitor_dir / "answer"))

    def exit_code(self) -> int:
        """Wait for conmon's exit file and return what it says."""
        path = self.top / "exits" / self.name
        eventually(path.exists, what="the exit file")
        return int(path.read_text())

    def log(self) -> dict[str, bytes]:
        """Return what was logged of both streams."""
        found = {"stdout": b"", "stderr": b""}
        for stream, text in _LOG_LINE.findall((self.top / "log").read_bytes()):
            found[stream.decode()] += text + b"\n"
        return found

    def end(self) -> None:
        """End all that is left, holder and conmon last."""
        told = self.told()
        pids = [told.pid] if told else []
        with contextlib.suppress(FileNotFoundError, ValueError):
            pids.append(self.holder_pid())
        for pid in [*pids, self.conmon_pid]:
            if pid and (stat := procfs.read_stat(pid)) is not None:
                procfs.send_signal(pid, stat.start_time, signal.SIGKILL)
        # conmon writes files until it ends.
        eventually(lambda: not procfs.is_same_process(self.conmon_pid, 0), what="the end of conmon")


@contextlib.contextmanager
def directory() -> t.Iterator[pathlib.Path]:
    """Yield a directory short enough for sockets, which others may pass through."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="pvecri-"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place)
