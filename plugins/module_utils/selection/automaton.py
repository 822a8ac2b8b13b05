# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Match a text against many patterns at once, and decide how patterns relate.

Patterns come as syntax trees over `Chars`, `Seq`, `Alt` and `Repeat`.  A `Bank`
joins the position automata (Glushkov) of all its patterns and determinises them
while it reads: one step per character, whatever the patterns look like, so no
pattern can make matching slow.  Because the automata are regular, questions
like «is there a text that this pattern matches and that one does not?» have
answers, which `Bank.shortest` gives.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import functools
import operator
import typing as t

MAX_CODE = 0x10FFFF

#: Transitions that a bank keeps; beyond, it starts afresh, so that strange input cannot fill the memory.
_KEPT_TRANSITIONS = 200_000

#: States that a search visits before it gives up.
_SEARCH_LIMIT = 5_000


@dataclasses.dataclass(frozen=True, slots=True)
class Chars:
    """One character out of ``ranges``: pairs of first and last code point, sorted and apart."""

    ranges: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Seq:
    """All ``items`` one after the other; without items the empty text."""

    items: tuple[Node, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Alt:
    """Any one of ``items``."""

    items: tuple[Node, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Repeat:
    """``item`` at least ``least`` times and at most ``most`` times (None: without end)."""

    item: Node
    least: int
    most: int | None


Node: t.TypeAlias = "Chars | Seq | Alt | Repeat"

ANY_CHAR = Chars(((0, MAX_CODE),))
#: Matches every text, the empty one too.
ANY_TEXT = Repeat(ANY_CHAR, 0, None)


def char_set(ranges: t.Iterable[tuple[int, int]], *, negated: bool = False) -> Chars:
    """Return the set of all characters in ``ranges``, or of all others."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    if not negated:
        return Chars(tuple(merged))
    inverse, start = [], 0
    for low, high in merged:
        if low > start:
            inverse.append((start, low - 1))
        start = high + 1
    if start <= MAX_CODE:
        inverse.append((start, MAX_CODE))
    return Chars(tuple(inverse))


def literal(text: str) -> Node:
    """Return the pattern that matches ``text`` alone."""
    return Seq(tuple(Chars(((ord(char), ord(char)),)) for char in text))


def size(node: Node) -> int:
    """Return how many positions the automaton of ``node`` has."""
    match node:
        case Chars():
            return 1
        case Repeat(item, least, most):
            return size(item) * max(1, least if most is None else most)
        case Seq(items) | Alt(items):
            return sum(map(size, items))


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """What the construction knows of a subtree; ``first`` and ``last`` are sets of positions as bits."""

    nullable: bool
    first: int
    last: int


class _Builder:
    """Number the positions of all patterns and record which may follow which."""

    def __init__(self) -> None:
        self.chars: list[Chars] = []
        self.follow: list[int] = []

    def build(self, node: Node) -> _Part:
        match node:
            case Chars():
                self.chars.append(node)
                self.follow.append(0)
                bit = 1 << (len(self.chars) - 1)
                return _Part(False, bit, bit)
            case Seq(items):
                return self._sequence(map(self.build, items))
            case Alt(items):
                parts = [self.build(item) for item in items]
                return _Part(
                    any(part.nullable for part in parts),
                    functools.reduce(operator.or_, (part.first for part in parts), 0),
                    functools.reduce(operator.or_, (part.last for part in parts), 0),
                )
            case Repeat(item, least, most):
                return self._sequence(self._copies(item, least, most))

    def _copies(self, item: Node, least: int, most: int | None) -> t.Iterator[_Part]:
        copies = max(1, least) if most is None else most
        for number in range(1, copies + 1):
            part = self.build(item)
            if most is None and number == copies:
                self._link(part.last, part.first)
            yield dataclasses.replace(part, nullable=part.nullable or number > least)

    def _sequence(self, parts: t.Iterable[_Part]) -> _Part:
        nullable, first, last = True, 0, 0
        for part in parts:
            self._link(last, part.first)
            first |= part.first if nullable else 0
            last = part.last | (last if part.nullable else 0)
            nullable = nullable and part.nullable
        return _Part(nullable, first, last)

    def _link(self, sources: int, targets: int) -> None:
        for position in bits(sources):
            self.follow[position] |= targets


def bits(number: int) -> t.Iterator[int]:
    """Yield the indexes of the bits that are set, lowest first."""
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


class _State(dict[str, "_State"]):
    """A set of positions that were just read; as a mapping it holds the transitions taken so far."""

    __slots__ = ("_bank", "accepts", "follow", "positions")

    def __init__(self, bank: Bank, positions: int, follow: int, accepts: int) -> None:
        super().__init__()
        self._bank = bank
        self.positions = positions
        self.follow = follow
        self.accepts = accepts

    def __missing__(self, char: str) -> _State:
        state = self[char] = self._bank.step(self, char)
        return state


class Bank:
    """A number of patterns; the answers are bit masks over their indexes."""

    def __init__(self, nodes: t.Sequence[Node]) -> None:
        builder = _Builder()
        self._first = self._nullable = 0
        self._owned: list[int] = []
        accepted_by: dict[int, int] = collections.defaultdict(int)
        for index, node in enumerate(nodes):
            start = len(builder.chars)
            part = builder.build(node)
            self._first |= part.first
            self._nullable |= part.nullable << index
            self._owned.append((1 << len(builder.chars)) - (1 << start))
            for position in bits(part.last):
                accepted_by[position] |= 1 << index
        self._follow = builder.follow
        self._accepted_by = accepted_by
        self._index_characters(builder.chars)
        self._restart()

    def match(self, text: str) -> int:
        """Return the mask of the patterns that match the whole of ``text``."""
        state = self._start
        for char in text:
            state = state[char]
        return state.accepts

    def shortest(self, *, required: int = 0, one_of: int = 0, forbidden: int = 0) -> str | None:
        """Return a shortest text that fits, or None if there is none.

        It is matched by all patterns in ``required``, by at least one in ``one_of``
        (unless that is empty), and by none in ``forbidden``.  Raises SearchLimit when
        the answer would take too long to find.
        """
        wanted = [self._owned[index] for index in bits(required)]
        if one_of:
            wanted.append(functools.reduce(operator.or_, (self._owned[index] for index in bits(one_of))))

        def fits(accepts: int) -> bool:
            return (
                not required & ~accepts and bool(not one_of or one_of & accepts) and not forbidden & accepts
            )

        if fits(self._start.accepts):
            return ""
        queue = collections.deque([(self._start, "")])
        seen: set[int] = set()
        while queue:
            state, text = queue.popleft()
            for positions_read, char in self._classes:
                positions = state.follow & positions_read
                if positions in seen or not all(positions & owned for owned in wanted):
                    continue
                seen.add(positions)
                following = self._state(positions)
                if fits(following.accepts):
                    return text + char
                if len(seen) > _SEARCH_LIMIT:
                    raise SearchLimit
                queue.append((following, text + char))
        return None

    def step(self, state: _State, char: str) -> _State:
        """Return the state after reading ``char``."""
        self._transitions += 1
        if self._transitions > _KEPT_TRANSITIONS:
            self._restart()
        positions_read, _char = self._classes[bisect.bisect_right(self._boundaries, ord(char)) - 1]
        return self._state(state.follow & positions_read)

    def _state(self, positions: int) -> _State:
        state = self._states.get(positions)
        if state is None:
            follow = accepts = 0
            for position in bits(positions):
                follow |= self._follow[position]
                accepts |= self._accepted_by.get(position, 0)
            state = self._states[positions] = _State(self, positions, follow, accepts)
        return state

    def _restart(self) -> None:
        self._transitions = 0
        self._states: dict[int, _State] = {}
        self._start = _State(self, 0, self._first, self._nullable)

    def _index_characters(self, chars: t.Sequence[Chars]) -> None:
        """Cut the code points into classes that no pattern tells apart."""
        cuts = {0}
        for node in chars:
            for low, high in node.ranges:
                cuts.update((low, high + 1))
        self._boundaries = sorted(cut for cut in cuts if cut <= MAX_CODE)
        readers = [0] * len(self._boundaries)
        for position, node in enumerate(chars):
            for low, high in node.ranges:
                for index in range(
                    bisect.bisect_left(self._boundaries, low), bisect.bisect_right(self._boundaries, high)
                ):
                    readers[index] |= 1 << position
        self._classes = [
            (mask, chr(boundary)) for mask, boundary in zip(readers, self._boundaries, strict=True)
        ]


class SearchLimit(Exception):
    """Tell that a search was given up: nothing is proven either way."""
