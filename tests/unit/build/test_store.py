from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sdkpack.build.store import Store, StoredFile, StoredResult, default_root
from sdkpack.errors import FileError, OutputError

KEY = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64


def put(store: Store, content: bytes = b"content", key: str = KEY) -> StoredFile:
    file = store.put_bytes(content, "text/plain")
    store.put(key, StoredResult(files={"out": file}, data={"n": 1}))
    return file


def damage(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)


def test_a_result_is_given_back_as_it_was(store: Store) -> None:
    file = put(store)
    assert store.get(KEY) == StoredResult(files={"out": file}, data={"n": 1})
    assert store.get(OTHER) is None
    assert store.read(file) == b"content"


def test_results_outlive_the_process_that_made_them(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        put(store)
    with Store(tmp_path / "s") as store:
        assert store.get(KEY) is not None


def test_nobody_else_can_read_the_store(store: Store) -> None:
    file = put(store)
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(store.path(file.digest).stat().st_mode) == 0o400
    folders = [path for path in store.root.iterdir() if path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}


def test_a_root_that_others_may_read_is_closed(tmp_path: Path) -> None:
    root = tmp_path / "s"
    root.mkdir(mode=0o755)
    root.chmod(0o755)
    Store(root).close()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_a_work_file_is_adopted(store: Store, size: int) -> None:
    with store.workspaces.work("step") as work:
        path = work / "out.bin"
        path.write_bytes(b"x" * size)
        file = store.adopt(path, "a/b")
        assert not path.exists()
    assert store.read(file) == b"x" * size
    assert file.media_type == "a/b"
    assert stat.S_IMODE(store.path(file.digest).stat().st_mode) == 0o400


def test_only_plain_files_of_work_folders_are_adopted(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("x")
    with store.workspaces.work("step") as work:
        (work / "link").symlink_to(outside)
        (work / "folder").mkdir()
        for path in (outside, work / "link", work / "folder", work / "missing"):
            with pytest.raises(FileError, match="not a regular file of a work folder"):
                store.adopt(path, "a/b")
        (work / "one").write_text("x")
        os.link(work / "one", tmp_path / "two")
        with pytest.raises(FileError, match="other hard links"):
            store.adopt(work / "one", "a/b")
    assert outside.read_text() == "x"


@pytest.mark.parametrize("content", [b"", b"contenT", b"content and more"])
def test_a_damaged_object_is_no_result_and_is_mended_by_the_next_put(store: Store, content: bytes) -> None:
    file = put(store)
    damage(store.path(file.digest), content)
    assert store.get(KEY) is None
    assert store.known(KEY)
    with pytest.raises(FileError, match="damaged"):
        store.read(file)
    put(store)
    assert store.get(KEY) is not None
    assert store.read(file) == b"content"


def test_a_missing_object_is_no_result(store: Store) -> None:
    file = put(store)
    store.path(file.digest).unlink()
    assert store.get(KEY) is None
    with pytest.raises(FileError, match="no such file"):
        store.read(file)


def test_any_changed_byte_of_a_record_makes_it_unknown(store: Store) -> None:
    put(store)
    path = next((store.root / "results").glob("*.json"))
    whole = path.read_bytes()
    for at in range(len(whole) - 1):
        damage(path, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert store.get(KEY) is None, whole[at : at + 10]
        damage(path, whole[:at])
        assert store.get(KEY) is None


def test_a_record_under_another_name_is_unknown(store: Store) -> None:
    put(store)
    path = next((store.root / "results").glob("*.json"))
    path.rename(path.with_name("2" * 64 + ".json"))
    assert store.get(OTHER) is None


def test_verify_removes_what_is_damaged(store: Store) -> None:
    good, bad = put(store, b"good"), put(store, b"bad", OTHER)
    damage(store.path(bad.digest), b"bat")
    half = store.root / "objects" / ".sdkpack-0123456789abcdef.part"
    half.write_bytes(b"half")
    assert store.verify() == (bad.digest,)
    assert store.verify() == ()
    assert half.exists()
    assert store.read(good) == b"good"
    assert not store.path(bad.digest).exists()


def test_size_and_clean(store: Store) -> None:
    put(store, b"a" * 1000)
    put(store, b"b" * 1000, OTHER)
    size = store.size()
    assert (size.objects, size.results) == (2, 2)
    assert size.size_bytes > 2000
    assert store.clean() == size.size_bytes
    assert store.size().size_bytes == 0
    assert store.get(KEY) is None


def test_clean_by_age_keeps_what_was_used(store: Store) -> None:
    shared = put(store, b"shared")
    store.put(OTHER, StoredResult(files={"out": shared, "own": store.put_bytes(b"own", "a/b")}))
    old = time.time() - 1000
    for path in (store.root / "results").glob("*.json"):
        os.utime(path, (old, old))
    assert store.get(KEY) is not None  # a use makes it young
    store.clean(older_than_s=500)
    assert store.get(KEY) is not None
    assert store.get(OTHER) is None
    assert store.size().objects == 1


def test_clean_waits_for_no_other_packer(store: Store) -> None:
    with Store(store.root) as other, other.workspaces.work("step"), pytest.raises(OutputError, match="another sdkpack"):
        store.clean()
    put(store)
    store.clean()
    assert store.size().objects == 0


def test_leftovers_of_a_killed_process_are_removed_and_those_of_a_living_one_stay(tmp_path: Path) -> None:
    root = tmp_path / "s"
    code = (
        "import sys, time; from pathlib import Path; from sdkpack.build.store import Store\n"
        f"store = Store(Path({str(root)!r}))\n"
        "with store.workspaces.work('x') as work:\n"
        "    (work / 'secret').write_text('plaintext')\n"
        "    print('ready', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with Store(root):
            assert len(list((root / "work").rglob("secret"))) == 1
        child.kill()
        child.wait()
    (root / "objects" / ".sdkpack-0123456789abcdef.part").write_text("half")
    with Store(root):
        assert list((root / "work").rglob("secret")) == []
        assert list((root / "objects").iterdir()) == []
        assert [path.name for path in (root / "work").iterdir()] in ([], ["gate"])


def test_many_writers_of_one_thing_leave_it_whole(tmp_path: Path) -> None:
    root = tmp_path / "s"
    content = os.urandom(100_000)
    errors: list[BaseException] = []

    def write() -> None:
        try:
            with Store(root) as store:
                for _ in range(5):
                    put(store, content)
                    found = store.get(KEY)
                    assert found is not None
                    assert store.read(found.files["out"]) == content
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Store(root) as store:
        assert store.size().objects == 1
        assert store.verify() == ()


def test_work_folders_go_also_where_a_tool_took_away_the_right_to_write(store: Store) -> None:
    with store.workspaces.work("step") as work:
        (work / "locked" / "deep").mkdir(parents=True)
        (work / "locked" / "deep" / "file").write_text("x")
        (work / "locked" / "deep").chmod(0o500)
        (work / "locked").chmod(0o500)
    assert not work.exists()


def test_a_store_that_cannot_be_made_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        Store(tmp_path / "file" / "store")


def test_default_root() -> None:
    assert default_root({"SDKPACK_STORE": "/s"}) == Path("/s")
    assert default_root({"XDG_CACHE_HOME": "/c", "HOME": "/h"}) == Path("/c/sdkpack/store")
    assert default_root({"XDG_CACHE_HOME": "relative", "HOME": "/h"}) == Path("/h/.cache/sdkpack/store")
    assert default_root({"HOME": "/h"}) == Path("/h/.cache/sdkpack/store")


def test_a_large_object_is_hashed_again_only_where_it_was_written_to(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdkpack.build.store._REHASH_BELOW_BYTES", 10)
    file = put(store, b"large enough")
    hashed: list[Path] = []
    digest = store._digest
    monkeypatch.setattr(store, "_digest", lambda path: (hashed.append(path), digest(path))[1])
    assert store.get(KEY) is not None
    assert hashed == []
    path = store.path(file.digest)
    os.utime(path)
    assert store.get(KEY) is not None
    assert hashed == [path]
    damage(path, b"LARGE enough")
    assert store.get(KEY) is None


def test_a_second_put_of_a_damaged_large_object_mends_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdkpack.build.store._REHASH_BELOW_BYTES", 10)
    file = put(store, b"large enough")
    damage(store.path(file.digest), b"LARGE enough")
    put(store, b"large enough")
    assert store.read(file) == b"large enough"
