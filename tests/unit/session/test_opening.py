from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import sdkpack
from sdkpack.crypto.keyfile import format_key, write_key_file
from sdkpack.crypto.recipients import HpkeIdentity
from sdkpack.crypto.signature import SigningKey
from sdkpack.documents.trust import Trust, TrustedKey
from sdkpack.errors import (
    BundleError,
    FileError,
    FormatVersionError,
    IndexDataError,
    KeyFileError,
    NoMatchError,
    PluginMissingError,
    SdkpackError,
    TrustError,
    UsageError,
)
from sdkpack.session import identities_of, load_keys, read_manifest, registry_for, trust_policy
from tests.unit.session.bundles import FAKES, Publisher, files, manifest


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return Publisher.new(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def bundle(publisher: Publisher) -> Path:
    return publisher.write(manifest().to_object(), files())


def opens(source: Any, **options: Any) -> None:
    sdkpack.open(source, plugins=[FAKES], **options).close()


# Trust -------------------------------------------------------------------------------------------------------------
def trusts(publisher: Publisher) -> dict[str, Any]:
    key, folder = publisher.public, publisher.folder
    (folder / "trust.toml").write_text('trust = 1\n[[keys]]\nkey = "publisher.pub"\nname = "acme"\n')
    other = format_key(SigningKey.generate("ed25519", os.urandom).verifying_key)
    return {
        "text": key,
        "text with comments": f"# acme\n{key}\n",
        "path": folder / "publisher.pub",
        "path as str": str(folder / "publisher.pub"),
        "reference": f"file:{folder / 'publisher.pub'}",
        "several": [other, key],
        "twice": [key, key],
        "trust file": folder / "trust.toml",
        "document": Trust(trust=1, keys=(TrustedKey(key=key),)),
        "policy": trust_policy(key, registry_for([]))[0],
    }


FORMS = [
    "text", "text with comments", "path", "path as str", "reference", "several", "twice", "trust file", "document",
    "policy",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_trust_opens(publisher: Publisher, bundle: Path, form: str) -> None:
    opens(bundle, trust=trusts(publisher)[form], keys=[publisher.key])


def test_somebody_elses_key_does_not(publisher: Publisher, bundle: Path) -> None:
    other = format_key(SigningKey.generate("ed25519", os.urandom).verifying_key)
    with pytest.raises(TrustError):
        opens(bundle, trust=other, keys=[publisher.key])


def test_unstated_trust_is_a_usage_error(publisher: Publisher, bundle: Path) -> None:
    for nothing in (None, []):
        with pytest.raises(UsageError, match="explicit consent"):
            opens(bundle, trust=nothing, keys=[publisher.key])
    opens(bundle, allow_unsigned=True, keys=[publisher.key])


def test_unsigned_opens_by_consent_alone(publisher: Publisher) -> None:
    unsigned = publisher.write(manifest().to_object(), files(), signed=False, name="unsigned.sdkpack")
    opens(unsigned, allow_unsigned=True, keys=[publisher.key])
    with pytest.raises(TrustError):
        opens(unsigned, trust=publisher.public, keys=[publisher.key])


def test_a_trust_document_bounds_days_threshold_and_sequence(publisher: Publisher, bundle: Path) -> None:
    today = datetime.now(UTC).date()
    key = publisher.public

    def document(sequence: int = 0, threshold: int = 1, **days: date) -> Trust:
        other = TrustedKey(key=format_key(SigningKey.generate("ed25519", os.urandom).verifying_key))
        minimum = {"net": sequence} if sequence else {}
        return Trust(trust=1, keys=(TrustedKey(key=key, **days), other), threshold=threshold, minimum_sequence=minimum)

    opens(bundle, trust=document(sequence=3, not_before=today, not_after=today), keys=[publisher.key])
    with pytest.raises(TrustError, match="release 3 of 'net' is older than the oldest accepted one, 4"):
        opens(bundle, trust=document(sequence=4), keys=[publisher.key])
    for wrong in (
        document(not_after=today - timedelta(days=1)),
        document(not_before=today + timedelta(days=1)),
        document(threshold=2),
    ):
        with pytest.raises(TrustError):
            opens(bundle, trust=wrong, keys=[publisher.key])


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda folder: folder / "none.pub", KeyFileError),
        (lambda folder: folder / "none.toml", FileError),
        (lambda folder: "sdkpack-public-1:verifying:ed25519:AAAA", KeyFileError),
        (lambda folder: "kms:acme/key", PluginMissingError),
        (lambda folder: folder / "customer.key", KeyFileError),
    ],
)
def test_wrong_trust_is_told(
    publisher: Publisher, bundle: Path, make: Callable[[Path], Any], error: type[SdkpackError]
) -> None:
    with pytest.raises(error):
        opens(bundle, trust=make(publisher.folder), keys=[publisher.key])


# Keys --------------------------------------------------------------------------------------------------------------
def test_keys_by_path_reference_variable_and_object(
    publisher: Publisher, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NET_KEY", publisher.key.read_text())
    for key in (publisher.key, str(publisher.key), f"file:{publisher.key}", "env:NET_KEY", publisher.identity):
        opens(bundle, trust=publisher.public, keys=[key])


def test_no_key_and_a_wrong_key_do_not_open(publisher: Publisher, bundle: Path) -> None:
    for keys in (None, [], [HpkeIdentity.generate("hpke-x25519", os.urandom)]):
        with pytest.raises(NoMatchError):
            opens(bundle, trust=publisher.public, keys=keys)


def test_a_key_of_another_kind_is_named(publisher: Publisher, tmp_path: Path) -> None:
    write_key_file(tmp_path / "signing.key", publisher.signing)
    with pytest.raises(KeyFileError, match="has no key that opens bundles, only SigningKey"):
        identities_of([tmp_path / "signing.key"], registry_for([]))


def test_a_secret_given_as_text_is_refused_and_not_repeated(publisher: Publisher) -> None:
    secret = format_key(publisher.identity)
    with pytest.raises(KeyFileError, match="a secret key itself was given") as caught:
        identities_of([secret], registry_for([]))
    assert secret[-20:] not in f"{caught.value} {caught.value.hint} {caught.value.as_dict()}"


def test_plugins_are_looked_for_only_where_a_key_needs_them(publisher: Publisher) -> None:
    def fail() -> Any:
        raise AssertionError("scanned")

    assert identities_of([publisher.identity], fail) == (publisher.identity,)
    assert identities_of([], fail) == ()
    assert load_keys(publisher.key, lambda: registry_for([]))


def test_a_variable_that_is_not_set_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NET_KEY", raising=False)
    with pytest.raises(KeyFileError, match="environment variable NET_KEY is not set") as caught:
        load_keys("env:NET_KEY", registry_for([]))
    assert "export NET_KEY" in caught.value.hint


# Manifest ----------------------------------------------------------------------------------------------------------
def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    raw = manifest().to_object()
    change(raw)
    return raw


def test_a_canonical_manifest_is_read() -> None:
    assert read_manifest(manifest().to_object()) == manifest()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda raw: raw["models"]["net"]["golden"].update(tolerance=1), r"manifest\.models\.net\.golden\.tolerance"),
        (lambda raw: raw["models"]["net"]["variants"][0].pop("portable"), r"variants\[0\]\.portable"),
        (lambda raw: raw.update(plugins={}, notices=()), r"manifest\.notices"),
        (lambda raw: raw["pipelines"]["main"]["steps"][0].pop("each"), r"steps\[0\]\.each"),
    ],
)
def test_another_spelling_of_the_same_manifest_is_refused(
    change: Callable[[dict[str, Any]], object], place: str
) -> None:
    with pytest.raises(IndexDataError, match=f"canonical form at .*{place}"):
        read_manifest(changed(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.pop("name"),
        lambda raw: raw.update(extra=1),
        lambda raw: raw.update(sequence=-1),
        lambda raw: raw.update(sequence=3.0),
        lambda raw: raw.update(models=[]),
        lambda raw: raw.update(summary=b"bytes"),
    ],
)
def test_an_invalid_manifest_is_a_verification_failure(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(IndexDataError) as caught:
        read_manifest(changed(change))
    assert caught.value.exit_code == 4


def test_a_manifest_of_a_newer_sdkpack_says_so() -> None:
    with pytest.raises(FormatVersionError, match="version 2"):
        read_manifest(changed(lambda raw: raw.update(manifest=2)))


def test_the_hook_runs_on_real_bundles(publisher: Publisher) -> None:
    raw = changed(lambda raw: raw["models"]["net"]["golden"].update(tolerance=1))
    path = publisher.write(raw, files(), name="spelling.sdkpack")
    with pytest.raises(IndexDataError, match="canonical"):
        opens(path, trust=publisher.public, keys=[publisher.key])


# Sources -----------------------------------------------------------------------------------------------------------
def test_opens_a_path_a_text_bytes_and_a_file(publisher: Publisher, bundle: Path) -> None:
    with bundle.open("rb") as file:
        for source in (bundle, str(bundle), bundle.read_bytes(), file):
            opens(source, trust=publisher.public, keys=[publisher.key], eager=True)


def test_a_missing_file_and_a_foreign_one_are_told(publisher: Publisher, tmp_path: Path) -> None:
    with pytest.raises(FileError):
        opens(tmp_path / "none.sdkpack", trust=publisher.public)
    (tmp_path / "text.sdkpack").write_text("x" * 1000)
    with pytest.raises(BundleError):
        opens(tmp_path / "text.sdkpack", trust=publisher.public)


def test_verify_all_checks_every_byte_now_and_else_the_read_does(publisher: Publisher, bundle: Path) -> None:
    from sdkpack.bundle import open_bundle

    with open_bundle(bundle) as untrusted:
        offset = untrusted.info.blobs[0][1]
    damaged = bytearray(bundle.read_bytes())
    damaged[offset] ^= 1
    with pytest.raises(BundleError):
        opens(io.BytesIO(damaged).getvalue(), trust=publisher.public, keys=[publisher.key], verify_all=True)
    with sdkpack.open(bytes(damaged), trust=publisher.public, keys=[publisher.key], plugins=[FAKES]) as session:
        broken = []
        for path in session.bundle.files:
            try:
                session.bundle.read(path)
            except BundleError:
                broken.append(path)
    assert len(broken) == 1


def test_no_file_stays_open_after_a_failure(publisher: Publisher, bundle: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for options in ({"keys": []}, {"keys": [publisher.key], "prefer": ["nothing"]}):
        with pytest.raises(SdkpackError):
            opens(bundle, trust=publisher.public, **options)
    opens(bundle, trust=publisher.public, keys=[publisher.key])
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# Start-up ----------------------------------------------------------------------------------------------------------
def fresh(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_costs_nothing() -> None:
    heavy = "{'numpy', 'pydantic', 'onnx', 'click', 'pluggy', 'cryptography', 'msgpack', 'sdkpack.errors'}"
    loaded = fresh(f"import sys, sdkpack, sdkpack.session; print(sorted({heavy} & set(sys.modules)))")
    assert loaded == "[]"


def test_opening_with_stated_plugins_loads_no_onnx_no_click_and_no_entry_points(
    publisher: Publisher, bundle: Path
) -> None:
    loaded = fresh(f"""
        import importlib.metadata, sys
        def refuse(*, group):
            if group != "pydantic":  # pydantic looks for plugins of its own, which nobody can stop from outside
                raise SystemExit("entry points were looked for")
            return ()
        importlib.metadata.entry_points = refuse
        import sdkpack
        with sdkpack.open({str(bundle)!r}, trust={publisher.public!r}, keys=[{str(publisher.key)!r}],
                          plugins=[{FAKES!r}]) as session:
            import numpy as np
            session.run("main", x=np.zeros((1, 3), np.float32))
        print(sorted({{"onnx", "click", "onnxruntime", "google.protobuf", "pytest"}} & set(sys.modules)))
    """)
    assert loaded == "[]"


def test_public_names_are_there() -> None:
    import sdkpack.session

    for module in (sdkpack, sdkpack.session):
        for name in module.__all__:
            assert getattr(module, name) is not None
        with pytest.raises(AttributeError):
            _ = module.nothing
    assert sdkpack.__version__
