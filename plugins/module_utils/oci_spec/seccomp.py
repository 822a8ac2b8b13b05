# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn a seccomp profile into ``linux.seccomp``.

Hosts and users have profiles in two shapes: that of the OCI runtime specification,
and the one that container engines share, whose rules hold only for some
architectures, kernels or capabilities (``includes``, ``excludes``) and whose
architectures stand in ``archMap``.  A runtime understands only the first.
"""

from __future__ import annotations

import errno
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, MissingDependency
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Json, Security
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import SECCOMP_PROFILE, HostFacts

#: ``uname -m`` → (name in ``includes.arches``, libseccomp's name)
_ARCHITECTURES: t.Final = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "i686": ("x86", "SCMP_ARCH_X86"),
    "i386": ("x86", "SCMP_ARCH_X86"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "loongarch64": ("loong64", "SCMP_ARCH_LOONGARCH64"),
}

#: What a rule may have besides the conditions that are resolved here.
_RULE_KEYS: t.Final = ("names", "action", "errnoRet", "args")
_PROFILE_KEYS: t.Final = ("defaultAction", "defaultErrnoRet", "flags", "listenerPath", "listenerMetadata")


def seccomp_filter(security: Security, host: HostFacts, granted: frozenset[str]) -> Json | None:
    """Return ``linux.seccomp``, or None for no filter.

    ``granted`` are the capabilities of the container: rules depend on them.  A
    privileged container has no filter unless a profile is named.
    """
    if security.seccomp == "unconfined" or (security.seccomp == "default" and security.privileged):
        return None
    if security.seccomp == "default":
        if host.seccomp_default is None:
            raise MissingDependency(
                f"the default seccomp profile {SECCOMP_PROFILE} is missing or unreadable",
                hint="Install the Debian package 'golang-github-containers-common', or set security.seccomp "
                "to the path of a profile or to 'unconfined'",
            )
        return _default_filter(host.seccomp_default, host, granted)
    if host.seccomp_profile is None:
        raise InvalidSpec("security.seccomp", f"the profile '{security.seccomp}' was not read")
    return convert_profile(host.seccomp_profile, host, granted)


def _default_filter(profile: Json, host: HostFacts, granted: frozenset[str]) -> Json:
    """Return what `convert_profile` makes of the default profile, which few sets of capabilities meet.

    A process that makes many containers would convert the same thousand words each time.
    Nobody changes the result.
    """
    key = (id(profile), host.kernel, host.machine, granted)
    known = _converted.get(key)
    if known is None:
        if len(_converted) >= _CONVERTED_MAX:
            _converted.clear()
        # The profile is kept as well: as long as it lives, nothing else has its id.
        known = _converted[key] = (profile, convert_profile(profile, host, granted))
    return known[1]


_CONVERTED_MAX: t.Final = 64
_converted: dict[tuple[t.Any, ...], tuple[Json, Json]] = {}


def convert_profile(profile: Json, host: HostFacts, granted: t.Collection[str]) -> Json:
    """Return a profile of either shape in the specification's shape (config-linux.md, «Seccomp»).

    Raises InvalidSpec for what has neither shape.
    """
    if not isinstance(profile.get("defaultAction"), str):
        raise InvalidSpec("security.seccomp", "the profile has no 'defaultAction'")
    rules = profile.get("syscalls", [])
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise InvalidSpec("security.seccomp", "'syscalls' of the profile is not a list of rules")
    result: Json = {key: profile[key] for key in _PROFILE_KEYS if profile.get(key) is not None}
    if "defaultErrnoRet" not in result and (number := _errno(profile.get("defaultErrno"))) is not None:
        result["defaultErrnoRet"] = number
    if architectures := _architectures(profile, host):
        result["architectures"] = architectures
    converted = [
        rule for item in rules if _applies(item, host, granted) and (rule := _convert_rule(item))["names"]
    ]
    # The specification allows no empty list of system calls in a rule, nor needs an empty list of rules.
    if converted:
        result["syscalls"] = converted
    return result


def _architectures(profile: Json, host: HostFacts) -> list[str]:
    if "archMap" not in profile:
        return list(profile.get("architectures") or [])
    _short, native = _ARCHITECTURES.get(host.machine, ("", ""))
    for entry in profile["archMap"] or []:
        if entry.get("architecture") == native:
            return [native, *(entry.get("subArchitectures") or [])]
    # libseccomp adds the native architecture by itself.
    return []


def _convert_rule(item: Json) -> Json:
    rule = {key: item[key] for key in _RULE_KEYS if item.get(key) not in (None, [], "")}
    # Old profiles have one name for each rule.
    rule["names"] = item.get("names") or ([item["name"]] if item.get("name") else [])
    if "errnoRet" not in rule and (number := _errno(item.get("errno"))) is not None:
        rule["errnoRet"] = number
    return rule


_ERRNO: t.Final = {text: number for number, text in errno.errorcode.items()}


def _errno(name: t.Any) -> int | None:
    return _ERRNO.get(name) if isinstance(name, str) else None


def _applies(item: Json, host: HostFacts, granted: t.Collection[str]) -> bool:
    """Say whether all conditions of ``includes`` hold and none of ``excludes``."""
    includes, excludes = item.get("includes") or {}, item.get("excludes") or {}
    short, _native = _ARCHITECTURES.get(host.machine, ("", ""))
    arches, caps, kernel = includes.get("arches"), includes.get("caps"), includes.get("minKernel")
    if arches and short not in arches:
        return False
    if caps and not all(cap in granted for cap in caps):
        return False
    if kernel and not _is_kernel_at_least(host.kernel, kernel):
        return False
    if short in (excludes.get("arches") or ()):
        return False
    if any(cap in granted for cap in excludes.get("caps") or ()):
        return False
    kernel = excludes.get("minKernel")
    return not (kernel and _is_kernel_at_least(host.kernel, kernel))


def _is_kernel_at_least(kernel: tuple[int, int], wanted: t.Any) -> bool:
    found = re.match(r"(\d+)\.(\d+)", str(wanted))
    if not found:
        raise InvalidSpec("security.seccomp", f"'{wanted}' in the profile is not a kernel version")
    return kernel >= (int(found[1]), int(found[2]))
