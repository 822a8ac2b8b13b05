# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read globs and regular expressions into the syntax trees that `automaton` matches.

Both always match a whole value.  The regular expressions are the regular part
of Python's: what needs backtracking (look-around, back-references) is refused,
and with it the inputs that make backtracking take for ever.  Lazy and possessive
quantifiers mean nothing when a whole value is matched, so they are refused too.
"""

from __future__ import annotations

import dataclasses
import enum
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import quoted
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.automaton import (
    ANY_CHAR,
    Alt,
    Chars,
    Node,
    Repeat,
    Seq,
    char_set,
    literal,
    size,
)

MAX_TEXT = 500
MAX_REPEAT = 255
MAX_DEPTH = 20
#: Positions of one automaton; ``(a{100}){100}`` is short to write but not to match.
MAX_SIZE = 2_000

_NOT_SLASH = char_set([(0x2F, 0x2F)], negated=True)
_DIGIT = ((0x30, 0x39),)
_WORD = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACE = ((0x09, 0x0D), (0x20, 0x20))
_SETS = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v"}


class Kind(enum.StrEnum):
    """The two ways to write a pattern."""

    GLOB = "glob"
    REGEX = "regex"


@dataclasses.dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern as it was written, and what it means; two are equal when written alike."""

    kind: Kind
    text: str
    node: Node = dataclasses.field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.kind} {quoted(self.text)}"

    @property
    def is_exact(self) -> bool:
        """Whether it is a glob without anything special, which matches its own text alone."""
        return self.kind is Kind.GLOB and not any(char in self.text for char in "*?[")


def glob(text: str, field: str, *, path: bool = False) -> Pattern:
    """Read a glob: ``*`` any text, ``?`` any character, ``[a-z]``, ``[!a-z]``; the rest is literal.

    In a ``path`` none of these matches a slash, but ``**`` as a whole component
    stands for any number of components (at the end: for at least one).
    """
    _check_length(text, field)
    node = _path_glob(text, field) if path else _Glob(text, field, ANY_CHAR, ()).read()
    return Pattern(Kind.GLOB, text, node)


def regex(text: str, field: str) -> Pattern:
    """Read a regular expression; ``.`` matches every character, ``\\d \\w \\s`` are ASCII."""
    _check_length(text, field)
    node = _Regex(text, field).read()
    places = size(node)
    if places > MAX_SIZE:
        raise InvalidSpec(
            field,
            f"the regular expression {quoted(text)} has {places} places when its repetitions are written out",
            hint=f"At most {MAX_SIZE} are allowed, use '*' or '+' for large counts",
        )
    return Pattern(Kind.REGEX, text, node)


def _check_length(text: str, field: str) -> None:
    if len(text) > MAX_TEXT:
        raise InvalidSpec(
            field,
            f"the pattern has {len(text)} characters",
            hint=f"At most {MAX_TEXT} are allowed; use several",
        )


def _path_glob(text: str, field: str) -> Node:
    components = text.split("/")
    nodes: list[Node] = []
    for number, component in enumerate(components, start=1):
        is_last = number == len(components)
        if component == "**":
            nodes.append(
                Repeat(ANY_CHAR, 1, None)
                if is_last
                else Repeat(Seq((Repeat(_NOT_SLASH, 1, None), literal("/"))), 0, None)
            )
            continue
        if "**" in component:
            raise InvalidSpec(
                field,
                f"'**' in {quoted(text)} is not a whole path component",
                hint="Write '**/name*' or 'name*'",
            )
        nodes.append(_Glob(component, field, _NOT_SLASH, ((0x2F, 0x2F),)).read())
        if not is_last:
            nodes.append(literal("/"))
    return Seq(tuple(nodes))


class _Reader:
    """A cursor over a pattern's text."""

    what: t.ClassVar[str]

    def __init__(self, text: str, field: str) -> None:
        self._text = text
        self._field = field
        self._at = 0

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        self._at += 1
        return self._text[self._at - 1]

    def _skip(self, text: str) -> bool:
        if self._text.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _refuse(self, problem: str, hint: str, *, at: int | None = None) -> InvalidSpec:
        place = (self._at if at is None else at) + 1
        return InvalidSpec(
            self._field, f"{problem} at character {place} of {self.what} {quoted(self._text)}", hint=hint
        )

    def _class(self, start: int, negations: str, escaped_bracket: str) -> tuple[list[tuple[int, int]], bool]:
        """Read what follows a '[' at ``start``; return the ranges and whether they are negated."""
        negated = self._peek() != "" and self._peek() in negations
        self._at += negated
        ranges: list[tuple[int, int]] = []
        first = self._at
        while self._peek() != "]" or self._at == first:
            if not self._peek():
                raise self._refuse(
                    "character class is empty or not closed",
                    f"Write '{escaped_bracket}' for a bracket",
                    at=start,
                )
            at = self._at
            low = self._member()
            if self._peek() != "-" or self._text[self._at + 1 : self._at + 2] in ("]", ""):
                ranges.extend(low)
                continue
            self._at += 1
            ranges.append(self._range(low, self._member(), at))
        self._at += 1
        return ranges, negated

    def _member(self) -> tuple[tuple[int, int], ...]:
        """Read one member of a character class, which may itself be a set."""
        char = ord(self._take())
        return ((char, char),)

    def _range(
        self, low: tuple[tuple[int, int], ...], high: tuple[tuple[int, int], ...], at: int
    ) -> tuple[int, int]:
        if not _is_single(low) or not _is_single(high):
            raise self._refuse("a range needs a character on both sides", "Write '\\-' for a dash", at=at)
        first, last = low[0][0], high[0][0]
        if first > last:
            written, swapped = f"{chr(first)}-{chr(last)}", f"{chr(last)}-{chr(first)}"
            raise self._refuse(f"range {quoted(written)} is empty", f"Write {quoted(swapped)}", at=at)
        return first, last


class _Glob(_Reader):
    what = "glob"

    def __init__(self, text: str, field: str, wildcard: Chars, never: tuple[tuple[int, int], ...]) -> None:
        super().__init__(text, field)
        self._wildcard = wildcard
        #: Characters that a negated class must not match either.
        self._never = never

    def read(self) -> Node:
        nodes: list[Node] = []
        while char := self._peek():
            self._at += 1
            if char == "*":
                nodes.append(Repeat(self._wildcard, 0, None))
            elif char == "?":
                nodes.append(self._wildcard)
            elif char == "[":
                ranges, negated = self._class(self._at - 1, "!^", "[[]")
                nodes.append(char_set([*ranges, *self._never] if negated else ranges, negated=negated))
            else:
                nodes.append(literal(char))
        return Seq(tuple(nodes))


class _Regex(_Reader):
    what = "regular expression"

    def read(self) -> Node:
        self._skip("^")
        node = self._alternatives(0)
        if self._at < len(self._text):
            raise self._refuse("unexpected ')'", "Write '\\)' for a parenthesis")
        return node

    def _alternatives(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._refuse("groups are nested too deeply", f"At most {MAX_DEPTH} levels are allowed")
        items = [self._sequence(depth)]
        while self._skip("|"):
            items.append(self._sequence(depth))
        return items[0] if len(items) == 1 else Alt(tuple(items))

    def _sequence(self, depth: int) -> Node:
        items: list[Node] = []
        while (char := self._peek()) and char not in "|)":
            if char == "$" and self._at == len(self._text) - 1 and depth == 0:
                self._at += 1
                break
            atom = self._atom(depth)
            quantifier = self._quantifier()
            items.append(Repeat(atom, *quantifier) if quantifier else atom)
        return Seq(tuple(items))

    def _atom(self, depth: int) -> Node:
        start = self._at
        char = self._take()
        if char == "(":
            return self._group(start, depth)
        if char == "[":
            ranges, negated = self._class(start, "^", "\\[")
            return char_set(ranges, negated=negated)
        if char == ".":
            return ANY_CHAR
        if char == "\\":
            return char_set(self._escape(start))
        if char in "*+?{":
            raise self._refuse(
                f"nothing to repeat before '{char}'", f"Write '\\{char}' for the character", at=start
            )
        if char in "^$":
            raise self._refuse(
                f"anchor '{char}' stands where it cannot match",
                f"A pattern matches the whole value anyway; write '\\{char}' for the character",
                at=start,
            )
        return literal(char)

    def _group(self, start: int, depth: int) -> Node:
        if self._peek() == "?" and not self._skip("?:"):
            raise self._refuse(
                f"'({self._text[self._at : self._at + 2]}' is not supported",
                "Only plain groups '(…)' and '(?:…)' are: they can be matched in one pass over the value",
                at=start,
            )
        node = self._alternatives(depth + 1)
        if not self._skip(")"):
            raise self._refuse("group is not closed", "Add ')', or write '\\(' for a parenthesis", at=start)
        return node

    def _quantifier(self) -> tuple[int, int | None] | None:
        start = self._at
        char = self._peek()
        if char not in ("*", "+", "?", "{"):
            return None
        self._at += 1
        bounds = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(char) or self._bounds(start)
        if self._peek() in ("*", "+", "?", "{"):
            raise self._refuse(
                f"a second quantifier '{self._peek()}' follows the first",
                "Lazy and possessive ones make no difference to whole values; use a group to repeat twice",
            )
        return bounds

    def _bounds(self, start: int) -> tuple[int, int | None]:
        inside, closed, _rest = self._text[self._at :].partition("}")
        low, comma, high = inside.partition(",")
        if not closed or not all(part.isascii() and (part.isdigit() or not part) for part in (low, high)):
            raise self._refuse("'{' starts no repetition", "Write '{2}', '{2,}', '{2,5}' or '\\{'", at=start)
        if not low and not high:
            raise self._refuse(
                "the repetition has no bounds", "Write '{2}', '{2,}', '{2,5}' or '\\{'", at=start
            )
        self._at += len(inside) + 1
        least = int(low or 0)
        most = (int(high) if high else None) if comma else least
        if max(least, most or 0) > MAX_REPEAT:
            raise self._refuse(f"more than {MAX_REPEAT} repetitions", "Use '*' or '+'", at=start)
        if most is not None and least > most:
            raise self._refuse("the lower bound is above the upper one", "Swap them", at=start)
        return least, most

    def _member(self) -> tuple[tuple[int, int], ...]:
        start = self._at
        char = self._take()
        return self._escape(start) if char == "\\" else ((ord(char), ord(char)),)

    def _escape(self, start: int) -> tuple[tuple[int, int], ...]:
        if not self._peek():
            raise self._refuse("nothing follows the backslash", "Write '\\\\' for a backslash", at=start)
        char = self._take()
        if char in _SETS:
            return _SETS[char]
        if char.lower() in _SETS:
            return char_set(_SETS[char.lower()], negated=True).ranges
        char = _CONTROLS.get(char, char)
        if char.isascii() and char.isalnum():
            raise self._refuse(
                f"escape '\\{char}' is not supported",
                "Known are \\d \\w \\s \\D \\W \\S \\t \\n \\r \\f \\v and escaped punctuation",
                at=start,
            )
        return ((ord(char), ord(char)),)


def _is_single(ranges: tuple[tuple[int, int], ...]) -> bool:
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]
