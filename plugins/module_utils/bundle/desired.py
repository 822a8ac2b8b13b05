# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a bundle should be, as plain data that compares with the record of one that exists."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container.compare import shape
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    DirectoryMode,
    DirectorySource,
    GivenSource,
    ImageSource,
    RootfsSource,
    StoredSource,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    Image,
    ImageConfig,
    Paths,
    spec_hash,
    to_plain,
)

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What a bundle should be."""

    request: dict[str, t.Any]
    source: dict[str, t.Any]
    #: None while the image is not in the store: it would have to be fetched to know.
    identity: dict[str, t.Any] | None
    #: Equal to that of the record when nothing has to be done; None without an identity.
    spec_hash: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rootfs:
    """What a source has become: directories to stack, or one to use as it is."""

    layers: tuple[str, ...]
    config: ImageConfig
    identity: dict[str, t.Any]
    #: Absolute path of a directory that is used directly.
    direct: str | None = None
    image: Image | None = None


def desired_bundle(
    spec: ContainerSpec,
    source: RootfsSource,
    identity: dict[str, t.Any] | None,
    network_namespace: str | None,
) -> Desired:
    """Return what a bundle made of these would record."""
    request = to_plain(spec)
    return Desired(
        request=request,
        source=source.as_plain(),
        identity=identity,
        spec_hash=None if identity is None else bundle_hash(request, identity, network_namespace),
    )


def bundle_hash(
    request: dict[str, t.Any], identity: t.Mapping[str, t.Any], network_namespace: str | None
) -> str:
    """Return the hash that tells whether a bundle is what is asked for.

    The digest of an image is no part of it: the same image has several.  Nor is the
    order of what has none, such as labels.
    """
    what = {key: value for key, value in identity.items() if key != "digest"}
    return spec_hash(
        {"request": shaped_request(request), "identity": what, "network_namespace": network_namespace}
    )


def shaped_request(request: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return a recorded request in the form that compares: without name, secret variables apart."""
    plain = {key: value for key, value in request.items() if key not in ("secret_env", "name")}
    secret = request.get("secret_env")
    if secret:
        plain["secret_env"] = [pair for pair in plain["env"] if pair[0] in secret]
        plain["env"] = [pair for pair in plain["env"] if pair[0] not in secret]
    return shape(plain)


def find_rootfs(source: RootfsSource, store: ImageStore, paths: Paths) -> Rootfs | None:
    """Return the root file system of a source, or None when it has to be fetched first."""
    source.check()
    if isinstance(source, DirectorySource):
        return _of_directory(source, paths)
    if isinstance(source, GivenSource):
        return _of_image(source.image, source)
    image = store.find(source)
    return None if image is None else _of_image(image, source)


def fetch_rootfs(source: RootfsSource, store: ImageStore, paths: Paths) -> Rootfs:
    """Return the root file system of a source, fetched if its policy asks for that."""
    source.check()
    if isinstance(source, DirectorySource):
        return _of_directory(source, paths)
    image = source.image if isinstance(source, GivenSource) else store.ensure(source)[0]
    return _of_image(image, source)


def _of_image(image: Image, source: RootfsSource) -> Rootfs:
    identity: dict[str, t.Any]
    if isinstance(source, ImageSource | StoredSource | GivenSource):
        # The id covers configuration and layers; digests differ between registries and archives.
        identity = {"image": image.id, "digest": image.digest}
    else:
        # An image made of a bare archive carries the time of the import: only its content counts.
        identity = {"layers": [os.path.basename(os.path.dirname(path)) for path in image.layer_dirs]}
    return Rootfs(layers=image.layer_dirs, config=image.config, identity=identity, image=image)


def _of_directory(source: DirectorySource, paths: Paths) -> Rootfs:
    path = os.path.realpath(source.path)
    if not os.path.isdir(path):
        raise NotFound(f"directory {source.path} does not exist", hint="Check the path on the target host")
    state = os.path.realpath(paths.state_dir)
    if path in ("/", state) or state.startswith(path + "/"):
        raise InvalidSpec("directory", f"{source.path} contains the bundles themselves ({state})")
    is_direct = source.mode is DirectoryMode.DIRECT
    return Rootfs(
        layers=() if is_direct else (path,),
        config=ImageConfig(),
        identity={"directory": path, "mode": source.mode.value},
        direct=path if is_direct else None,
    )
