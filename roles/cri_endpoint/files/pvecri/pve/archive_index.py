# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remember which archives this endpoint has written to a storage, and what they are called.

The list is a help to memory: without it archives are written once more.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.files import write_atomic
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image
from pvecri.pve.template_volume import TemplateVolume, own_name, own_names


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Archive(TemplateVolume):
    """One archive on a storage."""

    image_id: str
    used_at: float


def file_name(image: Image, endpoint_id: str) -> str:
    """Return what an image's archive is called: for people, by its digest, as this endpoint's own."""
    name = image.names[0] if image.names else ""
    return own_name(name.partition("@")[0].rpartition("/")[2], image.id, endpoint_id) + ".tar"


def file_names(endpoint_id: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what the names of this endpoint's archives look like, and of those that are being written."""
    name = own_names(endpoint_id) + r"\.tar"
    return re.compile(name), re.compile(rf"\.{name}\.[0-9]+\.[0-9a-f]+")


def load(path: str, log: logging.Logger) -> dict[str, Archive]:
    """Return the archives by image id; what cannot be read is forgotten."""
    try:
        with open(path, "rb") as stream:
            raw = json.load(stream)
        return {entry["image_id"]: _archive(entry) for entry in raw["archives"]}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as exc:
        log.warning("archives of images are forgotten", extra={"file": path, "error": str(exc)})
        return {}


def save(path: str, archives: t.Iterable[Archive]) -> None:
    """Replace the list."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    data = json.dumps({"archives": [dataclasses.asdict(archive) for archive in archives]})
    write_atomic(path, data.encode(), mode=0o600, durable=True)


def _archive(entry: dict[str, t.Any]) -> Archive:
    known = {field.name: entry[field.name] for field in dataclasses.fields(Archive)}
    return Archive(**{**known, "stamp": tuple(int(part) for part in entry["stamp"])})
