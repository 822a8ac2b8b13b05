# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the command line and do what it says."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import typing as t

import pvecri
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec
from pvecri.config.load import ConfigError, load
from pvecri.config.model import CONFIG_FILE

_LEVELS = ("debug", "info", "warning", "error")
_MAX_WAIT_S = 86400
_MIN_FILES = 2


def main(argv: t.Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 called wrongly."""
    options = _parser().parse_args(argv)
    try:
        return int(options.run(options))
    except ConfigError as exc:
        print("\n".join(exc.problems), file=sys.stderr)
    except CoreError as exc:
        print(f"error: {exc}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pvecri",
        description="The container runtime endpoint of this node, for kubelet and crictl.",
    )
    parser.add_argument("--version", action="version", version=f"pvecri {pvecri.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = _command(commands, "serve", _serve, "run the endpoint in the foreground, until SIGTERM or Ctrl-C")
    serve.add_argument("--log-level", choices=_LEVELS, help="instead of the configuration's log.level")

    config = commands.add_parser("config", help="look at the configuration")
    looks = config.add_subparsers(required=True, metavar="COMMAND")
    check = _command(
        looks, "check", _check, "tell what is wrong with the configuration, and what it misses on this host"
    )
    check.add_argument("--file-only", action="store_true", help="do not look at what it misses on this host")
    check.add_argument("--policy", metavar="FILE", help="check this policy instead")
    shown = _command(looks, "show", _show, "print the effective configuration and where each value is from")
    shown.add_argument("--docs", action="store_true", help="explain each key")

    told = _command(
        commands, "version", _version, "print the versions of the endpoint and of what it works with"
    )
    told.add_argument("--json", action="store_true", help="as JSON")

    bundle = _command(
        commands,
        "support-bundle",
        _support_bundle,
        "write what somebody who helps wants to see: configuration, records, states, log; without secrets",
    )
    bundle.add_argument(
        "--output", metavar="FILE", help="file to write (default: pvecri-support-TIME.tar.gz here)"
    )
    _add_probe(commands)
    drained = _command(commands, "drain", _drain, "stop and remove all pods of the running endpoint")
    drained.add_argument("--socket", metavar="PATH", help="instead of the configuration's server.socket")
    drained.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=300.0,
        help="time that all of it has (default: 300)",
    )
    _add_images(commands.add_parser("images", help="look at the image store, or load images from files"))
    _add_logs(commands.add_parser("logs", help="look after the logs of containers"))
    return parser


def _add_probe(commands: t.Any) -> None:
    probe = _command(
        commands,
        "probe",
        _probe,
        "ask a running endpoint whether it is ready, and what runs under it",
        epilog="Exit codes: 0 all that was asked for is so; 1 something of it is not, standard error says "
        "what; 2 called wrongly; 3 no endpoint answers on the socket.",
    )
    probe.add_argument("--socket", metavar="PATH", help="instead of the configuration's server.socket")
    probe.add_argument(
        "--wait",
        metavar="SECONDS",
        type=_seconds,
        default=0.0,
        help="time that the endpoint has to become ready (default: 0)",
    )
    probe.add_argument("--network", action="store_true", help="want the network to be ready, too")
    probe.add_argument(
        "--expect",
        metavar="FILE",
        help="want the containers to run on that an earlier 'probe --json' has told of; - is standard input",
    )
    probe.add_argument(
        "--pod",
        action="store_true",
        help="try the life of a pod with one container, when the endpoint is ready; nothing of it is left",
    )
    probe.add_argument(
        "--image",
        metavar="NAME",
        help="the container's image, which is run as it is (default: a tiny built-in one, of which log and "
        "exec are tried, too)",
    )
    probe.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=60.0,
        help="time that the pod's life has (default: 60)",
    )
    probe.add_argument("--json", action="store_true", help="print one JSON document, also when it fails")


def _add_images(images: t.Any) -> None:
    commands = images.add_subparsers(required=True, metavar="COMMAND")
    loads = _command(
        commands,
        "load",
        _images_load,
        "load images from archives into the store, whether or not the endpoint runs",
        epilog="Archives are what docker save, podman save and skopeo write (docker-archive, oci-archive), "
        "plain or packed by gzip, zstd, xz or bzip2. Exit codes: 0 all images are there; 1 not all, standard "
        "error says why.",
    )
    loads.add_argument("files", metavar="FILE", nargs="+", help="an archive")
    loads.add_argument(
        "--name", metavar="NAME", help="name of the one image, instead of what the archive says"
    )
    loads.add_argument("--json", action="store_true", help="print one JSON document, also when it fails")
    listed = _command(commands, "list", _images_list, "print the images that clients see")
    listed.add_argument("--json", action="store_true", help="as JSON")


def _add_logs(logs: t.Any) -> None:
    commands = logs.add_subparsers(required=True, metavar="COMMAND")
    rotate = _command(
        commands,
        "rotate",
        _logs_rotate,
        "move logs that have grown away and begin new ones, as kubelet does: for nodes without one",
        epilog="Exit codes: 0 done; 1 not for each container, standard error says why; 3 the endpoint does "
        "not answer: nothing is moved then.",
    )
    rotate.add_argument("--socket", metavar="PATH", help="instead of the configuration's server.socket")
    rotate.add_argument(
        "--max-size",
        metavar="SIZE",
        type=_size,
        default="10MiB",
        help="size above which a log is moved: bytes, or with KiB, MiB or GiB (default: 10MiB)",
    )
    rotate.add_argument(
        "--max-files",
        metavar="NUMBER",
        type=_files,
        default=5,
        help="files of one log, the one that is written among them, from 2 on (default: 5)",
    )


def _size(text: str) -> int:
    from ansible_collections.pvecri.runtime.plugins.module_utils.units import parse_size  # noqa: PLC0415

    try:
        value = parse_size(text, "--max-size")
    except InvalidSpec as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no size of a file; for example 10MiB")
    return value


def _files(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < _MIN_FILES:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from {_MIN_FILES} on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= _MAX_WAIT_S:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of seconds from 0 to {_MAX_WAIT_S}")
    return value


def _command(
    commands: t.Any, name: str, run: t.Callable[[argparse.Namespace], int], text: str, *, epilog: str = ""
) -> t.Any:
    description = text[0].upper() + text[1:] + "."
    command = commands.add_parser(name, help=text, description=description, epilog=epilog)
    command.add_argument(
        "--config", metavar="FILE", help=f"configuration (default: {CONFIG_FILE}, if it exists)"
    )
    command.set_defaults(run=run)
    return command


# What a command needs is imported by it: gRPC alone takes a quarter of a second.


def _serve(options: argparse.Namespace) -> int:
    from pvecri.daemon.daemon import run  # noqa: PLC0415

    return run(load(options.config), log_level=options.log_level)


def _drain(options: argparse.Namespace) -> int:
    from pvecri.client.client import Client  # noqa: PLC0415
    from pvecri.drain import drain  # noqa: PLC0415

    with Client(options.socket or load(options.config).config.server.socket) as client:
        removed, problems = drain(client, timeout_s=options.timeout)
    for pod in removed:
        print(pod)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _check(options: argparse.Namespace) -> int:
    from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import (  # noqa: PLC0415
        load_policy,
    )
    from pvecri.config.host_checks import host_problems  # noqa: PLC0415

    if options.policy:
        load_policy(options.policy, field=options.policy)
        print(f"{options.policy}: nothing is wrong with it")
        return 0
    loaded = load(options.config)
    problems = [] if options.file_only else host_problems(loaded)
    if problems:
        raise ConfigError(problems)
    print(f"{loaded.path or 'the default configuration'}: nothing is wrong with it")
    return 0


def _show(options: argparse.Namespace) -> int:
    from pvecri.config.show import show  # noqa: PLC0415

    print(show(load(options.config), with_docs=options.docs), end="")
    return 0


def _version(options: argparse.Namespace) -> int:
    from pvecri.support.versions import versions  # noqa: PLC0415

    found = versions(load(options.config).config, SubprocessRunner())
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(f"{name:<9} {version}" for name, version in found.items()))
    return 0


def _probe(options: argparse.Namespace) -> int:
    from pvecri.probe.command import run  # noqa: PLC0415

    return run(options)


def _images_load(options: argparse.Namespace) -> int:
    from pvecri.archives.command import run_load  # noqa: PLC0415

    return run_load(options)


def _images_list(options: argparse.Namespace) -> int:
    from pvecri.archives.command import run_list  # noqa: PLC0415

    return run_list(options)


def _logs_rotate(options: argparse.Namespace) -> int:
    from pvecri.rotation.command import run  # noqa: PLC0415

    return run(options)


def _support_bundle(options: argparse.Namespace) -> int:
    from pvecri.support.archive import write_bundle  # noqa: PLC0415

    path = options.output or time.strftime("pvecri-support-%Y%m%d-%H%M%S.tar.gz")
    try:
        missing = write_bundle(path, load(options.config), SubprocessRunner())
    except OSError as exc:
        print(f"error: {path} cannot be written: {exc.strerror}", file=sys.stderr)
        return 1
    for text in missing:
        print(f"left out: {text}", file=sys.stderr)
    print(os.path.abspath(path))
    return 0
