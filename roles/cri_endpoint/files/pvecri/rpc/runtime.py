# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer what clients ask of the runtime itself."""

from __future__ import annotations

import typing as t

import pvecri
from pvecri.api import cri_pb2 as pb

#: What the field ``version`` means is the kubelet's own runtime API, which never grew past this.
KUBELET_API_VERSION = "0.1.0"


class RuntimeRpc:
    """Handlers of Version."""

    def __init__(self) -> None:
        self._version = pb.VersionResponse(
            version=KUBELET_API_VERSION,
            runtime_name="pvecri",
            runtime_version=pvecri.__version__,
            runtime_api_version="v1",
        ).SerializeToString()

    async def version(self, _request: t.Any) -> bytes:
        """Say who answers, and which API."""
        return self._version

    def handlers(self) -> dict[str, t.Any]:
        """Return the handlers by the names of their methods."""
        return {"Version": self.version}
