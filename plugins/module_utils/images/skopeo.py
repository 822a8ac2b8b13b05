# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build skopeo's command lines, and read its complaints.

Pure: nothing here starts skopeo.  Credentials never stand in an argument list;
they go through a file that only its descriptor names.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    CoreError,
    InvalidSpec,
    MissingDependency,
    NotFound,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import ImageSource, Location

#: Characters that have a meaning in ``[driver@root+runroot:options]``.
_STORE_SYNTAX = re.compile(r"[\[\]@+:,\s]")


@dataclasses.dataclass(frozen=True, slots=True)
class Connection:
    """What one call needs beside source and target; paths of files made for the call."""

    authfile: str | None = None
    cert_dir: str | None = None


def store_specifier(root: str, run_root: str, additional: t.Sequence[str] = ()) -> str:
    """Return the part that names a store: ``containers-storage:[overlay@ROOT+RUNROOT…]``.

    ``additional`` are roots of further stores that are only read.  Raises
    InvalidSpec for paths that this syntax cannot hold.
    """
    for path in (root, run_root, *additional):
        if not path.startswith("/") or _STORE_SYNTAX.search(path):
            raise InvalidSpec(
                "state_dir",
                f"{path!r} cannot be the path of an image store",
                hint="Use an absolute path without blanks and without any of []@+:,",
            )
    options = ",".join(f"overlay.imagestore={path}" for path in additional)
    return f"containers-storage:[overlay@{root}+{run_root}{':' if options else ''}{options}]"


def _global_argv(source: ImageSource, temporary: str | None) -> list[str]:
    argv = ["skopeo"]
    if source.signature_policy:
        argv.append(f"--policy={source.signature_policy}")
    if source.registries_conf:
        # Not in skopeo's help, but there in every version; the environment variable is younger.
        argv.append(f"--registries-conf={source.registries_conf}")
    if temporary:
        argv.append(f"--tmpdir={temporary}")
    if source.platform is not None:
        argv += [
            f"--override-os={source.platform.os}",
            f"--override-arch={source.platform.architecture}",
        ]
        if source.platform.variant:
            argv.append(f"--override-variant={source.platform.variant}")
    return argv


def _registry_argv(source: ImageSource, connection: Connection, prefix: str) -> list[str]:
    argv = [f"--retry-times={source.retries}"] if source.retries else []
    if connection.authfile:
        argv.append(f"--{prefix}authfile={connection.authfile}")
    if connection.cert_dir:
        argv.append(f"--{prefix}cert-dir={connection.cert_dir}")
    if source.tls_verify is not None:
        argv.append(f"--{prefix}tls-verify={'true' if source.tls_verify else 'false'}")
    return argv


def copy_argv(
    source: ImageSource,
    location: Location,
    target: str,
    connection: Connection = Connection(),
    *,
    temporary: str | None = None,
) -> list[str]:
    """Return the command that copies an image into the store as ``target``."""
    registry = [] if location.is_local else _registry_argv(source, connection, "src-")
    return [
        *_global_argv(source, temporary),
        "copy",
        *([] if source.is_verbose else ["--quiet"]),
        *registry,
        location.skopeo_name,
        target,
    ]


def copy_tarball_argv(path: str, target: str, *, temporary: str | None = None) -> list[str]:
    """Return the command that makes an image of a root file system's tar archive."""
    tmpdir = [f"--tmpdir={temporary}"] if temporary else []
    # A signature policy speaks of images; a bare archive has no signature that it could ask for.
    return ["skopeo", "--insecure-policy", *tmpdir, "copy", "--quiet", f"tarball:{path}", target]


def inspect_raw_argv(
    source: ImageSource,
    location: Location,
    connection: Connection = Connection(),
) -> list[str]:
    """Return the command that prints the manifest which a registry has now, byte by byte."""
    return [
        *_global_argv(source, None),
        "inspect",
        "--raw",
        *_registry_argv(source, connection, ""),
        location.skopeo_name,
    ]


def delete_argv(target: str) -> list[str]:
    """Return the command that deletes an image from the store with all its names."""
    return ["skopeo", "delete", target]


def auth_document(registry: str, username: str, password: str) -> bytes:
    """Return the content of an authentication file for one registry (containers-auth.json(5))."""
    token = base64.b64encode(f"{username}:{password}".encode()).decode()
    return json.dumps({"auths": {registry: {"auth": token}}}).encode()


# ---- errors ----------------------------------------------------------------------------------------------

_FATAL = re.compile(r'level=fatal msg="((?:[^"\\]|\\.)*)"')

_AUTHORITY = (
    "Put the authority's certificate into /etc/containers/certs.d/<registry>, "
    "or give it as a play's ca_file or cert_dir"
)
#: What skopeo says, and what to do about it.  Only hints hang on the text, never a decision.
_HINTS = (
    (
        "server gave HTTP response to HTTPS client",
        "The registry speaks plain HTTP: set insecure in registries.conf (in a play tls_verify: false)",
    ),
    ("x509:", _AUTHORITY),
    ("tls:", _AUTHORITY),
    ("unauthorized", "Give username and password, or an authfile, that may pull this image"),
    ("authentication required", "Give username and password, or an authfile, that may pull this image"),
    ("access to the resource is denied", "Give username and password that may pull it, or check the name"),
    ("no such host", "Check the registry's name and this host's DNS"),
    ("connection refused", "Check the registry's address and port, and that it runs"),
    ("i/o timeout", "Check that this host reaches the registry; proxies come from HTTPS_PROXY"),
    ("no space left on device", "Make room on the file system of the image store"),
    ("rejected by policy", "The host's signature policy does not admit this image"),
    (
        "toomanyrequests",
        "The registry limits requests: log in, wait, or configure a mirror in registries.conf",
    ),
    ("Digest did not match", "The layer was changed or cut off on its way: fetch or build the image again"),
    ("unexpected EOF", "The layer is cut off: fetch or build the image again"),
    ("invalid tar header", "The layer is no tar archive: fetch or build the image again"),
)
_NOT_THERE = (
    "manifest unknown",
    "name unknown",
    "repository name not known",
    "no descriptor found for reference",
)
_NO_PLATFORM = ("no image found in manifest list", "no image found in image index")


def complaint(stderr: str) -> str:
    """Return the message of skopeo's fatal log line, or its last line."""
    found = _FATAL.search(stderr)
    if found:
        return re.sub(r"\\(.)", lambda m: " " if m[1] in "nt" else m[1], found[1]).strip()
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def explain(error: CommandError, what: str) -> CoreError:
    """Return the error to raise for a failed skopeo call that was to fetch ``what``."""
    if isinstance(error, CommandTimeout):
        return CommandTimeout(
            f"{what} was not fetched in time; nothing of it is kept but whole layers",
            argv=error.argv,
            stdout=error.stdout,
            stderr=error.stderr,
            hint="Raise the time-out of the pull; layers that are complete are not fetched again",
        )
    text = complaint(error.stderr)
    if any(sign in text for sign in _NOT_THERE):
        return NotFound(f"{what} does not exist: {text}", hint="Check name and tag")
    if any(sign in text for sign in _NO_PLATFORM):
        return NotFound(f"{what} does not exist for this platform: {text}", hint="Ask for another platform")
    if "policy.json" in text and "no such file" in text:
        return MissingDependency(
            "this host has no signature policy /etc/containers/policy.json",
            hint="Install the Debian package 'golang-github-containers-common', or give signature_policy",
        )
    hint = next((advice for sign, advice in _HINTS if sign.lower() in text.lower()), None)
    return CommandError(
        f"{what} cannot be fetched: {text}",
        argv=error.argv,
        rc=error.rc,
        stdout=error.stdout,
        stderr=error.stderr,
        hint=hint,
    )
