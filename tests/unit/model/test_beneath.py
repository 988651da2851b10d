"""The kernel's walk and ours agree."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sdkpack.model.beneath import Openat2Missing, open_beneath_stepwise, openat2

if TYPE_CHECKING:
    from pathlib import Path


def test_openat2_opens_plain_files_and_refuses_links_and_escapes(tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "f").write_bytes(b"f")
    (tmp_path / "out").write_bytes(b"o")
    (tmp_path / "in" / "link").symlink_to("sub/f")
    folder = os.open(tmp_path / "in", os.O_RDONLY)
    try:
        try:
            fd = openat2(folder, "sub/f")
        except Openat2Missing:
            pytest.skip("this kernel or its sandbox has no openat2")
        assert os.read(fd, 2) == b"f"
        os.close(fd)
        for name in ("../out", "link", str(tmp_path / "out"), "sub/../../out"):
            with pytest.raises(OSError, match=r"."):
                openat2(folder, name)
        fd = open_beneath_stepwise(folder, ["sub", "f"])
        assert os.read(fd, 2) == b"f"
        os.close(fd)
        for parts in (["link"], ["sub", "absent"], ["link", "f"]):
            with pytest.raises(OSError, match=r"."):
                open_beneath_stepwise(folder, parts)
    finally:
        os.close(folder)
