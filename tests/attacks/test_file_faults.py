"""Whatever file operation crashes, fails or falls short: the old or the new file is whole, nothing is left over."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from sdkpack.bundle import BundleContent, FileSystem, Seal, TrustPolicy, open_bundle, write_bundle
from sdkpack.bundle.rewrap import rewrap
from sdkpack.bundle.sign import counter_sign
from sdkpack.crypto.recipients import Kek
from sdkpack.crypto.signature import SigningKey
from sdkpack.errors import FileError, OutputError, SdkpackError
from tests.attacks.conftest import CANARY
from tests.attacks.faults import Crash, FaultyFiles

UNSIGNED = TrustPolicy(allow_unsigned=True)
NEW_KEK = Kek(b"n" * 32)
Job = Callable[[Path, BundleContent, Kek, FileSystem], None]


def pack(folder: Path, content: BundleContent, kek: Kek, files: FileSystem) -> None:
    write_bundle(
        content, folder / "new.sdkpack", seal=Seal(recipients=(kek,), chunk_log2=16), overwrite=True, files=files
    )


def pack_new(folder: Path, content: BundleContent, kek: Kek, files: FileSystem) -> None:
    (folder / "new.sdkpack").unlink()
    write_bundle(content, folder / "new.sdkpack", seal=Seal(recipients=(kek,), chunk_log2=16), files=files)


def rewrap_in_place(folder: Path, content: BundleContent, kek: Kek, files: FileSystem) -> None:
    del content
    path = folder / "new.sdkpack"
    with open_bundle(path, files=files) as bundle:
        rewrap(bundle, path, identities=[kek], recipients=[NEW_KEK], keep=True, overwrite=True, files=files)


def sign_in_place(folder: Path, content: BundleContent, kek: Kek, files: FileSystem) -> None:
    del content, kek
    path = folder / "new.sdkpack"
    with open_bundle(path, files=files) as bundle:
        counter_sign(bundle, path, [SigningKey("ed25519", bytes(32))], overwrite=True, files=files)


def unpack(folder: Path, content: BundleContent, kek: Kek, files: FileSystem) -> None:
    del content
    with open_bundle(folder / "new.sdkpack", files=files) as bundle:
        bundle.verify(policy=UNSIGNED, identities=[kek], check_blobs=False).unpack(folder / "out", files=files)


JOBS: dict[str, Job] = {
    "pack": pack,
    "pack to a new name": pack_new,
    "rewrap": rewrap_in_place,
    "sign": sign_in_place,
    "unpack": unpack,
}


def prepare(folder: Path, content: BundleContent, kek: Kek) -> None:
    write_bundle(content, folder / "new.sdkpack", seal=Seal(recipients=(kek,), chunk_log2=16))


def check_whole(folder: Path, content: BundleContent, kek: Kek) -> None:
    """Every file that has its own name is complete."""
    path = folder / "new.sdkpack"
    if path.exists():
        with open_bundle(path) as bundle:
            bundle.verify(policy=UNSIGNED, identities=[kek])
    wanted = {item.path: item.source.open().read() for item in content.files}
    for name, data in wanted.items():
        if (folder / "out" / name).exists():
            assert (folder / "out" / name).read_bytes() == data


def leftovers(folder: Path) -> list[str]:
    return [name for _, _, names in os.walk(folder) for name in names if name.endswith(".part")]


def holds(folder: Path, data: bytes) -> bool:
    return any(data[:30] in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def count_operations(job: Job, folder: Path, content: BundleContent, kek: Kek) -> int:
    prepare(folder, content, kek)
    files = FaultyFiles()
    job(folder, content, kek, files)
    return len(files.log)


@pytest.mark.parametrize("fault", ["crash", "torn", "EIO", "ENOSPC", "short"])
@pytest.mark.parametrize("name", JOBS)
def test_each_operation_may_fail(name: str, fault: str, tmp_path: Path, content: BundleContent, kek: Kek) -> None:
    job = JOBS[name]
    (tmp_path / "count").mkdir()
    total = count_operations(job, tmp_path / "count", content, kek)
    assert total > 5
    for at in range(total):
        folder = tmp_path / str(at)
        folder.mkdir()
        prepare(folder, content, kek)
        files = FaultyFiles(fail_at=at, fault="crash" if fault == "torn" else fault, torn=fault == "torn")
        if fault == "short":
            job(folder, content, kek, files)
        else:
            with suppress(Crash, SdkpackError):
                job(folder, content, kek, files)
        assert len(files.log) > at, "the fault was never reached"
        check_whole(folder, content, kek)
        if name != "unpack":
            assert not holds(folder, CANARY), "plaintext on disk"
        if fault in ("EIO", "ENOSPC") and not files.log[at].startswith("unlink"):
            assert leftovers(folder) == [], files.log[at]
        if fault in ("crash", "torn"):
            again(job, folder, content, kek)
            assert leftovers(folder) == [], (
                f"left over after a crash at {files.log[at]}, and not cleaned by the next run"
            )


def again(job: Job, folder: Path, content: BundleContent, kek: Kek) -> None:
    """The next run, on a file system that works."""
    if not (folder / "new.sdkpack").exists():
        prepare(folder, content, kek)
    for path in sorted((folder / "out").rglob("*"), reverse=True):
        if path.is_file() and not path.name.endswith(".part"):
            path.unlink()
    job(folder, content, kek, FileSystem())


def test_syncs_come_before_and_after_the_rename(tmp_path: Path, content: BundleContent, kek: Kek) -> None:
    prepare(tmp_path, content, kek)
    files = FaultyFiles()
    pack(tmp_path, content, kek, files)
    tail = [line for line in files.log if line.split()[0] in ("write", "fsync", "rename")]
    assert tail[-4:] == ["write", "fsync file", "rename new.sdkpack", "fsync folder"]


def test_errors_name_the_file_and_the_reason(tmp_path: Path, content: BundleContent, kek: Kek) -> None:
    prepare(tmp_path, content, kek)
    files = FaultyFiles()
    pack(tmp_path, content, kek, files)
    at = next(number for number, line in enumerate(files.log) if line == "write")
    with pytest.raises(OutputError, match=r"cannot write '.*new\.sdkpack': no space left on device"):
        pack(tmp_path, content, kek, FaultyFiles(fail_at=at, fault="ENOSPC"))
    with pytest.raises(OutputError, match="file exists") as caught:
        write_bundle(content, tmp_path / "new.sdkpack", seal=None)
    assert "--force" in caught.value.hint
    with pytest.raises(OutputError, match="no such file"):
        write_bundle(content, tmp_path / "missing" / "new.sdkpack", seal=None)


def test_devices_and_folders_are_not_replaced(tmp_path: Path, content: BundleContent) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(OutputError, match="no regular file"):
            write_bundle(content, tmp_path / name, seal=None, overwrite=True)
    with pytest.raises(FileError, match="no regular file"):
        open_bundle(tmp_path / "pipe")
    with pytest.raises(FileError, match="no regular file"):
        open_bundle(tmp_path / "folder")


PACKER = """
    import sys
    from pathlib import Path
    from sdkpack.bundle import BlobSource, BundleContent, FileItem, write_bundle
    data = sys.argv[2].encode() * 3_000_000
    item = FileItem(path="a", media_type="a/b", source=BlobSource.from_bytes(data))
    content = BundleContent(manifest={"name": sys.argv[2]}, files=(item,))
    print("ready", flush=True)
    write_bundle(content, Path(sys.argv[1]), seal=None, overwrite=len(sys.argv) > 3)
"""


def start(*arguments: str, limit: int | None = None) -> subprocess.Popen[bytes]:
    def lower() -> None:
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-c", textwrap.dedent(PACKER), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=lower)


def test_killed_packers_leave_nothing_that_stays(tmp_path: Path) -> None:
    target = tmp_path / "x.sdkpack"
    for delay in (0, 0.001, 0.003, 0.006):
        packer = start(str(target), "k", "force")
        assert packer.stdout is not None
        packer.stdout.readline()
        with suppress(subprocess.TimeoutExpired):
            packer.wait(delay)
        packer.kill()
        packer.communicate()
        if target.exists():
            open_bundle(target).verify(policy=UNSIGNED)
    last = start(str(target), "z", "force")
    assert last.wait() == 0
    last.communicate()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.sdkpack"]


def test_several_packers_on_one_target_have_one_whole_winner(tmp_path: Path) -> None:
    target = tmp_path / "x.sdkpack"
    packers = {name: start(str(target), name) for name in "abc"}
    results = {name: (packer.communicate()[1], packer.returncode) for name, packer in packers.items()}
    winners = [name for name, (_, code) in results.items() if code == 0]
    assert len(winners) == 1
    for name, (stderr, _) in results.items():
        assert name in winners or b"OutputError" in stderr
    assert open_bundle(target).verify(policy=UNSIGNED).manifest == {"name": winners[0]}
    assert [path.name for path in tmp_path.iterdir()] == ["x.sdkpack"]


def test_file_size_limit_is_a_clean_error(tmp_path: Path) -> None:
    packer = start(str(tmp_path / "x.sdkpack"), "a", limit=1 << 20)
    _, stderr = packer.communicate()
    assert packer.returncode == 1
    assert b"OutputError" in stderr
    assert b"file too large" in stderr
    assert list(tmp_path.iterdir()) == []
