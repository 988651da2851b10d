"""Parts of ONNX that the libraries would lose without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdkpack_optimize.files import graphs_of

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["unknown_parts"]


def unknown_parts(proto: ModelProto) -> list[str]:
    """Names of such parts of a model. onnx-ir 1.1 reads neither training information nor sparse initializers."""
    found = []
    if proto.training_info:
        found.append("training information")
    if any(graph.sparse_initializer for graph in graphs_of(proto)):
        found.append("sparse initializers")
    return found
