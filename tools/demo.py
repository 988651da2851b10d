"""The main job, from trained models to recognised text, with each command shown as a user would type it.

Everything lands in build/ and in examples/ocr/keys/. A step whose result is there and newer than what it is made from
is not done again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = Path("examples/ocr")
KEYS = EXAMPLE / "keys"
PACKAGES = Path("build/ocr-models")
OUT = Path("build/demo")
BUNDLE = OUT / "acme-ocr-1.0.0.sdkpack"
RELEASE = OUT / "release"
WHEEL = RELEASE / "acme_ocr-1.0.0-py3-none-any.whl"
CUSTOMER = OUT / "customer"
PAGE = PACKAGES / "skimage/data/page.png"
BIN = Path(sys.executable).parent
SDKPACK = str(BIN / "sdkpack")

# Three models, and a scanned page, as other projects publish them: the packages' files are used, their code is not.
SOURCES = ("rapidocr-onnxruntime==1.4.4", "scikit-image==0.26.0")


def main() -> int:
    os.chdir(ROOT)
    OUT.mkdir(parents=True, exist_ok=True)
    fetch()
    make_keys()
    pack()
    release()
    install()
    read()
    print(f"\nThe bundle, the release and the customer's environment are in {OUT}/, the keys in {KEYS}/.")
    return 0


def fetch() -> None:
    if PAGE.exists() and (PACKAGES / "rapidocr_onnxruntime/models").is_dir():
        return
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    run("Fetch the models and a page", [*command, "--ignore-requires-python", "--target", str(PACKAGES), *SOURCES])


def make_keys() -> None:
    if not (KEYS / "publisher.pub").exists():
        run("Make the publisher's key", [SDKPACK, "keys", "new", "signing", str(KEYS / "publisher")])
    if not (KEYS / "customer.pub").exists():
        run("Make the customer's key", [SDKPACK, "keys", "new", "recipient", str(KEYS / "customer")])


def pack() -> None:
    made_from = [*EXAMPLE.rglob("*"), *Path("sdkpack").rglob("*.py"), *Path("plugins").rglob("*.py")]
    if not up_to_date(BUNDLE, made_from):
        command = [SDKPACK, "pack", str(EXAMPLE / "recipe.toml"), "--package-path", str(PACKAGES)]
        run("Pack: three models, one encrypted, signed file", [*command, "-o", str(BUNDLE), "--force"])
    keys = ["--trust", str(KEYS / "publisher.pub"), "--key", str(KEYS / "customer.key")]
    run("Verify it, and replay what was recorded", [SDKPACK, "verify", str(BUNDLE), *keys, "--replay"])


def release() -> None:
    if up_to_date(WHEEL, [BUNDLE]):
        return
    keys = ["--trust", str(KEYS / "publisher.pub"), "--key", str(KEYS / "customer.key")]
    command = [SDKPACK, "release", str(BUNDLE), "--recipe", str(EXAMPLE / "recipe.toml"), *keys]
    run("Release: a wheel, and all that it needs offline", [*command, "-o", str(RELEASE), "--force"])


def install() -> None:
    marker = CUSTOMER / ".installed"
    if up_to_date(marker, [WHEEL]):
        return
    if not (CUSTOMER / "bin/python").exists():
        run("At the customer's: an empty environment", [sys.executable, "-m", "venv", str(CUSTOMER)])
    pip = [str(CUSTOMER / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    offline = ["--no-index", "--find-links", str(RELEASE / "wheelhouse"), "--force-reinstall", "acme-ocr"]
    run("Install it without a network", [*pip, *offline], environment={"PIP_FIND_LINKS": ""})
    marker.touch()


def read() -> None:
    command = [str(CUSTOMER / "bin/acme-ocr"), "--key", str(KEYS / "customer.key"), str(PAGE)]
    run("Read a scanned page", command)


def run(title: str, command: Sequence[str], *, environment: dict[str, str] | None = None) -> None:
    """Shows and runs a command; ends the demo where it fails."""
    shown = " ".join("sdkpack" if word == SDKPACK else word.replace(str(ROOT) + "/", "") for word in command)
    print(f"\n# {title}\n$ {shown}", flush=True)
    done = subprocess.run(command, check=False, env=os.environ | (environment or {}))
    if done.returncode != 0:
        sys.exit(f"demo: this command ended with {done.returncode}")


def up_to_date(result: Path, made_from: Sequence[Path]) -> bool:
    if not result.exists():
        return False
    made = result.stat().st_mtime
    return all(path.stat().st_mtime <= made for path in made_from if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
