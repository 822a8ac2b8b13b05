# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make OCI images for tests, byte by byte, so that a test can also make bad ones.

    layout = OciLayout(tmp_path / "layout")
    layout.add_image("latest", [busybox_layer(), tar_layer([File("etc/motd", b"hi")])], {"Cmd": ["sh"]})

The layers are written with Python's tarfile, the manifests as the OCI image
specification 1.1 has them.  Contents depend on the arguments alone, so that
the same call gives the same digests everywhere.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import io
import json
import os
import pathlib
import tarfile
import typing as t

BUSYBOX = "/bin/busybox"

#: The applets that the test image links to busybox.
APPLETS = [
    *("sh", "ash", "cat", "ls", "echo", "sleep", "true", "false", "env", "id", "pwd", "mkdir", "rm", "cp"),
    *("mv", "touch", "chmod", "chown", "ln", "stat", "test", "[", "printf", "grep", "sed", "awk", "head"),
    *("tail", "wc", "sort", "cut", "tr", "date", "hostname", "uname", "ps", "kill", "mount", "umount", "df"),
    *(
        "du",
        "find",
        "xargs",
        "ip",
        "ping",
        "nc",
        "wget",
        "httpd",
        "vi",
        "which",
        "whoami",
        "tee",
        "seq",
        "dd",
    ),
    *("od", "md5sum", "sha256sum", "tar", "gzip", "nproc", "ulimit", "su"),
]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

CREATED = "2026-01-01T00:00:00Z"


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """One entry of a layer; ``kind`` is a type of tarfile, ``link`` the target of a link."""

    path: str
    content: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    kind: bytes = tarfile.REGTYPE
    link: str = ""
    device: tuple[int, int] = (0, 0)
    #: Extended attributes by name, as pax headers carry them.
    xattrs: dict[str, bytes] = dataclasses.field(default_factory=dict)


def directory(path: str, mode: int = 0o755, **more: t.Any) -> File:
    """Return the entry of a directory."""
    return File(path, mode=mode, kind=tarfile.DIRTYPE, **more)


def symlink(path: str, target: str) -> File:
    """Return the entry of a symbolic link."""
    return File(path, mode=0o777, kind=tarfile.SYMTYPE, link=target)


def hard_link(path: str, target: str, mode: int = 0o644) -> File:
    """Return the entry of a hard link; some tools give the file the link's mode."""
    return File(path, mode=mode, kind=tarfile.LNKTYPE, link=target)


def tar_layer(entries: t.Iterable[File]) -> bytes:
    """Return an uncompressed layer with ``entries`` in their order."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.path)
            info.type, info.mode, info.uid, info.gid = entry.kind, entry.mode, entry.uid, entry.gid
            info.size, info.linkname, info.mtime = len(entry.content), entry.link, 1767225600
            info.devmajor, info.devminor = entry.device
            # tarfile writes str pax headers only: surrogates carry bytes that are no UTF-8.
            info.pax_headers = {
                f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape")
                for name, value in entry.xattrs.items()
            }
            archive.addfile(info, io.BytesIO(entry.content))
    return stream.getvalue()


def busybox_files() -> list[File]:
    """Return the root file system of a small image: busybox, its links, users, usual directories."""
    passwd = (
        b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\nweb:x:1000:1000::/home/web:/bin/sh\n"
    )
    group = b"root:x:0:\ndaemon:x:1:\nweb:x:1000:\nextra:x:2000:web\n"
    return [
        *(directory(name) for name in ("bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "var")),
        directory("home/web", uid=1000, gid=1000),
        directory("tmp", 0o1777),
        File("bin/busybox", pathlib.Path(BUSYBOX).read_bytes(), 0o755),
        *(symlink(f"bin/{applet}", "busybox") for applet in APPLETS),
        File("etc/passwd", passwd),
        File("etc/group", group),
    ]


@functools.lru_cache(maxsize=1)
def busybox_layer() -> bytes:
    """Return the layer of `busybox_files`; it needs Debian's package busybox-static."""
    return tar_layer(busybox_files())


def write_rootfs(path: str | os.PathLike[str]) -> str:
    """Write `busybox_files` to a directory and return its path."""
    os.makedirs(path, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(busybox_layer())) as archive:
        # Debian 12's Python has no filters yet, later ones want to be told.
        if hasattr(tarfile, "fully_trusted_filter"):
            archive.extraction_filter = tarfile.fully_trusted_filter
        archive.extractall(path)
    return str(path)


def digest_of(data: bytes) -> str:
    """Return the digest of ``data`` in the form ``sha256:…``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: t.Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class OciLayout:
    """An OCI image layout directory that images are added to."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = str(path)
        self._entries: list[dict[str, t.Any]] = []
        os.makedirs(os.path.join(self.path, "blobs", "sha256"), exist_ok=True)
        pathlib.Path(self.path, "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
        self._write_index()

    def blob_path(self, digest: str) -> pathlib.Path:
        """Return the file of a blob."""
        return pathlib.Path(self.path, "blobs", *digest.split(":"))

    def add_blob(self, data: bytes, media_type: str) -> dict[str, t.Any]:
        """Store ``data`` and return its descriptor."""
        digest = digest_of(data)
        self.blob_path(digest).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def add_image(
        self,
        ref: str | None,
        layers: t.Sequence[bytes],
        config: t.Mapping[str, t.Any] | None = None,
        *,
        architecture: str = "amd64",
        variant: str | None = None,
        compress: bool = True,
        docker: bool = False,
        annotations: t.Mapping[str, str] | None = None,
    ) -> str:
        """Add an image of uncompressed ``layers`` and return the digest of its manifest.

        ``config`` is the inner object of the image configuration (Cmd, Env, …).  With
        ``ref`` None the image is stored but not listed, as the members of an index are.
        """
        platform = {"architecture": architecture, "os": "linux", **({"variant": variant} if variant else {})}
        whole = {
            "created": CREATED,
            **platform,
            "config": dict(config or {}),
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
            "history": [{"created": CREATED, "created_by": "test"} for _unused in layers],
        }
        layer_type = DOCKER_LAYER if docker else OCI_LAYER + ("+gzip" if compress else "")
        packed = [gzip.compress(layer, 1, mtime=0) if compress else layer for layer in layers]
        manifest = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
            "config": self.add_blob(_json(whole), DOCKER_CONFIG if docker else OCI_CONFIG),
            "layers": [self.add_blob(layer, layer_type) for layer in packed],
            **({"annotations": dict(annotations)} if annotations else {}),
        }
        descriptor = self.add_blob(_json(manifest), DOCKER_MANIFEST if docker else OCI_MANIFEST)
        if ref is not None:
            self._list(ref, descriptor)
        return t.cast("str", descriptor["digest"])

    def add_index(self, ref: str, members: t.Mapping[str, str]) -> str:
        """Add an index of ``{"architecture[/variant]": manifest digest}`` and return its digest."""
        manifests = []
        for platform, digest in members.items():
            architecture, _unused, variant = platform.partition("/")
            manifests.append(
                {
                    "mediaType": OCI_MANIFEST,
                    "digest": digest,
                    "size": self.blob_path(digest).stat().st_size,
                    "platform": {
                        "architecture": architecture,
                        "os": "linux",
                        **({"variant": variant} if variant else {}),
                    },
                }
            )
        data = _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})
        descriptor = self.add_blob(data, OCI_INDEX)
        self._list(ref, descriptor)
        return t.cast("str", descriptor["digest"])

    def _list(self, ref: str, descriptor: dict[str, t.Any]) -> None:
        annotations = {"org.opencontainers.image.ref.name": ref}
        self._entries = [entry for entry in self._entries if entry["annotations"] != annotations]
        self._entries.append({**descriptor, "annotations": annotations})
        self._write_index()

    def _write_index(self) -> None:
        pathlib.Path(self.path, "index.json").write_bytes(
            _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self._entries})
        )


def busybox_image(path: str | os.PathLike[str], **more: t.Any) -> OciLayout:
    """Make a layout at ``path`` with one busybox image that runs a shell."""
    layout = OciLayout(path)
    config = {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], **more.pop("config", {})}
    layout.add_image("latest", [busybox_layer()], config, **more)
    return layout
