# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build ``process``: what runs, as whom, and within which limits.

What request and image say is merged by the rules of the OCI image specification
(config.md, conversion.md).
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    ImageConfig,
    Rlimit,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.capabilities import capability_sets
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import (
    RLIM_INFINITY,
    normalise_rlimit,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.namespaces import is_mapped
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.paths import check_absolute, check_text
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.security import (
    apparmor_profile,
    selinux_labels,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.users import ResolvedUser

DEFAULT_PATH: t.Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Linux' bound for a host name (gethostname(2)), without the NUL.
_HOSTNAME_MAX: t.Final = 64

_OOM_SCORE_MIN: t.Final = -1000
_OOM_SCORE_MAX: t.Final = 1000

_SYS_RESOURCE: t.Final = "CAP_SYS_RESOURCE"


def build_process(
    spec: ContainerSpec,
    image: ImageConfig,
    user: ResolvedUser,
    host: HostFacts,
    *,
    granted: frozenset[str],
    warnings: list[str],
) -> dict[str, t.Any]:
    """Return ``process``; ``granted`` is the container's capability set."""
    _check_mapped(spec, user)
    process: dict[str, t.Any] = {
        "terminal": spec.terminal,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.additional_gids)},
        "args": merge_args(spec, image),
        "env": merge_env(spec, image, user),
        "cwd": check_absolute(spec.cwd, "cwd") if spec.cwd else (_image_cwd(image) or "/"),
        "capabilities": capability_sets(spec.security, user.uid, granted),
        "noNewPrivileges": spec.security.no_new_privileges,
    }
    if rlimits := _rlimits(spec.rlimits, host, warnings):
        process["rlimits"] = rlimits
    if spec.oom_score_adj is not None:
        process["oomScoreAdj"] = _oom_score_adj(spec.oom_score_adj, host, warnings)
    if profile := apparmor_profile(spec.security, host):
        process["apparmorProfile"] = profile
    label, _mount_label = selinux_labels(spec.security, host)
    if label:
        process["selinuxLabel"] = label
    return process


def _check_mapped(spec: ContainerSpec, user: ResolvedUser) -> None:
    """Refuse ids that the user namespace does not have: setgroups(2) and its like would fail."""
    if spec.namespaces.user == "host" or not (spec.uid_maps and spec.gid_maps):
        return
    for maps, field, what, ids in (
        (spec.uid_maps, "user", "user", (user.uid,)),
        (spec.gid_maps, "user", "group", (user.gid,)),
        (spec.gid_maps, "supplementary_groups", "group", user.additional_gids),
    ):
        for number in ids:
            if not is_mapped(number, maps):
                raise InvalidSpec(
                    field,
                    f"{what} id {number} does not exist in the container's user namespace",
                    hint="Choose another, or extend uid_maps and gid_maps",
                )


def merge_args(spec: ContainerSpec, image: ImageConfig) -> list[str]:
    """Return entrypoint followed by command.

    A request's entrypoint, even an empty one, also takes the image's command out of force:
    that was written for the image's own entrypoint.
    """
    if spec.entrypoint is not None:
        args = [*spec.entrypoint, *(spec.command or ())]
    elif spec.command is not None:
        args = [*image.entrypoint, *spec.command]
    else:
        args = [*image.entrypoint, *image.command]
    if not args or not args[0]:
        raise InvalidSpec(
            "command",
            "there is nothing to run: neither the request nor the image has an entrypoint or a command",
            hint="Set 'command' or 'entrypoint'",
        )
    for i, arg in enumerate(args):
        check_text(arg, f"command[{i}]")
    return args


def default_hostname(name: str) -> str:
    """Return a host name made of a container's name: no underscores, at most 63 characters."""
    return name.replace("_", "-")[:63].strip("-.") or "container"


def hostname_of(spec: ContainerSpec) -> str | None:
    """Return the host name of the container's own UTS namespace, None when it has none of its own."""
    private = spec.namespaces.uts == "private"
    if spec.hostname is None:
        return default_hostname(spec.name) if private else None
    if not private:
        raise InvalidSpec(
            "hostname",
            f"'{spec.hostname}' needs a UTS namespace of the container's own, but namespaces.uts is "
            f"'{spec.namespaces.uts}'",
            hint="Leave out hostname, or set namespaces.uts to 'private'",
        )
    if not 0 < len(spec.hostname.encode()) <= _HOSTNAME_MAX or not re.fullmatch(
        r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", spec.hostname
    ):
        raise InvalidSpec(
            "hostname",
            f"'{spec.hostname}' is not a host name",
            hint=f"1 to {_HOSTNAME_MAX} letters, digits, dots, hyphens and underscores",
        )
    return spec.hostname


def merge_env(spec: ContainerSpec, image: ImageConfig, user: ResolvedUser) -> list[str]:
    """Return ``NAME=value`` of image and request, the request winning, and what programs expect.

    PATH, HOME, TERM (with a terminal) and HOSTNAME are added where nobody sets them;
    nothing comes from the environment of the caller.
    """
    merged: dict[str, str] = {}
    for i, (name, value) in enumerate(image.env):
        if name and "=" not in name:
            merged[name] = check_text(value, f"image.env[{i}]")
    for name, value in spec.env:
        if not name or "=" in name or "\0" in name:
            raise InvalidSpec("env", f"'{name}' is not a name of a variable")
        merged[name] = check_text(value, f"env.{name}")
    merged.setdefault("PATH", DEFAULT_PATH)
    if spec.terminal:
        merged.setdefault("TERM", "xterm")
    if hostname := hostname_of(spec):
        merged.setdefault("HOSTNAME", hostname)
    merged.setdefault("HOME", user.home)
    return [f"{name}={value}" for name, value in merged.items()]


def _image_cwd(image: ImageConfig) -> str:
    # An image may say "app" or "/app/": it means a path from the root, whatever it wrote.
    parts = [part for part in image.cwd.split("/") if part not in ("", ".", "..")]
    return check_text("/" + "/".join(parts), "image.cwd")


def _oom_score_adj(asked: int, host: HostFacts, warnings: list[str]) -> int:
    if not _OOM_SCORE_MIN <= asked <= _OOM_SCORE_MAX:
        raise InvalidSpec(
            "oom_score_adj", f"{asked} is not in the range {_OOM_SCORE_MIN} to {_OOM_SCORE_MAX}"
        )
    if asked < host.oom_score_adj and not host.has_capability(_SYS_RESOURCE):
        warnings.append(
            f"oom_score_adj {asked} was raised to {host.oom_score_adj}: "
            f"this host does not let us go lower ({_SYS_RESOURCE} is missing)"
        )
        return host.oom_score_adj
    return asked


def _rlimits(rlimits: t.Sequence[Rlimit], host: HostFacts, warnings: list[str]) -> list[dict[str, t.Any]]:
    result: dict[str, dict[str, t.Any]] = {}
    for i, limit in enumerate(rlimits):
        field = f"rlimits[{i}]"
        kind = normalise_rlimit(limit.kind, f"{field}.type")
        if kind in result:
            raise InvalidSpec(f"{field}.type", f"{kind} is limited twice")
        soft, hard = _limit(limit.soft, f"{field}.soft"), _limit(limit.hard, f"{field}.hard")
        if soft > hard:
            raise InvalidSpec(f"{field}.soft", f"{_shown(soft)} is above the hard limit {_shown(hard)}")
        if kind == "RLIMIT_NOFILE" and host.nr_open is not None and hard > host.nr_open:
            raise InvalidSpec(
                f"{field}.hard",
                f"{_shown(hard)} open files are more than this kernel grants anybody ({host.nr_open})",
                hint="Ask for less, or raise the sysctl fs.nr_open of the host",
            )
        highest = _limit(dict(host.hard_rlimits).get(kind, -1), field)
        if hard > highest and not host.has_capability(_SYS_RESOURCE):
            warnings.append(
                f"the hard limit {kind} {_shown(hard)} was lowered to {_shown(highest)}: "
                f"this host does not let us go higher ({_SYS_RESOURCE} is missing)"
            )
            soft, hard = min(soft, highest), highest
        result[kind] = {"type": kind, "soft": soft, "hard": hard}
    return list(result.values())


def _limit(value: int, field: str) -> int:
    if value == -1:
        return RLIM_INFINITY
    if not 0 <= value <= RLIM_INFINITY:
        raise InvalidSpec(field, f"{value} is not a limit", hint="Use 0 or more, or -1 for unlimited")
    return value


def _shown(value: int) -> str:
    return "unlimited" if value == RLIM_INFINITY else str(value)
