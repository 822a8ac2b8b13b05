# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make an image that needs no registry: one program of some hundred bytes.

It writes a line, and then waits for its end; called with an argument, it ends at once, with 0.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.elf import static_program
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import ImageReference
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    IMPORT_TIMEOUT_S,
    ImageSource,
    host_platform,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from pvecri.archives.loading import workspace

NAME: t.Final = "localhost/pvecri-probe:1"
PROGRAM: t.Final = "/probe"
LINE: t.Final = "pvecri-probe"

_X86_64 = bytes.fromhex(
    "b801000000"  # mov eax, 1 (write)
    "bf01000000"  # mov edi, 1 (standard output)
    "488d3520000000"  # lea rsi, [rip + 32] (the line)
    "ba0d000000"  # mov edx, 13
    "0f05"  # syscall
    "48833c2401"  # cmp qword [rsp], 1 (number of arguments, its own name among them)
    "7509"  # jne end
    "b822000000"  # again: mov eax, 34 (pause)
    "0f05"  # syscall
    "ebf7"  # jmp again
    "31ff"  # end: xor edi, edi
    "b8e7000000"  # mov eax, 231 (exit_group)
    "0f05"  # syscall
)
_AARCH64 = b"".join(
    word.to_bytes(4, "little")
    for word in (
        0xD2800020,  # mov x0, 1 (standard output)
        0x10000221,  # adr x1, . + 68 (the line)
        0xD28001A2,  # mov x2, 13
        0x52800808,  # mov w8, 64 (write)
        0xD4000001,  # svc 0
        0xF94003E3,  # ldr x3, [sp] (number of arguments, its own name among them)
        0xF100047F,  # cmp x3, 1
        0x54000101,  # b.ne end
        0x52800928,  # again: mov w8, 73 (ppoll)
        0xD2800000,  # mov x0, 0
        0xD2800001,  # mov x1, 0
        0xD2800002,  # mov x2, 0
        0xD2800003,  # mov x3, 0
        0xD4000001,  # svc 0
        0x17FFFFFA,  # b again
        0xD2800000,  # end: mov x0, 0
        0x52800BC8,  # mov w8, 94 (exit_group)
        0xD4000001,  # svc 0
    )
)
_CODE = {"x86_64": _X86_64, "aarch64": _AARCH64}

#: This image is the endpoint's own, whatever the host demands of those of registries.
_POLICY = {"default": [{"type": "insecureAcceptAnything"}]}


def program(machine: str) -> bytes:
    """Return the program's file for a machine; raises Unsupported."""
    code = _CODE.get(machine)
    if code is None:
        raise Unsupported(
            f"the probe has no program for {machine}", hint="Give an image of this platform (--image)"
        )
    return static_program(machine, code + LINE.encode() + b"\n")


def write_layout(directory: str, machine: str) -> None:
    """Write the image as an OCI layout (OCI image specification 1.1); it is the same each time."""
    layer = _layer(program(machine))
    platform = host_platform()
    config = _json(
        {
            "os": platform.os,
            "architecture": platform.architecture,
            "config": {"Entrypoint": [PROGRAM]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        }
    )
    index = {
        "schemaVersion": 2,
        "manifests": [_descriptor("application/vnd.oci.image.manifest.v1+json", manifest)],
    }
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index)}
    files |= {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in (layer, config, manifest)}
    os.makedirs(os.path.join(directory, "blobs", "sha256"))
    for name, data in files.items():
        with open(os.path.join(directory, name), "wb") as stream:
            stream.write(data)


def load_image(store: ImageStore) -> None:
    """Bring the image into the store; one that is there is left as it is."""
    reference = ImageReference.parse(NAME)
    with workspace(store.paths, f"archive:{NAME}", "the probe's image") as directory:
        layout, policy = os.path.join(directory, "layout"), os.path.join(directory, "policy.json")
        write_layout(layout, os.uname().machine)
        with open(policy, "wb") as stream:
            stream.write(_json(_POLICY))
        source = ImageSource(reference=f"oci:{layout}", signature_policy=policy, timeout_s=IMPORT_TIMEOUT_S)
        store.bring(source, reference, "the probe's image")


def _layer(content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        member = tarfile.TarInfo(PROGRAM.lstrip("/"))
        member.mode, member.size = 0o755, len(content)
        tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _descriptor(media_type: str, data: bytes) -> dict[str, t.Any]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: t.Any) -> bytes:
    return json.dumps(value).encode()
