# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find keys' lines in TOML."""

from __future__ import annotations

import tomllib
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvecri.config.lines import key_lines

TABLE = [
    ("", {}),
    ("# only a comment", {}),
    ("a = 1", {("a",): 1}),
    ("\n\na = 1 # a = 2\nb = 2", {("a",): 3, ("b",): 4}),
    ("[s]\nk = 1", {("s",): 1, ("s", "k"): 2}),
    ("[ s . t ]\nk = 1", {("s", "t"): 1, ("s", "t", "k"): 2}),
    ("a.b.c = 1", {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1}),
    ("\"a b\".'c' = 1", {("a b",): 1, ("a b", "c"): 1}),
    ('"a\\"b" = 1', {('a"b',): 1}),
    ('a = """\nb = 1\n"""\nc = 2', {("a",): 1, ("c",): 4}),
    ("a = '''\nb = 1\n[x]\n'''\nc = 2", {("a",): 1, ("c",): 5}),
    ('a = """x\\""" y"""\nc = 2', {("a",): 1, ("c",): 2}),
    ('a = """""two quotes at both ends"""""\nc = 2', {("a",): 1, ("c",): 2}),
    ("a = [\n  1, # ]\n  '[',\n]\nb = 2", {("a",): 1, ("b",): 5}),
    ("a = {b = 1, c = '}'}\nd = 2", {("a",): 1, ("d",): 2}),
    ("[[r]]\nk = 1\n[[r]]\nk = 2", {("r",): 1, ("r", "k"): 2}),
    ("a = '#'\nb = 1", {("a",): 1, ("b",): 2}),
    ("a = 1\r\nb = '''\r\n'''\r\nc = 2", {("a",): 1, ("b",): 2, ("c",): 4}),
]


@pytest.mark.parametrize(("text", "lines"), TABLE)
def test_key_lines_of_every_form(text: str, lines: dict[tuple[str, ...], int]) -> None:
    tomllib.loads(text)
    assert key_lines(text) == lines


VALUES = st.sampled_from(
    [
        "1",
        '"text # = ["',
        "'[['",
        '"""\nkey = 1\n[table]\n"""',
        "'''\n# '\n'''",
        "[1,\n 2, # ]\n]",
        "{a = 1, b = [{c = 2}]}",
        "2026-01-02T03:04:05Z",
        '""',
        "''",
        '"\\\\"',
    ]
)
COMMENTS = st.sampled_from(["", "# comment", "", '  # [x] \'y\' """', "\t"])


@given(st.lists(st.tuples(COMMENTS, VALUES, COMMENTS), max_size=12))
def test_key_lines_are_where_the_keys_are(entries: list[tuple[str, str, str]]) -> None:
    lines: list[str] = []
    expected: dict[tuple[str, ...], int] = {}
    for number, (before, value, after) in enumerate(entries):
        lines.append(before)
        expected[f"k{number}",] = sum(text.count("\n") + 1 for text in lines) + 1
        lines.append(f"k{number} = {value} {after}")
    text = "\n".join(lines)
    tomllib.loads(text)
    assert key_lines(text) == expected


def _paths(value: t.Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    if not isinstance(value, dict):
        return set()
    return {(*path, key) for key in value}


@given(st.text(alphabet="ab=\n[]{}'\"#.,1 \\", max_size=40))
def test_key_lines_name_every_key_of_what_is_toml(text: str) -> None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = key_lines(text)
    tops = {path[:1] for path in lines}
    assert tops == _paths(document)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
