# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write configurations that read back as the same."""

from __future__ import annotations

import dataclasses
import typing as t

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.tests.support.toml_values import VALUES
from pvecri.config.load import Loaded, parse
from pvecri.config.model import Config
from pvecri.config.show import show


def test_show_says_where_values_are_from() -> None:
    loaded = parse(b'[log]\n\nlevel = "debug"\n', "/etc/c.toml")
    text = show(loaded)
    assert text.startswith("# effective configuration; file: /etc/c.toml\n")
    assert 'level = "debug"  # line 3\n' in text
    assert 'format = "text"  # default\n' in text


def test_show_explains_every_key() -> None:
    text = show(Loaded(Config(), None, {}), with_docs=True)
    for section in dataclasses.fields(Config):
        for key in dataclasses.fields(getattr(Config(), section.name)):
            assert f"# {key.metadata['doc']}\n{key.name} = " in text


_IMAGES = {"pinned", "trusted_images"}


def _values(default: t.Any, name: str) -> st.SearchStrategy[t.Any]:
    """Return values that a key may have, by what its default is."""
    paths = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0./"), max_size=20).map(
        "/{}x".format
    )
    bound = {"level", "format", "cgroup_driver", "pause_image", "socket_group", "socket_mode", "url_host"}
    # Names and tables that are no paths.
    bound |= {"enabled", "node", "rootfs_storage", "template_storage", "pool", "templates", "vmid_range"}
    # Files of TLS belong together.
    if name in bound or name.startswith("tls_"):
        return st.just(default)
    if isinstance(default, bool | int | float):
        return st.just(default)
    if isinstance(default, str):
        return (
            paths.map(lambda text: "/s" + text)
            if default.startswith("/") or not default
            else st.just(default)
        )
    if isinstance(default, dict):
        return st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=5), VALUES, max_size=2
        )
    return st.lists(paths, unique=True, max_size=3).map(tuple) if name not in _IMAGES else st.just(("a/b",))


KEYS = [
    (section.name, key.name)
    for section in dataclasses.fields(Config)
    for key in dataclasses.fields(getattr(Config(), section.name))
]


@given(st.data())
def test_show_of_any_value_reads_back_as_the_same(data: st.DataObject) -> None:
    section, key = data.draw(st.sampled_from(KEYS))
    old = getattr(Config(), section)
    table = dataclasses.replace(old, **{key: data.draw(_values(getattr(old, key), key))})
    config = dataclasses.replace(Config(), **{section: table})
    assert parse(show(Loaded(config, None, {})).encode(), "x").config == config
