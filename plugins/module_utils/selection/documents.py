# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load a policy file; its name says whether it is TOML, JSON or YAML.

A key that stands twice in one mapping is refused in all three formats: the
reader of the file could not know which of the two holds.
"""

from __future__ import annotations

import json
import os
import tomllib
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import quoted

MAX_BYTES = 1 << 20


def load_document(path: str, field: str) -> t.Any:
    """Return the plain data in the file ``path``, which ends in .toml, .json, .yaml or .yml.

    Raises InvalidSpec for ``field`` when it cannot be read, and MissingDependency for
    YAML without PyYAML.
    """
    reader = _READERS.get(os.path.splitext(path)[1].lower())
    if reader is None:
        raise InvalidSpec(
            field, f"{quoted(path)} does not say its format", hint="Name it .toml, .json, .yaml or .yml"
        )
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as exc:
        raise InvalidSpec(field, f"{quoted(path)} cannot be read: {exc.strerror}") from exc
    if len(data) > MAX_BYTES:
        raise InvalidSpec(field, f"{quoted(path)} is larger than {MAX_BYTES} bytes")
    try:
        return reader(data.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise InvalidSpec(field, f"{quoted(path)} is not UTF-8: {exc.reason} at byte {exc.start}") from exc
    except (ValueError, RecursionError) as exc:
        raise InvalidSpec(field, f"{quoted(path)} is malformed: {exc}") from exc


def _json(text: str) -> t.Any:
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    result: dict[str, t.Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {quoted(key)} stands twice in one mapping")
        result[key] = value
    return result


def _yaml(text: str) -> t.Any:
    # Only here: most documents are none, and PyYAML is slow to load.
    from ansible_collections.pvecri.runtime.plugins.module_utils.selection import (  # noqa: PLC0415
        yaml_documents,
    )

    return yaml_documents.read(text)


_READERS: t.Final[t.Mapping[str, t.Callable[[str], t.Any]]] = {
    ".toml": tomllib.loads,
    ".json": _json,
    ".yaml": _yaml,
    ".yml": _yaml,
}
