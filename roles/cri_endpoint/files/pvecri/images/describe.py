# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what clients are told of an image: the CRI's message, and the JSON of the verbose status."""

from __future__ import annotations

import hashlib
import json
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store_files import StoreFiles
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image
from pvecri.api import cri_pb2
from pvecri.images.names import public_id, repository_names

_INT64_MAX = (1 << 63) - 1
#: What an image says of itself is cut there: all images must fit into one answer.
_ANNOTATIONS_MAX = 32 * 1024
_USER_MAX = 256


def cri_image(image: Image, files: StoreFiles, *, is_pinned: bool) -> cri_pb2.Image:
    """Return the message for an image; what cannot be read of its manifests is left out."""
    indexes, annotations = _of_manifests(image, files)
    tags, digests = repository_names(image, indexes)
    message = cri_pb2.Image(
        id=public_id(image),
        repo_tags=tags,
        repo_digests=digests,
        size=image.size_bytes + files.extra_bytes(image),
        pinned=is_pinned,
    )
    if annotations:
        message.spec.annotations.update(annotations)
    uid, username = image_user(image.config.user)
    if uid is not None:
        message.uid.value = uid
    message.username = username
    return message


def template_message(image: Image, *, is_pinned: bool) -> cri_pb2.Image:
    """Return the message for a template of Proxmox LXC, whose file's digest is its own."""
    repositories = dict.fromkeys(name.rpartition(":")[0] for name in image.names)
    return cri_pb2.Image(
        id=public_id(image),
        repo_tags=image.names,
        repo_digests=[f"{repository}@{image.digest}" for repository in repositories],
        size=image.size_bytes,
        pinned=is_pinned,
    )


def image_user(text: str) -> tuple[int | None, str]:
    """Return the id or the name of the user that an image asks for: one of both, or neither.

    CRI v1, ``Image.uid`` and ``Image.username``; a group after ':' is not told.
    """
    user = text.partition(":")[0][:_USER_MAX]
    if user.isascii() and user.isdigit() and int(user) <= _INT64_MAX:
        return int(user), ""
    return None, user


def _of_manifests(image: Image, files: StoreFiles) -> tuple[set[str], dict[str, str]]:
    """Return the digests that belong to indexes, and the annotations of the image's own manifest."""
    indexes = set()
    for digest in image.digests:
        if "manifests" in _document(image, files, digest):
            indexes.add(digest)
    raw = _document(image, files, image.digest).get("annotations")
    annotations = {}
    room = _ANNOTATIONS_MAX
    for key, value in raw.items() if isinstance(raw, dict) else ():
        if isinstance(value, str) and len(key) + len(value) <= room:
            annotations[key] = value
            room -= len(key) + len(value)
    return indexes, annotations


def _document(image: Image, files: StoreFiles, digest: str) -> dict[str, t.Any]:
    try:
        value = json.loads(files.manifest_document(image, digest))
    except (CoreError, OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def chain_id(diff_ids: t.Sequence[str]) -> str:
    """Return the id of a stack of layers, the lowest first (OCI image specification, «ChainID»)."""
    chain = ""
    for diff_id in diff_ids:
        chain = f"sha256:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}" if chain else diff_id
    return chain


def verbose_info(image: Image, files: StoreFiles, users: t.Sequence[str]) -> dict[str, str]:
    """Return what the verbose status adds, JSON under the key ``info``; raises CoreError."""
    config = json.loads(files.config_document(image))
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    layers = files.layers_of(image)
    info = {
        "chainID": chain_id([str(diff_id) for diff_id in diff_ids or ()]),
        "imageSpec": config,
        "manifestDigest": image.digest,
        "digests": list(image.digests),
        "layers": [
            {
                "id": layer.id,
                "digest": layer.digest,
                "size": layer.size_bytes,
                "compressedSize": layer.compressed_bytes,
            }
            for layer in layers
        ],
        "size": sum(layer.size_bytes for layer in layers) + files.extra_bytes(image),
        "storage": files.root,
        "usedBy": list(users),
    }
    return {"info": json.dumps(info, separators=(",", ":"))}
