# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look up what a container's description depends on: its pod's files and processes, its images, its log."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image
from pvecri.api import cri_pb2
from pvecri.containers.request import Request
from pvecri.containers.spec import mounts
from pvecri.containers.spec.build import Surroundings
from pvecri.containers.spec.mounts import PodFiles
from pvecri.containers.spec.namespaces import pid_mode
from pvecri.containers.validate import log_path
from pvecri.context import Context
from pvecri.sandboxes.places import Places
from pvecri.state.records import SandboxRecord

Resolve = t.Callable[..., Image]


def look(
    context: Context, container_id: str, request: Request, image: Image, resolve: Resolve
) -> Surroundings:
    """Return what is known around a container that is about to be made.

    Raises NotFound for an image or a container that is not there, and InvalidSpec.
    """
    config, sandbox, pod = request.config, request.sandbox, request.pod
    if mounts.propagating(config.mounts):
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
            mounts.check_propagation(config.mounts, stream.read(), os.path.realpath)
    return Surroundings(
        id=container_id,
        sandbox=sandbox,
        pod=pod,
        image=image.config,
        host=context.host,
        files=_files(context, sandbox),
        hostname=pod.hostname or socket.gethostname(),
        pid_path=_pid_path(context, config, sandbox, pod),
        images={
            index: resolve(mount.image.image, field=f"config.mounts[{index}].image.image").id
            for index, mount in enumerate(config.mounts)
            if mount.image.image
        },
        pids_limit=context.config.runtime.pids_limit,
        open_files=context.open_files,
    )


def _files(context: Context, sandbox: SandboxRecord) -> PodFiles:
    places = Places(context.paths, sandbox.id)
    shm = places.shm if sandbox.ipcns else ""
    return PodFiles(
        **{
            name: path if path and os.path.exists(path) else ""
            for name, path in (
                ("hosts", places.hosts),
                ("hostname", places.hostname),
                ("resolv_conf", places.resolv_conf),
                ("shm", shm),
            )
        }
    )


def _pid_path(
    context: Context, config: cri_pb2.ContainerConfig, sandbox: SandboxRecord, pod: cri_pb2.PodSandboxConfig
) -> str:
    """Return the PID namespace that a container joins: of the pod's pause process, or of its target."""
    options = config.linux.security_context.namespace_options
    mode = pid_mode(options, pod.linux.security_context.namespace_options)
    if mode == cri_pb2.TARGET:
        name = _target(context, options.target_id, sandbox)
    elif mode == cri_pb2.POD and sandbox.has_pause:
        name = sandbox.id
    else:
        return ""
    state = context.runtimes.state(name)
    return "" if state is None or state.pid is None else f"/proc/{state.pid}/ns/pid"


def _target(context: Context, target_id: str, sandbox: SandboxRecord) -> str:
    """Return the id of the container whose processes are to be seen; it has to be one of the same pod."""
    field = "config.linux.security_context.namespace_options.target_id"
    try:
        target = context.registry.container(target_id)
    except NotFound as exc:
        raise InvalidSpec(field, f"there is no container '{target_id[:64]}'") from exc
    if target.sandbox_id != sandbox.id:
        raise InvalidSpec(field, f"container {target.id} is one of another pod")
    return target.id


def find_log(config: cri_pb2.ContainerConfig, pod: cri_pb2.PodSandboxConfig) -> str:
    """Return the path of a container's log, its directory made; empty: it has none.

    Nothing below the pod's log directory leads out of it: whoever writes there could
    otherwise have the log written over any file.
    """
    if not config.log_path or not pod.log_directory:
        return ""
    clean = log_path(config.log_path)
    path = os.path.join(os.path.normpath(pod.log_directory), clean)
    if ":" in path:
        raise InvalidSpec(
            "sandbox_config.log_directory", "must not have a colon", hint="conmon cannot take it"
        )
    try:
        _prepare_log(pod.log_directory, clean)
    except OSError as exc:
        raise WrongState(f"the log {path} cannot be written: {exc.strerror}") from exc
    return path


def _prepare_log(directory: str, clean: str) -> None:
    os.makedirs(directory, mode=0o755, exist_ok=True)
    *parents, name = clean.split("/")
    with contextlib.ExitStack() as opened:
        handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, handle)
        for part in parents:
            handle = _descend(handle, part)
            opened.callback(os.close, handle)
        try:
            found = os.stat(name, dir_fd=handle, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISREG(found.st_mode):
            raise InvalidSpec("config.log_path", f"'{clean}' is there and is no regular file")


def _descend(handle: int, part: str) -> int:
    """Return a descriptor of a directory below, made if need be."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileExistsError):
        os.mkdir(part, 0o755, dir_fd=handle)
    try:
        return os.open(part, flags, dir_fd=handle)
    except NotADirectoryError as exc:
        raise InvalidSpec("config.log_path", f"'{part}' in it is no directory") from exc
