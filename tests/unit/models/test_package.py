"""A package: what was packed is verified and unpacked; all else is refused with its reason."""

import io
import pickle
import pickletools
import re
import zipfile
from datetime import date

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import archive, package
from models.ceilings import Ceilings
from models.checksums import SUMS_FILE, digest_of, sha256, sums_text
from models.manifest import parse
from models.package import pack, verified
from models.refusals import (
    ExternalData,
    FileAltered,
    FileMissing,
    FileUnexpected,
    FormatNotAsDeclared,
    GateNotPassed,
    GateTooWide,
    ManifestRefused,
    NetworkUnreadable,
    NotText,
    OutsideValidity,
    PackageRefused,
    PickleFound,
    SignatureBad,
    SignatureMissing,
    SignerUnknown,
    SumsUnreadable,
)
from models.registry import load
from models.signature import SIGNATURE_FILE, Trust, sign
from tests.odd_networks import external_networks
from tests.packages import (
    DAY,
    KEY,
    STRANGER,
    TRUST,
    WEIGHTS,
    evaluation,
    files,
    folder_of,
    sealed,
    with_weights,
)
from tests.tflite_models import float_model, int8_model
from tests.toy_models import numbers, toy_model


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ckd-risk-1.0.0.nadi.zip"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return sealed(files(), tmp_path_factory.mktemp("good") / "a.nadi.zip").read_bytes()


def verify(path, trust=TRUST, day=DAY):
    told = []
    with verified(path, trust, day=day, told=lambda *passed: told.append(passed)) as found:
        return found.digest, told


def raw(content, path):
    """Write an archive of files without adding anything."""
    target = io.BytesIO()
    archive.write(target, content.items())
    path.write_bytes(target.getvalue())
    return path


def signed(content, *, digest=None, key=KEY):
    """Give files with their checksums and a signature, to be spoilt."""
    sums = {name: sha256(each) for name, each in content.items()}
    return {
        SUMS_FILE: sums_text(sums).encode(),
        SIGNATURE_FILE: sign(digest or digest_of(sums), key).to_bytes(),
        **content,
    }


def manifest_with(old, new):
    content = files()
    text = content["manifest.toml"].decode()
    assert old in text
    return {**content, "manifest.toml": text.replace(old, new, 1).encode()}


def test_what_is_packed_is_verified_and_unpacked_as_it_was(path, tmp_path):
    folder = folder_of(files(), tmp_path / "model")
    (folder / "train.py").write_text("print()")
    (tmp_path / "out").mkdir()

    digest = pack(folder, KEY, path)
    with verified(path, TRUST, day=DAY) as found:
        found.unpack(tmp_path / "out")

    assert digest == found.digest == load(folder).digest == load(tmp_path / "out").digest
    assert found.reference == "ckd-risk@1.0.0"
    assert found.signer == "the-makers"
    unpacked = {each.name: each.read_bytes() for each in (tmp_path / "out").iterdir()}
    assert unpacked.keys() - files().keys() == {SUMS_FILE, SIGNATURE_FILE}
    assert {name: unpacked[name] for name in files()} == files()
    assert sha256(unpacked[SUMS_FILE]) == digest


def test_every_check_that_passed_is_told_in_order(path):
    digest, told = verify(sealed(files(), path))

    assert [check for check, _ in told] == [
        "archive",
        "signature",
        "files",
        "manifest",
        "validity",
        "contents",
        "evaluation",
        "network",
    ]
    assert digest in dict(told)["files"]
    assert "the-makers" in dict(told)["signature"]


def test_the_same_folder_and_key_give_the_same_bytes(path, tmp_path):
    folder = folder_of(files(), tmp_path / "model")
    pack(folder, KEY, path)
    before = path.read_bytes()
    for each in sorted(folder.iterdir(), reverse=True):
        each.touch()

    pack(folder, KEY, path)

    assert path.read_bytes() == before


def test_a_package_that_can_not_be_written_leaves_nothing(tmp_path, path):
    content = {**files(), "big.txt": b""}
    content |= {f"more-{number}.txt": b"" for number in range(30)}

    with pytest.raises(PackageRefused):
        sealed(content, path)

    assert list(tmp_path.iterdir()) == []


# --- who signed what ------------------------------------------------------------------------


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_of_a_package_is_refused(data, good, path):
    content = bytearray(good)
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)

    with pytest.raises(PackageRefused):
        verify(path)


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_a_file_that_was_exchanged_is_refused_although_the_archive_is_sound(data, path):
    content = signed(files())
    name = data.draw(st.sampled_from(sorted(content)))
    changed = bytearray(content[name])
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] ^= data.draw(st.integers(1, 255))
    raw({**content, name: bytes(changed)}, path)

    with pytest.raises(PackageRefused):
        verify(path)


def test_weights_with_one_bit_flipped_are_refused_naming_the_file(path):
    content = signed(files())
    changed = bytearray(content[WEIGHTS])
    changed[len(changed) // 2] ^= 1

    with pytest.raises(FileAltered, match=r"model\.onnx is not the file that was signed"):
        verify(raw({**content, WEIGHTS: bytes(changed)}, path))


def test_weights_that_the_manifest_does_not_know_are_refused_although_signed(path):
    content = files()
    changed = bytearray(content[WEIGHTS])
    changed[len(changed) // 2] ^= 1

    with pytest.raises(FileAltered, match="whose SHA-256 the manifest names"):
        verify(sealed({**content, WEIGHTS: bytes(changed)}, path))


def test_a_signature_of_something_else_is_refused(path):
    with pytest.raises(SignatureBad, match="not one of this content"):
        verify(raw(signed(files(), digest="0" * 64), path))


def test_a_signer_that_nobody_listed_is_refused_with_the_key(path):
    with pytest.raises(SignerUnknown, match="not on the list of signers"):
        verify(sealed(files(), path, STRANGER))
    with pytest.raises(SignerUnknown):
        verify(sealed(files(), path), Trust())


def test_a_package_without_a_signature_is_refused(path):
    content = signed(files())
    del content[SIGNATURE_FILE]

    with pytest.raises(SignatureMissing, match="--key FILE"):
        verify(raw(content, path))


@pytest.mark.parametrize("sums", [None, b"", b"\xff", b"abc  manifest.toml\n"])
def test_a_package_without_readable_checksums_is_refused(sums, path):
    content = signed(files()) | ({} if sums is None else {SUMS_FILE: sums})
    if sums is None:
        del content[SUMS_FILE]

    with pytest.raises(SumsUnreadable, match=SUMS_FILE):
        verify(raw(content, path))


def test_a_file_that_was_not_signed_is_refused(path):
    with pytest.raises(FileUnexpected, match=r"evil\.txt is in the package but was not signed"):
        verify(raw({**signed(files()), "evil.txt": b"x"}, path))


def test_a_signed_file_that_is_missing_is_refused(path):
    content = signed(files())
    del content["card.md"]

    with pytest.raises(FileMissing, match=r"card\.md was signed but"):
        verify(raw(content, path))


def test_a_file_that_the_manifest_does_not_name_is_refused_although_signed(path):
    with pytest.raises(FileUnexpected, match=r"extra\.txt.*not named by the manifest"):
        verify(sealed({**files(), "extra.txt": b"x"}, path))


def test_a_file_that_the_manifest_names_has_to_be_there(path):
    with pytest.raises(FileMissing, match=r"card\.md is named by the manifest"):
        verify(sealed(files(card_md=None), path))


def test_a_zip_that_leads_out_of_the_folder_is_refused(path):
    with zipfile.ZipFile(path, "w") as made:
        for name, content in signed(files()).items():
            made.writestr(name, content)
        made.writestr("../../evil.toml", b"x")

    with pytest.raises(PackageRefused, match="leads out of the folder"):
        verify(path)


# --- the manifest ---------------------------------------------------------------------------


def test_a_wrong_manifest_is_refused_naming_file_and_key(path):
    with pytest.raises(ManifestRefused, match=r"manifest\.toml: min_present"):
        verify(sealed(manifest_with("min_present = 4", "min_present = -4"), path))


@pytest.mark.parametrize("key", ["licence_file", "evaluation"])
def test_a_manifest_that_is_not_complete_enough_is_refused(key, path, tmp_path):
    content = files()
    lines = content["manifest.toml"].decode().splitlines()
    kept = [line for line in lines if not line.startswith(f"{key} = ")]
    content["manifest.toml"] = "\n".join(kept).encode()

    with pytest.raises(ManifestRefused, match=f"{key}: a package"):
        verify(sealed(content, path))
    with pytest.raises(ManifestRefused, match=key):
        pack(folder_of(content, tmp_path / "model"), KEY, path)


def test_a_manifest_that_is_no_text_is_refused(path):
    with pytest.raises(ManifestRefused, match="not UTF-8"):
        verify(sealed({**files(), "manifest.toml": b"\xff"}, path))


@pytest.mark.parametrize(
    ("day", "said"),
    [(date(2026, 11, 30), None), (date(2026, 12, 1), "was valid until"), (DAY, "from 2026-11-26")],
)
def test_a_model_is_taken_within_its_validity_only(day, said, path):
    validity = "[validity]\nnot_before = 2026-11-26\nnot_after = 2026-11-30\n\n[weights]"
    sealed(manifest_with("[weights]", validity), path)

    if said is None:
        assert dict(verify(path, day=day)[1])["validity"] == "until 2026-11-30"
        return
    with pytest.raises(OutsideValidity, match=said):
        verify(path, day=day)


# --- the gate -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"accepted": False, "reasons": ["It lost too much."]}, "refused these weights: It lost"),
        ({"weights_sha256": "0" * 64}, "about other weights"),
        ({"gate": {"metric": "auroc", "max_loss": 0.5}}, "another gate than the manifest's"),
        ({"split": "calibration"}, "which the model was fitted to"),
        ({"accepted": "perhaps"}, "no report of the gate"),
    ],
)
def test_weights_that_did_not_pass_their_gate_are_refused(changed, said, path, tmp_path):
    content = files()
    report = evaluation(parse(content["manifest.toml"].decode()), **changed)
    content["evaluation.json"] = report

    with pytest.raises(GateNotPassed, match=said):
        verify(sealed(content, path))
    with pytest.raises(GateNotPassed, match=said):
        pack(folder_of(content, tmp_path / "model"), KEY, path)


def test_quantized_weights_without_a_gate_are_refused(path):
    content = files()
    text = content["manifest.toml"].decode()
    without = re.sub(r"^\[gate\]\n(?:[^\[\n].*\n|\n)*", "", text, flags=re.MULTILINE)

    with pytest.raises(ManifestRefused, match="evaluation: a package of quantized weights"):
        verify(sealed({**content, "manifest.toml": without.encode()}, path))


def test_weights_that_are_not_quantized_need_no_report(path):
    content = with_weights(files()["model.fp32.onnx"], twin=False, format='format = "onnx-fp32"')
    text = content["manifest.toml"].decode()
    del content["evaluation.json"]
    content["manifest.toml"] = text.replace('evaluation = "evaluation.json"\n', "").encode()

    assert "onnx-fp32" in dict(verify(sealed(content, path))[1])["evaluation"]


def test_verifying_tells_what_the_gate_allowed_and_what_was_measured(path):
    said = dict(verify(sealed(files(), path))[1])["evaluation"]

    assert "at most 0.0020 with 95% confidence; allowed 0.005" in said
    assert "400, split test" in said
    assert "kernels vnni, avx2-exact, avx2" in said


def test_a_gate_that_lets_everything_pass_is_refused(path, tmp_path):
    content = manifest_with("max_loss = 0.005", "max_loss = 0.9\nmax_flips = 1.0")
    content["evaluation.json"] = evaluation(parse(content["manifest.toml"].decode()))
    said = r"gate\.max_loss is 0\.9, Nadi's limit is 0\.02; gate\.max_flips is 1"

    with pytest.raises(GateTooWide, match=said):
        verify(sealed(content, path))
    with pytest.raises(GateTooWide, match=said):
        pack(folder_of(content, tmp_path / "model"), KEY, path)


def test_a_site_refuses_a_gate_that_is_wider_than_its_own_limits(path):
    strict = Trust(TRUST.signers, ceilings=Ceilings(max_loss=0.004, whose="the site's"))

    with pytest.raises(GateTooWide, match=r"max_loss is 0\.005, the site's limit is 0\.004"):
        verify(sealed(files(), path), strict)


def declared_fp32(content, twin=False):
    """Give weights that are called float32, so that no gate is asked for."""
    made = with_weights(content, twin=twin, format='format = "onnx-fp32"')
    text = made["manifest.toml"].decode()
    del made["evaluation.json"]
    made["manifest.toml"] = text.replace('evaluation = "evaluation.json"\n', "").encode()
    return made


def test_quantized_weights_do_not_get_past_the_gate_by_being_called_float32(path, tmp_path):
    content = declared_fp32(files()[WEIGHTS])
    said = r"declared as onnx-fp32, but it is quantized: DequantizeLinear \(4\).*int8 weights"

    with pytest.raises(FormatNotAsDeclared, match=said):
        verify(sealed(content, path))
    with pytest.raises(FormatNotAsDeclared, match=r"\[gate\].*nadi models evaluate"):
        pack(folder_of(content, tmp_path / "model"), KEY, path)


def test_a_quantized_twin_with_which_a_model_would_be_compared_is_refused(path):
    content = files()
    text = content["manifest.toml"].decode()
    text = text.replace(sha256(content["model.fp32.onnx"]), sha256(content[WEIGHTS]))
    content |= {"manifest.toml": text.encode(), "model.fp32.onnx": content[WEIGHTS]}

    with pytest.raises(
        FormatNotAsDeclared, match=r"model\.fp32\.onnx is declared as the fp32 twin"
    ):
        verify(sealed(content, path))


def test_a_quantized_tflite_model_does_not_get_past_the_gate_either(path, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="LiteRT (extra `tflite`) is not installed")
    folder = tmp_path / "toy"
    toy_model(folder, int8_model(), [], kind="tflite-fp32", tables=numbers())
    manifest = folder / "manifest.toml"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(f'licence_file = "LICENSE"\n{text}', encoding="utf-8")
    (folder / "LICENSE").write_text("Do what you like.\n", encoding="utf-8")

    with pytest.raises(FormatNotAsDeclared, match=r"tflite-fp32, but it is quantized: .*int8"):
        pack(folder, KEY, path)


# --- contents and network -------------------------------------------------------------------


class _Evil:
    def __reduce__(self):
        return print, ("this would run",)


def pickles():
    arrays = io.BytesIO()
    np.save(arrays, np.array([_Evil()], dtype=object), allow_pickle=True)
    archives = io.BytesIO()
    with zipfile.ZipFile(archives, "w") as made:
        made.writestr("archive/data.pkl", pickle.dumps(_Evil()))
    return {
        **{f"protocol {number}": pickle.dumps(_Evil(), number) for number in range(6)},
        "optimized": pickletools.optimize(pickle.dumps(_Evil(), 0)),
        "numpy": arrays.getvalue(),
        "torch": archives.getvalue(),
    }


@pytest.mark.parametrize(("kind", "content"), pickles().items(), ids=pickles())
def test_a_pickle_is_refused_under_whatever_name(kind, content, path):
    if kind not in {"protocol 0", "protocol 1", "optimized"}:
        with pytest.raises(PickleFound, match="export the model to ONNX or TFLite"):
            verify(sealed(with_weights(content), path))
    with pytest.raises(PickleFound):
        verify(sealed(files(card_md=content), path))


@pytest.mark.parametrize("name", ["model.pkl", "weights.pt", "golden.npy", "m.JOBLIB", "a.bin"])
def test_a_file_with_the_name_of_a_pickle_is_refused(name, path):
    content = manifest_with('golden = "golden.json"', f'golden = "{name}"')
    content[name] = content.pop("golden.json")

    with pytest.raises(PickleFound, match="has the name of a pickle"):
        verify(sealed(content, path))


@pytest.mark.parametrize(
    "text", ["I like models.", "N.", "(lp0\n.", "# Card\n\ncos of x\n", "2.", "A full stop."]
)
def test_a_text_is_no_pickle_only_because_it_could_be_read_as_one(text, path):
    verify(sealed(files(card_md=text.encode()), path))


@pytest.mark.parametrize(("content", "said"), [(b"\xff\xfe", "not UTF-8"), (b"a\0b", "NUL")])
def test_a_card_that_is_no_text_is_refused(content, said, path):
    with pytest.raises(NotText, match=said):
        verify(sealed(files(card_md=content), path))


@pytest.mark.parametrize("content", external_networks().values(), ids=external_networks())
def test_a_network_with_external_data_is_refused(content, path):
    with pytest.raises(ExternalData):
        verify(sealed(with_weights(content), path))


def test_the_fp32_twin_is_looked_at_like_the_weights(path):
    content = files()
    text = content["manifest.toml"].decode()
    before, after = content["model.fp32.onnx"], b"\x08\x07rubbish"
    text = text.replace(sha256(before), sha256(after))
    content |= {"manifest.toml": text.encode(), "model.fp32.onnx": after}

    with pytest.raises(NetworkUnreadable, match=r"model\.fp32\.onnx"):
        verify(sealed(content, path))


def test_a_tflite_package_has_to_hold_tflite(path):
    content = with_weights(files()[WEIGHTS], twin=False, format='format = "tflite-int8"')

    with pytest.raises(NetworkUnreadable, match="does not begin as a TFLite file"):
        verify(sealed(content, path))


def test_a_tflite_model_is_packed_and_verified(path, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="LiteRT (extra `tflite`) is not installed")
    folder = tmp_path / "toy"
    toy_model(folder, float_model(), [], kind="tflite-fp32", tables=numbers())
    manifest = folder / "manifest.toml"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(f'licence_file = "LICENSE"\n{text}', encoding="utf-8")
    (folder / "LICENSE").write_text("Do what you like.\n", encoding="utf-8")

    pack(folder, KEY, path)

    assert dict(verify(path)[1])["network"].startswith("tflite-fp32")


def test_packing_refuses_what_a_gateway_would_refuse(path, tmp_path):
    content = with_weights(external_networks()["attribute"])

    with pytest.raises(ExternalData):
        pack(folder_of(content, tmp_path / "outside"), KEY, path)
    with pytest.raises(FileMissing, match=r"card\.md can't be read"):
        pack(folder_of(files(card_md=None), tmp_path / "missing"), KEY, path)
    with pytest.raises(FileAltered):
        pack(folder_of({**files(), WEIGHTS: b"x"}, tmp_path / "altered"), KEY, path)
    assert not path.exists()


def test_a_package_that_is_changed_while_it_is_unpacked_is_noticed(path, tmp_path):
    sealed(files(), path)
    changed = files(card_md=b"#" * len(files()["card.md"]))
    (tmp_path / "out").mkdir()

    with verified(path, TRUST, day=DAY) as found, path.open("r+b") as file:
        content = path.read_bytes()
        file.write(content.replace(files()["card.md"], changed["card.md"]))
        file.flush()
        with pytest.raises(PackageRefused):
            found.unpack(tmp_path / "out")


def test_the_suffix_of_a_package_is_known():
    assert package.SUFFIX == ".nadi.zip"
