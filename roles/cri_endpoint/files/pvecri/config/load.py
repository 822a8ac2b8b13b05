# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the configuration file, and say of everything wrong in it where it stands and what was meant."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
import tomllib
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.config.checks import is_loopback
from pvecri.config.lines import key_lines
from pvecri.config.model import CONFIG_FILE, Config, StreamingConfig

MAX_BYTES = 1 << 20

#: What an answer of ExecSync has beside the output, and more.
_EXEC_OVERHEAD = 1024

#: How TOML calls the types.
_NAMES: t.Final[dict[t.Any, str]] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "an array",
    dict: "a table",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where it is from."""

    config: Config
    #: The file, or None when all of it is defaults.
    path: str | None
    #: Lines of the keys that the file sets, by ``(section, key)``.
    lines: t.Mapping[tuple[str, ...], int]

    def place(self, section: str, key: str) -> str:
        """Return ``file:line`` of a key, the file alone of one that it does not set."""
        line = self.lines.get((section, key)) or self.lines.get((section,))
        return f"{self.path or 'defaults'}{f':{line}' if line else ''}"


class ConfigError(InvalidSpec):
    """Report everything that is wrong in a file, one problem a line."""

    def __init__(self, problems: t.Sequence[str]) -> None:
        super().__init__("", "\n".join(problems))
        self.problems = list(problems)


def load(path: str | None = None) -> Loaded:
    """Return the configuration in a file; raises ConfigError.

    Without a path it is /etc/pvecri/config.toml, which may be missing: every key has a default.
    """
    try:
        with open(path or CONFIG_FILE, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        if path is None:
            return Loaded(Config(), None, {})
        raise ConfigError([f"{path}: there is no such file"]) from None
    except OSError as exc:
        raise ConfigError([f"{path or CONFIG_FILE}: it cannot be read: {exc.strerror}"]) from exc
    return parse(data, path or CONFIG_FILE)


def parse(data: bytes, origin: str) -> Loaded:
    """Return the configuration in the text of a file; errors call it ``origin``."""
    if len(data) > MAX_BYTES:
        raise ConfigError([f"{origin}: it is larger than {MAX_BYTES} bytes"])
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ConfigError([f"{origin}:{line}: it is not UTF-8"]) from exc
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        # Where it is, tomllib says in its text alone; at the end of the file it names no number.
        place = re.search(r"line (\d+)", str(exc))
        number = place[1] if place else text.count("\n") + 1
        raise ConfigError([f"{origin}:{number}: it is no TOML: {exc}"]) from exc
    except RecursionError as exc:
        raise ConfigError([f"{origin}: it is nested too deeply"]) from exc
    reader = _Reader(origin, key_lines(text))
    config = reader.read(document)
    if reader.problems:
        raise ConfigError([text for _unused, text in sorted(reader.problems)])
    return Loaded(config, origin, reader.lines)


class _Reader:
    """Turn plain data into a `Config`, and collect what is wrong."""

    def __init__(self, origin: str, lines: t.Mapping[tuple[str, ...], int]) -> None:
        self.problems: list[tuple[int, str]] = []
        self.lines = lines
        self._origin = origin

    def read(self, document: t.Mapping[str, t.Any]) -> Config:
        sections = {field.name: field for field in dataclasses.fields(Config)}
        found: dict[str, t.Any] = {}
        for name, value in document.items():
            if name not in sections:
                self._unknown((name,), sections, "section")
            elif not isinstance(value, dict):
                self._problem((name,), f"a table is wanted, this is {_kind(value)}")
            else:
                found[name] = self._section(name, t.get_type_hints(Config)[name], value)
        config = Config(**found)
        if config.runtime.policy and config.runtime.policy_file:
            self._problem(
                ("runtime", "policy"), "the policy stands here and in policy_file: give one of them"
            )
        if os.path.normpath(config.paths.run_dir) == os.path.normpath(config.paths.state_dir):
            self._problem(("paths", "run_dir"), "it is state_dir, too: what a reboot may lose needs its own")
        exec_max, message_max = config.runtime.exec_output_max_bytes, config.server.max_message_bytes
        if 2 * exec_max + _EXEC_OVERHEAD > message_max:
            key = ("runtime", "exec_output_max_bytes")
            self._problem(
                key if key in self.lines else ("server", "max_message_bytes"),
                f"{exec_max} bytes of stdout and of stderr (runtime.exec_output_max_bytes) do not fit a "
                f"message of {message_max} bytes (server.max_message_bytes)",
            )
        self._check_streaming(config.streaming)
        metrics = config.metrics
        if metrics.port and not metrics.allow_remote and not is_loopback(metrics.address):
            self._problem(
                ("metrics", "address"),
                f"'{metrics.address}' can be reached from other hosts: set allow_remote = true if that is "
                "wanted, or listen on 127.0.0.1",
            )
        if metrics.port and (metrics.port, metrics.address) == (
            config.streaming.port,
            config.streaming.address,
        ):
            self._problem(("metrics", "port"), "it is streaming.port, too: each needs its own")
        return config

    def _check_streaming(self, config: StreamingConfig) -> None:
        for key, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("tls_client_ca", "tls_cert")):
            if getattr(config, key) and not getattr(config, other):
                self._problem(("streaming", key), f"{other} is missing: the files belong together")
        if not config.tls_cert and not is_loopback(config.address):
            self._problem(
                ("streaming", "address"),
                f"'{config.address}' can be reached from other hosts, and what streams carry is not for "
                "everybody: give tls_cert and tls_key, or listen on 127.0.0.1",
            )

    def _section(self, name: str, kind: type[t.Any], table: t.Mapping[str, t.Any]) -> t.Any:
        fields = {field.name: field for field in dataclasses.fields(kind)}
        types_ = t.get_type_hints(kind)
        values: dict[str, t.Any] = {}
        for key, raw in table.items():
            if key not in fields:
                self._unknown((name, key), fields, "key")
                continue
            try:
                value = _typed(raw, types_[key])
                checks = fields[key].metadata["checks"]
                problem = next((text for check in checks if (text := check(value))), None)
            except TypeError as exc:
                problem = str(exc)
            if problem:
                self._problem((name, key), problem)
            else:
                values[key] = value
        return kind(**values)

    def _unknown(self, path: tuple[str, ...], known: t.Iterable[str], what: str) -> None:
        near = difflib.get_close_matches(path[-1], list(known), n=1, cutoff=0.5)
        advice = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(sorted(known))}"
        self._problem(path, f"there is no such {what}; {advice}")

    def _problem(self, path: tuple[str, ...], text: str) -> None:
        line = self.lines.get(path, 0)
        self.problems.append((line, f"{self._origin}:{line}: {'.'.join(path)}: {text}"))


def _typed(value: t.Any, wanted: t.Any) -> t.Any:
    """Return a TOML value as the type of a field; raises TypeError that says what it is instead."""
    origin = t.get_origin(wanted) or wanted
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"an array is wanted, this is {_kind(value)}")
        item = t.get_args(wanted)[0]
        return tuple(_typed(each, item) for each in value)
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, origin) or (isinstance(value, bool) and origin is not bool):
        raise TypeError(f"{_NAMES[origin]} is wanted, this is {_kind(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError("a finite number is wanted")
    return value


def _kind(value: t.Any) -> str:
    return _NAMES.get(type(value), "a date or time")
