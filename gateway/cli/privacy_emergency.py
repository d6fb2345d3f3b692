"""Break-glass in the record of processing: an activity of its own, with its basis and reviews."""

from collections.abc import Iterable, Mapping, Sequence

from adapters.site import Site
from gateway.core.consent import BREAK_GLASS
from gateway.core.jobs import JobState
from gateway.core.processing_record import Activity
from gateway.core.purposes import in_words
from gateway.core.routing import broken
from gateway.store.processing import Reviews

#: How a job ends that gave no result.
ENDED = (JobState.REJECTED, JobState.CANCELLED, JobState.FAILED)

_BASIS = (
    "Medical emergency (DPDP Act 2023, s.7(f)): a named clinician says why, and runs it over a "
    "consent that would not permit it. A refusal of all AI, and one that names emergencies, hold."
)


def emergencies(
    site: Site,
    routes: Sequence[Activity],
    counts: Mapping[str, Mapping[str, int]],
    reviews: Reviews,
) -> Activity:
    """Give break-glass as an activity.

    Args:
        site: Who may, and by when it is reviewed.
        routes: The activities of the routes, each of which may be run so.
        counts: Jobs of the last year by the name of their route and their state.
        reviews: What became of the reviews in the last year.
    """
    known = [counts.get(broken(each).name, {}) for each in site.routes]
    rules = site.break_glass
    who = ", ".join(rules.clinicians) if rules else "nobody any more"
    return Activity(
        route="break-glass (emergencies)",
        purpose=BREAK_GLASS,
        purpose_in_words=in_words(BREAK_GLASS),
        basis=_BASIS,
        source=f"what is on record of the patient, when one of these asks: {who}",
        trigger="break_glass.clinicians",
        categories=_each(name for each in routes for name in each.categories),
        model=", ".join(_each(each.model for each in routes)),
        recipient=", ".join(_each(each.recipient for each in routes)),
        done=sum(each.get(JobState.COMPLETED, 0) for each in known),
        refused=sum(each.get(state, 0) for each in known for state in ENDED),
        reviews=_reviews(site, reviews),
    )


def _each(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _reviews(site: Site, reviews: Reviews) -> str:
    rules = site.break_glass
    due = f"within {rules.review_within_h} hours; " if rules else ""
    return (
        f"each use by a second person, {due}in the last year {reviews.uses} uses, of these "
        f"{reviews.not_justified} found not justified, {reviews.waiting} not reviewed yet, "
        f"{reviews.overdue} of them overdue"
    )
