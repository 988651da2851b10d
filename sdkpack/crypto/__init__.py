"""Cryptography, bytes in and bytes out: it knows keys, chunks and labels, but no file and no bundle layout.

One file per thing: `stream` (chunked AES-256-GCM), `keys` (the HKDF schedule), `recipients` (who can open a
bundle), `signature` (who made it), `keyfile` (keys as text). The primitives are those of the `cryptography` package;
this layer only composes them, as `sdkpack/bundle/FORMAT.md` says.
"""

from __future__ import annotations
