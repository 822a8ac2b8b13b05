# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import datetime
import pathlib

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.container import logs
from ansible_collections.pvecri.runtime.plugins.module_utils.container.logs import Record

T = "2026-01-02T03:04:05.000000001+00:00"


def line(text, stream="stdout", tag="F", when=T):
    return f"{when} {stream} {tag} {text}\n".encode()


@pytest.mark.parametrize(
    ("raw", "record"),
    [
        (line("a b  c").rstrip(b"\n"), Record(T, "stdout", False, b"a b  c")),
        (line("x", "stderr", "P").rstrip(b"\n"), Record(T, "stderr", True, b"x")),
        (line("x", tag="F:later").rstrip(b"\n"), Record(T, "stdout", False, b"x")),
        (f"{T} stdout F".encode(), Record(T, "stdout", False, b"")),
        (f"{T} stdout F ".encode(), Record(T, "stdout", False, b"")),
        (f"{T} stdout F ".encode() + b"\xff\xfe", Record(T, "stdout", False, b"\xff\xfe")),
        (b"", None),
        (f"{T} stdout".encode(), None),
        (f"{T} stdlog F x".encode(), None),
        (f"{T} stdout X x".encode(), None),
        (f"{T} \xff F x".encode("latin-1"), None),
    ],
)
def test_parse_record(raw, record):
    assert logs.parse_record(raw) == record


def test_join_streams_gives_back_what_was_written(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(
        line("abcdef")
        + line("err", "stderr")
        + line("xy", tag="P")
        + line("oops", "stderr", "P")
        + line("z")
        + b"damaged\n"
        + line("tail", tag="P")
    )
    assert logs.read_streams(str(path)) == {"stdout": "abcdef\nxyz\ntail", "stderr": "err\noops"}


def test_read_streams_replaces_what_is_no_text(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(f"{T} stdout F ".encode() + b"\xff\n")
    assert logs.read_streams(str(path))["stdout"] == "\N{REPLACEMENT CHARACTER}\n"


@pytest.mark.parametrize(
    ("since", "texts"),
    [
        (None, [b"old", b"new", b"odd", b"later"]),
        ("2026-01-01T12:00:00+00:00", [b"new", b"odd", b"later"]),
        # The same moment in another time zone.
        ("2026-01-02T01:00:00+01:00", [b"new", b"odd", b"later"]),
        ("2026-01-02T00:00:01+00:00", [b"odd", b"later"]),
    ],
)
def test_read_records_since(tmp_path, since, texts):
    path = tmp_path / "log"
    path.write_bytes(
        line("old", when="2026-01-01T00:00:00.123456789Z")
        + line("new", when="2026-01-02T00:00:00.123456789+00:00")
        + line("odd", when="sometime")
        + line("later", when="2026-01-03T00:00:00.123456789+00:00")
    )
    moment = datetime.datetime.fromisoformat(since) if since else None
    assert [r.text for r in logs.read_records(str(path), since=moment)] == texts


def test_read_records_of_rotated_files_are_in_order(tmp_path):
    path = tmp_path / "log"
    (tmp_path / "log.2").write_bytes(line("1"))
    (tmp_path / "log.1").write_bytes(line("2"))
    path.write_bytes(line("3"))
    assert [r.text for r in logs.read_records(str(path))] == [b"1", b"2", b"3"]
    assert logs.tail(str(path), 2) == ["2", "3"]
    path.unlink()
    assert logs.tail(str(path), 9) == ["1", "2"]


def test_read_missing_log(tmp_path):
    assert logs.read_streams(str(tmp_path / "no")) == {"stdout": "", "stderr": ""}
    assert logs.tail(str(tmp_path / "no"), 5) == []


def test_join_lines_joins_the_parts_of_each_stream():
    records = [
        Record("1", "stdout", True, b"a"),
        Record("2", "stderr", False, b"e"),
        Record("3", "stdout", False, b"b"),
        Record("4", "stderr", True, b"never"),
        Record("5", "stderr", True, b" ended"),
    ]
    assert list(logs.join_lines(records)) == [
        Record("2", "stderr", False, b"e"),
        Record("1", "stdout", False, b"ab"),
        Record("4", "stderr", True, b"never ended"),
    ]


@pytest.mark.parametrize("block", [1, 7, 64, 65536])
@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (-1, []),
        (1, ["four"]),
        (2, ["three long", "four"]),
        (3, ["two", "three long", "four"]),
        (9, ["one", "two", "three long", "four"]),
    ],
)
def test_tail(tmp_path, monkeypatch, block, count, expected):
    monkeypatch.setattr(logs, "_BLOCK", block)
    path = tmp_path / "log"
    path.write_bytes(
        line("one") + line("two") + b"\n" + line("three ", tag="P") + line("long") + b"junk\n" + line("four")
    )
    assert logs.tail(str(path), count) == expected


def test_tail_of_a_line_that_is_being_written(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(line("one") + line("begun", tag="P") + line("cut")[:-1])
    assert logs.tail(str(path), 1) == ["beguncut"]


def test_tail_reads_only_the_end(tmp_path, monkeypatch):
    path = tmp_path / "log"
    path.write_bytes(b"".join(line(str(n)) for n in range(20000)))
    reads = []
    monkeypatch.setattr(
        logs, "parse_record", lambda raw, real=logs.parse_record: reads.append(1) or real(raw)
    )
    assert logs.tail(str(path), 2) == ["19998", "19999"]
    assert len(reads) < 10


def test_read_streams_keeps_the_end_of_what_is_too_long(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"2026-01-01T00:00:00Z stdout F {number:09}\n" for number in range(1000)))
    streams = logs.read_streams(str(path), limit_bytes=90)
    first, *rest = streams["stdout"].splitlines()
    assert rest == [f"{number:09}" for number in range(990, 1000)]
    assert first == f"[8910 bytes are left out here; the log has them: {path}]"
    assert streams["stderr"] == ""


def test_tail_of_a_line_without_end_is_bounded(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.write_text("2026-01-01T00:00:00Z stdout P 0123456789\n" * 1000)
    monkeypatch.setattr(logs, "OUTPUT_MAX", 100)
    assert logs.tail(str(path), 3) == ["0123456789" * 10]
