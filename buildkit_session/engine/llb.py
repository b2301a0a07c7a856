"""Build graphs in the form that BuildKit solves, as far as this library makes some itself.

Source: moby/buildkit:solver/pb/ops.proto, client/llb/marshal.go.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from buildkit_session.messages.pb import Definition, OpMetadata
from buildkit_session.messages.pb.ops import Input, Op, SourceOp

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["source_definition"]


def source_definition(identifier: str, attrs: Mapping[str, str], *, name: str) -> Definition:
    """Make a graph that brings in one source and is nothing else.

    Args:
        identifier: such as ``https://host/file``.
        attrs: of the source, such as ``http.filename``.
        name: of the step, in the progress.
    """
    # An op is named by the digest of its bytes, so they are made once.
    source = bytes(Op(source=SourceOp(identifier, dict(attrs))))
    digest = f"sha256:{sha256(source).hexdigest()}"
    # The last op is no step: it says whose output is the result.
    terminal = bytes(Op(inputs=[Input(digest)]))
    return Definition([source, terminal], {digest: OpMetadata(description={"llb.customname": name})})
