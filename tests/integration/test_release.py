"""Releases as customers get them: wheels in an environment of their own, without a network."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Ocr

PAGE_LINES = [
    "Region-basedsegmentation",
    "Let us first determine markers of the coins and the",
    "background.These markers are pixels that we can label",
    "unambiguously as either object or background.Here,",
    "histogram ofgreyvalues:",
]


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command with nothing of this environment but the search path."""
    clean = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"} | environment
    return subprocess.run(list(map(str, arguments)), env=clean, capture_output=True, text=True, check=False)


def release(sdkpack: str, ocr: Ocr, target: Path, settings: str) -> list[Path]:
    recipe = (ocr.folder / "recipe.toml").read_text()
    head, _, tail = recipe.partition("[release.wheel]")
    rest = tail.partition("[[notices]]")[2]
    (ocr.folder / "release.toml").write_text(f"{head}[release.wheel]\n{settings}\n[[notices]]{rest}")
    arguments = [sdkpack, "release", ocr.bundle, "--recipe", ocr.folder / "release.toml", "-o", target]
    done = subprocess.run([*map(str, arguments), *ocr.access, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [Path(file) for file in json.loads(done.stdout)["files"]]


@pytest.fixture(scope="module")
def customer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment in which the wheels' needs are met by those of this one; the wheels themselves are installed."""
    folder = tmp_path_factory.mktemp("customer")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    # A .pth file instead of a download of 130 MB: `make demo` installs from a wheelhouse.
    purelib = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    own = next((folder / "lib").glob("python*/site-packages"))
    (own / "needs.pth").write_text(f"import site; site.addsitedir({str(purelib)!r})\n")
    return folder


def install(customer: Path, wheel: Path) -> None:
    pip = [customer / "bin/python", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel]
    done = run(*pip, PIP_DISABLE_PIP_VERSION_CHECK="1")
    assert done.returncode == 0, done.stderr


def test_installed_command_reads_the_page(sdkpack: str, ocr: Ocr, customer: Path, tmp_path: Path) -> None:
    (wheel,) = release(sdkpack, ocr, tmp_path, 'name = "acme-ocr"\nshow = "lines.text"')
    install(customer, wheel)
    command = customer / "bin/acme-ocr"
    done = run(command, "--key", ocr.key, ocr.page)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == PAGE_LINES
    by_variable = run(command, ocr.page, "--json", ACME_OCR_KEY=str(ocr.key))
    assert [line["text"] for line in json.loads(by_variable.stdout)["lines"]] == PAGE_LINES
    without = run(command, ocr.page)
    assert without.returncode == 1
    assert "ACME_OCR_KEY" in without.stderr
    assert "--key" in without.stderr
    missing = run(command, "--key", ocr.key, "nothing.png")
    assert missing.returncode == 1
    assert "nothing.png" in missing.stderr
    assert "Traceback" not in done.stderr + without.stderr + missing.stderr


def test_a_changed_bundle_in_a_release_is_refused(sdkpack: str, ocr: Ocr, customer: Path, tmp_path: Path) -> None:
    (wheel,) = release(sdkpack, ocr, tmp_path, 'name = "acme-changed"\nshow = "lines.text"')
    install(customer, wheel)
    bundle = next((customer / "lib").glob("python*/site-packages/acme_changed/data/*.sdkpack"))
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= (
        1  # in the weights: what no run reads, such as a recorded sample, is not checked by it
    )
    bundle.write_bytes(content)
    done = run(customer / "bin/acme-changed", "--key", ocr.key, ocr.page)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr


def test_two_versions_work_in_one_environment(sdkpack: str, ocr: Ocr, customer: Path, tmp_path: Path) -> None:
    settings = 'name = "acme-ocr"\nshow = "lines.text"\nside_by_side = true'
    (first,) = release(sdkpack, ocr, tmp_path / "first", settings)
    recipe = ocr.folder / "recipe.toml"
    newer = ocr.folder / "newer.toml"
    newer.write_text(recipe.read_text().replace('version = "1.0.0"', 'version = "2.0.0"'))
    bundle = ocr.folder / "acme-ocr-2.0.0.sdkpack"
    models = Path(__file__).resolve().parents[2] / "build/ocr-models"
    arguments = [sdkpack, "pack", newer, "--package-path", models, "-o", bundle, "--force"]
    packed = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, check=False)
    assert packed.returncode == 0, packed.stderr
    from dataclasses import replace

    (second,) = release(sdkpack, replace(ocr, bundle=bundle), tmp_path / "second", settings)
    install(customer, first)
    install(customer, second)
    for version in ("1.0.0", "2.0.0"):
        done = run(customer / f"bin/acme-ocr-{version}", "--key", ocr.key, ocr.page)
        assert done.stdout.splitlines() == PAGE_LINES, done.stderr
    script = (
        "import sys, acme_ocr_1_0_0 as one, acme_ocr_2_0_0 as two\n"
        "with one.AcmeOcr100(sys.argv[1]) as a, two.AcmeOcr200(sys.argv[1]) as b:\n"
        "    print(a.read(sys.argv[2])['lines'][0]['text'] == b.read(sys.argv[2])['lines'][0]['text'])\n"
    )
    done = run(customer / "bin/python", "-c", script, ocr.key, ocr.page)
    assert done.stdout.strip() == "True", done.stderr


def test_a_release_holds_no_content_key(sdkpack: str, ocr: Ocr, tmp_path: Path) -> None:
    (wheel,) = release(sdkpack, ocr, tmp_path, 'name = "acme-ocr"\nshow = "lines.text"')
    secret = next(line for line in ocr.key.read_text().splitlines() if line.startswith("sdkpack-secret"))
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert secret.encode() not in content
            assert b"sdkpack-secret" not in content
        trusted = archive.read("acme_ocr/trust/publisher-1.pub").decode()
    assert trusted.strip() in ocr.trust.read_text()


def test_same_bundle_gives_the_same_wheel(sdkpack: str, ocr: Ocr, tmp_path: Path) -> None:
    settings = 'name = "acme-ocr"\nshow = "lines.text"'
    (one,) = release(sdkpack, ocr, tmp_path / "one", settings)
    (two,) = release(sdkpack, ocr, tmp_path / "two", settings)
    assert one.read_bytes() == two.read_bytes()
