# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make requests that no honest client sends: hypothesis strategies over the messages' descriptors.

    @given(data=hostile.requests(pb.RunPodSandboxRequest, sound=[pb.RunPodSandboxRequest(config=pod())]))

A request is wholly random, or a sound one of which a few fields were changed.
"""

from __future__ import annotations

import typing as t

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_DEPTH = 4
_MANY = 400


class Hostile:
    """Strategies that know a mark to put into names, existing ids, and what some fields must keep to."""

    def __init__(
        self,
        mark: str,
        *,
        fields: t.Mapping[str, t.Sequence[t.Any]] | None = None,
    ) -> None:
        """Take ``mark``, part of every path that must never come to be.

        ``fields`` gives the only values of some fields, by their names: what a client may
        ask for by right (a directory of the host, say) must stay within what a test can bear.
        """
        #: Ids of objects that exist: set before `requests`.
        self.ids: list[str] = []
        self._fields = dict(fields or {})
        climb = "../" * 12
        self._texts = st.one_of(
            st.sampled_from(
                [
                    *(
                        "",
                        ".",
                        "..",
                        "/",
                        "-",
                        " ",
                        "\n",
                        "\0",
                        "a\0b",
                        "%s%n",
                        "${HOME}",
                        "\u202e",
                        "é" * 300,
                    ),
                    *(mark, f"/{mark}", f"../{mark}", f"{climb}tmp/{mark}", f"{climb}{mark}", f"a/{mark}"),
                    *(f"{mark}\0/x", f"$(touch /tmp/{mark})", f"`touch /tmp/{mark}`", f";touch /tmp/{mark};"),
                    *(f"--{mark}", f"-o{mark}", "a" * 300, "b" * 5000, "/" * 4096, f"{'x/' * 2000}{mark}"),
                    *(
                        "sha256:",
                        "sha256:" + "0" * 64,
                        "0" * 64,
                        "f" * 63,
                        "registry.test/busybox:1",
                        "é" * 300,
                    ),
                ]
            ),
            st.text(max_size=20),
        )

    def requests(self, kind: type[Message], sound: t.Sequence[Message] = ()) -> st.SearchStrategy[bytes]:
        """Return a strategy of requests as bytes; some of them are no messages at all."""
        whole = self._message(kind.DESCRIPTOR, 0).map(lambda fill: _filled(kind, fill))
        made = [whole]
        if sound:
            changed = st.sampled_from(list(sound)).flatmap(
                lambda base: st.lists(self._change(kind.DESCRIPTOR, 0), min_size=1, max_size=3).map(
                    lambda changes: _changed(base, changes)
                )
            )
            made += [changed] * 5
        messages = st.one_of(made)
        cut = st.tuples(messages, st.integers(1, 40)).map(lambda pair: pair[0][: -pair[1]])
        return st.one_of(*[messages] * 8, cut, st.binary(max_size=60))

    # What is drawn is a list of (field, how, value) to write into a message.

    def _message(self, descriptor: Descriptor, depth: int) -> st.SearchStrategy[t.Any]:
        fields = list(descriptor.fields)
        if not fields or depth > _DEPTH:
            return st.just([])
        one = st.sampled_from(fields).flatmap(lambda field: self._field(field, depth))
        return st.lists(one, max_size=6 if depth == 0 else 4)

    def _change(self, descriptor: Descriptor, depth: int) -> st.SearchStrategy[t.Any]:
        """Draw one field to be changed, more often one that lies deep."""

        def inside(field: FieldDescriptor) -> st.SearchStrategy[t.Any]:
            deep = field.message_type is not None and not _is_repeated(field) and depth < _DEPTH
            if not deep:
                return self._field(field, depth)
            below = self._change(field.message_type, depth + 1).map(
                lambda change: (field.name, "in", [change])
            )
            return st.one_of(below, below, below, self._field(field, depth))

        fields = list(descriptor.fields)
        # What is no more than an id is soon refused: what lies below matters more.
        fields += [field for field in fields if field.message_type is not None] * (4 if depth == 0 else 1)
        return st.sampled_from(fields).flatmap(inside) if fields else st.just(("", "nothing", None))

    def _field(self, field: FieldDescriptor, depth: int) -> st.SearchStrategy[t.Any]:
        if _is_map(field):
            key, value = field.message_type.fields
            if value.message_type is not None:
                return st.just((field.name, "nothing", None))
            pairs = st.dictionaries(self._scalar(key), self._scalar(value), max_size=3)
            many = self._scalar(value).map(lambda item: {f"key-{n}": item for n in range(_MANY)})
            return st.one_of(pairs, pairs, pairs, many).map(lambda items: (field.name, "map", items))
        if field.message_type is not None:
            inner = self._message(field.message_type, depth + 1)
            if not _is_repeated(field):
                return inner.map(lambda fill: (field.name, "in", fill))
            few = st.lists(inner, max_size=3)
            many = inner.map(lambda fill: [fill] * _MANY)
            return st.one_of(few, few, few, many).map(lambda fills: (field.name, "add", fills))
        scalar = self._scalar(field)
        if not _is_repeated(field):
            return scalar.map(lambda value: (field.name, "set", value))
        many_scalars = scalar.map(lambda value: [value] * _MANY)
        return st.one_of(st.lists(scalar, max_size=3), many_scalars).map(
            lambda values: (field.name, "extend", values)
        )

    def _scalar(self, field: FieldDescriptor) -> st.SearchStrategy[t.Any]:
        if field.name in self._fields:
            return st.sampled_from(list(self._fields[field.name]))
        if field.cpp_type in _INTEGERS:
            low, high = _INTEGERS[field.cpp_type]
            return st.one_of(
                st.sampled_from([low, high, 0, 1, max(low, -1), 1000]),
                st.integers(low, high),
                st.integers(0, 99),
            )
        if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
            known = [value.number for value in field.enum_type.values]
            return st.sampled_from([*known, -1, max(known) + 1, 2**31 - 1, -(2**31)])
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        if field.type == FieldDescriptor.TYPE_BYTES:
            return st.one_of(
                st.binary(max_size=40), st.sampled_from([b"", b"\0", b"\xff\xfe", b"x" * 10_000])
            )
        if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return st.floats(width=32)
        return self._strings()

    def _strings(self) -> st.SearchStrategy[str]:
        if not self.ids:
            return self._texts
        known = st.sampled_from([*self.ids, *(identity[:5] for identity in self.ids)])
        return st.one_of(self._texts, self._texts, known)


def _is_repeated(field: FieldDescriptor) -> bool:
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _filled(kind: type[Message], fill: t.Sequence[t.Any]) -> bytes:
    message = kind()
    _fill(message, fill)
    return message.SerializeToString()


def _changed(base: Message, changes: t.Sequence[t.Any]) -> bytes:
    message = type(base)()
    message.CopyFrom(base)
    _fill(message, changes)
    return message.SerializeToString()


def _fill(message: t.Any, fill: t.Sequence[t.Any]) -> None:
    for name, how, value in fill:
        if how == "set":
            setattr(message, name, value)
        elif how == "map":
            getattr(message, name).update(value)
        elif how == "extend":
            getattr(message, name).extend(value)
        elif how == "in":
            getattr(message, name).SetInParent()
            _fill(getattr(message, name), value)
        elif how == "add":
            for inner in value:
                _fill(getattr(message, name).add(), inner)
