# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read container logs in the format of the Kubernetes container runtime interface.

One record is one line: ``<RFC 3339 time> <stdout|stderr> <P|F> <text>``.  ``P``
marks text that goes on in the next record of the same stream, ``F`` the end of
a line of the container (Kubernetes design proposal "CRI: Log management for
container stdout/stderr streams").
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import os
import typing as t

#: Read from the end of a log in blocks of this size.
_BLOCK = 64 * 1024

#: What is returned of a log at most, in bytes: an answer of a module travels whole, several times.
OUTPUT_MAX = 16 * 1024 * 1024

STREAMS = ("stdout", "stderr")


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One line of a log file; ``text`` is what the container wrote, without a line end."""

    time: str
    stream: str
    partial: bool
    text: bytes


def parse_record(line: bytes) -> Record | None:
    """Return the record that ``line`` (without its line end) holds, or None if it is damaged.

    A crash or a full disk can leave half a record; a reader goes on after it.
    """
    parts = line.split(b" ", 3)
    if len(parts) < 3:
        return None
    when, stream, tags = parts[:3]
    # Tags are separated by ':'; only the first is defined so far.
    tag = tags.split(b":", 1)[0]
    if tag not in {b"P", b"F"} or stream.decode("ascii", "replace") not in STREAMS:
        return None
    return Record(
        when.decode("ascii", "replace"), stream.decode(), tag == b"P", parts[3] if len(parts) > 3 else b""
    )


def join_streams(records: t.Iterable[Record]) -> dict[str, bytes]:
    """Return what the container wrote to each stream, byte for byte as far as it was logged."""
    written: dict[str, list[bytes]] = {stream: [] for stream in STREAMS}
    for record in records:
        written[record.stream].append(record.text if record.partial else record.text + b"\n")
    return {stream: b"".join(parts) for stream, parts in written.items()}


def join_lines(records: t.Iterable[Record]) -> t.Iterator[Record]:
    """Yield whole lines: partial records of one stream joined, in the order in which lines ended.

    A line that never ended comes last and keeps ``partial``.
    """
    pending: dict[str, list[Record]] = {}
    for record in records:
        begun = pending.setdefault(record.stream, [])
        begun.append(record)
        if not record.partial:
            yield _joined(begun, partial=False)
            begun.clear()
    for begun in pending.values():
        if begun:
            yield _joined(begun, partial=True)


def _joined(parts: list[Record], *, partial: bool) -> Record:
    return Record(parts[0].time, parts[0].stream, partial, b"".join(part.text for part in parts))


def log_files(path: str) -> list[str]:
    """Return the files of a log that exist, oldest first: ``path.2``, ``path.1``, ``path``."""
    found = []
    number = 1
    while os.path.exists(f"{path}.{number}"):
        found.append(f"{path}.{number}")
        number += 1
    found.reverse()
    if os.path.exists(path):
        found.append(path)
    return found


def read_records(path: str, *, since: datetime.datetime | None = None) -> list[Record]:
    """Return all records of the log at ``path``, rotated files included, but not those before ``since``."""
    return list(_records(path, since))


def _records(path: str, since: datetime.datetime | None) -> t.Iterator[Record]:
    for name in log_files(path):
        with open(name, "rb") as stream:
            for line in stream:
                record = parse_record(line.rstrip(b"\n"))
                if record is None or (since is not None and _is_before(record.time, since)):
                    continue
                # Records are in the order of time: the rest is later, too.
                since = None
                yield record


def _is_before(text: str, moment: datetime.datetime) -> bool:
    try:
        return datetime.datetime.fromisoformat(text) < moment
    except (ValueError, TypeError):
        return False


def read_streams(
    path: str, *, since: datetime.datetime | None = None, limit_bytes: int = OUTPUT_MAX
) -> dict[str, str]:
    """Return ``stdout`` and ``stderr`` of the log at ``path``; undecodable bytes are replaced.

    Of a longer log the last ``limit_bytes`` are returned, after a line that says so.
    """
    kept: collections.deque[Record] = collections.deque()
    size = 0
    dropped = dict.fromkeys(STREAMS, 0)
    for record in _records(path, since):
        kept.append(record)
        size += len(record.text)
        while size > limit_bytes:
            oldest = kept.popleft()
            size -= len(oldest.text)
            dropped[oldest.stream] += len(oldest.text)
    written = {stream: data.decode("utf-8", "replace") for stream, data in join_streams(kept).items()}
    for stream, count in dropped.items():
        if count:
            written[stream] = (
                f"[{count} bytes are left out here; the log has them: {path}]\n{written[stream]}"
            )
    return written


def tail(path: str, lines: int) -> list[str]:
    """Return the last ``lines`` lines that the container wrote, of both streams, as text.

    Reads from the end, so that a large log costs no more than what is shown; a line
    longer than `OUTPUT_MAX` is shown by its end.
    """
    if lines <= 0:
        return []
    newest_first: list[Record] = []
    complete = size = 0
    for raw in _lines_backwards(log_files(path)):
        record = parse_record(raw)
        if record is None:
            continue
        # One complete line more than asked for, so that the parts of the first are all there.
        complete += not record.partial
        size += len(record.text)
        if complete > lines + 1 or size > OUTPUT_MAX:
            break
        newest_first.append(record)
    joined = list(join_lines(reversed(newest_first)))
    return [record.text.decode("utf-8", "replace") for record in joined[-lines:]]


def _lines_backwards(files: t.Sequence[str]) -> t.Iterator[bytes]:
    """Yield the lines of ``files`` (oldest file first), last line first, without line ends."""
    for name in reversed(files):
        with open(name, "rb") as stream:
            position = stream.seek(0, os.SEEK_END)
            rest = b""
            while position > 0:
                size = min(_BLOCK, position)
                position -= size
                stream.seek(position)
                parts = (stream.read(size) + rest).split(b"\n")
                rest = parts[0]
                yield from (part for part in reversed(parts[1:]) if part)
            if rest:
                yield rest
