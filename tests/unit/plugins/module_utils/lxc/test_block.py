# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the launcher works from, read back by its addresses."""

from __future__ import annotations

import struct
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import block
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import CAPABILITIES

_FIELDS = [
    "flags",
    "bounding",
    "uid",
    "gid",
    "ngroups",
    "groups",
    "cwd",
    "argv",
    "envp",
    "umask",
    "effective",
    "permitted",
    "inheritable",
    "ambient",
    "made",
]


class Read:
    """A block as the launcher sees it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.head = dict(zip(_FIELDS, struct.unpack_from("<15Q", data), strict=True))

    def text(self, address: int) -> bytes:
        """Return a text."""
        place = address - block.ADDRESS
        assert 0 <= place < len(self._data)
        return self._data[place : self._data.index(b"\0", place)]

    def words(self, address: int) -> list[bytes]:
        """Return a list of texts."""
        found = []
        place = address - block.ADDRESS
        assert place % 8 == 0
        while pointer := struct.unpack_from("<Q", self._data, place)[0]:
            found.append(self.text(pointer))
            place += 8
        return found

    def of(self, field: str) -> list[bytes]:
        """Return the texts of a list of the head."""
        return self.words(self.head[field])

    @property
    def candidates(self) -> list[bytes]:
        """The programs to try."""
        return self.words(block.ADDRESS + 120)

    @property
    def groups(self) -> tuple[int, ...]:
        """The groups."""
        return struct.unpack_from(
            f"<{self.head['ngroups']}I", self._data, self.head["groups"] - block.ADDRESS
        )


def _read(how: dict[str, bool] | None = None, **process: t.Any) -> Read:
    return Read(block.encode({"args": ["/p"], "cwd": "/", **process}, **(how or {})))


def test_block_is_this_to_the_byte() -> None:
    data = block.encode({"args": ["/p", "a"], "env": ["B=c"], "cwd": "/d", "user": {"uid": 1, "gid": 2}})
    at = block.ADDRESS
    lists = at + 120
    texts = lists + 16 + 8 + 24 + 16
    head = [0, 0, 1, 2, 0, texts, texts + 3 + 3 + 2 + 4, lists + 24, lists + 48, 0o22, 0, 0, 0, 0, lists + 16]
    pointers = [texts, 0, 0, texts + 3, texts + 6, 0, texts + 8, 0]
    assert data == struct.pack("<15Q8Q", *head, *pointers) + b"/p\0/p\0a\0B=c\0/d\0"


def test_block_holds_what_the_process_says() -> None:
    read = _read(
        args=["sh", "-c", "a\nb", "", "\udcff"],
        env=["A=ä\n'\"", "PATH=/x::/y:/x", "EMPTY="],
        cwd="/work dir",
        user={"uid": 1000, "gid": 1001, "additionalGids": [5, 7, 9], "umask": 0o77},
        terminal=True,
        noNewPrivileges=True,
        how={"read_only_root": True},
    )
    assert read.of("argv") == [b"sh", b"-c", b"a\nb", b"", b"\xff"]
    assert read.of("envp") == ["A=ä\n'\"".encode(), b"PATH=/x::/y:/x", b"EMPTY="]
    assert read.text(read.head["cwd"]) == b"/work dir"
    assert read.candidates == [b"/x/sh", b"./sh", b"/y/sh"]
    assert read.groups == (5, 7, 9)
    assert (read.head["uid"], read.head["gid"], read.head["umask"]) == (1000, 1001, 0o77)
    assert read.head["flags"] == 7
    assert read.of("made") == []


@pytest.mark.parametrize(
    ("fields", "flags"),
    [({"terminal": True}, 1), ({"noNewPrivileges": True}, 2), ({"terminal": False}, 0), ({}, 0)],
    ids=["terminal", "no-new-privileges", "no-terminal", "nothing"],
)
def test_block_flags(fields: dict[str, t.Any], flags: int) -> None:
    assert _read(**fields).head["flags"] == flags


def test_block_names_directories_to_make_when_asked() -> None:
    assert _read(cwd="/a//b/c/", how={"make_directory": True}).of("made") == [b"/a", b"/a/b", b"/a/b/c"]
    assert _read(cwd="/", how={"make_directory": True}).of("made") == []


@pytest.mark.parametrize(
    ("args", "env", "candidates"),
    [
        pytest.param(["./x"], ["PATH=/bin"], [b"./x"], id="with-a-slash"),
        pytest.param(["x"], [], None, id="default-path"),
        pytest.param(["x"], ["PATH="], [b"./x"], id="empty-path"),
        pytest.param(["x"], ["PATHS=/no", "PATH=/a", "PATH=/b"], [b"/a/x"], id="first-path"),
    ],
)
def test_block_candidates(args: list[str], env: list[str], candidates: list[bytes] | None) -> None:
    found = _read(args=args, env=env).candidates
    assert found == (candidates or [path + b"/x" for path in block.DEFAULT_PATH.encode().split(b":")])


def test_block_capabilities_are_cut_to_what_the_kernel_takes() -> None:
    sets = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_CHECKPOINT_RESTORE"],
        "effective": ["CAP_CHOWN", "CAP_SYS_ADMIN"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "inheritable": ["CAP_CHOWN", "CAP_NET_RAW"],
        "ambient": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
    }
    head = _read(capabilities=sets).head
    assert head["bounding"] == 1 | 1 << 5 | 1 << 40
    assert head["permitted"] == 1 | 1 << 5
    assert (head["effective"], head["inheritable"], head["ambient"]) == (1, 1, 1)
    assert _read(capabilities={"bounding": CAPABILITIES}).head["bounding"] == (1 << len(CAPABILITIES)) - 1
    assert _read().head["bounding"] == 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"args": []}, "process.args", id="no-arguments"),
        pytest.param({"args": [""]}, "process.args", id="empty-program"),
        pytest.param({"args": ["/p", "a\0b"]}, "process.args[1]", id="nul-in-argument"),
        pytest.param({"args": ["/p", 7]}, "process.args[1]", id="number-for-argument"),
        pytest.param({"args": ["/p", "\ud800"]}, "process.args[1]", id="half-a-character"),
        pytest.param({"env": ["A=b", "C=\0"]}, "process.env[1]", id="nul-in-environment"),
        pytest.param({"cwd": "relative"}, "process.cwd", id="relative-directory"),
        pytest.param({"user": {"uid": -1}}, "process.user.uid", id="negative-user"),
        pytest.param({"user": {"gid": (1 << 32) - 1}}, "process.user.gid", id="no-group"),
        pytest.param(
            {"user": {"additionalGids": [1, 1 << 32]}}, "process.user.additionalGids[1]", id="groups"
        ),
        pytest.param(
            {"user": {"additionalGids": [1] * 65537}}, "process.user.additionalGids", id="many-groups"
        ),
        pytest.param(
            {"capabilities": {"ambient": ["CAP_X"]}}, "process.capabilities.ambient", id="capability"
        ),
        pytest.param({"env": ["A=" + "x" * (8 << 20)]}, "process.args", id="too-long"),
    ],
)
def test_block_refuses_by_name(fields: dict[str, t.Any], field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        _read(**fields)
    assert caught.value.field == field


def test_block_takes_just_what_the_launcher_maps() -> None:
    short = len(block.encode({"args": ["/p"], "env": [""]}))
    room = block.SIZE_MAX - short
    assert len(block.encode({"args": ["/p"], "env": ["x" * room]})) == block.SIZE_MAX
    with pytest.raises(InvalidSpec):
        block.encode({"args": ["/p"], "env": ["x" * (room + 1)]})


_TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=20)


@given(
    args=st.lists(_TEXT, max_size=5),
    env=st.lists(_TEXT, max_size=5),
    groups=st.lists(st.integers(0, (1 << 32) - 2), max_size=5),
    cwd=_TEXT,
)
def test_block_reads_back(args: list[str], env: list[str], groups: list[int], cwd: str) -> None:
    read = _read(args=["/p", *args], env=env, cwd=f"/{cwd}", user={"additionalGids": groups})
    assert read.of("argv") == [b"/p", *(word.encode() for word in args)]
    assert read.of("envp") == [word.encode() for word in env]
    assert read.groups == tuple(groups)
    assert read.text(read.head["cwd"]) == f"/{cwd}".encode()
