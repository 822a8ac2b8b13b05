# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a containers-storage directory without starting anything.

    overlay-images/images.json        images: id, names, top layer
    overlay-images/<id>/…             their manifests and configurations
    overlay-layers/layers.json        layers and their parents
    overlay/<layer>/diff              what a layer holds

The files are written by skopeo, podman and others through the library
containers/storage.  It replaces both lists by renaming, adds layers before
the image that needs them and takes them away after it; so a reader that takes
the images first sees nothing half-made and needs no lock.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.images import store_edit
from ansible_collections.pvecri.runtime.plugins.module_utils.images.config import parse_image_config
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store_edit import (
    INCOMPLETE,
    REMOVING,
    has_flag,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image, Json

_PLAIN_KEY = re.compile(r"[0-9a-z.]+")
_CONFIG_KEY = re.compile(r"[a-z0-9]+:[0-9a-f]{32,}")
_MANIFEST_KEY = "manifest-"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What the store says of one layer."""

    id: str
    #: Digest of the blob that was fetched.
    digest: str
    #: Of the content, unpacked.
    size_bytes: int
    #: Of the blob; 0 when it is not known.
    compressed_bytes: int


class StoreFiles:
    """The files below one graph root; nothing is read before it is asked for."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._cache: dict[str, tuple[tuple[int, int, int], t.Any]] = {}
        self._images: dict[str, tuple[Json, Image]] = {}
        self._visible: tuple[list[Json], list[Json]] | None = None
        self._guard = threading.Lock()

    def all(self) -> list[Image]:
        """Return all images that are whole, in the order of the store."""
        return [image for raw in self._image_list() if (image := self._readable(raw)) is not None]

    def by_id(self, image_id: str) -> Image | None:
        """Return the image with this id (64 hexadecimal digits), if it is there and whole."""
        return self._first(lambda raw: raw.get("id") == image_id)

    def by_name(self, name: str) -> Image | None:
        """Return the image that bears this full name, if it is there and whole."""
        return self._first(lambda raw: name in (raw.get("names") or ()))

    def by_digest(self, repository: str, digest: str) -> Image | None:
        """Return the image that bears a name of ``repository`` and was fetched by ``digest``."""

        def matches(raw: Json) -> bool:
            if f"{_MANIFEST_KEY}{digest}" not in (raw.get("big-data-names") or ()):
                return False
            return any(_repository_of(name) == repository for name in raw.get("names") or ())

        return self._first(matches)

    def broken_ids(self) -> list[str]:
        """Return the ids of images that the store lists, but of which a part is missing."""
        return [raw["id"] for raw in self._image_list() if self._is_broken(raw)]

    def unusable_ids(self) -> list[str]:
        """Return the ids of images that are broken, or whose configuration makes no sense."""
        return [raw["id"] for raw in self._image_list() if self._readable(raw) is None]

    def id_of(self, name: str) -> str | None:
        """Return the id of the image that bears this full name, whether or not it can be used."""
        return next((raw["id"] for raw in self._image_list() if name in (raw.get("names") or ())), None)

    def has_other_content(self, image: Image) -> bool:
        """Say whether the layers are not those that the image's configuration lists (``diff_ids``).

        The manifest vouches for the layers that were fetched and for the configuration,
        but nobody else compares the two (OCI image specification, config.md, «rootfs»).
        """
        raw = next((raw for raw in self._image_list() if raw.get("id") == image.id), None)
        chain = self._chain((raw or {}).get("layer") or "")
        if raw is None or chain is None:
            return True
        key = next(key for key in raw["big-data-names"] if _CONFIG_KEY.fullmatch(key))
        rootfs = json.loads(self._big_data(image.id, key)).get("rootfs") or {}
        expected = list(reversed(rootfs.get("diff_ids") or ()))
        actual = [layer.get("diff-digest") for layer in chain]
        if len(expected) != len(actual):
            return True
        # A layer that was fetched in pieces has no digest of its whole.
        return any(one and one != other for one, other in zip(actual, expected, strict=True))

    def stamp(self) -> tuple[t.Any, ...]:
        """Return what changes whenever an image or a layer comes or goes; two calls of stat(2)."""
        return tuple(
            _stamp(self._path(*parts))
            for parts in (("overlay-images", "images.json"), ("overlay-layers", "layers.json"))
        )

    def config_document(self, image: Image) -> bytes:
        """Return the image's configuration as it was fetched; raises NotFound."""
        raw = self._raw(image.id)
        key = next(key for key in raw["big-data-names"] if _CONFIG_KEY.fullmatch(key))
        return self._document(image.id, key)

    def manifest_document(self, image: Image, digest: str) -> bytes:
        """Return one of the image's manifests (or the index it was fetched by); raises NotFound."""
        keys = self._raw(image.id).get("big-data-names") or ()
        listed = f"{_MANIFEST_KEY}{digest}"
        # Old stores have the image's own manifest under its plain name only.
        return self._document(image.id, listed if listed in keys else "manifest")

    def layers_of(self, image: Image) -> list[Layer]:
        """Return what the store says of the image's layers, the lowest first; raises NotFound."""
        chain = self._chain(self._raw(image.id).get("layer") or "") or []
        return [
            Layer(
                id=raw["id"],
                digest=raw.get("compressed-diff-digest") or raw.get("diff-digest") or "",
                size_bytes=max(0, raw.get("diff-size", 0)),
                compressed_bytes=max(0, raw.get("compressed-size", 0)),
            )
            for raw in reversed(chain)
        ]

    def layers(self) -> dict[str, int]:
        """Return the size in bytes of the content of every whole layer, by its id."""
        return {
            key: max(0, raw.get("diff-size", 0))
            for key, raw in self._layers().items()
            if not has_flag(raw, INCOMPLETE)
        }

    def extra_bytes(self, image: Image) -> int:
        """Return how much the image's manifests, configuration and signatures take; raises NotFound."""
        sizes = self._raw(image.id).get("big-data-sizes") or {}
        return sum(size for size in sizes.values() if isinstance(size, int) and size > 0)

    def condemned_ids(self) -> list[str]:
        """Return the ids of images that are being removed, or whose removal was cut short."""
        return [raw["id"] for raw in self._everything() if has_flag(raw, REMOVING)]

    # ---- changing: the caller holds the store -----------------------------------------------------------

    def untag(self, name: str) -> None:
        """Take ``name`` from the image that bears it."""
        store_edit.untag(self.root, name)

    def condemn(self, image_id: str) -> None:
        """Make an image one that is not found any more; it is still to be deleted."""
        store_edit.condemn_image(self.root, image_id)

    # ---- reading ------------------------------------------------------------------------------------------

    def _readable(self, raw: Json) -> Image | None:
        """Return the image, or None when it is not whole or its configuration makes no sense.

        One that is asked for says what is wrong with it; it does not stand in the way of others.
        """
        try:
            return self._whole(raw)
        except InvalidSpec:
            return None

    def _is_broken(self, raw: Json) -> bool:
        try:
            return self._whole(raw) is None
        except InvalidSpec:
            return False

    def _first(self, matches: t.Callable[[Json], bool]) -> Image | None:
        for raw in self._image_list():
            if matches(raw) and (image := self._whole(raw)) is not None:
                return image
        return None

    def _path(self, *parts: str) -> str:
        return os.path.join(self.root, *parts)

    def _everything(self) -> list[Json]:
        return t.cast("list[Json]", self._json("overlay-images", "images.json", index=False))

    def _image_list(self) -> list[Json]:
        """Return the images that can be found: those on their way out cannot."""
        everything = self._everything()
        with self._guard:
            if self._visible is None or self._visible[0] is not everything:
                self._visible = (everything, [raw for raw in everything if not has_flag(raw, REMOVING)])
            return self._visible[1]

    def _layers(self) -> dict[str, Json]:
        layers = dict(self._json("overlay-layers", "layers.json", index=True))
        # Layers of containers that need not outlive a reboot stand in a list of their own.
        layers.update(self._json("overlay-layers", "volatile-layers.json", index=True))
        return layers

    def _json(self, folder: str, name: str, *, index: bool) -> t.Any:
        """Return the parsed list, from memory as long as the file is the same."""
        path = self._path(folder, name)
        stamp = _stamp(path)
        if stamp is None:
            return {} if index else []
        with self._guard:
            cached = self._cache.get(path)
            if cached is not None and cached[0] == stamp:
                return cached[1]
        try:
            value = json.loads(_read(path) or b"[]")
            by_id = {raw["id"]: raw for raw in value}
            self._keep_same(path, by_id)
            parsed = by_id if index else list(by_id.values())
        except (ValueError, TypeError, KeyError) as exc:
            raise WrongState(
                f"the image store's file {path} is damaged", hint="Restore it, or move the store away"
            ) from exc
        with self._guard:
            self._cache[path] = (stamp, parsed)
            if not index:
                self._images = {key: kept for key, kept in self._images.items() if key in by_id}
        return parsed

    def _keep_same(self, path: str, by_id: dict[str, Json]) -> None:
        """Keep the entries that are the same as before: what was built from them is still good."""
        with self._guard:
            cached = self._cache.get(path)
        if cached is None:
            return
        old = cached[1]
        for raw in list(old.values() if isinstance(old, dict) else old):
            if by_id.get(raw["id"]) == raw:
                by_id[raw["id"]] = raw

    def _whole(self, raw: Json) -> Image | None:
        """Return the image, or None when a part of it is missing: then it is fetched again."""
        with self._guard:
            cached = self._images.get(raw["id"])
        if cached is not None and cached[0] is raw:
            image = cached[1]
        else:
            built = self._build(raw)
            if built is None:
                return None
            image = built
            with self._guard:
                self._images[raw["id"]] = (raw, image)
        return image if all(os.path.isdir(path) for path in image.layer_dirs) else None

    def _build(self, raw: Json) -> Image | None:
        chain = self._chain(raw.get("layer") or "")
        keys = raw.get("big-data-names") or []
        config_key = next((key for key in keys if _CONFIG_KEY.fullmatch(key)), None)
        if chain is None or config_key is None:
            return None
        try:
            document = json.loads(self._big_data(raw["id"], config_key))
        except (FileNotFoundError, ValueError):
            return None
        except RecursionError as exc:
            raise InvalidSpec("image", "its configuration is nested too deeply") from exc
        digests = raw.get("big-data-digests") or {}
        listed = [key.removeprefix(_MANIFEST_KEY) for key in keys if key.startswith(_MANIFEST_KEY)]
        own = digests.get("manifest") or raw.get("digest") or ""
        return Image(
            id=raw["id"],
            digest=own,
            digests=tuple(dict.fromkeys([own, *listed])),
            names=tuple(raw.get("names") or ()),
            config=parse_image_config(document),
            layer_dirs=tuple(self._path("overlay", layer["id"], "diff") for layer in chain),
            size_bytes=sum(max(0, layer.get("diff-size", 0)) for layer in chain),
        )

    def _chain(self, top: str) -> list[Json] | None:
        """Return the layers from the topmost down; None when one is missing or half unpacked."""
        layers = self._layers()
        chain: list[Json] = []
        while top:
            layer = layers.get(top)
            if layer is None or has_flag(layer, INCOMPLETE) or len(chain) > len(layers):
                return None
            chain.append(layer)
            top = layer.get("parent") or ""
        return chain

    def _big_data(self, image_id: str, key: str) -> bytes:
        name = key if _PLAIN_KEY.fullmatch(key) else "=" + base64.b64encode(key.encode()).decode()
        return _read(self._path("overlay-images", image_id, name))

    def _raw(self, image_id: str) -> Json:
        raw = next((raw for raw in self._image_list() if raw.get("id") == image_id), None)
        if raw is None:
            raise NotFound(f"image {image_id} is no longer in the image store")
        return raw

    def _document(self, image_id: str, key: str) -> bytes:
        try:
            return self._big_data(image_id, key)
        except FileNotFoundError as exc:
            raise NotFound(f"image {image_id} has lost its {key}", hint="Fetch it again") from exc


def _stamp(path: str) -> tuple[int, int, int] | None:
    """Return what tells one content of a file from the next; None when there is no file."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def _repository_of(name: str) -> str:
    head = name.partition("@")[0]
    colon = head.rfind(":")
    return head if colon == -1 or "/" in head[colon:] else head[:colon]


DEFAULT_HOST_ROOT = "/var/lib/containers/storage"
_HOST_CONFIGS = ("/etc/containers/storage.conf", "/usr/share/containers/storage.conf")


def host_store_root(configs: t.Sequence[str] = _HOST_CONFIGS) -> str:
    """Return the graph root of the host's shared store, as containers-storage.conf(5) says."""
    import tomllib  # noqa: PLC0415 - rarely needed, and the modules' start time counts

    for path in configs:
        try:
            with open(path, "rb") as stream:
                root = tomllib.load(stream).get("storage", {}).get("graphroot")
        except FileNotFoundError:
            continue
        except tomllib.TOMLDecodeError as exc:
            raise WrongState(f"{path} is no TOML: {exc}", hint="Repair the file") from exc
        return root if isinstance(root, str) and root else DEFAULT_HOST_ROOT
    return DEFAULT_HOST_ROOT


_SPECIFIER = re.compile(r"\[(?:[a-z0-9]*@)?(?P<root>/[^+:\]]*)?[^\]]*\](?P<name>.*)")


def find_in_host_store(name: str) -> Image:
    """Return the image behind ``containers-storage:name``; the name may begin with a store in brackets.

    Raises NotFound.
    """
    from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import (  # noqa: PLC0415
        ImageReference,
    )

    match = _SPECIFIER.fullmatch(name)
    root = (match["root"] if match else None) or host_store_root()
    plain = match["name"] if match else name
    files = StoreFiles(root)
    if plain.startswith("@"):
        image = files.by_id(plain[1:].removeprefix("sha256:"))
    else:
        image = files.by_name(ImageReference.parse(plain).pullable)
    if image is None:
        raise NotFound(
            f"the image store {root} holds no image '{plain}'", hint="List it with 'podman images'"
        )
    return image
