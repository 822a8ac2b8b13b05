# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the log: one line per event, with its facts as fields.

    log.info("container started", extra={"container": identity, "seconds": 0.02})

Nothing that a client sent can end a line or begin another: control characters are escaped.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import sys
import typing as t

from pvecri.config.model import LogConfig
from pvecri.daemon.log_stream import LogStream

NAME: t.Final = "pvecri"

#: What every record has; the rest are the fields of the event.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

#: Severities of syslog, with which the journal reads the beginning of a line (sd-daemon(3)).
_SYSLOG = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_SYSLOG_DEBUG = 7


def set_up(config: LogConfig, *, level: str | None = None) -> logging.Logger:
    """Send the log to standard error as the configuration says and return the daemon's logger."""
    # A log that cannot be written must not disturb the work.
    logging.raiseExceptions = False
    formatter = JsonFormatter() if config.format == "json" else TextFormatter(journal=_is_journal(sys.stderr))
    handler: logging.StreamHandler[t.Any] = logging.StreamHandler(_stream(sys.stderr, formatter))
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    log = logging.getLogger(NAME)
    log.setLevel((level or config.level).upper())
    return log


def _stream(stderr: t.TextIO, formatter: logging.Formatter) -> LogStream | t.TextIO:
    """Return what lines are written to; what is no file is written to as it is."""

    def told(count: int) -> str:
        record = logging.LogRecord(NAME, logging.WARNING, __file__, 0, "log lines were lost", (), None)
        vars(record)["lines"] = count
        return formatter.format(record) + "\n"

    try:
        return LogStream(stderr.fileno(), told)
    except (OSError, ValueError):
        return stderr


class TextFormatter(logging.Formatter):
    """Write ``2026-01-02T03:04:05.678Z INFO container started container=… seconds=0.02``."""

    def __init__(self, *, journal: bool = False) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, and those of its traceback below it."""
        parts = [_escaped(record.getMessage())]
        parts += [f"{name}={_text(value)}" for name, value in fields_of(record).items()]
        line = " ".join(parts)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        if not self._journal:
            return f"{_time(record)} {record.levelname:<7} {line}"
        priority = next((number for least, number in _SYSLOG if record.levelno >= least), _SYSLOG_DEBUG)
        return "\n".join(f"<{priority}>{text}" for text in line.split("\n"))


class JsonFormatter(logging.Formatter):
    """Write one JSON object per event: time, level, message and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object of a record, its traceback under ``traceback``."""
        entry: dict[str, t.Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.name != NAME:
            entry["logger"] = record.name
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def fields_of(record: logging.LogRecord) -> dict[str, t.Any]:
    """Return what ``extra`` gave to a record."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _time(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: t.Any) -> str:
    """Return a value as one word, in quotes where it would not be one."""
    if isinstance(value, str):
        is_word = value and value.isprintable() and not set(value) & set(' "=\\')
        return value if is_word else json.dumps(value, ensure_ascii=not value.isprintable())
    return json.dumps(value, default=str)


def _escaped(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)[1:-1]


def _is_journal(stream: t.TextIO) -> bool:
    """Say whether a stream leads to systemd's journal, which adds the time itself (systemd.exec(5))."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
