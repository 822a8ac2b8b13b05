# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the line of each key in a TOML text, which tomllib does not tell.

The text is one that tomllib accepted, so the scanner only has to tell keys from what
stands in strings, comments and nested values (TOML 1.0.0).
"""

from __future__ import annotations

import re
import tomllib
import typing as t

Path = tuple[str, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"[ \t]*")
_STRINGS = (
    re.compile(r'"""(?:[^\\]|\\.)*?"""(?:"{0,2}(?!"))', re.DOTALL),
    re.compile(r"'''.*?'''(?:'{0,2}(?!'))", re.DOTALL),
    re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)
_COMMENT = re.compile(r"#[^\n]*")


def key_lines(text: str) -> dict[Path, int]:
    """Return the number of the line where each table and each key begins, the first of each."""
    return _Scanner(text.replace("\r\n", "\n")).run()


class _Scanner:
    """Walk through the statements of a text: a table's header or ``key = value``, one after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[Path, int] = {}

    def run(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip_to_statement():
            start = self._at
            if self._text[start] == "[":
                self._at += 2 if self._text.startswith("[[", start) else 1
                table = self._key()
                self._note(table, start)
            else:
                key = self._key()
                for length in range(1, len(key) + 1):
                    self._note((*table, *key[:length]), start)
            self._skip_value()
        return self._lines

    def _note(self, path: Path, at: int) -> None:
        self._lines.setdefault(path, self._text.count("\n", 0, at) + 1)

    def _skip_to_statement(self) -> bool:
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "#":
                self._at = self._end_of(_COMMENT)
            elif char in " \t\n":
                self._at += 1
            else:
                return True
        return False

    def _key(self) -> Path:
        """Read a dotted key and leave the position behind it."""
        parts: list[str] = []
        while True:
            self._at = self._end_of(_SPACE)
            parts.append(self._part())
            self._at = self._end_of(_SPACE)
            if not self._text.startswith(".", self._at):
                return tuple(parts)
            self._at += 1

    def _part(self) -> str:
        start = self._at
        if self._text[start] in "\"'":
            self._at = self._end_of_string()
            return t.cast("str", _unquoted(self._text[start : self._at]))
        self._at = self._end_of(_BARE)
        return self._text[start : self._at]

    def _skip_value(self) -> None:
        """Go to the end of the statement: the first line's end outside brackets and strings."""
        depth = 0
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "\n" and depth <= 0:
                return
            if char == "#":
                self._at = self._end_of(_COMMENT)
                continue
            if char in "\"'":
                self._at = self._end_of_string()
                continue
            depth += (char in "[{") - (char in "]}")
            self._at += 1

    def _end_of_string(self) -> int:
        return next(found.end() for kind in _STRINGS if (found := kind.match(self._text, self._at)))

    def _end_of(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        return found.end() if found else self._at


def _unquoted(text: str) -> t.Any:
    return next(iter(tomllib.loads(f"{text} = 0")))
