# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write cri_pb2.py from the descriptor that protoc made, and take over its types.

protoc's own Python depends on the version of protobuf that it was made by; the
descriptor and the builder that reads it are the same from protobuf 3.20 on.
"""

from __future__ import annotations

import base64
import pathlib
import sys
import textwrap

from google.protobuf.descriptor_pb2 import FileDescriptorSet

HEADER = """\
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""

MODULE = '''\
"""Hold the messages of the CRI; made from cri.proto by scripts/protocol."""

from __future__ import annotations

import base64

from google.protobuf import descriptor_pool
from google.protobuf.internal import builder

DESCRIPTOR = descriptor_pool.Default().AddSerializedFile(
    base64.b64decode(
        b"""
{data}
"""
    )
)
builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, globals())
builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, "pvecri.api.cri_pb2", globals())
'''


def main() -> None:
    """Read the directory of protoc's output and write into the second."""
    source, target = map(pathlib.Path, sys.argv[1:3])
    files = FileDescriptorSet.FromString((source / "cri.desc").read_bytes())
    data = "\n".join(textwrap.wrap(base64.b64encode(files.file[0].SerializeToString()).decode(), 108))
    (target / "cri_pb2.py").write_text(HEADER + MODULE.format(data=data))
    types = (source / "cri_pb2.pyi").read_text()
    (target / "cri_pb2.pyi").write_text(HEADER + types)


main()
