# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare what is asked for with a container's config and return the least that must change.

Pure.  Only what the spec names is compared; a named entry is compared both ways,
so an additional key of ``net0`` is a difference.  What the server adds by itself
(MAC addresses, volume ids, sizes) is carried over, never generated anew.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.diff import DifferenceTracker
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_keys as keys
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import props
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import (
    TAG,
    TAG_CRI,
    TAG_INTENT,
    Comparison,
    Disk,
    LxcSpec,
    RawLines,
)

Config = t.Mapping[str, t.Any]


@dataclasses.dataclass(slots=True)
class Delta:
    """The least that must change; empty when nothing must."""

    #: Config keys to PUT, rendered for the API.
    put: dict[str, str | int] = dataclasses.field(default_factory=dict)
    delete: list[str] = dataclasses.field(default_factory=list)
    #: Disk → size in bytes to grow to.
    resize: dict[str, int] = dataclasses.field(default_factory=dict)
    #: Disk → storage to move to.
    move: dict[str, str] = dataclasses.field(default_factory=dict)
    raw: RawLines = dataclasses.field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.put or self.delete or self.resize or self.move or self.raw)


class Comparer:
    """Collect the delta and the differences of one container."""

    def __init__(self, spec: LxcSpec, config: Config, tracker: DifferenceTracker) -> None:
        self.spec = spec
        self.config = config
        self.tracker = tracker
        self.delta = Delta()

    def compare(self, *, adopt: bool = True, intent_tag: str | None = None) -> Delta:
        """Return the delta; ``adopt`` marks the container as ours.

        ``intent_tag`` is the tag that remembers the intent; without one it is
        dropped as soon as anything changes.  It is no difference of its own.
        """
        spec = self.spec
        self._scalars()
        self._propstring("startup", spec.startup, props.STARTUP)
        if not self._ignored("features"):
            self._features()
        self._entries("networks", "net", spec.networks, props.NET)
        self._entries("devices", "dev", spec.devices, props.DEVICE)
        if spec.rootfs is not None:
            self._disk("rootfs", spec.rootfs, props.ROOTFS)
        self._mounts()
        self._env()
        self._raw()
        self._unset()
        self._tags(adopt=adopt, intent_tag=intent_tag)
        return self.delta

    # ---- helpers

    def _ignored(self, name: str) -> bool:
        return self.spec.comparison(name) is Comparison.IGNORE

    def _set(self, key: str, value: str | int) -> None:
        """Change a key; an empty value means to delete it, as the server would store a blank."""
        if value == "":
            self._delete(key)
        else:
            self.delta.put[key] = value

    def _delete(self, key: str) -> None:
        if key in self.config and key not in self.delta.delete:
            self.delta.delete.append(key)

    def _present(self, name: str) -> list[str]:
        """Return the keys of an indexed kind that the container has, in order."""
        return sorted((k for k in self.config if keys.is_indexed(k, name)), key=keys.index_order)

    # ---- one value

    def _scalars(self) -> None:
        for key, wanted in self.spec.scalars.items():
            present = self.config.get(key)
            if keys.equal(key, wanted, present):
                continue
            shown = None if present is None else keys.typed(key, present)
            self.tracker.add(key, shown, wanted)
            self._set(key, keys.rendered(wanted))

    def _propstring(self, key: str, wanted: props.Props | None, schema: props.Schema) -> None:
        if wanted is None:
            return
        present = props.actual(self.config.get(key), schema)
        if self.tracker.add(
            key, props.meaning(present, schema) or None, props.meaning(wanted, schema) or None
        ):
            self._set(key, props.render(props.meaning(wanted, schema), schema))

    def _features(self) -> None:
        wanted = self.spec.features
        if wanted is None:
            return
        if self.spec.comparisons.get("features") is Comparison.ALLOW_MORE:
            wanted = {**props.actual(self.config.get("features"), props.FEATURES), **wanted}
        self._propstring("features", wanted, props.FEATURES)

    # ---- entries

    def _entries(
        self, name: str, key: str, wanted: t.Mapping[str, props.Props | None], schema: props.Schema
    ) -> None:
        if self._ignored(name):
            return
        for entry, value in wanted.items():
            present = props.actual(self.config.get(entry), schema)
            if value is None:
                self._remove_entry(name, entry)
                continue
            full = props.carried(value, present, schema)
            before, after = props.meaning(present, schema), props.meaning(full, schema)
            if self.tracker.add(f"{name}.{entry}", before or None, after):
                self._set(entry, props.render(full, schema))
        self._remove_unnamed(name, key, wanted)

    def _remove_unnamed(self, name: str, key: str, wanted: t.Container[str]) -> None:
        if self.spec.comparison(name) is Comparison.STRICT:
            for entry in self._present(key):
                if entry not in wanted:
                    self._remove_entry(name, entry)

    def _remove_entry(self, name: str, entry: str) -> None:
        if entry in self.config:
            self.tracker.add(f"{name}.{entry}", str(self.config[entry]), None)
            self._delete(entry)

    def _mounts(self) -> None:
        if self._ignored("mounts"):
            return
        for entry, disk in self.spec.mounts.items():
            if disk is None:
                self._remove_entry("mounts", entry)
            else:
                self._disk(entry, disk, props.MOUNT)
        self._remove_unnamed("mounts", "mp", self.spec.mounts)

    # ---- disks

    def _disk(self, entry: str, wanted: Disk, schema: props.Schema) -> None:
        present = props.actual(self.config.get(entry), schema)
        name = entry if entry == "rootfs" else f"mounts.{entry}"
        volume = present.get("volume", "")
        keeps_volume = bool(volume) and not volume.startswith("/")
        if wanted.volume is not None:
            keeps_volume = keeps_volume and volume == wanted.volume
        elif not keeps_volume:
            self._new_volume(name, entry, wanted, schema, present)
            return
        full: props.Props = {**wanted.props, "volume": wanted.volume or volume}
        if keeps_volume and "size" in present:
            # The text of a size is not the size: growing is a request of its own.
            full["size"] = present["size"]
        if self.tracker.add(name, props.meaning(present, schema) or None, props.meaning(full, schema)):
            self._set(entry, props.render(full, schema))
        if keeps_volume:
            self._storage_and_size(name, entry, wanted, present)

    def _new_volume(
        self, name: str, entry: str, wanted: Disk, schema: props.Schema, present: props.Props
    ) -> None:
        value = new_volume(wanted, self.spec.creation.storage or self._home_storage(), name)
        full = {**wanted.props, "volume": value}
        self.tracker.add(name, props.meaning(present, schema) or None, full)
        self._set(entry, props.render(full, schema))

    def _home_storage(self) -> str | None:
        """Return the storage that the container's rootfs is on."""
        volume = props.actual(self.config.get("rootfs"), props.ROOTFS).get("volume", "")
        return volume.partition(":")[0] if ":" in volume and not volume.startswith("/") else None

    def _storage_and_size(self, name: str, entry: str, wanted: Disk, present: props.Props) -> None:
        storage = present["volume"].partition(":")[0]
        if wanted.storage and wanted.storage != storage:
            self.tracker.add(f"{name}.storage", storage, wanted.storage)
            self.delta.move[entry] = wanted.storage
        size = props.parse_size(present["size"], name) if present.get("size", "").strip("0") else None
        if not wanted.size_bytes or size is None or wanted.size_bytes == size:
            return
        if wanted.size_bytes < size:
            raise InvalidSpec(
                f"{name}.size",
                f"{props.format_size(wanted.size_bytes)} is less than the {props.format_size(size)} that "
                f"{self.spec.label} has, and disks cannot shrink",
                hint="Name the present size, or move the data to a new and smaller mount point",
            )
        self.tracker.add(f"{name}.size", props.format_size(size), props.format_size(wanted.size_bytes))
        self.delta.resize[entry] = wanted.size_bytes

    # ---- the rest

    def _env(self) -> None:
        wanted = self.spec.env
        if wanted is None or self._ignored("env"):
            return
        present = split_env(self.config.get("env"))
        strict = self.spec.comparison("env") is Comparison.STRICT
        merged = {**({} if strict else present), **wanted}
        after = {name: value for name, value in merged.items() if value is not None}
        before, after = _trimmed(present), _trimmed(after)
        for variable in dict.fromkeys([*before, *after]):
            self.tracker.add(f"env.{variable}", before.get(variable), after.get(variable))
        if before != after:
            self._set("env", join_env(after))

    def _raw(self) -> None:
        present = raw_lines(self.config)
        for key, values in self.spec.lxc.items():
            if self.tracker.add(key, list(present[key]) if key in present else None, _listed(values)):
                self.delta.raw[key] = values

    def _unset(self) -> None:
        for key in sorted(self.spec.unset - {"tags"}):
            if key in self.config:
                self.tracker.add(key, _shown(key, self.config[key]), None)
                self._delete(key)

    def _tags(self, *, adopt: bool, intent_tag: str | None) -> None:
        spec = self.spec
        present = {tag.lower() for tag in props.words(self.config.get("tags", ""))}
        remembered = {tag for tag in present if tag.startswith(TAG_INTENT)}
        visible = present - remembered
        strict = spec.tags is not None and spec.comparison("tags") is Comparison.STRICT
        after = visible & {TAG, TAG_CRI} if strict or "tags" in spec.unset else set(visible)
        if not self._ignored("tags"):
            after |= set(spec.tags or ())
        if adopt:
            after.add(TAG)
        changed = self.tracker.add("tags", sorted(visible) or None, sorted(after) or None)
        # An intent that is not renewed with a change would speak of what no longer is.
        keep = {intent_tag} if intent_tag else set() if changed or self.delta else remembered
        if changed or keep != remembered:
            self._set("tags", ";".join(sorted(after | keep)))


def new_volume(disk: Disk, default_storage: str | None, field: str) -> str:
    """Return ``storage:GiB``, by which Proxmox VE makes a volume; raises InvalidSpec."""
    storage = disk.storage or default_storage
    if not storage:
        raise InvalidSpec(
            f"{field}.storage", "is missing", hint="Name it there, or for all volumes as 'storage'"
        )
    if disk.size_bytes is None:
        raise InvalidSpec(f"{field}.size", "is missing")
    return f"{storage}:{props.format_number(disk.size_bytes / props.GIB)}"


def split_env(text: t.Any) -> dict[str, str]:
    """Return the variables of a config's ``env``: ``NAME=value`` joined by NUL."""
    parts = [part.partition("=") for part in str(text or "").split("\0") if part]
    return {name: value for name, _equals, value in parts}


def join_env(env: t.Mapping[str, str]) -> str:
    """Return ``env`` as the API takes it."""
    return "\0".join(f"{name}={value}" for name, value in env.items())


def _trimmed(env: t.Mapping[str, str]) -> dict[str, str]:
    """Return ``env`` as it comes back: the server trims blanks at the end of the whole text."""
    return split_env(join_env(env).rstrip())


def raw_lines(config: Config) -> dict[str, tuple[str, ...]]:
    """Return the raw ``lxc.*`` lines of a config (``[["lxc.x", "1"], …]``) by key."""
    found: dict[str, list[str]] = {}
    for key, value in config.get("lxc") or ():
        found.setdefault(str(key), []).append(str(value))
    return {key: tuple(values) for key, values in found.items()}


def _listed(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)


def _shown(key: str, value: t.Any) -> t.Any:
    return keys.typed(key, value) if key in keys.SCALARS else str(value).replace("\0", " ")
