# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold a runtime program in sealed memory, so that it need not copy itself there each time.

crun guards itself against containers that write to ``/proc/<pid>/exe`` (CVE-2019-5736): unless
it was started from a sealed memory file it makes one, copies itself into it and starts again
from there, nearly 2 ms at each start.  Nobody can write to a sealed file, so that all may share
one.  A symbolic link gives it a path with the program's name; whoever follows that when the
process that holds the memory is gone finds nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading

#: All that crun asks for (F_GET_SEALS, memfd_create(2)).
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
#: Says that it shall be executable, whatever vm.memfd_noexec prefers; kernels before 6.3 do not know it.
_MFD_EXEC = 0x10
_ELF = b"\x7fELF"


class SealedProgram:
    """One program; where it cannot be held in memory it is used as it is."""

    def __init__(self, program: str, link: str) -> None:
        """Set up; nothing is done before the first `path`."""
        self._program = program
        self._link = link
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] = ()
        self._path = program
        #: The copy to which the link leads.
        self._handle = -1

    def path(self) -> str:
        """Return the path to start the program by; a program that was updated meanwhile is read anew."""
        try:
            status = os.stat(self._program)
        except OSError:
            # Whoever starts it says what is wrong.
            return self._program
        seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if seen == self._seen and self._is_there():
            return self._path
        with self._lock:
            if seen != self._seen or not self._is_there():
                self._path = self._sealed()
                self._seen = seen
            return self._path

    def _is_there(self) -> bool:
        """Say whether the path leads where it should: the link may have been removed or made anew."""
        if self._path != self._link:
            return True
        with contextlib.suppress(OSError):
            return os.path.samestat(os.stat(self._link), os.fstat(self._handle))
        return False

    def _sealed(self) -> str:
        """Return the link to a new copy in memory, or the program itself.

        A copy before it stays: somebody may be about to start it.
        """
        with contextlib.suppress(OSError), open(self._program, "rb") as stream:
            content = stream.read()
            # A script needs a path by which it finds itself.
            if content.startswith(_ELF):
                handle = _memory_file(os.path.basename(self._program), content)
                self._publish(handle)
                self._handle = handle
                return self._link
        return self._program

    def _publish(self, handle: int) -> None:
        """Let the link lead to the file; raises OSError, with the file closed, if it cannot be started so."""
        temporary = f"{self._link}.new"
        try:
            os.makedirs(os.path.dirname(self._link), mode=0o700, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            os.symlink(f"/proc/{os.getpid()}/fd/{handle}", temporary)
            # Not in a process id namespace whose /proc is another's.
            is_ours = os.path.samestat(os.stat(temporary), os.fstat(handle))
            if not is_ours or not os.access(temporary, os.X_OK):
                raise OSError(errno.EACCES, "it cannot be started from memory", temporary)
            os.rename(temporary, self._link)
        except BaseException:
            os.close(handle)
            raise


def _memory_file(name: str, content: bytes) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        handle = os.memfd_create(name, flags | _MFD_EXEC)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        handle = os.memfd_create(name, flags)
    try:
        with open(handle, "wb", closefd=False) as stream:
            stream.write(content)
        fcntl.fcntl(handle, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(handle)
        raise
    return handle
