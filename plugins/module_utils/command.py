# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start child processes: the only door of the core to other programs.

Every child gets an argument list (never a shell string), an environment that
is built rather than inherited, ``/dev/null`` as its input unless told
otherwise, and a process group of its own that is killed and reaped when its
time is up.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.children import Child, await_killed
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    MissingDependency,
)

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: What children may see of our own environment: how to reach a registry, nothing else.
_PASSED_ON = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TMPDIR",
)

#: How long a child that was killed may take to end.
_END_S = 2.0

#: Debian package of each program that the core starts, for the error message.
_PACKAGES = {
    "crun": "crun",
    "conmon": "conmon",
    "skopeo": "skopeo",
    "systemctl": "systemd",
    "ip": "iproute2",
    "pct": "pve-container",
    "pvesh": "pve-manager",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Completed:
    """What a child that ended left behind; output is decoded with replacement."""

    argv: list[str]
    rc: int
    stdout: str
    stderr: str


class Runner(t.Protocol):
    """The interface that drivers depend on, so that tests can pass a recorder."""

    def run(
        self,
        argv: t.Sequence[str],
        *,
        timeout_s: float = 60.0,
        stdin: bytes | None = None,
        env: t.Mapping[str, str] | None = None,
        cwd: str | None = None,
        pass_fds: t.Sequence[int] = (),
        check: bool = True,
    ) -> Completed:
        """Run ``argv`` to its end and return what it printed."""


def built_environment(extra: t.Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a child: fixed, plus proxies, plus ``extra``."""
    env = {"PATH": DEFAULT_PATH, "LC_ALL": "C.UTF-8", "HOME": "/root"}
    env.update({name: os.environ[name] for name in _PASSED_ON if name in os.environ})
    env.update(extra or {})
    return env


def missing_program(program: str) -> MissingDependency:
    """Return the error for a program that does not exist, with the package that has it."""
    name = os.path.basename(program)
    package = _PACKAGES.get(name)
    hint = f"Install the Debian package '{package}'" if package else f"Install '{name}' or give its full path"
    return MissingDependency(f"program '{program}' was not found", hint=hint)


def last_line(text: str) -> str:
    """Return the last line of ``text`` that is not blank, or an empty string."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


class SubprocessRunner:
    """Run children for real."""

    def run(
        self,
        argv: t.Sequence[str],
        *,
        timeout_s: float = 60.0,
        stdin: bytes | None = None,
        env: t.Mapping[str, str] | None = None,
        cwd: str | None = None,
        pass_fds: t.Sequence[int] = (),
        check: bool = True,
    ) -> Completed:
        """Run ``argv`` to its end and return what it printed.

        Raises MissingDependency when the program does not exist, CommandTimeout
        after ``timeout_s`` seconds, and CommandError for an exit code other than
        zero unless ``check`` is false.
        """
        args = list(argv)
        try:
            child = Child(
                args,
                stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=built_environment(env),
                cwd=cwd,
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )
        except FileNotFoundError as exc:
            if cwd is not None and not os.path.isdir(cwd):
                raise
            raise missing_program(args[0]) from exc
        try:
            out, err = child.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired as exc:
            out, err = _kill(child)
            problem = f"{os.path.basename(args[0])} did not end within {timeout_s:g} s and was killed"
            if child.returncode is None:
                problem += f"; process {child.pid} goes on all the same, since it waits for the kernel"
            raise CommandTimeout(
                problem,
                argv=args,
                stdout=_text(out),
                stderr=_text(err),
                hint="Raise the time-out, or look at what it waits for",
            ) from exc
        except BaseException:
            _kill(child)
            raise
        done = Completed(args, child.returncode, _text(out), _text(err))
        if check and done.rc != 0:
            reason = last_line(done.stderr) or last_line(done.stdout) or "no output"
            raise CommandError(
                f"{os.path.basename(args[0])} failed with exit code {done.rc}: {reason}",
                argv=args,
                rc=done.rc,
                stdout=done.stdout,
                stderr=done.stderr,
            )
        return done


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


def _kill(child: Child) -> tuple[bytes, bytes]:
    """Kill the child's whole group, reap it if it ends, and return what it had printed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    try:
        # A grandchild that left the group can hold the pipes open: do not wait for it.
        return child.communicate(timeout=2)
    except subprocess.TimeoutExpired as exc:
        child.kill()
        await_killed(child, _END_S)
        return exc.stdout or b"", exc.stderr or b""
