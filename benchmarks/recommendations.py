"""The ten recommendations that the design follows: the predicted gain beside the one found.

Each was made from published figures before there was code; a benchmark has to confirm or kill it.
"confirmed" and "killed" are decided by the figures here and by nobody's hand. Where no benchmark
measures it, or not on this machine, that is what stands there.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from benchmarks.figures import Rows, short
from benchmarks.result import Result

Values = Mapping[str, float]
CONFIRMED, KILLED, UNMEASURED = "confirmed", "**killed**", "not measured"


@dataclass(frozen=True)
class Recommendation:
    """One of the ten.

    Attributes:
        predicted: The gain that was foretold.
        number: The benchmark that judges it; empty where none does.
        needs: Figures of that benchmark without which nothing can be said.
        found: Words what was found.
        holds: Says whether it is as foretold.
        can_be_judged: Whether what is found is enough to confirm it or to kill it.
    """

    what: str
    predicted: str
    number: str
    needs: tuple[str, ...]
    found: Callable[[Values], str]
    holds: Callable[[Values], bool]
    can_be_judged: bool = True

    def row(self, place: int, results: Mapping[str, Result]) -> tuple[str, ...]:
        """Say what was foretold, what was found, the verdict and the command."""
        result = results.get(self.number)
        head = (str(place), self.what, self.predicted)
        if result is None or any(key not in result.values for key in self.needs):
            return (*head, UNMEASURED, UNMEASURED, f"`{result.command}`" if result else "")
        verdict = CONFIRMED if self.holds(result.values) else KILLED
        if not self.can_be_judged:
            verdict = UNMEASURED
        return (*head, self.found(result.values), verdict, f"`{result.command}`")


RECOMMENDATIONS = (
    Recommendation(
        "Group commit of what arrives",
        "2 to 4 times the accepted resources/s on a fast disk, more on a slow one; at most 5 ms "
        "more at low load",
        "B2",
        ("times_commit_per_request", "added_ms"),
        lambda v: (
            f"{v['times_commit_per_request']:.1f} times at 64 clients, "
            f"{v['added_ms']:+.1f} ms at one (SQLite)"
        ),
        lambda v: v["times_commit_per_request"] >= 2 and v["added_ms"] <= 5,  # noqa: PLR2004
    ),
    Recommendation(
        "A ladder of validation on true R4",
        "20 to 100 times less CPU than fhir.resources",
        "B1",
        ("times_fhir_resources",),
        lambda v: f"{v['times_fhir_resources']:.1f} times",
        lambda v: v["times_fhir_resources"] >= 20,  # noqa: PLR2004
    ),
    Recommendation(
        "Keep the bytes; a thin HTTP path",
        "2 times less overhead of the framework, 1.2 times overall",
        "B2",
        ("times_framework",),
        lambda v: (
            f"{v['times_framework']:.2f} times less CPU of all that a resource takes than behind "
            "FastAPI"
        ),
        lambda v: v["times_framework"] >= 1.2,  # noqa: PLR2004
    ),
    Recommendation(
        "Outbox by reference, relayed in batches",
        "3 to 7 times the relay's events/s",
        "B3",
        ("times_claim_batched",),
        lambda v: f"{v['times_claim_batched']:.1f} times, claimed 64 at a time against one by one",
        lambda v: v["times_claim_batched"] >= 3,  # noqa: PLR2004
    ),
    Recommendation(
        "Micro-batched Celery tasks",
        "from 0.6 to 0.9 ms of CPU per event to under 0.05",
        "B3",
        ("nadi_us", "tuned_us"),
        lambda v: (
            f"from {v['tuned_us'] / 1000:.2f} ms (tuned, one task per event) to "
            f"{v['nadi_us'] / 1000:.3f}"
        ),
        lambda v: v["nadi_us"] < 50,  # noqa: PLR2004
    ),
    Recommendation(
        "Threads and one session, no prefork",
        "300 to 700 MB less with three models on four cores (100 to 233 for each process saved), "
        "the same throughput or more",
        "B5",
        ("saved_mib", "times_throughput"),
        lambda v: (
            f"{short(v['saved_mib'])} MiB less with three models and one process saved, "
            f"at least {v['times_throughput']:.2f} times the throughput"
        ),
        lambda v: v["saved_mib"] >= 100 and v["times_throughput"] >= 0.95,  # noqa: PLR2004
    ),
    Recommendation(
        "int8 kernels that can't saturate, as a rule of safety",
        "recovers 5 points of a CNN on CPUs without VNNI, for 14 % of time",
        "B4",
        ("chest-xray-pneumonia_exact_costs",),
        lambda v: (
            f"exact kernels take {v['chest-xray-pneumonia_exact_costs']:.2f} times as long here; "
            "what they recover can't be seen on a CPU with VNNI, where both are exact"
        ),
        lambda _: False,
        can_be_judged=False,
    ),
    Recommendation(
        "The format measured per model and CPU",
        "int8 against fp32: 0.95 to 1.3 times for a CNN on AVX2; fp32 stays legal",
        "B4",
        ("chest-xray-pneumonia_times_fp32", "ckd-risk_times_fp32"),
        lambda v: (
            f"CNN {v['chest-xray-pneumonia_times_fp32']:.2f} times, small tabular network "
            f"{v['ckd-risk_times_fp32']:.2f} times"
        ),
        lambda v: v["chest-xray-pneumonia_times_fp32"] >= 0.95,  # noqa: PLR2004
    ),
    Recommendation(
        "Audit in batches, a Merkle log",
        "5 to 10 µs per event; verified at more than 100,000 a second",
        "B6",
        ("nadi_extra_us", "chain_extra_us", "nadi_verified_per_s"),
        lambda v: (
            f"{v['nadi_extra_us']:.0f} µs (chain {v['chain_extra_us']:.0f}), verified at "
            f"{short(v['nadi_verified_per_s'])} a second"
        ),
        lambda v: v["nadi_extra_us"] <= 10 and v["nadi_verified_per_s"] > 100_000,  # noqa: PLR2004
    ),
    Recommendation(
        "Compiled consent",
        "under 20 µs a decision, against 200 to 1,000 for a query",
        "B7",
        ("nadi_us", "sqlite_us"),
        lambda v: (
            f"{v['nadi_us']:.0f} µs of CPU; a query in SQLite {v['sqlite_us']:.0f}"
            + (f", in PostgreSQL {v['postgresql_us']:.0f}" if "postgresql_us" in v else "")
            + (f"; Cedar {v['cedar_us']:.0f}" if "cedar_us" in v else "")
        ),
        lambda v: v["nadi_us"] < 20 and v["sqlite_us"] >= 200,  # noqa: PLR2004
    ),
)


def rows(results: Iterable[Result]) -> Rows:
    """Lay out all ten; what was not measured is told as such."""
    known = {result.number: result for result in results}
    heads = ("", "recommendation", "predicted", "found", "verdict", "command")
    return [heads, *(each.row(n, known) for n, each in enumerate(RECOMMENDATIONS, start=1))]
