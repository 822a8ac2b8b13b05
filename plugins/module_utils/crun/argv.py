# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the command lines of crun and conmon; nothing here touches the host."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout, sockets


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Absolute paths of the programs; conmon does not search PATH for the runtime."""

    crun: str = "/usr/bin/crun"
    conmon: str = "/usr/bin/conmon"
    #: crun starts it for checkpoints and restores; it is looked for where this one is first.
    criu: str = "/usr/sbin/criu"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CreateOptions:
    """How a container is created, apart from what its bundle says."""

    #: Absolute path; empty: what the container prints goes to those who attach, and nowhere else.
    log_path: str
    #: Bytes after which conmon begins a new log file; None never.
    log_size_max: int | None = None
    #: Bytes of log after which nothing more is written, all files together; None never.
    log_total_max: int | None = None
    #: Log files kept in all, the one being written included.
    log_max_files: int = 1
    terminal: bool = False
    #: Keep the container's standard input open for those who attach.
    stdin: bool = False
    #: Close it when the first who attached leaves.
    stdin_once: bool = False
    #: Let systemd make the cgroup (``cgroupsPath`` is then ``slice:prefix:name``).
    systemd_cgroup: bool = False
    no_pivot: bool = False

    @property
    def has_rotation(self) -> bool:
        """Say whether older log files are kept."""
        return self.log_size_max is not None and self.log_max_files > 1


#: Locks of files are the container's own business as long as nothing outside holds them.
_CRIU_OPTIONS = ("--file-locks",)


def _crun_argv(programs: Programs, root: str, command: str, *rest: str) -> list[str]:
    return [programs.crun, "--root", root, command, *rest]


def create_argv(
    programs: Programs, layout: Layout, bundle: str, options: CreateOptions, images: str | None = None
) -> list[str]:
    """Return the command that creates a container under conmon, or restores it from CRIU's ``images``.

    conmon's own bundle directory is the volatile monitor directory, where its
    fifos and socket go; crun is told the real one by a second ``--bundle``, of
    which the last counts.  So a bundle is never written to and may be read-only.
    """
    runtime = [programs.crun, "--root", layout.paths.runtime_root]
    argv = monitor_argv(programs, layout, options, runtime, restored_from=images)
    for argument in ("--bundle", bundle, *(_CRIU_OPTIONS if images is not None else ())):
        argv.append("--runtime-opt=" + argument)
    return argv


def monitor_argv(
    programs: Programs,
    layout: Layout,
    options: CreateOptions,
    runtime: t.Sequence[str],
    *,
    restored_from: str | None = None,
) -> list[str]:
    """Return the command that has conmon create a container by ``runtime``, a program and its arguments.

    conmon adds ``create --bundle DIR --pid-file FILE ID`` to that, and ``--console-socket`` for a terminal.
    """
    argv = [
        programs.conmon,
        "--api-version=1",
        "--cid=" + layout.name,
        "--name=" + layout.name,
        "--cuuid=" + layout.socket_id,
        "--runtime=" + runtime[0],
        "--bundle=" + layout.monitor_dir,
        "--container-pidfile=" + layout.init_pid_file,
        "--conmon-pidfile=" + layout.conmon_pid_file,
        "--persist-dir=" + layout.monitor_dir,
        "--exit-dir=" + layout.paths.exits,
        "--socket-dir-path=" + sockets(layout.paths),
        "--log-path=" + ("k8s-file:" + options.log_path if options.log_path else "none"),
        "--log-level=warning",
        "--no-sync-log",
    ]
    if options.log_size_max is not None:
        argv.append(f"--log-size-max={options.log_size_max}")
    if options.log_total_max is not None:
        argv.append(f"--log-global-size-max={options.log_total_max}")
    argv += [
        flag
        for flag, is_set in (
            ("--terminal", options.terminal),
            ("--stdin", options.stdin),
            ("--leave-stdin-open", options.stdin and not options.stdin_once),
            ("--systemd-cgroup", options.systemd_cgroup),
            ("--no-pivot", options.no_pivot),
        )
        if is_set
    ]
    if restored_from is not None:
        argv.append("--restore=" + restored_from)
    argv += ["--runtime-arg=" + argument for argument in runtime[1:]]
    return argv


def start_argv(programs: Programs, root: str, name: str) -> list[str]:
    """Return the command that starts a created container."""
    return _crun_argv(programs, root, "start", name)


def kill_argv(programs: Programs, root: str, name: str, signal_number: int, *, everyone: bool) -> list[str]:
    """Return the command that signals the first process, or all processes of the cgroup."""
    options = ["--all"] if everyone else []
    return _crun_argv(programs, root, "kill", *options, name, str(signal_number))


def delete_argv(programs: Programs, root: str, name: str, *, force: bool) -> list[str]:
    """Return the command that removes a container; ``force`` kills it first."""
    options = ["--force"] if force else []
    return _crun_argv(programs, root, "delete", *options, name)


def pause_argv(programs: Programs, root: str, name: str) -> list[str]:
    """Return the command that freezes a container."""
    return _crun_argv(programs, root, "pause", name)


def resume_argv(programs: Programs, root: str, name: str) -> list[str]:
    """Return the command that thaws a container."""
    return _crun_argv(programs, root, "resume", name)


def checkpoint_argv(
    programs: Programs, root: str, name: str, *, images: str, work: str, leave_running: bool
) -> list[str]:
    """Return the command that dumps a container into ``images``, its log and figures into ``work``."""
    options = ["--image-path", images, "--work-path", work, *_CRIU_OPTIONS]
    if leave_running:
        options.append("--leave-running")
    return _crun_argv(programs, root, "checkpoint", *options, name)


def update_argv(programs: Programs, root: str, name: str, resources_path: str) -> list[str]:
    """Return the command that applies OCI ``linux.resources`` from a file to a running container."""
    return _crun_argv(programs, root, "update", "--resources", resources_path, name)


def exec_argv(
    programs: Programs,
    root: str,
    name: str,
    *,
    process_path: str,
    pid_file: str,
    log_path: str,
    console_socket: str | None = None,
) -> list[str]:
    """Return the command that runs the OCI process of a file in a running container.

    crun's own complaints go to ``log_path`` too, to tell them from the command's.
    """
    options = ["--process", process_path, "--pid-file", pid_file]
    if console_socket is not None:
        options += ["--console-socket", console_socket]
    return [programs.crun, "--root", root, f"--log=file:{log_path}", "exec", *options, name]
