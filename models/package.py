"""A model as one signed file: packed by its maker, verified by whoever is to run it.

A package `NAME-VERSION.nadi.zip` holds exactly the files that its manifest names, their checksums
and a signature. It is verified in this order, so that nothing is parsed that was not signed by
somebody who is trusted, and nothing is read that is too large:

1. archive: its form, names and sizes (`models.archive`);
2. signature: over the digest, by a trusted key (`models.signature`);
3. files: all there, none more, each the one that was signed;
4. manifest: readable, and naming exactly these files;
5. validity: it may be used on this day;
6. contents: no pickle anywhere, and text is text;
7. evaluation: the report shows that these weights passed the manifest's gate, which allows no
   more than the product's and the site's ceilings;
8. network: what it is made of, and its inputs and outputs (`models.network_check`).

What it answers is tried by `models.runtime`, which a data scientist's laptop need not have.
"""

import os
import pickletools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models import archive
from models.archive import Archive
from models.ceilings import Ceilings
from models.checksums import SUMS_FILE, digest_of, read_sums, sha256, sums_text
from models.evaluation_report import EvaluationReport, ReportUnusable, one_line, read_report
from models.manifest import MANIFEST_FILE, Manifest, ManifestError, parse
from models.network_check import check_onnx, check_tflite
from models.refusals import (
    FileAltered,
    FileMissing,
    FileUnexpected,
    GateNotPassed,
    GateTooWide,
    ManifestRefused,
    NotText,
    OutsideValidity,
    PickleFound,
    SignatureMissing,
    SumsUnreadable,
)
from models.report_words import merged
from models.signature import SIGNATURE_FILE, Signature, Trust, read_signature, sign

SUFFIX = ".nadi.zip"

_MOST_SMALL_BYTES = 64 * 1024
_MOST_MANIFEST_BYTES = 2**20
_MOST_TEXT_BYTES = 64 * 2**20
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".npy", ".npz", ".joblib", ".bin")
_PICKLE_BEGINNINGS = (
    (b"PK\x03\x04", "a zip archive, as PyTorch and NumPy write them"),
    (b"\x93NUMPY", "a NumPy array, which may hold pickled objects"),
    *((bytes([0x80, version]), "a pickle") for version in range(2, 6)),
)

Told = Callable[[str, str], None]
"""Is told the name of each check that passed, and what was found."""


@dataclass(frozen=True)
class Package:
    """A package that passed every check.

    Attributes:
        sums: SHA-256 of each file of the model, by name.
        signer: Whom the site knows the signing key as.
        archive: The file, open.
        report: That its quantized weights passed the gate; None where none is needed.
    """

    manifest: Manifest
    sums: Mapping[str, str]
    signature: Signature
    signer: str
    archive: Archive
    report: EvaluationReport | None

    @property
    def digest(self) -> str:
        """What the model is known by."""
        return digest_of(self.sums)

    @property
    def reference(self) -> str:
        """Name and version, as a person writes it: `ckd-risk@1.0.0`."""
        return f"{self.manifest.name}@{self.manifest.version}"

    def unpack(self, folder: Path) -> None:
        """Write its files, checksums and signature included, into an empty folder, on disk.

        Raises:
            FileAltered: The package was changed since it was verified.
        """
        for name in self.sums:
            content = self.archive.read(name)
            if sha256(content) != self.sums[name]:
                raise FileAltered(f"{name} was changed while it was read")
            _write(folder / name, content)
        for name, content in _signed_files(self.sums, self.signature).items():
            _write(folder / name, content)
        _sync(folder)


def pack(folder: Path, key: Ed25519PrivateKey, target: Path) -> str:
    """Make a package of a model's folder; give its digest.

    The checks are those of `verify`, trust aside: what is packed here is taken there.

    Raises:
        PackageRefused: The folder is no complete model, or one that a gateway would refuse.
    """
    manifest = _manifest(_read(folder, MANIFEST_FILE))
    files = {name: _read(folder, name) for name in manifest.files}
    _insist_on_these(manifest, {name: sha256(content) for name, content in files.items()})
    _check_contents(manifest, files.__getitem__)
    _check_limits(manifest, Ceilings())
    _check_evaluation(manifest, files.__getitem__)
    _check_network(manifest, files.__getitem__, manifest.weights.operator_domains)
    return seal(files, key, target)


def seal(files: Mapping[str, bytes], key: Ed25519PrivateKey, target: Path) -> str:
    """Sign files and write them as a package, whatever is in them; give its digest."""
    sums = {name: sha256(content) for name, content in files.items()}
    digest = digest_of(sums)
    signed = _signed_files(sums, sign(digest, key))
    draft = target.with_name(f".{target.name}.draft")
    try:
        with draft.open("wb") as file:
            archive.write(file, [*signed.items(), *sorted(files.items())])
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return digest


@contextmanager
def verified(
    path: Path, trust: Trust, *, day: date, told: Told = lambda _check, _found: None
) -> Iterator[Package]:
    """Verify a package; it can be unpacked within the block.

    Args:
        path: The package.
        trust: Whose packages are taken.
        day: The day on which it would be used.
        told: Is told of every check that passed.

    Raises:
        PackageRefused: It must not be used; the class says why, and its `check` where.
    """
    with archive.opened(path) as opened:
        told("archive", f"{len(opened.sizes)} files, {sum(opened.sizes.values()):,} bytes")
        sums = _sums(opened)
        signature, signer = _signed(opened, sums, trust)
        told("signature", f"by {signer}, key {signature.key_id}")
        _check_files(opened, sums)
        told("files", f"as they were signed; digest {digest_of(sums)}")
        manifest = _manifest(opened.read(MANIFEST_FILE, most=_MOST_MANIFEST_BYTES))
        _insist_on_these(manifest, sums)
        told("manifest", f"{manifest.name}@{manifest.version}, {manifest.title}")
        told("validity", _check_validity(manifest, day))
        _check_contents(manifest, opened.read)
        told("contents", "text is text, no pickles")
        _check_limits(manifest, trust.ceilings)
        report = _check_evaluation(manifest, opened.read)
        told("evaluation", _evaluated(manifest, report))
        told("network", _check_network(manifest, opened.read, trust.operator_domains))
        yield Package(manifest, sums, signature, signer, opened, report)


# --- the steps ------------------------------------------------------------------------------


def _sums(opened: Archive) -> dict[str, str]:
    if SUMS_FILE not in opened.sizes:
        raise SumsUnreadable(f"{SUMS_FILE} is not in the package; `nadi models pack` writes it")
    content = opened.read(SUMS_FILE, most=_MOST_SMALL_BYTES)
    try:
        return read_sums(content.decode("ascii"))
    except ValueError as error:
        raise SumsUnreadable(f"{SUMS_FILE} is not as `nadi models pack` writes it") from error


def _signed(opened: Archive, sums: Mapping[str, str], trust: Trust) -> tuple[Signature, str]:
    if SIGNATURE_FILE not in opened.sizes:
        raise SignatureMissing("the package is not signed; `nadi models pack --key FILE` signs it")
    signature = read_signature(opened.read(SIGNATURE_FILE, most=_MOST_SMALL_BYTES))
    signature.insist_on(digest_of(sums))
    return signature, signature.signer(trust)


def _check_files(opened: Archive, sums: Mapping[str, str]) -> None:
    found = opened.sizes.keys() - {SUMS_FILE, SIGNATURE_FILE}
    for name in sorted(sums.keys() - found):
        raise FileMissing(f"{name} was signed but is not in the package")
    for name in sorted(found - sums.keys()):
        raise FileUnexpected(f"{name} is in the package but was not signed")
    for name in sums:
        if sha256(opened.read(name)) != sums[name]:
            raise FileAltered(f"{name} is not the file that was signed")


def _manifest(content: bytes) -> Manifest:
    """Read a manifest that is complete enough for a package."""
    try:
        manifest = parse(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ManifestRefused(f"{MANIFEST_FILE} is not UTF-8 text") from error
    except ManifestError as error:
        raise ManifestRefused(str(error)) from error
    if manifest.licence_file is None:
        raise ManifestRefused(
            f"{MANIFEST_FILE}: licence_file: a package carries its licence's text; name the file"
        )
    if manifest.weights.is_quantized and not (manifest.evaluation and manifest.gate):
        raise ManifestRefused(
            f"{MANIFEST_FILE}: evaluation: a package of quantized weights carries the report that "
            "they passed its [gate]; `nadi models evaluate` writes it"
        )
    return manifest


def _insist_on_these(manifest: Manifest, sums: Mapping[str, str]) -> None:
    """The files of the package are those of the manifest, with the digests that it names."""
    for name in sorted(set(manifest.files) - sums.keys()):
        raise FileMissing(f"{name} is named by the manifest but not in the package")
    for name in sorted(sums.keys() - set(manifest.files)):
        raise FileUnexpected(f"{name} is in the package but not named by the manifest")
    for name, declared in _declared(manifest).items():
        if sums[name] != declared:
            raise FileAltered(f"{name} is not the file whose SHA-256 the manifest names")


def _declared(manifest: Manifest) -> dict[str, str]:
    """SHA-256 of the files that the manifest itself insists on."""
    weights, text = manifest.weights, manifest.text
    declared = {weights.file: weights.sha256}
    if weights.reference:
        declared[weights.reference.file] = weights.reference.sha256
    if text:
        declared[text.tokenizer] = text.tokenizer_sha256
    return declared


def _check_validity(manifest: Manifest, day: date) -> str:
    validity = manifest.validity
    first, last = validity.not_before, validity.not_after
    if first and day < first:
        raise OutsideValidity(f"{manifest.name}@{manifest.version} is valid from {first} on only")
    if last and day > last:
        raise OutsideValidity(f"{manifest.name}@{manifest.version} was valid until {last} only")
    return f"until {last}" if last else "without end"


def _check_contents(manifest: Manifest, read: Callable[[str], bytes]) -> None:
    networks = set(_networks(manifest))
    for name in manifest.files:
        content = read(name)
        _insist_on_no_pickle(name, content)
        if name not in networks:
            _insist_on_text(name, content)


def _insist_on_no_pickle(name: str, content: bytes) -> None:
    mend = "export the model to ONNX or TFLite"
    for beginning, what in _PICKLE_BEGINNINGS:
        if content.startswith(beginning):
            raise PickleFound(f"{name} is {what}; {mend}")
    if name.lower().endswith(_PICKLE_SUFFIXES):
        raise PickleFound(f"{name} has the name of a pickle or of a container of one; {mend}")


def _insist_on_text(name: str, content: bytes) -> None:
    if len(content) > _MOST_TEXT_BYTES:
        raise NotText(f"{name} has more than {_MOST_TEXT_BYTES:,} bytes; no text is so long")
    if _is_old_pickle(content):
        raise PickleFound(f"{name} is a pickle written as text; export the model to ONNX or TFLite")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotText(f"{name} is not UTF-8 text") from error
    if "\0" in text:
        raise NotText(f"{name} holds a NUL byte, which no text has")


def _is_old_pickle(content: bytes) -> bool:
    """Whether a text is a program of pickle's first protocol that calls something."""
    names = set()
    try:
        for operation, _, _ in pickletools.genops(content):
            names.add(operation.name)
    except (ValueError, IndexError):  # no pickle: an unknown operation, or its argument is none
        return False
    return bool(names & {"GLOBAL", "REDUCE", "INST", "OBJ", "BUILD"})


def _check_limits(manifest: Manifest, ceilings: Ceilings) -> None:
    """Insist that its maker's gate and tolerance allow no more than is tolerated of anybody's."""
    if beyond := ceilings.against(manifest):
        raise GateTooWide(f"{MANIFEST_FILE} allows too much: {'; '.join(beyond)}")


def _check_evaluation(manifest: Manifest, read: Callable[[str], bytes]) -> EvaluationReport | None:
    """Insist that the report is about these weights and this gate, and accepts them."""
    if manifest.evaluation is None:
        return None
    mend = f"{manifest.evaluation}: evaluate the model again with `nadi models evaluate`"
    try:
        report = read_report(read(manifest.evaluation))
        if report.accepted:
            report.insist_on(manifest.weights, manifest.gate)
    except ReportUnusable as error:
        raise GateNotPassed(f"{mend}; {error}") from error
    if not report.accepted:
        why = " ".join(merged(report.reasons))
        raise GateNotPassed(f"{manifest.evaluation}: the gate refused these weights: {why}")
    return report


def _evaluated(manifest: Manifest, report: EvaluationReport | None) -> str:
    if report is None or manifest.gate is None:
        return f"none is needed for {manifest.weights.format}, which the network is held to"
    return f"the gate was passed: {one_line(report.told(manifest.gate))}"


def _check_network(manifest: Manifest, read: Callable[[str], bytes], allowed: Iterable[str]) -> str:
    weights, is_opened = manifest.weights, True
    for name in _networks(manifest):
        if name == weights.file and weights.is_tflite:
            is_opened = check_tflite(read(name), name, manifest)
        else:
            check_onnx(read(name), name, manifest, allowed)
    if not is_opened:
        return f"{weights.format}; LiteRT is not installed here, so it was not opened"
    return f"{weights.format}, with the manifest's inputs and outputs"


def _networks(manifest: Manifest) -> tuple[str, ...]:
    """Files that hold a network: the weights, and their fp32 twin."""
    twin = manifest.weights.reference
    return (manifest.weights.file, *([twin.file] if twin else []))


# --- files ----------------------------------------------------------------------------------


def _signed_files(sums: Mapping[str, str], signature: Signature) -> dict[str, bytes]:
    """The two files that a package has beside those of the model."""
    return {SUMS_FILE: sums_text(sums).encode("ascii"), SIGNATURE_FILE: signature.to_bytes()}


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise FileMissing(f"{folder / name} can't be read: {error.strerror}") from error


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
