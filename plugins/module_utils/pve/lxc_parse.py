# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn a module's options into an `LxcSpec`, refusing what cannot work.

Everything that can be known without asking the server is refused here, by the
option's name: before anything is touched, and in check mode too.
"""

from __future__ import annotations

import re
import shlex
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_keys as keys
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import props
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import (
    DEFAULT_VMIDS,
    TAG,
    Comparison,
    Conduct,
    Creation,
    Disk,
    Ha,
    LxcSpec,
    Source,
    SourceKind,
    State,
)

_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_TAG = re.compile(r"[a-z0-9_][a-z0-9_\-+.]*")
_ENV_NAME = re.compile(r"\w+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TEMPLATE = re.compile(r"[^:/]+:vztmpl/[^/]+|/.+|[A-Za-z0-9][A-Za-z0-9.+-]*")
_RAW_KEY = re.compile(r"lxc\.[a-z0-9_.-]+")

#: Lowest and highest id that Proxmox VE gives to a guest.
VMID_LIMITS = (100, 999_999_999)

#: Smallest values that the API takes.
_LEAST = {"cores": 1, "cpulimit": 0, "cpuunits": 0, "memory": 16, "swap": 0, "tty": 0}

_MOUNT_ALIASES = {"path": "mp", "mountpoint": "mp", "host_path": "volume"}


def parse_spec(options: t.Mapping[str, t.Any], field: str = "") -> LxcSpec:
    """Return what ``options`` ask for.

    ``field`` is a prefix for the names in errors (``containers[3].``).  Raises
    InvalidSpec.
    """
    return _Parser(options, field).spec()


class _Parser:
    """Read one container's options; a class only to share options and prefix."""

    def __init__(self, options: t.Mapping[str, t.Any], prefix: str) -> None:
        self.options = options
        self.prefix = prefix

    def get(self, name: str, default: t.Any = None) -> t.Any:
        value = self.options.get(name)
        return default if value is None else value

    def refuse(self, name: str, problem: str, hint: str | None = None) -> InvalidSpec:
        return InvalidSpec(f"{self.prefix}{name}", problem, hint=hint)

    def spec(self) -> LxcSpec:
        state = State(self.get("state", "present"))
        vmid, hostname = self.vmid("vmid"), self.hostname()
        if vmid is None and hostname is None:
            raise self.refuse(
                "vmid", "neither vmid nor hostname is given", "Name the container by one of them"
            )
        creation = self.creation()
        spec = LxcSpec(
            state=state,
            vmid=vmid,
            vmid_range=self.vmid_range(),
            hostname=hostname,
            node=self.options.get("node"),
            creation=creation,
            conduct=self.conduct(),
            comparisons=self.comparisons(),
            scalars=self.scalars(hostname),
            startup=self.propstring("startup", props.STARTUP),
            features=self.propstring("features", props.FEATURES),
            rootfs=self.rootfs(),
            mounts=self.entries("mounts", "mp", self.mount),
            networks=self.entries("networks", "net", self.network),
            devices=self.entries("devices", "dev", self.device),
            env=self.env(),
            tags=self.tags(),
            lxc=self.raw_lines(),
            ha=self.ha(state),
            pool=self.options.get("pool"),
            unset=frozenset(self.get("unset", ())),
        )
        self.check_unset(spec)
        self.check_oci(spec)
        return spec

    # ---- identity

    def vmid(self, name: str) -> int | None:
        value = self.options.get(name)
        low, high = VMID_LIMITS
        if value is not None and not low <= value <= high:
            raise self.refuse(name, f"{value} is no id of a guest", f"Ids go from {low} to {high}")
        return t.cast("int | None", value)

    def vmid_range(self) -> tuple[int, int]:
        value = self.options.get("vmid_range")
        if value is None:
            return DEFAULT_VMIDS
        first, last = value["first"], value["last"]
        if not VMID_LIMITS[0] <= first <= last <= VMID_LIMITS[1]:
            raise self.refuse("vmid_range", f"{first} to {last} is no range of ids")
        return first, last

    def hostname(self) -> str | None:
        value = self.options.get("hostname")
        if value is None:
            return None
        if len(value) > 255 or not all(_LABEL.fullmatch(label) for label in value.split(".")):
            raise self.refuse("hostname", f"'{value}' is not a DNS name")
        return str(value)

    # ---- creation and conduct

    def creation(self) -> Creation:
        limit = self.options.get("bwlimit")
        if limit is not None and limit < 0:
            raise self.refuse("bwlimit", f"{limit} KiB/s is negative")
        password = self.options.get("password")
        if password is not None and len(password) < 5:
            raise self.refuse("password", "is shorter than 5 characters")
        return Creation(
            source=self.source(),
            storage=self.options.get("storage"),
            password=password,
            ssh_public_keys=tuple(self.get("ssh_public_keys", ())),
            unprivileged=self.options.get("unprivileged"),
            ignore_unpack_errors=self.options.get("ignore_unpack_errors"),
            bwlimit=limit,
        )

    def source(self) -> Source | None:
        given = [kind for kind in SourceKind if self.options.get(kind.value) not in (None, "")]
        if len(given) > 1:
            names = " and ".join(kind.value for kind in given)
            raise self.refuse(given[1].value, f"{names} exclude each other")
        if not given:
            return None
        kind = given[0]
        name = str(self.options[kind.value])
        if kind is SourceKind.TEMPLATE and not _TEMPLATE.fullmatch(name):
            raise self.refuse(
                "ostemplate",
                f"'{name}' is neither a volume id nor a name",
                "Write it like local:vztmpl/NAME.tar.zst, or like debian-12-standard for a template of "
                "Proxmox's list",
            )
        return Source(
            kind=kind,
            name=name,
            image_storage=self.get("image_storage", "local"),
            image_authfile=self.options.get("image_authfile"),
            image_tls_verify=self.get("image_tls_verify", True),
            clone_type=self.get("clone_type", "opportunistic"),
            snapshot=self.options.get("clone_snapshot"),
        )

    def conduct(self) -> Conduct:
        for name in ("shutdown_timeout", "lock_timeout"):
            if self.get(name, 0) < 0:
                raise self.refuse(name, f"{self.options[name]} s is negative")
        return Conduct(
            force=self.get("force", False),
            shutdown_timeout_s=self.get("shutdown_timeout", 60),
            lock_timeout_s=self.get("lock_timeout", 60),
            apply_pending=self.get("apply_pending", False),
            purge=self.get("purge", True),
            destroy_unreferenced_disks=self.get("destroy_unreferenced_disks", False),
            migrate=self.get("migrate", True),
            adopt=self.get("adopt", False),
        )

    def comparisons(self) -> dict[str, Comparison]:
        given = self.get("comparisons", {})
        return {name: Comparison(how) for name, how in given.items() if how is not None}

    # ---- configuration

    def scalars(self, hostname: str | None) -> dict[str, t.Any]:
        found: dict[str, t.Any] = {}
        for name in keys.SCALARS:
            value = self.options.get(name)
            if value is None:
                continue
            if name in _LEAST and value < _LEAST[name]:
                raise self.refuse(name, f"{value} is less than {_LEAST[name]}")
            found[name] = keys.typed(name, self.entrypoint(value) if name == "entrypoint" else value)
        if hostname is not None:
            found["hostname"] = hostname
        return found

    def entrypoint(self, value: t.Any) -> str:
        text = shlex.join(map(str, value)) if isinstance(value, list) else str(value).strip()
        if not text:
            raise self.refuse(
                "entrypoint", "is empty", "Name 'entrypoint' in 'unset' to run the default init"
            )
        if _CONTROL.search(text):
            raise self.refuse("entrypoint", "holds a line break or another control character")
        return text

    def propstring(self, name: str, schema: props.Schema) -> props.Props | None:
        value = self.options.get(name)
        if value is None:
            return None
        if isinstance(value, list):
            # What the established module takes: one «key=value» per entry; mount=cifs,nfs means both.
            value = ",".join(str(item).replace(",", ";") for item in value)
        return props.desired(value, schema, f"{self.prefix}{name}")

    def entries(self, name: str, key: str, read: t.Callable[[str, t.Any], t.Any]) -> dict[str, t.Any]:
        found: dict[str, t.Any] = {}
        for entry, value in self.get(name, {}).items():
            field = f"{name}.{entry}"
            if not keys.is_indexed(str(entry), key):
                last = keys.INDEXED[key] - 1
                raise self.refuse(field, "is no such key", f"Name it {key}0 to {key}{last}")
            found[entry] = None if value is None else read(field, value)
        return dict(sorted(found.items(), key=lambda item: keys.index_order(item[0])))

    def network(self, field: str, value: t.Any) -> props.Props:
        net = props.desired(value, props.NET, self.prefix + field)
        if not net.get("name"):
            raise self.refuse(f"{field}.name", "is missing", "Name the interface in the container, like eth0")
        if ("gw" in net and "ip" not in net) or ("gw6" in net and "ip6" not in net):
            raise self.refuse(field, "has a gateway without an address")
        return net

    def device(self, field: str, value: t.Any) -> props.Props:
        device = props.desired(value, props.DEVICE, self.prefix + field)
        if not device.get("path", "").startswith("/dev/"):
            raise self.refuse(f"{field}.path", "is no path below /dev")
        return device

    def rootfs(self) -> Disk | None:
        value = self.options.get("rootfs")
        if value is None:
            return None
        if isinstance(value, (int, float)) or re.fullmatch(r"\d+(\.\d+)?", str(value)):
            return Disk(size_bytes=props.parse_size(value, f"{self.prefix}rootfs", plain_unit="G"))
        return self.disk("rootfs", value, props.ROOTFS)

    def mount(self, field: str, value: t.Any) -> Disk:
        disk = self.disk(field, value, props.MOUNT)
        if not disk.props.get("mp", "").startswith("/"):
            raise self.refuse(
                f"{field}.mp", "is no absolute path", "Say where it is mounted in the container"
            )
        if not disk.volume and disk.size_bytes is None:
            raise self.refuse(field, "has neither a size for a new volume nor an existing volume")
        return disk

    def disk(self, field: str, value: t.Any, schema: props.Schema) -> Disk:
        storage, size = None, None
        if isinstance(value, t.Mapping):
            rest = {_MOUNT_ALIASES.get(k, k): v for k, v in value.items() if v is not None}
            storage = rest.pop("storage", None)
            if "size" in rest:
                size = props.parse_size(rest.pop("size"), f"{self.prefix}{field}.size", plain_unit="G")
            found = props.desired(rest, schema, self.prefix + field)
        else:
            found = props.desired(value, schema, self.prefix + field)
            # Beside «storage:size» the server ignores size=; beside an existing volume it grows it.
            text = found.pop("size", None)
            size = props.parse_size(text, field) if text else None
        volume = found.pop("volume", None)
        new = re.fullmatch(r"([A-Za-z][\w.-]*):(\d+(?:\.\d+)?)", volume or "")
        if new:
            storage, volume = new[1], None
            size = props.parse_size(new[2], field, plain_unit="G")
        if volume and storage:
            raise self.refuse(field, "names both a storage and an existing volume")
        if volume and volume.startswith("/") and size is not None:
            raise self.refuse(f"{field}.size", "cannot be set for a directory or device of the host")
        return Disk(storage=storage, volume=volume, size_bytes=size, props=found)

    def env(self) -> dict[str, str | None] | None:
        value = self.options.get("env")
        if value is None:
            return None
        found: dict[str, str | None] = {}
        for name, content in value.items():
            if not _ENV_NAME.fullmatch(str(name)):
                raise self.refuse(f"env.{name}", "is no name of a variable")
            if content is None:
                found[str(name)] = None
                continue
            if isinstance(content, (dict, list)):
                raise self.refuse(f"env.{name}", "must be one value")
            text = ("true" if content else "false") if isinstance(content, bool) else str(content)
            if _CONTROL.search(text):
                raise self.refuse(
                    f"env.{name}",
                    "holds a line break or another control character",
                    "Proxmox VE cannot store it: mount a file instead",
                )
            found[str(name)] = text
        return found

    def tags(self) -> tuple[str, ...] | None:
        value = self.options.get("tags")
        if value is None:
            return None
        found = [tag.lower() for item in value for tag in props.words(item)]
        for tag in found:
            if not _TAG.fullmatch(tag):
                raise self.refuse("tags", f"'{tag}' is no tag", "Tags hold letters, digits and _ - + .")
            if tag.startswith(f"{TAG}-"):
                raise self.refuse(
                    "tags", f"'{tag}': tags that start with '{TAG}-' are set by this collection"
                )
        return tuple(sorted(set(found)))

    def raw_lines(self) -> dict[str, tuple[str, ...] | None]:
        found: dict[str, tuple[str, ...] | None] = {}
        for key, value in self.get("lxc", {}).items():
            name = str(key) if str(key).startswith("lxc.") else f"lxc.{key}"
            if not _RAW_KEY.fullmatch(name):
                raise self.refuse(f"lxc.{key}", "is no key of lxc.container.conf(5)")
            if value is None:
                found[name] = None
                continue
            lines = [str(item).strip() for item in (value if isinstance(value, list) else [value])]
            if any("\n" in line or "\r" in line for line in lines):
                raise self.refuse(
                    name, "holds a line break", "Give a list for a key that stands several times"
                )
            found[name] = tuple(lines)
        return found

    def ha(self, state: State) -> Ha | None:
        value = self.options.get("ha")
        if value is None:
            return None
        ha = Ha(**{k: v for k, v in value.items() if v is not None})
        settings = ha.settings()
        if not ha.managed and settings:
            raise self.refuse(f"ha.{next(iter(settings))}", "has no meaning without ha.managed")
        runs = {State.STARTED: True, State.RESTARTED: True, State.STOPPED: False, State.TEMPLATE: False}.get(
            state
        )
        if (
            runs is not None
            and ha.state in ("started", "stopped", "disabled")
            and (ha.state == "started") != runs
        ):
            raise self.refuse("ha.state", f"'{ha.state}' contradicts state '{state.value}'")
        return ha

    # ---- what options mean together

    def check_unset(self, spec: LxcSpec) -> None:
        named = {
            *spec.scalars,
            *spec.networks,
            *spec.mounts,
            *spec.devices,
            *(name for name in ("startup", "features", "env", "tags") if getattr(spec, name) is not None),
        }
        for key in sorted(spec.unset):
            if key in named:
                raise self.refuse("unset", f"'{key}' is set and unset at once")
            if key not in keys.DELETABLE and keys.split_index(key) is None:
                raise self.refuse("unset", f"'{key}' cannot be reset")

    def check_oci(self, spec: LxcSpec) -> None:
        source = spec.creation.source
        if source is None or not source.is_oci:
            return
        if spec.creation.unprivileged is False:
            raise self.refuse(
                "unprivileged",
                "must not be false for an OCI image: Proxmox VE cannot unpack it into a privileged one",
            )
        for name, net in spec.networks.items():
            if net and net.get("host-managed") == "0":
                raise self.refuse(
                    f"networks.{name}.host-managed",
                    "cannot be false for an OCI image: Proxmox VE sets it for every interface",
                )
