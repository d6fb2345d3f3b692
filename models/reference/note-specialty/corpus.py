# ruff: noqa: INP001 - a folder of one model's files, not a package
"""The notes that note-specialty learns from: which, under which label, in which part of the split.

Only `description` is read as text. `keywords` and `sample_name` name the specialty and are not
looked at.

* A label that says what kind of document it is ("SOAP / Chart / Progress Notes", "Letters" …) names
  no specialty: those notes are neither learnt nor scored. What the model makes of them is reported.
* Specialties with fewer than 15 notes join the one whose desk would take them, or are left out.
* The collection lists one report under several specialties and in several wordings. Notes that
  resemble each other are one group, and a group is never on both sides of a split.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import StratifiedGroupKFold

Ints = npt.NDArray[np.int64]

CLASSES = {
    "surgery": ("Surgery", "Bariatrics", "Cosmetic / Plastic Surgery", "Dentistry"),
    "radiology": ("Radiology",),
    "urology-nephrology": ("Urology", "Nephrology"),
    "general-medicine": ("General Medicine",),
    "orthopaedics-rheumatology": (
        "Orthopedic", "Podiatry", "Rheumatology", "Physical Medicine - Rehab",
    ),
    "neurology-sleep": ("Neurology", "Sleep Medicine"),
    "pain-management": ("Pain Management",),
    "cardiology-pulmonology": ("Cardiovascular / Pulmonary",),
    "eye-ear-nose-throat": ("Ophthalmology", "ENT - Otolaryngology"),
    "paediatrics": ("Pediatrics - Neonatal",),
    "psychiatry-psychology": ("Psychiatry / Psychology",),
    "gastroenterology": ("Gastroenterology",),
    "oncology-palliative": ("Hematology - Oncology", "Hospice - Palliative Care"),
}  # fmt: skip
"""Class, in the order of the network's columns → labels of the collection."""

DOCUMENT_KINDS = (
    "SOAP / Chart / Progress Notes", "Office Notes", "Consult - History and Phy.",
    "Discharge Summary", "Letters", "Emergency Room Reports", "IME-QME-Work Comp etc.",
)  # fmt: skip
TOO_FEW = (
    "Obstetrics / Gynecology",
    "Speech - Language",
    "Lab Medicine - Pathology",
    "Dermatology",
)
SAME_NOTE = 0.6
"""TF-IDF cosine from which on two notes count as one."""
FOLDS, REPEATS = 5, 5
_TENTHS, _HELD_OUT_TENTHS = 10, 3


@dataclass(frozen=True)
class Corpus:
    """Notes in the order of the table.

    Attributes:
        texts: One line each.
        truth: (n,) class of each, from 0.
        groups: (n,) which notes are one.
    """

    texts: list[str]
    truth: Ints
    groups: Ints

    def take(self, rows: Ints) -> "Corpus":
        """Give some of the notes."""
        texts = [self.texts[row] for row in rows]
        return Corpus(texts, self.truth[rows], self.groups[rows])

    def repeated(self, times: int) -> "Corpus":
        """Give all notes several times, one set after the other."""
        return self.take(np.tile(np.arange(len(self.truth)), times))

    def folds(self, *, seed: int = 0, count: int = FOLDS) -> Iterator[tuple[Ints, Ints]]:
        """Split into rows to learn from and rows to score, stratified by class, by group."""
        splits = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        yield from splits.split(self.texts, self.truth, self.groups)

    def halves(self) -> tuple[Ints, Ints]:
        """Rows of development and of held-out notes: 70 and 30 of 100; the same each time.

        The settings of the head were chosen on the development notes.
        """
        tenths = list(self.folds(count=_TENTHS))[:_HELD_OUT_TENTHS]
        held_out = np.sort(np.concatenate([scored for _, scored in tenths]))
        return np.setdiff1d(np.arange(len(self.truth)), held_out), held_out

    def counts(self) -> list[int]:
        """Count the notes of each class."""
        found = Counter(self.truth.tolist())
        return [found[place] for place in range(len(CLASSES))]


def read(path: Path) -> tuple[Corpus, list[str]]:
    """Read the table.

    Args:
        path: `mtsamples_descriptions.csv`.

    Returns:
        The notes with a specialty, and the texts whose label is a kind of document.

    Raises:
        ValueError: A label is in none of the lists above.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(_line(row["description"]), row["medical_specialty"].strip())
                for row in csv.DictReader(file)]  # fmt: skip
    place = {label: number for number, labels in enumerate(CLASSES.values()) for label in labels}
    unknown = {label for _, label in rows} - {*place, *DOCUMENT_KINDS, *TOO_FEW}
    if unknown:
        raise ValueError(f"{path}: no class for {', '.join(sorted(unknown))}; add it to corpus.py")
    groups = alike([text for text, _ in rows])
    kept = [row for row, (_, label) in enumerate(rows) if label in place]
    corpus = Corpus(
        [rows[row][0] for row in kept],
        np.array([place[rows[row][1]] for row in kept]),
        groups[kept],
    )
    return corpus, [text for text, label in rows if label in DOCUMENT_KINDS]


def alike(texts: list[str]) -> Ints:
    """Number the groups of texts that are one note in several wordings."""
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit_transform(texts)
    _, groups = connected_components((words @ words.T).toarray() >= SAME_NOTE, directed=False)
    return np.asarray(groups, dtype=np.int64)


def _line(text: str) -> str:
    return " ".join(text.split())
