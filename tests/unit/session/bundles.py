"""Real bundles for the tests: written by the writer, encrypted for one recipient and signed by one publisher."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdkpack.bundle import BlobSource, BundleContent, FileItem, Seal, write_bundle
from sdkpack.crypto.keyfile import format_key, write_key_file
from sdkpack.crypto.recipients import HpkeIdentity
from sdkpack.crypto.signature import SigningKey
from sdkpack.documents.manifest import Golden, Manifest, ModelEntry, PipelineGolden
from sdkpack.documents.pipeline import Pipeline, PipelineOutput, Step
from tests.unit.session.fakes import entry, part, variant

FAKES = "tests.unit.session.fakes"
BIAS = np.array([10, 20, 30], np.float32)


@dataclass(frozen=True)
class Publisher:
    """A publisher and its customer, with their key files in a folder."""

    folder: Path
    signing: SigningKey
    identity: HpkeIdentity

    @staticmethod
    def new(folder: Path) -> Publisher:
        made = Publisher(folder, SigningKey.generate("ed25519", os.urandom),
                         HpkeIdentity.generate("hpke-x25519", os.urandom))  # fmt: skip
        write_key_file(folder / "customer.key", made.identity)
        write_key_file(folder / "publisher.pub", made.signing.verifying_key)
        return made

    @property
    def public(self) -> str:
        return format_key(self.signing.verifying_key)

    @property
    def key(self) -> Path:
        return self.folder / "customer.key"

    def write(
        self,
        manifest: Mapping[str, Any],
        files: Mapping[str, bytes],
        *,
        encrypted: bool = True,
        signed: bool = True,
        name: str = "net-1.0.0.sdkpack",
    ) -> Path:
        target = self.folder / name
        items = tuple(
            FileItem(path=path, media_type="application/octet-stream", source=BlobSource.from_bytes(content))
            for path, content in files.items()
        )
        write_bundle(
            BundleContent(manifest=dict(manifest), files=items),
            target,
            seal=Seal(recipients=(self.identity.recipient,)) if encrypted else None,
            signers=(self.signing,) if signed else (),
            overwrite=True,
        )
        return target


def npz(**arrays: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def fake_model(runtime: str = "fake", **options: Any) -> ModelEntry:
    """y = x + BIAS, read from a file of the bundle."""
    made = part(runtime, **options).model_copy(update={"files": {"weights": "models/net/weights.bin"}})
    golden = Golden(inputs="goldens/net.in.npz", outputs="goldens/net.out.npz", tolerance=1e-4)
    return entry(variant("cpu", made)).model_copy(update={"golden": golden})


def pipeline() -> Pipeline:
    """doubled = 2 * x; y = net(doubled)."""
    return Pipeline(
        inputs={"x": "tensor(float32, [N, 3])"},
        outputs={"result": PipelineOutput(value="y", type="tensor(float32, [N, 3])")},
        steps=(
            Step(
                id="double", op="fake.times/1", inputs={"value": "x"}, outputs={"result": "twice"}, params={"by": 2.0}
            ),
            Step(id="net", model="net", inputs={"x": "twice"}, outputs={"y": "y"}),
        ),
    )


def manifest(
    models: Mapping[str, ModelEntry] | None = None, *, sequence: int = 3, pipelines: bool = True, **more: Any
) -> Manifest:
    goldens = {"main": (PipelineGolden(inputs={"x": "goldens/x.npy"}, outputs="goldens/y.json", tolerance=1e-4),)}
    return Manifest(
        manifest=1,
        name="net",
        version="1.0.0",
        sequence=sequence,
        models=dict(models or {"net": fake_model()}),
        pipelines={"main": pipeline()} if pipelines else {},
        goldens=goldens if pipelines else {},
        **more,
    )


def files(x: Sequence[Sequence[float]] = ((1, 2, 3),)) -> dict[str, bytes]:
    array = np.array(x, np.float32)
    stream = io.BytesIO()
    np.save(stream, array)
    return {
        "models/net/weights.bin": BIAS.tobytes(),
        "goldens/net.in.npz": npz(x=array),
        "goldens/net.out.npz": npz(y=array + BIAS),
        "goldens/x.npy": stream.getvalue(),
        "goldens/y.json": b'{"result": %s}' % str((array * 2 + BIAS).tolist()).encode(),
    }
