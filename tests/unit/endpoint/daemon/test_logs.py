# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write log lines that are whole, whatever is in them."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvecri.config.model import LogConfig
from pvecri.daemon import logs


def record(
    message: str = "container started", level: int = logging.INFO, **fields: t.Any
) -> logging.LogRecord:
    made = logging.LogRecord(logs.NAME, level, "x.py", 1, message, (), None)
    made.created = 1767323045.678
    vars(made).update(fields)
    return made


def crashed() -> logging.LogRecord:
    made = record("request crashed", logging.ERROR)
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


def test_text_has_time_level_message_and_fields() -> None:
    line = logs.TextFormatter().format(
        record(container="abc", seconds=0.02, ok=True, reason="no space", none=None)
    )
    assert line == (
        "2026-01-02T03:04:05.678Z INFO    container started "
        'container=abc seconds=0.02 ok=true reason="no space" none=null'
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", '""'),
        ("a=b", '"a=b"'),
        ('say "x"', '"say \\"x\\""'),
        ("two\nlines", '"two\\nlines"'),
        ("ä", "ä"),
        ("\x1b[31m", '"\\u001b[31m"'),
        (["a", 1], '["a", 1]'),
    ],
)
def test_text_quotes_what_is_no_word(value: t.Any, text: str) -> None:
    assert logs.TextFormatter().format(record(field=value)).endswith(f" field={text}")


@given(st.text(max_size=30), st.text(max_size=30))
def test_text_of_anything_is_one_printable_line(message: str, value: str) -> None:
    line = logs.TextFormatter().format(record(message.replace("%", ""), field=value))
    assert line.isprintable()


def test_text_adds_the_traceback_below() -> None:
    lines = logs.TextFormatter().format(crashed()).split("\n")
    assert lines[0].endswith("ERROR   request crashed")
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-2:] == ["ValueError: bad", "thing"]


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7)],
)
def test_text_for_the_journal_has_priorities_and_no_time(level: int, priority: int) -> None:
    assert logs.TextFormatter(journal=True).format(record(level=level)) == f"<{priority}>container started"


def test_text_for_the_journal_has_a_priority_on_every_line() -> None:
    lines = logs.TextFormatter(journal=True).format(crashed()).split("\n")
    assert all(line.startswith("<3>") for line in lines)


def test_json_is_one_object() -> None:
    entry = json.loads(logs.JsonFormatter().format(record("two\nlines", container="abc", path=io.BytesIO)))
    assert entry.pop("path") == "<class '_io.BytesIO'>"
    assert entry == {
        "time": "2026-01-02T03:04:05.678Z",
        "level": "info",
        "message": "two\nlines",
        "container": "abc",
    }


def test_json_has_the_traceback_and_the_name_of_another_logger() -> None:
    made = crashed()
    made.name = "asyncio"
    entry = json.loads(logs.JsonFormatter().format(made))
    assert entry["logger"] == "asyncio"
    assert entry["traceback"].startswith("Traceback")


@pytest.fixture
def _loggers() -> t.Iterator[None]:
    root, log, raises = logging.getLogger(), logging.getLogger(logs.NAME), logging.raiseExceptions
    before = (root.handlers[:], root.level, log.level)
    yield
    root.handlers[:], level, own = before
    root.setLevel(level)
    log.setLevel(own)
    logging.raiseExceptions = raises


@pytest.mark.usefixtures("_loggers")
@pytest.mark.parametrize(("fmt", "kind"), [("text", logs.TextFormatter), ("json", logs.JsonFormatter)])
def test_set_up_follows_the_configuration(fmt: str, kind: type) -> None:
    log = logs.set_up(LogConfig(level="warning", format=fmt))
    assert log.level == logging.WARNING
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler.formatter, kind)
    assert logs.set_up(LogConfig(), level="debug").level == logging.DEBUG


@pytest.mark.usefixtures("_loggers")
def test_set_up_knows_the_journal_by_its_stream(monkeypatch: pytest.MonkeyPatch, capfd: t.Any) -> None:
    with open("/dev/null", "w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        logs.set_up(LogConfig())
        formatter = logging.getLogger().handlers[0].formatter
        assert formatter is not None
        assert formatter.format(record()).startswith("<6>")


@pytest.mark.usefixtures("_loggers")
def test_set_up_works_with_a_stream_that_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    logs.set_up(LogConfig()).info("hello", extra={"a": 1})
    assert t.cast(io.StringIO, sys.stderr).getvalue().endswith("INFO    hello a=1\n")
