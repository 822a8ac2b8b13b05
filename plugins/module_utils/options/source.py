# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn the options ``image``, ``tarball``, ``directory`` and ``pull`` into a source."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    DirectoryMode,
    DirectorySource,
    ImageSource,
    Platform,
    PullPolicy,
    RootfsSource,
    TarballSource,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.options.values import Params
from ansible_collections.pvecri.runtime.plugins.module_utils.units import parse_duration

#: Attribute of `ImageSource` → option, where they differ.
_OPTION_OF: t.Final = {"timeout_s": "timeout"}


def source_from_options(params: Params) -> RootfsSource | None:
    """Return where the root file system comes from; None when no option says.

    Raises InvalidSpec with the option's path for options that contradict each other.
    """
    if params.get("image") is not None:
        return image_source_from(params["image"], params.get("pull"))
    if params.get("pull"):
        raise InvalidSpec("pull", "is for images, and 'image' is not set")
    source: RootfsSource | None = None
    if params.get("tarball") is not None:
        source = TarballSource(path=params["tarball"])
    elif params.get("directory") is not None:
        mode = DirectoryMode(params.get("directory_mode") or "overlay")
        source = DirectorySource(path=params["directory"], mode=mode)
    if source is not None:
        source.check()
    return source


def image_source_from(reference: str, pull: Params | None) -> ImageSource:
    """Return an image and how to reach it."""
    given = pull or {}
    values: dict[str, t.Any] = {
        key: given[key]
        for key in (
            "username",
            "password",
            "authfile",
            "tls_verify",
            "cert_dir",
            "ca_file",
            "signature_policy",
            "retries",
        )
        if given.get(key) is not None
    }
    if given.get("policy") is not None:
        values["policy"] = PullPolicy(given["policy"])
    if given.get("platform") is not None:
        values["platform"] = Platform.parse(given["platform"], field="pull.platform")
    if given.get("timeout") is not None:
        values["timeout_s"] = parse_duration(given["timeout"], "pull.timeout")
    source = ImageSource(reference=reference, **values)
    try:
        source.check()
    except InvalidSpec as exc:
        if exc.field == "image":
            raise
        option = _OPTION_OF.get(exc.field, exc.field)
        raise InvalidSpec(f"pull.{option}", exc.problem, hint=exc.hint) from exc
    return source
