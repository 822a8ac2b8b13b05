# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch one image with the host's containers configuration, by a watched skopeo."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandTimeout, CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import ImageReference
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import ImageSource, PullPolicy
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image
from pvecri.config.model import ImagesConfig
from pvecri.images.credentials import Credentials, authfile
from pvecri.images.errors import RegistryUnavailable, classify
from pvecri.images.progress import PullRunner
from pvecri.metrics.counts import PullCounts

#: skopeo's words for a full disk, as Go and the C library have them.
_NO_SPACE = "no space left on device"
#: Variables that name the same files for podman, CRI-O and skopeo (only newer ones read the first).
_REGISTRIES_CONF = "CONTAINERS_REGISTRIES_CONF"
_AUTHFILE = "REGISTRY_AUTH_FILE"


class Puller:
    """Fetches images into the store as the configuration says."""

    def __init__(
        self,
        store: ImageStore,
        runner: Runner,
        config: ImagesConfig,
        log: logging.Logger,
        stop: threading.Event,
    ) -> None:
        self.store = store
        self.runner = runner
        self.config = config
        self.log = log
        self.stop = stop
        self.counts = PullCounts()

    def pull(
        self,
        reference: ImageReference,
        credentials: Credentials | None,
        on_idle: t.Callable[[bool], None] = lambda _is_idle: None,
    ) -> Image:
        """Ask the registry for an image, fetch what is missing of it, and return it.

        Raises InvalidSpec, NotFound, RegistryUnavailable, SignatureRejected,
        CommandTimeout, CommandError, and WrongState when the endpoint stops meanwhile.
        """
        what = reference.canonical
        config = self.config
        begin = time.monotonic()
        self.log.info("pull begins", extra={"image": what, "has_credentials": credentials is not None})
        runner = PullRunner(
            what,
            self.log,
            self.runner,
            no_progress_s=config.no_progress_timeout_s,
            stop=self.stop,
            on_idle=on_idle,
        )
        try:
            with authfile(credentials, reference, config.authfile or _from_environment(_AUTHFILE)) as path:
                source = ImageSource(
                    reference=f"docker://{what}",
                    policy=PullPolicy.ALWAYS,
                    authfile=path,
                    signature_policy=config.policy_file or None,
                    registries_conf=config.registries_conf or _from_environment(_REGISTRIES_CONF),
                    is_verbose=True,
                    # That others may have an image does not say that this client may.
                    trusts_others=False,
                    retries=self.config.pull_retries,
                    timeout_s=config.pull_timeout_s,
                )
                image, is_new = self.store.with_runner(runner).ensure(source)
        except CoreError as exc:
            error = self._explain(exc, reference, runner)
            took = time.monotonic() - begin
            self.counts.ended(took, has_failed=True)
            facts = {"image": what, "error": str(error), "seconds": round(took, 3)}
            self.log.warning("pull failed", extra=facts)
            if _NO_SPACE in str(error):
                # The edge knows it by its number.
                raise error from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise error from exc
        self._say(what, image, is_new, time.monotonic() - begin)
        return image

    def _explain(self, error: CoreError, reference: ImageReference, runner: PullRunner) -> CoreError:
        if isinstance(error, CommandTimeout) and runner.has_stalled:
            return RegistryUnavailable.of(
                error,
                f"the pull of {reference.canonical} was given up: {reference.registry} has sent nothing for "
                f"{runner.no_progress_s:g} s",
            )
        return classify(error)

    def _say(self, what: str, image: Image, is_new: bool, elapsed_s: float) -> None:
        try:
            layers = self.store.files_of(image).layers_of(image)
        except CoreError:
            layers = []
        fetched = layers if is_new else []
        size = sum(layer.compressed_bytes or layer.size_bytes for layer in fetched)
        self.counts.ended(elapsed_s, fetched_bytes=size)
        for layer in fetched:
            self.log.info(
                "pulled blob",
                extra={
                    "image": what,
                    "blob": layer.digest,
                    "bytes": layer.compressed_bytes or layer.size_bytes,
                },
            )
        facts = {
            "image": what,
            "id": image.id,
            "is_new": is_new,
            "layers": len(layers),
            "bytes": image.size_bytes,
            "seconds": round(elapsed_s, 3),
        }
        self.log.info("pull ended", extra=facts)


def _from_environment(name: str) -> str | None:
    """Return a path that the daemon was given as other tools of this family are."""
    return os.environ.get(name) or None
