# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write an image of the store as an OCI archive that Proxmox VE makes containers of.

The layers go in as they are, not compressed: nothing is packed here to be unpacked
there, and each is checked against the digest that the image's configuration gives it
while it is written.  Image for image the archive is the same, byte for byte.

The configuration in it is one of our own.  Proxmox VE writes an image's variables,
user, directory, command and stop signal into the container's config, where a line
break breaks the file and each raw line outlives what the container is really run
with; so there are none.
Source: OCI Image Layout and Image Configuration (image-spec 1.1); proxmox-oci and
``PVE/API2/LXC.pm``, which want members named exactly ``oci-layout``, ``index.json``
and ``blobs/…``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import tarfile
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.files import sync_directory
from ansible_collections.pvecri.runtime.plugins.module_utils.images.layer_tar import pack_layer
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store_files import StoreFiles
from ansible_collections.pvecri.runtime.plugins.module_utils.images.tar_split import (
    NoArchive,
    Sink,
    copy_layer,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def write_archive(image: Image, files: StoreFiles, target: str) -> int:
    """Write ``image`` of the store ``files`` to the file ``target`` and return its size in bytes.

    The file is whole and synced when it appears; whatever goes wrong leaves nothing.
    ``target`` is replaced.  A layer that the store cannot give back as it came is packed anew.
    Raises WrongState for layers that are not those of the image's configuration, and CoreError
    made from the OSError of a write.
    """
    diff_ids = _diff_ids(files.config_document(image))
    layers = list(reversed(image.layer_dirs))
    if len(layers) != len(diff_ids):
        raise WrongState(
            f"image {image.id} has {len(layers)} layers in the store, {len(diff_ids)} in its configuration",
            hint="Remove the image and pull it again",
        )
    directory, name = os.path.split(target)
    # Not *.tar before it is whole: an aborted copy must never pass for a template.
    temporary = os.path.join(directory, f".{name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb", buffering=0) as stream:
            archive = _Archive(stream)
            archive.add_image(image, list(zip(diff_ids, layers, strict=True)))
            size = archive.finish()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
        os.rename(temporary, target)
        sync_directory(directory)
    except OSError as exc:
        raise CoreError(
            f"the archive of image {image.id} cannot be written to {target}: {exc.strerror}",
            hint="Make room there, or see that the storage is mounted and writable",
        ) from exc
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return size


def archive_config(image: Image, diff_ids: t.Sequence[str]) -> bytes:
    """Return the configuration that goes into the archive.  Pure."""
    document = {
        "architecture": image.config.architecture,
        **({"variant": image.config.variant} if image.config.variant else {}),
        "os": image.config.os,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [{"created_by": "pvecri"} for _layer in diff_ids],
    }
    return _json(document)


class _Archive:
    """An OCI archive that is being written to a file."""

    def __init__(self, stream: t.BinaryIO) -> None:
        self._stream = stream
        self._offset = 0

    def add_image(self, image: Image, layers: t.Sequence[tuple[str, str]]) -> None:
        """Write layers, configuration, manifest, index and the file that says what this is.

        ``layers`` are digests and directories, the lowest first.
        """
        written: dict[str, tuple[str, int]] = {}
        for diff_id, layer_dir in layers:
            if diff_id not in written:
                written[diff_id] = self._add_layer(diff_id, layer_dir)
        found = [written[diff_id] for diff_id, _dir in layers]
        config = self._add_json(archive_config(image, [digest for digest, _size in found]))
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, **config},
            "layers": [{"mediaType": _LAYER, "digest": digest, "size": size} for digest, size in found],
        }
        descriptor = {"mediaType": _MANIFEST, **self._add_json(_json(manifest))}
        self._add_member("index.json", _json({"schemaVersion": 2, "manifests": [descriptor]}))
        self._add_member("oci-layout", _LAYOUT)

    def finish(self) -> int:
        """Write the end of the archive and return its size."""
        size = -(-(self._offset + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
        self._stream.truncate(self._offset)
        self._stream.truncate(size)
        return size

    def _add_layer(self, diff_id: str, layer_dir: str) -> tuple[str, int]:
        """Write a layer and return its digest, which is ``diff_id`` if it came back as it was, and size."""
        try:
            digest, size = self._stream_layer(copy_layer, layer_dir)
        except NoArchive:
            digest, size = self._stream_layer(pack_layer, layer_dir)
        else:
            if digest != diff_id:
                raise WrongState(
                    f"the layer {layer_dir} has become {digest}; the image's configuration says {diff_id}",
                    hint="A file of it was changed in the store: remove the image and pull it again",
                )
        # Only now is its size known, and so its header.
        self._put_header(_blob_name(digest), size, self._offset)
        self._skip(size)
        return digest, size

    def _stream_layer(self, copy: t.Callable[[str, Sink], int], layer_dir: str) -> tuple[str, int]:
        hashed = hashlib.sha256()

        def write(piece: memoryview) -> None:
            hashed.update(piece)
            self._write(piece)

        self._stream.seek(self._offset + tarfile.BLOCKSIZE)
        size = copy(layer_dir, write)
        return f"sha256:{hashed.hexdigest()}", size

    def _add_json(self, data: bytes) -> dict[str, t.Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self._add_member(_blob_name(digest), data)
        return {"digest": digest, "size": len(data)}

    def _add_member(self, name: str, data: bytes) -> None:
        self._put_header(name, len(data), self._offset)
        self._stream.seek(self._offset + tarfile.BLOCKSIZE)
        self._write(memoryview(data))
        self._skip(len(data))

    def _skip(self, size: int) -> None:
        """Go behind a member; what pads it may hold the end of a layer that was given up."""
        end = self._offset + tarfile.BLOCKSIZE + size
        self._offset = _padded(end)
        os.pwrite(self._stream.fileno(), bytes(self._offset - end), end)

    def _put_header(self, name: str, size: int, offset: int) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o644
        header = member.tobuf(tarfile.GNU_FORMAT)
        os.pwrite(self._stream.fileno(), header, offset)

    def _write(self, data: memoryview) -> None:
        while data:
            data = data[self._stream.write(data) :]


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _json(document: t.Mapping[str, t.Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _diff_ids(config: bytes) -> list[str]:
    try:
        found = json.loads(config)["rootfs"]["diff_ids"]
        if all(str(digest).startswith("sha256:") for digest in found):
            return [str(digest) for digest in found]
    except (ValueError, KeyError, TypeError) as exc:
        raise WrongState("the image's configuration lists no layers", hint="Pull the image again") from exc
    raise WrongState(
        "the image's configuration names layers by another digest than sha256", hint="Build it again"
    )
