"""The patterns of names and versions, each with the words that say to an author what it allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = [
    "BUNDLE_NAME",
    "DIGEST",
    "NAME",
    "NAMESPACED_NAME",
    "OPERATOR",
    "OPERATOR_VERSION",
    "SYMBOL",
    "VERSION",
    "WORDS",
]

NAME: Final = r"^[A-Za-z_][A-Za-z0-9_-]*$"
NAMESPACED_NAME: Final = r"^[a-z][a-z0-9_]*([.-][a-z0-9_]+)*$"
OPERATOR: Final = r"^[a-z][a-z0-9_]*([.-][a-z0-9_]+)*(/[1-9][0-9]*)?$"
OPERATOR_VERSION: Final = r"^[a-z][a-z0-9_]*([.-][a-z0-9_]+)*/[1-9][0-9]*$"
BUNDLE_NAME: Final = r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$"
VERSION: Final = r"^[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+)?(\.post[0-9]+)?(\.dev[0-9]+)?$"
SYMBOL: Final = r"^[A-Za-z_][A-Za-z0-9_.]*$"
DIGEST: Final = r"^sha256:[0-9a-f]{64}$"

WORDS: Final[Mapping[str, str]] = {
    NAME: "a name of the letters A-Z a-z, digits, _ and -, a letter or _ first",
    NAMESPACED_NAME: "a lower-case name such as image.resize or acme.npu2",
    OPERATOR: "an operator such as image.resize or image.resize/1",
    OPERATOR_VERSION: "an operator and its version such as image.resize/1",
    BUNDLE_NAME: "lower-case letters, digits, . _ and -, a letter or digit first and last",
    VERSION: "a version such as 1.0.0 or 1.0rc1",
    SYMBOL: "a name of the letters A-Z a-z, digits, _ and ., a letter or _ first",
    DIGEST: "sha256: and 64 lower-case hex digits",
}
