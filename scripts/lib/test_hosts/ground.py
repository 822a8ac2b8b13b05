# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths, locks and processes that all parts of the test hosts share."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import subprocess
import typing as t
from pathlib import Path

CACHE = Path(os.environ.get("PVECRI_CACHE") or "/var/cache/pvecri") / "hosts"
# One for the machine, whatever the cache folder is: addresses and names of namespaces are the machine's.
RUN = Path("/run/pvecri-hosts")


class HostError(Exception):
    """Something that the caller must know; the text says what to do."""


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent is killed: nobody must work on without its locks."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def run(*argv: str, check: bool = True, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return what it wrote.

    Raises HostError when it fails and check is set.
    """
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            preexec_fn=die_with_parent,
        )
    except FileNotFoundError as exc:
        raise HostError(f"{argv[0]} is missing; scripts/hosts installs it") from exc
    except subprocess.TimeoutExpired as exc:
        raise HostError(f"{' '.join(argv)} took longer than {timeout_s:.0f} s") from exc
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise HostError(f"{' '.join(argv)} failed with exit code {done.returncode}: {said}")
    return done


@contextlib.contextmanager
def locked(path: Path) -> t.Iterator[None]:
    """Hold a lock file; the kernel lets it go when the process ends, however it ends.

    Who holds the lock may remove its file: who waited for it meanwhile takes the next one.
    """
    file = _lock(path)
    try:
        yield
    finally:
        file.close()


def _lock(path: Path) -> t.IO[str]:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "w")  # noqa: SIM115  # closed by its only caller
        fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                return file
        file.close()


def is_held(path: Path) -> bool:
    """Say whether a process holds a lock file."""
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def write_file(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(text)
    os.replace(new, path)


def read_json(path: Path) -> dict[str, t.Any] | None:
    """Return what a JSON file holds, None when there is none."""
    try:
        data: dict[str, t.Any] = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return data


def remove_tree(path: Path) -> None:
    """Remove a folder with all in it; what is mounted below is detached first, never emptied."""
    if not path.exists():
        return
    above = os.path.realpath(path) + "/"
    lines = Path("/proc/self/mounts").read_text().splitlines()
    mounts = (line.split()[1].encode().decode("unicode_escape") for line in lines)
    for mount in sorted((m for m in mounts if m.startswith(above)), reverse=True):
        # Of what stays mounted, rm spares no more than what is on another device.
        run("umount", "-l", mount)
    # What a killed command had begun may go on for the moment that the kernel needs to end it.
    for _try in range(3):
        done = run("rm", "-rf", "--one-file-system", str(path), timeout_s=900, check=False)
        if done.returncode == 0:
            return
    raise HostError(f"{path} cannot be removed: {done.stderr.strip()}")
