"""The listener of a drop folder: `python -m gateway.listeners.drop`.

Files are taken one after the other. A file is moved to `done/` when everything in it is durable,
and to `failed/` when anything of it is refused for good, which the OperationOutcome beside it says.
After a crash a claimed file is handed in again: the API recognises what it has already.
"""

import threading
import time
from hashlib import file_digest
from pathlib import Path

from adapters.drop.content import Piece, outcome_of, pieces_of
from adapters.drop.folder import DropFolder
from adapters.site_drop import DropEntry
from gateway import telemetry
from gateway.core.audit import AgentKind, AuditAgent, Outcome, Step, received
from gateway.core.clock import new_id, utc_now
from gateway.core.errors import ConfigurationError, Issue
from gateway.listeners.desk import Desk
from gateway.listeners.door import NotTaken, Taken
from gateway.listeners.serving import serve
from gateway.store.listener_credentials import ListenerCredentials

KIND = "drop"
_SWEEP_EVERY_S = 60.0
#: An OperationOutcome names so many places at most; the rest is counted.
_MOST_ISSUES = 100

log = telemetry.get_logger()


class DropListener:
    """Empties one folder."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._sweep_at_s = float("-inf")
        self._told = ""

    def run(self, stop: threading.Event) -> None:
        """Empty the folder until told to stop; a file that is not through by then stays claimed.

        Raises:
            ConfigurationError: The folder can't be used.
            Interrupted: It was stopped while the gateway did not take a file.
            StoreUnavailable: A refusal could not be put on record.
        """
        entry = self._desk.feed.entry
        if not isinstance(entry, DropEntry):
            raise ConfigurationError(f"{self._desk.feed.name} has no settings of a drop folder.")
        folder = DropFolder(Path(entry.folder), settle_s=entry.settle_s)
        folder.prepare()
        if folder.exposed_to():
            log.warning("drop-folder-exposed", route=self._desk.feed.name)
        self._tell(folder, entry)
        files = folder.left()
        while True:
            for path in files:
                self._take(folder, entry, path, stop)
                if stop.is_set():
                    return
            self._sweep(folder, entry)
            if stop.wait(entry.every_s):
                return
            files = folder.claim()

    def _tell(self, folder: DropFolder, entry: DropEntry) -> None:
        """Say what it does, and what a person has to look at."""
        failed = folder.failed()
        waiting = f"{failed} in failed/ to look at" if failed else ""
        says = (f"takes files out of {entry.folder}", waiting, folder.exposed_to())
        told = "; ".join(filter(None, says))
        if told != self._told:
            self._desk.standing.up(told)
            self._told = told

    def _take(
        self, folder: DropFolder, entry: DropEntry, path: Path, stop: threading.Event
    ) -> None:
        try:
            issues = self._handed_in(path, entry, stop)
        except OSError as error:
            issues = self._refused(path, Issue("exception", f"Not readable: {error.strerror}."))
        is_taken = all(issue.severity == "information" for issue in issues)
        told = issues[:_MOST_ISSUES]
        if len(issues) > _MOST_ISSUES:
            told.append(Issue("incomplete", f"{len(issues) - _MOST_ISSUES} more were refused."))
        folder.finish(path, "done" if is_taken else "failed", outcome_of(told))
        self._desk.count("taken" if is_taken else "refused")
        if not is_taken:
            self._tell(folder, entry)

    def _handed_in(self, path: Path, entry: DropEntry, stop: threading.Event) -> list[Issue]:
        """Hand in a file; say what was refused of it, or that all was taken."""
        if path.stat().st_size > entry.max_bytes:
            words = f"The file has more than {entry.max_bytes} bytes: split it, or raise max_bytes."
            return self._refused(path, Issue("too-long", words))
        issues: list[Issue] = []
        taken = 0
        for piece in pieces_of(path):
            if piece.issue:
                issues += self._refused(path, _at(piece.places[0], piece.issue))
                continue
            count, refused = self._handed_over(piece, stop)
            taken += count
            issues += refused
        if not issues and not taken:
            return self._refused(path, Issue("structure", "The file holds no resource."))
        summary = Issue("informational", _summary(taken), severity="information")
        return [*issues, summary]

    def _handed_over(self, piece: Piece, stop: threading.Event) -> tuple[int, list[Issue]]:
        """Hand over a piece; where all of it is refused, each of its resources alone."""
        try:
            answers = self._desk.hand_over(piece.bundle, stop)
        except NotTaken as error:
            if len(piece.resources) == 1:
                return 0, [_at(piece.places[0], each) for each in error.issues]
            alone = [self._handed_over(each, stop) for each in piece.alone()]
            return sum(count for count, _ in alone), [i for _, found in alone for i in found]
        return sum(not each.issues for each in answers), _refusals(piece, answers)

    def _refused(self, path: Path, issue: Issue) -> list[Issue]:
        """Put on record what the API never sees.

        Raises:
            StoreUnavailable: It can't be recorded, so the file stays where it is.
        """
        desk = self._desk
        step = Step(
            id=new_id(),
            recorded=utc_now(),
            source=desk.source,
            outcome=Outcome.SERIOUS_FAILURE,
            reason=f"Refused: {issue.code}",
        )
        known = ListenerCredentials(desk.store.sealer).credential_id(desk.feed.name)
        sender = AuditAgent(known, desk.feed.name, AgentKind.CLIENT)
        record = received(step, sender=sender, resource_type="", sha256=_sha256(path))
        with desk.store.write() as uow:
            uow.audit(record)
        return [issue]

    def _sweep(self, folder: DropFolder, entry: DropEntry) -> None:
        if time.monotonic() >= self._sweep_at_s:
            folder.sweep(entry.keep_done_days)
            self._tell(folder, entry)
            self._sweep_at_s = time.monotonic() + _SWEEP_EVERY_S


def _refusals(piece: Piece, answers: tuple[Taken, ...]) -> list[Issue]:
    found: list[Issue] = []
    for index, answer in enumerate(answers):
        place = "" if piece.is_bundle else piece.places[index]
        found += [_at(place, issue) for issue in answer.issues]
    return found


def _at(place: str, issue: Issue) -> Issue:
    if not place:
        return issue
    return Issue(issue.code, f"{place}: {issue.diagnostics}", issue.expression, issue.severity)


def _summary(taken: int) -> str:
    if taken == 0:
        return "Nothing of it was taken."
    return "1 resource taken; it is durable." if taken == 1 else _several(taken)


def _several(taken: int) -> str:
    return f"{taken} resources taken; all are durable."


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


if __name__ == "__main__":
    serve(KIND, DropListener)
