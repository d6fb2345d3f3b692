"""A checkpoint sent to another gateway, which insists that the log only grew.

The request is that of a C2SP witness, so one of these will do as well:

    old <size that the witness has>
    <consistency proof, base64, one hash a line>

    <signed note>

409 with a size says which size the witness really has; it is asked once more from there.

Source: https://c2sp.org/tlog-witness.
"""

import base64

import httpx

from adapters.witness.entries import HttpEntry
from adapters.witness.publication import Publication, WitnessAway, WitnessDisagrees
from gateway.core.notes import notes_in

_CONFLICT = 409
_UNPROVEN = 422


class HttpWitness:
    """Another gateway, or a witness as C2SP describes it."""

    def __init__(self, entry: HttpEntry) -> None:
        self._url, self._timeout_s = entry.url, entry.timeout_s

    def publish(self, publication: Publication) -> None:
        """Send the note with the proof that it continues what the witness has."""
        old = publication.confirmed_size
        answer = self._post(publication, old)
        if answer.status_code == _CONFLICT:
            has = _size(answer)
            if has > publication.size:
                raise WitnessDisagrees(
                    f"The witness has a checkpoint of {has} entries, this log has "
                    f"{publication.size}: it was cut or rolled back."
                )
            if has != old:
                answer = self._post(publication, has)
        if answer.status_code in (_CONFLICT, _UNPROVEN):
            message = "The witness has a checkpoint that this log does not continue: it forked."
            raise WitnessDisagrees(message)
        if not answer.is_success:
            raise WitnessAway(f"{self._url} answered {answer.status_code}.")

    def kept(self, origin: str) -> list[str]:
        """Ask for the newest note of a log."""
        try:
            answer = httpx.get(self._url, params={"origin": origin}, timeout=self._timeout_s)
        except httpx.HTTPError as error:
            raise self._away(error) from error
        if not answer.is_success:
            raise WitnessAway(f"{self._url} answered {answer.status_code}.")
        return [note for note in notes_in(answer.text) if note.startswith(f"{origin}\n")]

    def _post(self, publication: Publication, old: int) -> httpx.Response:
        try:
            return httpx.post(
                self._url,
                content=request_body(publication, old),
                headers={"Content-Type": "text/plain; charset=utf-8"},
                timeout=self._timeout_s,
            )
        except httpx.HTTPError as error:
            raise self._away(error) from error

    def _away(self, error: httpx.HTTPError) -> WitnessAway:
        return WitnessAway(f"{self._url} can't be reached ({type(error).__name__}).")


def request_body(publication: Publication, old: int) -> bytes:
    """Write the request for a witness that has a checkpoint of this size."""
    proof = publication.prove(old) if 0 < old < publication.size else ()
    lines = [f"old {old}", *(base64.b64encode(node).decode() for node in proof)]
    return ("\n".join(lines) + "\n\n" + publication.note).encode()


def _size(answer: httpx.Response) -> int:
    text = answer.text.strip()
    return int(text) if text.isdecimal() and len(text) < 20 else 0  # noqa: PLR2004 - 64 bits
