"""Packing and loading 1 GiB, beside what the same work costs with nothing around it, and beside age.

    python benchmarks/bundle.py [--size-mib 1024] [--rounds 5] [--folder DIR]

Each figure is the least of interleaved rounds: other work on the machine can only add. CPU seconds are user + system
of the process and its children; both sides end with fsync. Artifacts come from files whose digest is known, as from
the build store, and keys are random.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sdkpack.bundle import BlobSource, BundleContent, FileItem, Seal, TrustPolicy, open_bundle, write_bundle
from sdkpack.bundle.memory import load_buffer
from sdkpack.crypto.recipients import Kek
from sdkpack.crypto.signature import SigningKey

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
UNSIGNED = TrustPolicy(allow_unsigned=True)


class Measured:
    """CPU and wall seconds of each kind of work, over the rounds."""

    def __init__(self) -> None:
        self.cpu: dict[str, list[float]] = {}
        self.wall: dict[str, list[float]] = {}

    def run(self, name: str, work: Callable[[], object]) -> None:
        cpu, wall = cpu_seconds(), time.perf_counter()
        work()
        self.cpu.setdefault(name, []).append(cpu_seconds() - cpu)
        self.wall.setdefault(name, []).append(time.perf_counter() - wall)

    def least(self, name: str, kind: str = "cpu") -> float:
        return min(getattr(self, kind)[name])


def cpu_seconds() -> float:
    mine, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime


def read_all(path: Path) -> None:
    buffer = bytearray(MIB)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def hash_all(size: int) -> None:
    digest, chunk = hashlib.sha256(), bytes(MIB)
    for _ in range(size // MIB):
        digest.update(chunk)


def gcm_all(size: int, *, decrypt: bool = False) -> None:
    gcm, plain, stored, nonce = AESGCM(bytes(32)), bytearray(MIB), bytearray(MIB + 16), bytes(12)
    gcm.encrypt_into(nonce, plain, None, stored)
    for _ in range(size // MIB):
        if decrypt:
            gcm.decrypt_into(nonce, stored, None, plain)
        else:
            gcm.encrypt_into(nonce, plain, None, stored)


def write_all(path: Path, size: int) -> None:
    chunk = bytes(MIB)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for _ in range(size // MIB):
        os.write(fd, chunk)
    os.fsync(fd)
    os.close(fd)
    path.unlink()


def fault_in(size: int) -> None:
    """Faults the pages of a load buffer in, without a Python loop over them."""
    buffer = load_buffer(size)
    buffer[::4096] = bytes(len(buffer[::4096]))


class Bench:
    """The files and keys of one run."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self.source, self.bundle, self.signed = folder / "model.bin", folder / "a.sdkpack", folder / "b.sdkpack"
        self.kek, self.signer = Kek(os.urandom(32)), SigningKey.generate("ed25519", os.urandom)
        digest = hashlib.sha256()
        with self.source.open("wb") as file:
            for _ in range(size // MIB):
                chunk = os.urandom(MIB)
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        blob = BlobSource.from_path(self.source, sha256=digest.digest())
        self.content = BundleContent(
            manifest={"name": "bench"}, files=(FileItem(path="model.bin", media_type="a/b", source=blob),)
        )

    def pack(self, target: Path | None = None, *, chunk_hashes: bool = False) -> None:
        write_bundle(
            self.content,
            target or self.bundle,
            seal=Seal(recipients=(self.kek,)),
            signers=[self.signer],
            chunk_hashes=chunk_hashes,
            overwrite=True,
        )

    def load(self, policy: TrustPolicy, path: Path) -> None:
        with open_bundle(path) as untrusted:
            untrusted.verify(policy=policy, identities=[self.kek], check_blobs=False).load("model.bin")

    def warm(self) -> None:
        """Leaves as many free pages as the next step takes.

        In a virtual machine a page's first use costs several times its second; whoever came first would pay for all.
        """
        write_all(self.folder / "warm", self.size)
        fault_in(self.size)

    def round(self, measured: Measured) -> None:
        signed = TrustPolicy.of(self.signer.verifying_key)
        measured.run("raw read", lambda: read_all(self.source))
        measured.run("raw sha256", lambda: hash_all(self.size))
        measured.run("raw gcm", lambda: gcm_all(self.size))
        measured.run("raw gcm open", lambda: gcm_all(self.size, decrypt=True))
        self.warm()
        measured.run("raw write + fsync", lambda: write_all(self.folder / "raw", self.size))
        self.warm()
        measured.run("pack", self.pack)
        self.warm()
        measured.run("pack with chunk hashes", lambda: self.pack(self.signed, chunk_hashes=True))
        self.warm()
        measured.run("raw page faults", lambda: fault_in(self.size))
        measured.run("load, unsigned", lambda: self.load(UNSIGNED, self.bundle))
        measured.run("load, signed", lambda: self.load(signed, self.bundle))
        measured.run("load, signed with chunk hashes", lambda: self.load(signed, self.signed))


class Age:
    """The peer, where it is installed."""

    def __init__(self, folder: Path) -> None:
        self.key, self.out = folder / "age.key", folder / "model.age"
        subprocess.run(["age-keygen", "-o", self.key], check=True, capture_output=True)
        self.recipient = subprocess.run(["age-keygen", "-y", self.key], check=True, capture_output=True).stdout.strip()

    def round(self, measured: Measured, source: Path) -> None:
        encrypt = ["age", "-r", self.recipient, "-o", self.out, source]
        decrypt = ["age", "-d", "-i", self.key, "-o", "/dev/null", self.out]
        measured.run("age encrypt", lambda: (subprocess.run(encrypt, check=True), sync(self.out)))
        measured.run("age decrypt", lambda: subprocess.run(decrypt, check=True))


def sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def peak_growth_mib(folder: Path, size: int) -> float:
    """Packs once in a process of its own; returns how far its peak rose above its size before."""
    code = f"""
from pathlib import Path
from sdkpack.bundle import *
import sdkpack.bundle.writer
from sdkpack.crypto.recipients import Kek
source = BlobSource.from_path(Path({str(folder / "model.bin")!r}))
content = BundleContent(manifest={{}}, files=(FileItem(path="m", media_type="a/b", source=source),))
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
write_bundle(content, Path({str(folder / "rss.sdkpack")!r}), seal=Seal(recipients=(Kek(bytes(32)),)), overwrite=True)
print((peak() - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    (folder / "rss.sdkpack").unlink()
    return float(done.stdout)


def report(measured: Measured, rss: float) -> dict[str, float]:
    cpu, wall = measured.least, lambda name: measured.least(name, "wall")
    pack_limit = cpu("raw read") + cpu("raw sha256") + cpu("raw gcm") + cpu("raw write + fsync")
    load_limit = cpu("raw read") + cpu("raw gcm open") + cpu("raw page faults")
    cores = os.cpu_count() or 1
    wall_limit = wall("raw read") + wall("raw gcm open") + wall("raw page faults") + wall("raw sha256")
    figures = {
        "pack / limit (CPU, goal <= 1.15)": cpu("pack") / pack_limit,
        "load limit / load (CPU, goal >= 0.85)": load_limit / cpu("load, unsigned"),
        "signed load, chunk hashes: limit / load (wall)": wall_limit / cores / wall("load, signed with chunk hashes"),
        "pack: peak above the process before (MiB, goal <= 40)": rss,
    }
    if "age encrypt" in measured.cpu:
        figures["pack / age encrypt (CPU, goal <= 1.2)"] = cpu("pack") / cpu("age encrypt")
        figures["load / age decrypt (CPU, goal <= 0.25)"] = cpu("load, unsigned") / cpu("age decrypt")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measured = Measured()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        bench = Bench(folder, options.size_mib * MIB)
        age = Age(folder) if shutil.which("age") else None
        for _ in range(options.rounds):
            bench.round(measured)
            if age:
                age.round(measured, bench.source)
        figures = report(measured, peak_growth_mib(folder, bench.size))
    if options.json:
        print(json.dumps({"cpu": measured.cpu, "wall": measured.wall, "figures": figures}, indent=1))
        return
    print(f"{options.size_mib} MiB, {options.rounds} rounds, {os.cpu_count()} cores; the least of each")
    for work in measured.cpu:
        print(f"  {work:32} {measured.least(work):7.3f} s CPU  {measured.least(work, 'wall'):7.3f} s wall")
    for what, value in figures.items():
        print(f"  {what:56} {value:7.2f}")
    if age is None:
        print("  age: skipped, it is not installed (Debian package age)")


if __name__ == "__main__":
    main()
