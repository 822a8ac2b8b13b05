# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the PID namespace of a pod whose containers share one.

A PID namespace lives as long as its first process (pid_namespaces(7)), so such a pod,
and no other, needs a process of its own.  Where we know the machine it is not that of
an image: a program of some hundred bytes that ignores the end of its children, so that the
kernel reaps orphans, and sleeps until SIGTERM.  It handles that because the first process of
a namespace gets no signal that it does not handle: systemd, which ends it with the host, would
wait 90 s for it.  It needs no pull before a pod can run, no place in the image store and four
pages of memory.  Elsewhere it is the configured pause image.

It runs under conmon as any container, named as its sandbox.
"""

from __future__ import annotations

import contextlib
import os
import struct
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.elf import CODE_ADDRESS, static_program
from ansible_collections.pvecri.runtime.plugins.module_utils.files import write_atomic
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    DirectorySource,
    ImageSource,
    RootfsSource,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    Namespaces,
    Security,
)
from pvecri.context import Context
from pvecri.sandboxes import cgroup
from pvecri.sandboxes.namespaces import kinds_of
from pvecri.sandboxes.places import Places
from pvecri.sandboxes.pod import Pod

_PROGRAM = "/pause"

#: For each machine the code: rt_sigaction(SIGCHLD, ignore), rt_sigaction(SIGTERM, end), then pause() or
#: ppoll() without an end, again and again; end: exit(0).  The two sigactions of 32 bytes each follow it.
_X86_64 = bytes.fromhex(
    "b80d000000"  # mov eax, 13 (rt_sigaction)
    "bf11000000"  # mov edi, 17 (SIGCHLD)
    "488d353f000000"  # lea rsi, [rip + 63] (the first sigaction)
    "31d2"  # xor edx, edx
    "41ba08000000"  # mov r10d, 8 (size of a signal set)
    "0f05"  # syscall
    "b80d000000"  # mov eax, 13 (rt_sigaction)
    "bf0f000000"  # mov edi, 15 (SIGTERM)
    "488d3544000000"  # lea rsi, [rip + 68] (the second sigaction)
    "0f05"  # syscall
    "b822000000"  # again: mov eax, 34 (pause)
    "0f05"  # syscall
    "ebf7"  # jmp again
    "b83c000000"  # end: mov eax, 60 (exit)
    "31ff"  # xor edi, edi
    "0f05"  # syscall
    "0f1f8400000000000f1f840000000000"  # nop
)
_AARCH64 = b"".join(
    word.to_bytes(4, "little")
    for word in (
        0x528010C8,  # mov w8, 134 (rt_sigaction)
        0x52800220,  # mov w0, 17 (SIGCHLD)
        0x10000241,  # adr x1, . + 72 (the first sigaction)
        0xD2800002,  # mov x2, 0
        0xD2800103,  # mov x3, 8 (size of a signal set)
        0xD4000001,  # svc 0
        0x528001E0,  # mov w0, 15 (SIGTERM)
        0x100002A1,  # adr x1, . + 84 (the second sigaction)
        0xD4000001,  # svc 0
        0x52800928,  # again: mov w8, 73 (ppoll)
        0xD2800000,  # mov x0, 0
        0xD2800001,  # mov x1, 0
        0xD2800002,  # mov x2, 0
        0xD2800003,  # mov x3, 0
        0xD4000001,  # svc 0
        0x17FFFFFA,  # b again
        0x52800BA8,  # end: mov w8, 93 (exit)
        0xD2800000,  # mov x0, 0
        0xD4000001,  # svc 0
        0xD503201F,  # nop
    )
)
#: With the place of the end in it.
_CODE = {"x86_64": (_X86_64, 55), "aarch64": (_AARCH64, 64)}
_SIGACTION = struct.Struct("<QQQQ")
_SIG_IGN = _SIGACTION.pack(1, 0, 0, 0)
_SA_RESTORER = 0x04000000


def program(machine: str) -> bytes | None:
    """Return the pause program of a machine as an ELF file (elf(5)), or None for one we do not know."""
    if machine not in _CODE:
        return None
    code, place = _CODE[machine]
    end = CODE_ADDRESS + place
    # It never returns from the end; x86 wants to know where it would return to all the same.
    return static_program(machine, code + _SIG_IGN + _SIGACTION.pack(end, _SA_RESTORER, end, 0))


def start(context: Context, pod: Pod, sandbox_id: str, cgroup_parent: str) -> int:
    """Start a sandbox's pause process and return its process id."""
    places = Places(context.paths, sandbox_id)
    source = _source(context)
    spec = ContainerSpec(
        name=sandbox_id,
        entrypoint=(_PROGRAM,),
        command=(),
        user=f"{pod.user}:{pod.group}",
        merge_image_groups=False,
        namespaces=_namespaces(pod, places),
        uid_maps=pod.uid_maps,
        gid_maps=pod.gid_maps,
        security=Security(
            capabilities_drop=("ALL",),
            no_new_privileges=True,
            read_only_rootfs=True,
            seccomp="default" if context.host.seccomp_default is not None else "unconfined",
        ),
        cgroups_path=cgroup.container_cgroup(cgroup_parent, sandbox_id),
        oom_score_adj=None,
    )
    bundle = context.bundles.create(spec, source)
    pid = context.crun.create(
        bundle.path,
        sandbox_id,
        log_path=os.path.join(places.volatile, "pause.log"),
        systemd_cgroup=not cgroup_parent.startswith("/"),
    )
    context.crun.start(sandbox_id)
    return pid


def end(context: Context, sandbox_id: str) -> None:
    """Take away a sandbox's pause process, with all processes of its namespace; none is fine."""
    context.crun.delete(sandbox_id, force=True)
    context.bundles.remove(sandbox_id)


def _source(context: Context) -> RootfsSource:
    """Return what the pause process sees: a directory with nothing but its program, or the pause image."""
    code = program(context.host.machine)
    if code is None:
        images = context.config.images
        return ImageSource(
            reference=images.pause_image,
            authfile=images.authfile or None,
            registries_conf=images.registries_conf or None,
            signature_policy=images.policy_file or None,
        )
    directory = os.path.join(context.paths.state_dir, "pause")
    path = directory + _PROGRAM
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as stream:
        if stream.read() == code:
            return DirectorySource(path=directory)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    write_atomic(path, code, mode=0o755)
    return DirectorySource(path=directory)


def _namespaces(pod: Pod, places: Places) -> Namespaces:
    own: dict[str, t.Any] = {kind: places.namespace(kind) for kind in kinds_of(pod)}
    return Namespaces(
        pid="private",
        network=own.get("net", "host"),
        ipc=own.get("ipc", "host"),
        uts=own.get("uts", "host"),
        user=own.get("user", "host"),
    )
