"""Model packages for tests: the reference model made complete, and packages that are not in order.

Everything is real: the weights, the keys, the signatures. What is wrong with a package is put into
it by whoever makes it, and signed by a trusted key where the signature is not the point.
"""

import json
from datetime import date
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models.checksums import sha256
from models.manifest import Manifest, parse
from models.package import seal
from models.registry import REFERENCE_MODELS
from models.signature import Trust, written_key

DAY = date(2026, 11, 25)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
PUBLIC_KEY = written_key(KEY.public_key())
TRUST = Trust({PUBLIC_KEY: "the-makers"})
WEIGHTS = "model.onnx"

_CKD_RISK = REFERENCE_MODELS / "ckd-risk"
_LICENCE = Path(__file__).resolve().parents[1] / "LICENSE"
_GATE = '[gate]\nmetric = "auroc"\n\n'


def files(*, version: str = "1.0.0", **changed: bytes | None) -> dict[str, bytes]:
    """Give the files of ckd-risk, complete for a package, some of them changed.

    Args:
        version: Its version.
        changed: Content of further or other files by name, `_` for a dot; None leaves one out.
    """
    text = (_CKD_RISK / "manifest.toml").read_text(encoding="utf-8")
    manifest = parse(text)
    found = {name: (_CKD_RISK / name).read_bytes() for name in manifest.files}
    if manifest.gate is None:
        text = text.replace("[weights]", f"{_GATE}[weights]", 1)
    if manifest.evaluation is None:
        text = text.replace("\ngolden = ", '\nevaluation = "evaluation.json"\ngolden = ', 1)
    found["evaluation.json"] = evaluation(parse(text))
    if manifest.licence_file is None:
        text = text.replace("\ngolden = ", '\nlicence_file = "LICENSE"\ngolden = ', 1)
        found["LICENSE"] = _LICENCE.read_bytes()
    text = text.replace('version = "1.0.0"', f'version = "{version}"', 1)
    found["manifest.toml"] = text.encode("utf-8")
    found |= {name.replace("_", "."): content for name, content in changed.items() if content}
    for name in [name for name, content in changed.items() if content is None]:
        del found[name.replace("_", ".")]
    return found


def evaluation(manifest: Manifest, **changed: object) -> bytes:
    """Give a report that the gate was passed, as far as a package is asked for it."""
    told = {
        "report_version": 1,
        "accepted": True,
        "reasons": [],
        "weights_sha256": manifest.weights.sha256,
        "gate": manifest.gate.model_dump(mode="json") if manifest.gate else {},
        "split": "test",
        "comparisons": [
            _compared(setting, group)
            for setting in _settings(manifest)
            for group in ("all", "sex: female")
        ],
    }
    return json.dumps({**told, **changed}).encode("utf-8")


def _settings(manifest: Manifest) -> tuple[str, ...]:
    return ("litert",) if manifest.weights.is_tflite else ("vnni", "avx2-exact", "avx2")


def _compared(setting: str, group: str) -> dict[str, object]:
    measured = {"value": 0.9, "low": 0.85, "high": 0.95}
    return {
        "setting": setting,
        "group": group,
        "cases": 400,
        "fp32": measured,
        "int8": measured,
        "loss": 0.001,
        "loss_bound": 0.002,
        "flips": 0.01,
    }


def with_weights(content: bytes, *, twin: bool = True, **changed: str) -> dict[str, bytes]:
    """Give the files of ckd-risk with other weights, which the manifest names as its own.

    Args:
        content: The weights.
        twin: Whether the fp32 twin is kept.
        changed: Replaces lines of the manifest: key → whole line.
    """
    found = {**files(), WEIGHTS: content}
    lines = found["manifest.toml"].decode("utf-8").splitlines()
    if not twin:
        del found["model.fp32.onnx"]
        lines = [line for line in lines if not line.startswith("reference = ")]
    for key, whole in {"sha256": f'sha256 = "{sha256(content)}"', **changed}.items():
        (place,) = [index for index, line in enumerate(lines) if line.startswith(f"{key} = ")]
        lines[place] = whole
    text = "\n".join(lines) + "\n"
    found["manifest.toml"] = text.encode("utf-8")
    found["evaluation.json"] = evaluation(parse(text))
    return found


def folder_of(content: dict[str, bytes], folder: Path) -> Path:
    """Write files into a new folder."""
    folder.mkdir()
    for name, each in content.items():
        (folder / name).write_bytes(each)
    return folder


def sealed(content: dict[str, bytes], path: Path, key: Ed25519PrivateKey = KEY) -> Path:
    """Make a signed package of files, whatever is in them."""
    seal(content, key, path)
    return path
