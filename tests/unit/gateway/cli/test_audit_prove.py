"""`nadi audit prove` and the program that verifies its receipts without Nadi."""

import ast
import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gateway.cli import verify_receipt
from gateway.cli.main import app
from gateway.core import ledger
from gateway.core.ledger import Checkpoint, Frontier, sign_checkpoint, verifier_key
from gateway.core.receipt import Continuation, ProvenEvent, receipt
from gateway.store.audit_log import AuditFilter
from tests.installation import Installation, consent, creatinine, installation, reopened

SCRIPT = Path(verify_receipt.__file__)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proving") / "nadi"
    with installation(folder) as nadi:
        nadi.receive(consent("p1"), creatinine("p1"))
        nadi.integrate()
        (folder / "earlier.txt").write_text(newest_note(nadi))
        nadi.receive(creatinine("p2"))
        nadi.integrate()
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "nadi")
    return tmp_path / "nadi"


def newest_note(nadi: Installation) -> str:
    with nadi.store.read() as uow:
        return uow.audit_log.newest_checkpoint() or ""


def prove(folder: Path, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(
        app, ["audit", "prove", *arguments], env={"NADI_DATA_DIR": str(folder)}
    )
    assert done.exit_code == code, (done.output, done.stderr, done.exception)
    return done.stdout if code == 0 else done.stderr


def some_event(folder: Path, event: str = "admit") -> str:
    with reopened(folder) as nadi, nadi.store.read() as uow:
        [row, *_] = uow.audit_log.search(AuditFilter(event=event))
        return str(json.loads(row.body)["id"])


@dataclass
class Told:
    code: int
    text: str


def run_script(folder: Path, *arguments: str) -> Told:
    """Run the program alone: isolated, in a folder without anything of Nadi."""
    done = subprocess.run(
        [sys.executable, "-I", "verify_receipt.py", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == "", done.stderr
    return Told(done.returncode, done.stdout)


@pytest.fixture
def outside(folder: Path, tmp_path: Path) -> Path:
    """What an auditor has: a receipt, the program, the public key, an earlier checkpoint."""
    away = tmp_path / "auditor"
    away.mkdir()
    name = some_event(folder)
    arguments = ("--out", str(away / "receipt.json"), "--with-script")
    prove(folder, name, *arguments, "--from", str(folder / "earlier.txt"))
    shutil.copy(folder / "keys" / "audit.pub", away)
    shutil.copy(folder / "earlier.txt", away)
    return away


def test_the_program_needs_the_standard_library_and_cryptography_only() -> None:
    tree = ast.parse(SCRIPT.read_text())
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }

    assert imported - sys.stdlib_module_names == {"cryptography"}


def test_a_receipt_holds_offline_and_continues_the_earlier_checkpoint(outside: Path) -> None:
    told = run_script(outside, "receipt.json", "--key", "audit.pub", "--checkpoint", "earlier.txt")

    assert told.code == 0, told.text
    assert "admit" in told.text
    assert "HOLDS: 1 event(s)" in told.text
    assert "continues 1 earlier" in told.text


def witness_file(folder: Path) -> Path:
    """What a file witness keeps: every checkpoint, oldest first, and those of another log."""
    stranger = Ed25519PrivateKey.generate()
    other = sign_checkpoint(stranger, Checkpoint("other.example/log", 7, bytes(32)))
    with reopened(folder) as nadi, nadi.store.read() as uow:
        notes = uow.connection.exec_driver_sql("select note from audit_checkpoints order by size")
        kept = folder / "witness.log"
        kept.write_text("".join([other, *notes.scalars(), other]))
    return kept


def test_the_newest_checkpoint_of_a_witness_s_file_is_continued(
    folder: Path, outside: Path
) -> None:
    kept = witness_file(folder)
    sizes = [int(size) for size in re.findall(r"^nadi.*\n(\d+)$", kept.read_text(), re.MULTILINE)]
    with reopened(folder) as nadi:
        nadi.receive(creatinine("p3"))
        nadi.integrate()

    receipt_file = outside / "later.json"
    prove(folder, some_event(folder), "--out", str(receipt_file), "--from", str(kept))
    shutil.copy(kept, outside)
    told = run_script(outside, "later.json", "--key", "audit.pub", "--checkpoint", "witness.log")

    [earlier] = json.loads(receipt_file.read_text())["earlier"]
    assert earlier["checkpoint"].split("\n")[1] == str(max(sizes))
    assert told.code == 0, told.text
    assert f"the one of {max(sizes)} entries" in told.text


def test_of_a_witness_s_file_that_grew_on_the_newest_with_a_proof_is_used(
    folder: Path, outside: Path
) -> None:
    size = (outside / "earlier.txt").read_text().split("\n")[1]
    shutil.copy(witness_file(folder), outside)
    made = json.loads((outside / "receipt.json").read_text())
    with reopened(folder) as nadi:
        nadi.receive(creatinine("p3"))
        nadi.integrate()
        (outside / "grown.log").write_text(
            (outside / "earlier.txt").read_text() + newest_note(nadi)
        )
    newest = made["checkpoint"].split("\n")[1]

    for kept, used in (("witness.log", newest), ("grown.log", size)):
        told = run_script(outside, "receipt.json", "--key", "audit.pub", "--checkpoint", kept)
        assert told.code == 0, told.text
        assert f"the one of {used} entries" in told.text


def test_a_false_signature_among_several_checkpoints_does_not_hold(
    folder: Path, outside: Path
) -> None:
    kept = witness_file(folder).read_text()
    changed = with_size((outside / "earlier.txt").read_text(), -1)
    (outside / "witness.log").write_text(kept + changed)

    told = run_script(outside, "receipt.json", "--key", "audit.pub", "--checkpoint", "witness.log")

    assert told.code == 1
    assert "DOES NOT HOLD: The signature" in told.text


def test_without_the_key_it_says_that_the_receipt_brought_its_own(outside: Path) -> None:
    told = run_script(outside, "receipt.json")

    assert told.code == 0
    assert "The key came with the receipt" in told.text


def test_a_receipt_on_standard_output_is_the_same_file(folder: Path, outside: Path) -> None:
    made = json.loads(prove(folder, some_event(folder)))

    kept = json.loads((outside / "receipt.json").read_text())
    assert made["events"] == kept["events"]
    assert made["earlier"] == []


def test_a_job_is_proven_with_all_its_events(folder: Path) -> None:
    with reopened(folder) as nadi, nadi.store.read() as uow:
        [row, *_] = uow.audit_log.search(AuditFilter(event="admit"))
        count = uow.audit_log.count(AuditFilter(job_id=row.job_id))

    made = json.loads(prove(folder, str(row.job_id)))

    assert len(made["events"]) == count > 1


def first(made: dict[str, Any]) -> Any:
    return made["events"][0]


def with_size(note: str, change: int) -> str:
    origin, size, *rest = note.split("\n")
    return "\n".join([origin, str(int(size) + change), *rest])


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "event": lambda made: first(made).update(event=first(made)["event"].replace("risk", "rixk")),
    "index": lambda made: first(made).update(leaf_index=first(made)["leaf_index"] ^ 1),
    "huge index": lambda made: first(made).update(leaf_index=1 << 40),
    "proof": lambda made: first(made)["inclusion_proof"].__setitem__(0, "00" * 32),
    "shorter proof": lambda made: first(made)["inclusion_proof"].pop(),
    "longer proof": lambda made: first(made)["inclusion_proof"].append("00" * 32),
    "no hash": lambda made: first(made)["inclusion_proof"].__setitem__(0, "zz"),
    "size": lambda made: made.update(checkpoint=with_size(made["checkpoint"], 1)),
    "unsigned": lambda made: made.update(checkpoint=made["checkpoint"].partition("\n\n")[0]),
    "consistency": lambda made: made["earlier"][0].update(consistency_proof=["11" * 32]),
    "no way": lambda made: made.update(earlier=[]),
    "no events": lambda made: made.update(events=[]),
    "another form": lambda made: made.update(format="other"),
    "a part is gone": lambda made: made.pop("events"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_receipt_that_was_changed_does_not_hold(outside: Path, name: str) -> None:
    made = json.loads((outside / "receipt.json").read_text())
    CHANGES[name](made)
    (outside / "receipt.json").write_text(json.dumps(made))

    told = run_script(outside, "receipt.json", "--key", "audit.pub", "--checkpoint", "earlier.txt")

    assert told.code == 1, told.text
    assert "DOES NOT HOLD" in told.text


def test_a_log_signed_with_another_key_does_not_hold(outside: Path) -> None:
    """Somebody writes a log of their own, perfectly, under the same name."""
    made = json.loads((outside / "receipt.json").read_text())
    name = made["verifier_key"].partition("+")[0]
    stranger = Ed25519PrivateKey.generate()
    leaf = ledger.leaf_hash(b'{"id":"invented"}')
    note = sign_checkpoint(stranger, Checkpoint(name, 1, leaf))
    forged = receipt(
        [ProvenEvent(b'{"id":"invented"}', 0, [])],
        checkpoint=note,
        verifier_key=verifier_key(name, stranger.public_key()),
    )
    (outside / "receipt.json").write_text(json.dumps(forged))

    assert run_script(outside, "receipt.json").code == 0, "by its own key it holds"
    told = run_script(outside, "receipt.json", "--key", "audit.pub")

    assert told.code == 1
    assert "not signed by the key of this log" in told.text


def test_a_log_that_was_rewritten_does_not_continue_the_earlier_checkpoint(
    folder: Path, outside: Path
) -> None:
    """The signing key is stolen; only the checkpoint from outside tells."""
    seed = bytes.fromhex((folder / "keys" / "audit-signing.key").read_text())
    key = Ed25519PrivateKey.from_private_bytes(seed)
    bodies = [b'{"id":"%d"}' % n for n in range(40)]
    hashes = [ledger.leaf_hash(body) for body in bodies]
    name, _ = ledger.read_verifier_key((outside / "audit.pub").read_text())
    size = int((outside / "earlier.txt").read_text().split("\n")[1])
    note = sign_checkpoint(key, Checkpoint(name, 40, ledger.root(Frontier().extend(hashes))))
    forged = receipt(
        [ProvenEvent(bodies[3], 3, ledger.inclusion_proof(hashes, 3))],
        checkpoint=note,
        verifier_key=(outside / "audit.pub").read_text().strip(),
        earlier=[
            Continuation(
                (outside / "earlier.txt").read_text(), ledger.consistency_proof(hashes, size)
            )
        ],
    )
    (outside / "receipt.json").write_text(json.dumps(forged))

    assert run_script(outside, "receipt.json", "--key", "audit.pub").code == 0
    told = run_script(outside, "receipt.json", "--key", "audit.pub", "--checkpoint", "earlier.txt")

    assert told.code == 1
    assert "rewritten" in told.text


def test_a_false_signature_does_not_hold(outside: Path) -> None:
    made = json.loads((outside / "receipt.json").read_text())
    head, _, encoded = made["checkpoint"].strip("\n").rpartition(" ")
    raw = bytearray(base64.b64decode(encoded))
    raw[-1] ^= 1
    made["checkpoint"] = f"{head} {base64.b64encode(raw).decode()}\n"
    (outside / "receipt.json").write_text(json.dumps(made))

    told = run_script(outside, "receipt.json", "--key", "audit.pub")

    assert told.code == 1
    assert "signature of a checkpoint is false" in told.text


def test_what_is_proven_is_on_record_once_per_patient(folder: Path) -> None:
    name = some_event(folder)
    prove(folder, name)

    with reopened(folder) as nadi, nadi.store.read() as uow:
        [query] = uow.audit_log.search(AuditFilter(event="query"))
        [proven] = uow.audit_proofs.events_of(name)
    assert query.patient_key == proven.patient_key is not None


def test_what_is_not_there_or_not_yet_in_the_log_is_told(folder: Path, tmp_path: Path) -> None:
    assert "no AuditEvent and no job" in prove(folder, "nothing", code=1)
    with reopened(folder) as nadi:
        nadi.receive(creatinine("p9"))
    name = some_event(folder, "receive")
    assert "no place in the log yet" in prove(folder, name, code=1)
    (tmp_path / "empty.txt").write_text("nothing\n")
    refused = prove(folder, name, "--from", str(tmp_path / "empty.txt"), code=1)
    assert "holds no checkpoint" in refused
    assert "name that with --out" in prove(folder, name, "--with-script", code=2)


def test_a_file_that_is_not_there_is_wrong_usage(outside: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "verify_receipt.py", "none.json"],
        cwd=outside,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert "can't be read" in done.stderr


@given(st.integers(1, 200), st.data())
def test_the_program_accepts_every_true_proof_and_no_other_leaf(
    size: int, data: st.DataObject
) -> None:
    hashes = [ledger.leaf_hash(bytes([n])) for n in range(size)]
    root = ledger.root(Frontier().extend(hashes))
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size - 1))
    size1 = data.draw(st.integers(1, size))
    root1 = ledger.root(Frontier().extend(hashes[:size1]))
    proof = ledger.inclusion_proof(hashes, index)
    between = ledger.consistency_proof(hashes, size1)

    verify_receipt.check_inclusion(hashes[index], index, size, proof, root)
    verify_receipt.check_consistency(size1, size, between, root1, root)
    if other != index:
        with pytest.raises(verify_receipt.DoesNotHold):
            verify_receipt.check_inclusion(hashes[other], index, size, proof, root)
    if size1 != other + 1:
        wrong = ledger.root(Frontier().extend(hashes[: other + 1]))
        with pytest.raises(verify_receipt.DoesNotHold):
            verify_receipt.check_consistency(size1, size, between, wrong, root)
