"""The parts of writing and reading that a round trip does not show."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from sdkpack.bundle import (
    BlobSource,
    BundleContent,
    FileItem,
    FileSystem,
    Seal,
    TrustPolicy,
    open_bundle,
    write_bundle,
)
from sdkpack.bundle.copying import copy_range
from sdkpack.bundle.files import atomic_file
from sdkpack.bundle.memory import ALIGNMENT, load_buffer
from sdkpack.bundle.source import FileSource
from sdkpack.crypto.recipients import Kek, PluginIdentity, PluginRecipient
from sdkpack.errors import (
    FileError,
    InterruptedRunError,
    LimitError,
    OutputError,
    PathNameError,
    PayloadError,
    UsageError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.bundle.conftest import Sample

UNSIGNED = TrustPolicy(allow_unsigned=True)
KEK = Kek(b"k" * 32)


def one(data: bytes, *, path: str = "a.bin", sha256: bytes | None = None, **fields: Any) -> BundleContent:
    item = FileItem(path=path, media_type="a/b", source=BlobSource.from_bytes(data, sha256=sha256))
    return BundleContent(manifest=fields.pop("manifest", {}), files=(item,), **fields)


def test_progress_tells_every_byte(content: BundleContent) -> None:
    told: list[tuple[int, int]] = []
    write_bundle(content, io.BytesIO(), seal=None, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] == sum(item.source.size_bytes for item in content.files)
    assert told == sorted(told)


def test_cancelling_leaves_nothing(tmp_path: Path, content: BundleContent) -> None:
    with pytest.raises(InterruptedRunError):
        write_bundle(content, tmp_path / "x", seal=None, cancelled=lambda: True)
    assert list(tmp_path.iterdir()) == []


def test_equal_files_are_stored_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"same" * 1000)
    items = [
        FileItem(path="a", media_type="a/b", source=BlobSource.from_path(source)),
        FileItem(path="b", media_type="c/d", source=BlobSource.from_bytes(b"same" * 1000)),
        FileItem(path="c", media_type="a/b", source=BlobSource.from_bytes(b"diff" * 1000)),
    ]
    for seal in (None, Seal(recipients=(KEK,))):
        out = io.BytesIO()
        summary = write_bundle(BundleContent(manifest={}, files=tuple(items)), out, seal=seal)
        assert (summary.blobs, summary.files) == (2, 3)
        bundle = open_bundle(out.getvalue()).verify(policy=UNSIGNED, identities=[KEK])
        assert bundle.files["a"].blob == bundle.files["b"].blob != bundle.files["c"].blob
        assert bundle.files["b"].media_type == "c/d"
        assert bundle.files["a"].sha256 == hashlib.sha256(b"same" * 1000).digest()


def test_a_known_digest_spares_a_pass_and_is_not_believed() -> None:
    opened = []

    def open_once() -> io.BytesIO:
        opened.append(1)
        return io.BytesIO(b"data")

    source = BlobSource(size_bytes=4, open=open_once, sha256=hashlib.sha256(b"data").digest())
    packed = BundleContent(manifest={}, files=(FileItem(path="a", media_type="a/b", source=source),))
    write_bundle(packed, io.BytesIO(), seal=Seal(recipients=(KEK,)))
    assert len(opened) == 1
    wrong = one(b"data", sha256=bytes(32))
    with pytest.raises(FileError, match=r"'a\.bin' changed while packing"):
        write_bundle(wrong, io.BytesIO(), seal=None)
    out = io.BytesIO()
    write_bundle(wrong, out, seal=Seal(recipients=(KEK,)))
    with pytest.raises(PayloadError):
        open_bundle(out.getvalue()).verify(policy=UNSIGNED, identities=[KEK])


@pytest.mark.parametrize("seal", [None, Seal(recipients=(KEK,), chunk_log2=16)], ids=["plain", "sealed"])
@pytest.mark.parametrize("size", [0, 5, 300_000])
def test_sources_of_another_size_fail(size: int, seal: Seal | None, tmp_path: Path) -> None:
    for stated in (size + 1, size - 1):
        if stated < 0:
            continue
        source = BlobSource(size_bytes=stated, open=lambda: io.BytesIO(bytes(size)))
        packed = BundleContent(manifest={}, files=(FileItem(path="a", media_type="a/b", source=source),))
        with pytest.raises(FileError, match="changed while packing"):
            write_bundle(packed, tmp_path / "x", seal=seal)
    assert list(tmp_path.iterdir()) == []


def test_sources_that_cannot_be_read_are_told_apart_from_the_target(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(b"x")
    source = BlobSource.from_path(path)
    path.unlink()
    packed = BundleContent(manifest={}, files=(FileItem(path="a", media_type="a/b", source=source),))
    with pytest.raises(FileError, match="cannot read a source"):
        write_bundle(packed, tmp_path / "x", seal=None)
    with pytest.raises(FileError, match="no file"):
        BlobSource.from_path(path)
    with pytest.raises(FileError, match="cannot open"):
        open_bundle(path)


@pytest.mark.parametrize(
    ("packed", "error", "message"),
    [
        (one(b"", path="../x"), PathNameError, "not allowed"),
        (one(b"", manifest={"a": None}), UsageError, "NoneType cannot be stored"),
        (one(b"", manifest={"a": float("nan")}), UsageError, "nan has no canonical"),
        (one(b"", manifest={"a": "x" * (5 << 20)}), LimitError, "manifest"),
        (one(b"", manifest={"name": 1.5}), UsageError, "float"),
        (replace(one(b""), files=(replace(one(b"").files[0], media_type="text"),)), UsageError, "media type"),
    ],
    ids=["path", "nil", "nan", "large", "about", "media type"],
)
def test_what_no_reader_would_accept_is_not_written(
    packed: BundleContent, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        write_bundle(packed, tmp_path / "x", seal=None)
    assert list(tmp_path.iterdir()) == []


def test_raw_streams_and_broken_pipes(content: BundleContent) -> None:
    class Raw(io.RawIOBase):
        """Takes at most 1000 bytes a call."""

        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += bytes(data[:1000])
            return min(1000, len(data))

    raw, whole = Raw(), io.BytesIO()
    write_bundle(content, raw, seal=None)  # type: ignore[arg-type]
    write_bundle(content, whole, seal=None)
    assert raw.data == whole.getvalue()
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as pipe, pytest.raises(OutputError, match=r"[Bb]roken pipe"):
        write_bundle(content, pipe, seal=None)


def test_plain_files_can_be_mapped_where_they_lie(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    path = tmp_path / "x"
    write_bundle(one(data), path, seal=None)
    with open_bundle(path) as untrusted:
        bundle = untrusted.verify(policy=UNSIGNED, check_blobs=False)
        file, offset, size = bundle.plain_range("a.bin") or (path, 0, 0)
        assert file == path
        assert offset % 65536 == 0
        assert path.read_bytes()[offset : offset + size] == data
    changed = bytearray(path.read_bytes())
    changed[offset] ^= 1
    path.write_bytes(changed)
    with open_bundle(path) as untrusted:
        bundle = untrusted.verify(policy=UNSIGNED, check_blobs=False)
        with pytest.raises(PayloadError):
            bundle.plain_range("a.bin")


def test_sealed_and_nameless_bundles_have_no_range(sample: Sample) -> None:
    with open_bundle(sample.path) as untrusted:
        assert untrusted.verify(policy=UNSIGNED, identities=[sample.kek]).plain_range("labels.txt") is None
    out = io.BytesIO()
    write_bundle(sample.content, out, seal=None)
    assert open_bundle(out.getvalue()).verify(policy=UNSIGNED).plain_range("labels.txt") is None


@pytest.mark.parametrize("chunk_hashes", [False, True])
def test_a_failed_read_leaves_no_plaintext(chunk_hashes: bool, sample: Sample) -> None:
    """The last chunk is wrong; the chunks before it are already decrypted by then."""
    out = io.BytesIO()
    packed = one(b"\x11" * 700_000)
    write_bundle(
        packed, out, seal=Seal(recipients=(KEK,), chunk_log2=16), signers=[sample.signer], chunk_hashes=chunk_hashes
    )
    data = bytearray(out.getvalue())
    _, offset, size = open_bundle(out.getvalue()).info.blobs[0]
    data[offset + size - 1] ^= 1
    bundle = open_bundle(bytes(data)).verify(policy=sample.policy, identities=[KEK], check_blobs=False)
    buffer = bytearray(b"\x22" * 700_000)
    with pytest.raises(PayloadError):
        bundle.read_into("a.bin", buffer)
    assert not any(buffer)


def test_reading_from_several_threads(sample: Sample) -> None:
    with open_bundle(sample.path) as untrusted:
        bundle = untrusted.verify(policy=sample.policy, identities=[sample.kek])
        wanted = {item.path: item.source.open().read() for item in sample.content.files}
        found: list[bool] = []
        work = [
            threading.Thread(target=lambda p=path: found.append(bundle.read(p) == wanted[p]))  # type: ignore[misc]
            for path in list(wanted) * 6
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        assert found == [True] * len(work)


def test_bundles_open_from_paths_files_and_memory(sample: Sample) -> None:
    data = sample.path.read_bytes()
    with sample.path.open("rb") as file:
        for source in (
            sample.path,
            str(sample.path),
            file,
            data,
            bytearray(data),
            memoryview(data),
            io.BytesIO(data),
        ):
            with open_bundle(source) as untrusted:  # type: ignore[arg-type]
                untrusted.verify(policy=sample.policy, identities=[sample.kek])
        assert not file.closed


def test_wrong_buffers_and_names_are_refused(sample: Sample) -> None:
    with open_bundle(sample.path) as untrusted:
        bundle = untrusted.verify(policy=sample.policy, identities=[sample.kek])
        with pytest.raises(ValueError, match="8 bytes, the buffer 9"):
            bundle.read_into("labels.txt", bytearray(9))
        with pytest.raises(FileError, match="no file 'missing'"):
            bundle.read("missing")


def test_the_manifest_can_be_validated_further(sample: Sample) -> None:
    with open_bundle(sample.path) as untrusted:
        bundle = untrusted.verify(policy=UNSIGNED, identities=[sample.kek], validate_manifest=lambda doc: doc["name"])
        assert bundle.document == "demo"

        def refuse(_: dict[str, Any]) -> None:
            raise UsageError("no")

        with pytest.raises(UsageError):
            untrusted.verify(policy=UNSIGNED, identities=[sample.kek], validate_manifest=refuse)


def test_key_providers_wrap_and_unwrap(content: BundleContent) -> None:
    """A stand-in for a key service: it keeps the content key and hands out a ticket."""
    vault: dict[bytes, tuple[bytes, bytes]] = {}

    def wrap(cek: bytes, context: bytes) -> tuple[list[Any], bytes]:
        vault[b"ticket"] = cek, context
        return ["eu", 1], b"ticket"

    def unwrap(params: Any, wrapped: bytes, context: bytes) -> bytes | None:
        cek, bound = vault[wrapped]
        return cek if bound == context and list(params) == ["eu", 1] else None

    out = io.BytesIO()
    write_bundle(content, out, seal=Seal(recipients=(PluginRecipient("acme-kms", wrap), KEK)))
    bundle = open_bundle(out.getvalue())
    assert bundle.info.recipients[0] == ("plugin:acme-kms", b"")
    bundle.verify(policy=UNSIGNED, identities=[PluginIdentity("acme-kms", unwrap)])


def test_load_buffers_are_aligned_and_writable() -> None:
    import ctypes

    for size in (0, 1, 4096, 1 << 20, (5 << 20) + 3):
        buffer = load_buffer(size)
        assert len(buffer) == size
        if size >= 1 << 20:
            assert ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % ALIGNMENT == 0
        if size:
            assert buffer[0] == buffer[-1] == 0
            buffer[-1] = 7


def test_copying_falls_back_where_the_kernel_cannot(tmp_path: Path) -> None:
    class NoCopy(FileSystem):
        def copy_range(self, source: int, target: int, offset: int, size: int) -> int:
            raise OSError(95, "operation not supported")

    data = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(data)
    for number, files in enumerate((FileSystem(), NoCopy())):
        source = FileSource(os.open(tmp_path / "a", os.O_RDONLY), None, files)
        with atomic_file(tmp_path / str(number), files=files) as out:
            copy_range(source, out, 5, len(data) - 10)
        source.close()
        assert (tmp_path / str(number)).read_bytes() == data[5:-5]


def test_every_public_name_has_its_home() -> None:
    import sdkpack.bundle

    for name in sdkpack.bundle.__all__:
        assert getattr(sdkpack.bundle, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        _ = sdkpack.bundle.missing  # type: ignore[attr-defined]


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys, sdkpack.bundle; print([n for n in sys.modules if n.partition('.')[0] in HEAVY])"
    code = code.replace("HEAVY", repr({"cryptography", "msgpack", "numpy", "pydantic"}))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
