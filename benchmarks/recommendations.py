"""The ten recommendations that the design follows, judged prediction by prediction.

Each was made from published figures before there was code, with one prediction or several; a
benchmark has to confirm or kill each. The verdicts are decided by the figures here and by nobody's
hand. The predictions themselves are in `benchmarks.predictions`.
"""

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.figures import Rows
from benchmarks.predictions import RECOMMENDATIONS
from benchmarks.result import Result
from benchmarks.verdicts import (
    CONFIRMED,
    KILLED,
    PARTLY,
    UNMEASURED,
    Prediction,
    Recommendation,
)


def rows(results: Iterable[Result]) -> Rows:
    """Lay out all ten, each with its verdict and how many of its predictions came true."""
    known = _known(results)
    heads = ("", "recommendation", "verdict", "of its predictions")
    return [
        heads,
        *(
            (str(number), each.what, *_together([one.verdict(known) for one in each.predictions]))
            for number, each in enumerate(RECOMMENDATIONS, start=1)
        ),
    ]


def predictions(results: Iterable[Result]) -> Rows:
    """Lay out every prediction: what was foretold, what was found, the verdict, the command."""
    known = _known(results)
    heads = ("", "predicted", "found", "verdict", "command")
    return [
        heads,
        *(
            (f"{number}{letter}", *one.row(known))
            for number, each in enumerate(RECOMMENDATIONS, start=1)
            for letter, one in _lettered(each)
        ),
    ]


def _known(results: Iterable[Result]) -> Mapping[str, Result]:
    """Give what was measured as `make bench` does, by its number."""
    return {result.number: result for result in results if not result.options}


def _lettered(each: Recommendation) -> Iterable[tuple[str, Prediction]]:
    return zip("abcdef", each.predictions, strict=False)


def _together(verdicts: Sequence[str]) -> tuple[str, str]:
    """Say the verdict of a recommendation from those of its predictions.

    Returns:
        Confirmed or killed where all that were judged are, else partly; and the counts.
    """
    judged = [each for each in verdicts if each != UNMEASURED]
    counts = [
        f"{verdicts.count(each)} {each.strip('*')}"
        for each in (CONFIRMED, PARTLY, KILLED, UNMEASURED)
        if each in verdicts
    ]
    whole = UNMEASURED if not judged else judged[0] if len(set(judged)) == 1 else PARTLY
    return whole, ", ".join(counts)
