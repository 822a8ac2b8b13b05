# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read, write and compare Proxmox VE's property strings, key by key.

A property string is ``[first,]key=value,…``: ``local-lvm:8,mp=/data,ro=1``.  The
server reorders it, writes booleans as 0 and 1 and adds keys of its own, so text
is never compared with text: both sides become a `Props` first.
Source: the formats ``net[n]``, ``rootfs``, ``mp[n]``, ``dev[n]``, ``features`` and
``startup`` of POST /nodes/{node}/lxc in the Proxmox VE 9 API schema.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec

#: One property string, taken apart; values are canonical text.
Props = dict[str, str]

_TRUE = frozenset({"1", "yes", "true", "on"})
_FALSE = frozenset({"0", "no", "false", "off"})
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT]?)(?:i?B)?", re.IGNORECASE)

GIB = 1024**3


class Kind(enum.Enum):
    """How the values of one key are spelt, and so compared."""

    TEXT = "text"
    BOOL = "bool"
    INT = "int"
    NUMBER = "number"
    #: Hexadecimal: upper and lower case mean the same.
    MAC = "mac"
    ADDRESS = "address"
    #: ``a;b``: the order means nothing.
    WORDS = "words"
    SIZE = "size"


@dataclasses.dataclass(frozen=True, slots=True)
class Schema:
    """The keys that one kind of property string may hold."""

    kinds: t.Mapping[str, Kind]
    #: Key whose value may stand first without its name.
    first: str | None = None
    #: Values that mean the same as an absent key.
    defaults: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: Keys that the server fills in by itself: kept as they are unless asked for.
    generated: frozenset[str] = frozenset()


_B, _I, _N, _T, _W = Kind.BOOL, Kind.INT, Kind.NUMBER, Kind.TEXT, Kind.WORDS

NET = Schema(
    kinds={
        "name": _T,
        "bridge": _T,
        "firewall": _B,
        "gw": Kind.ADDRESS,
        "gw6": Kind.ADDRESS,
        "host-managed": _B,
        "hwaddr": Kind.MAC,
        "ip": Kind.ADDRESS,
        "ip6": Kind.ADDRESS,
        "link_down": _B,
        "mtu": _I,
        "rate": _N,
        "tag": _I,
        "trunks": _W,
        "type": _T,
    },
    defaults={"firewall": "0", "link_down": "0", "type": "veth"},
    # A PUT without hwaddr makes a new MAC and replugs the interface; host-managed
    # is what Proxmox VE gives every interface of a container from an OCI image.
    generated=frozenset({"hwaddr", "type", "host-managed"}),
)

_VOLUME_KINDS: dict[str, Kind] = {
    "volume": _T,
    "acl": _B,
    "idmap": _W,
    "mountoptions": _W,
    "quota": _B,
    "replicate": _B,
    "ro": _B,
    "shared": _B,
    "size": Kind.SIZE,
}
_VOLUME_DEFAULTS = {"quota": "0", "replicate": "1", "ro": "0", "shared": "0"}

ROOTFS = Schema(
    kinds=_VOLUME_KINDS,
    first="volume",
    defaults=_VOLUME_DEFAULTS,
    generated=frozenset({"volume", "size"}),
)
MOUNT = Schema(
    kinds={**_VOLUME_KINDS, "mp": _T, "backup": _B, "keepattrs": _B},
    first="volume",
    defaults={**_VOLUME_DEFAULTS, "backup": "0", "keepattrs": "0"},
    generated=frozenset({"volume", "size"}),
)
DEVICE = Schema(
    kinds={"path": _T, "deny-write": _B, "gid": _I, "mode": _T, "uid": _I},
    first="path",
    defaults={"deny-write": "0"},
)
FEATURES = Schema(
    kinds={"force_rw_sys": _B, "fuse": _B, "keyctl": _B, "mknod": _B, "mount": _W, "nesting": _B},
    defaults={"force_rw_sys": "0", "fuse": "0", "keyctl": "0", "mknod": "0", "nesting": "0"},
)
STARTUP = Schema(kinds={"order": _I, "up": _I, "down": _I}, first="order")


def parse_size(value: t.Any, field: str, *, plain_unit: str = "") -> int:
    """Return a size in bytes: ``8G``, ``512M``, ``1.5T``; ``plain_unit`` is meant by a bare number."""
    found = _SIZE.fullmatch(str(value).strip())
    if not found or isinstance(value, bool):
        raise InvalidSpec(field, f"'{value}' is not a size", hint="Write it like 8G or 512M")
    unit = found["unit"].upper() or plain_unit
    return int(float(found["number"]) * _UNITS[unit])


def format_size(size_bytes: int) -> str:
    """Return a size as Proxmox VE spells it: the largest unit that divides it."""
    for unit in "TGMK":
        if size_bytes and size_bytes % _UNITS[unit] == 0:
            return f"{size_bytes // _UNITS[unit]}{unit}"
    return str(size_bytes)


def format_number(value: float) -> str:
    """Return a number without needless decimals: ``2`` for 2.0."""
    return f"{value:.10f}".rstrip("0").rstrip(".") if value % 1 else str(int(value))


def as_bool(value: t.Any, field: str) -> bool:
    """Return what Proxmox VE and YAML spell as a boolean."""
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise InvalidSpec(field, f"'{value}' is neither true nor false")


def words(value: t.Any) -> list[str]:
    """Return the parts of a list, or of text parted by ``;``, commas or blanks."""
    parts = value if isinstance(value, (list, tuple)) else re.split(r"[;,\s]+", str(value))
    return [str(part).strip() for part in parts if str(part).strip()]


def canonical(kind: Kind, value: t.Any, field: str) -> str:
    """Return the one spelling of ``value``; raises InvalidSpec naming ``field``."""
    if kind is Kind.BOOL:
        return "1" if as_bool(value, field) else "0"
    if kind is Kind.WORDS:
        return ";".join(sorted(set(words(value))))
    if kind is Kind.SIZE:
        return format_size(parse_size(value, field))
    text = str(value).strip()
    if "," in text or "\n" in text:
        raise InvalidSpec(field, f"'{text}' must not hold a comma or a line break")
    if kind in (Kind.INT, Kind.NUMBER):
        return _number(text, field, whole=kind is Kind.INT)
    return {Kind.MAC: text.upper, Kind.ADDRESS: text.lower}.get(kind, text.__str__)()


def _number(text: str, field: str, *, whole: bool) -> str:
    try:
        number = float(text)
    except ValueError as exc:
        raise InvalidSpec(field, f"'{text}' is not a number") from exc
    if whole and number % 1:
        raise InvalidSpec(field, f"'{text}' is not a whole number")
    return format_number(number)


def parse(text: str, schema: Schema, field: str, *, strict: bool = True) -> Props:
    """Return the keys of a property string with canonical values.

    ``strict`` is for what users write: unknown keys are an InvalidSpec.  What the
    server sends is read with ``strict=False``, so that a newer server's keys pass.
    """
    found: dict[str, t.Any] = {}
    for position, part in enumerate(p for p in str(text).split(",") if p.strip()):
        key, equals, value = part.strip().partition("=")
        # A path or volume may hold a '=' itself: it is then the unnamed first value.
        is_key = bool(equals) and (key in schema.kinds or bool(_KEY.fullmatch(key)))
        if not is_key:
            if schema.first is None or position:
                if not strict:
                    continue
                raise InvalidSpec(field, f"'{part}' is no key=value", hint="Write it as key=value,key=value")
            key, value = schema.first, part.strip()
        if key in found and strict:
            raise InvalidSpec(field, f"'{key}' is given twice")
        found[key] = value
    return from_mapping(found, schema, field, strict=strict)


def from_mapping(values: t.Mapping[str, t.Any], schema: Schema, field: str, *, strict: bool = True) -> Props:
    """Return ``values`` as Props; entries that are None are left out."""
    props: Props = {}
    for key, value in values.items():
        name = str(key)
        kind = schema.kinds.get(name)
        if value is None:
            continue
        if kind is None and strict:
            known = ", ".join(sorted(schema.kinds))
            raise InvalidSpec(f"{field}.{name}", "is unknown", hint=f"Known are {known}")
        if isinstance(value, (dict, list, tuple)) and kind is not Kind.WORDS:
            raise InvalidSpec(f"{field}.{name}", "must be one value")
        if strict and name == schema.first and "=" in str(value):
            # It would write the value without the name, and take it for a key when it reads it again.
            raise InvalidSpec(
                f"{field}.{name}",
                f"'{value}' holds a '=', which Proxmox VE cannot store there",
                hint="Give the directory or device another name, for example by a symbolic link",
            )
        try:
            props[name] = canonical(kind or Kind.TEXT, value, f"{field}.{name}")
        except InvalidSpec:
            if strict:
                raise
            props[name] = str(value)
    return props


def desired(value: t.Any, schema: Schema, field: str) -> Props:
    """Return what a user asks for, given as a property string or as a dictionary."""
    if isinstance(value, t.Mapping):
        return from_mapping(value, schema, field)
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return parse(str(value), schema, field)
    raise InvalidSpec(field, "must be a property string or a dictionary")


def actual(text: t.Any, schema: Schema) -> Props:
    """Return what the server has; nothing for an unset option."""
    return parse(str(text), schema, "", strict=False) if text not in (None, "") else {}


def meaning(props: t.Mapping[str, str], schema: Schema) -> Props:
    """Return ``props`` without the keys that only repeat a default."""
    return {key: value for key, value in props.items() if schema.defaults.get(key) != value}


def carried(wanted: t.Mapping[str, str], present: t.Mapping[str, str], schema: Schema) -> Props:
    """Return ``wanted`` plus the server's own keys of ``present`` that it does not name."""
    kept = {k: v for k, v in present.items() if k in schema.generated and k not in wanted}
    return {**wanted, **kept}


def render(props: t.Mapping[str, str], schema: Schema) -> str:
    """Return the property string: the first key without its name, the rest in alphabetical order."""
    parts = []
    if schema.first is not None and schema.first in props:
        parts.append(props[schema.first])
    # The server insists on nothing, but users read `name=eth0,…` first everywhere.
    if "name" in props and "name" in schema.kinds:
        parts.append(f"name={props['name']}")
    named = {schema.first, "name" if "name" in schema.kinds else None}
    parts += [f"{key}={props[key]}" for key in sorted(props) if key not in named]
    return ",".join(parts)
