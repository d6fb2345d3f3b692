"""The listener of DICOM: `python -m gateway.listeners.dicom`.

(1) An image that comes by C-STORE is looked at, sealed and kept; then its sender is told so.
(2) A study of which nothing came for a while becomes a Bundle and is handed over; an image that
    comes later makes a new version of it.
(3) What was handed over long ago is let go, and at once what is of a patient who was erased.
"""

import shutil
import threading
import time
from datetime import UTC
from pathlib import Path
from typing import cast

from adapters.dicom.header import (
    OTHER_INSTANCE,
    Header,
    NotUnderstood,
    read_header,
    split_file,
    whole_file,
)
from adapters.dicom.server import DicomServer, NoRoom, Peer, Stored, Terms
from adapters.dicom.spool import Handed, Spool, spools_folder
from adapters.dicom.study import Origin, bundle_of, own_patient_id
from adapters.hl7v2.identity import FindPatient
from adapters.site import Site
from adapters.site_dicom import DicomEntry
from adapters.site_feeds import Feed
from adapters.tls import tls_context
from gateway import telemetry
from gateway.core.audit_refusals import UNKNOWN, Refusals
from gateway.core.clock import to_ms, utc_now
from gateway.core.errors import ContentError, ProcessingError, TransientError
from gateway.listeners.desk import Desk
from gateway.listeners.door import Interrupted, NotTaken
from gateway.listeners.patients import finding
from gateway.listeners.refusals import RefusalBook
from gateway.listeners.serving import serve
from gateway.settings import Settings, get_settings
from gateway.store.sealing import Place, Sealer

KIND = "dicom"
_TURN_EVERY_S = 0.5
_AWAY_WAIT_S, _FAULT_WAIT_S = 2.0, 60.0
_LET_GO_EVERY_S = 60.0
_HOUR_MS = 3_600_000
_NAME_DIGITS = 32

log = telemetry.get_logger()


class SpoolSeals:
    """Seals the spool of a feed: each study has a key of its own, wrapped by the master key."""

    def __init__(self, sealer: Sealer, feed: str) -> None:
        self._sealer = sealer
        self._feed = feed

    def new_key(self, study: str) -> bytes:
        """Make the key of a study, wrapped."""
        return self._sealer.new_data_key(study)

    def seal(self, key: bytes, study: str, instance: str, content: bytes) -> bytes:
        """Seal an image for its place."""
        return self._sealer.seal(key, study, self._place(instance), content)

    def unseal(self, key: bytes, study: str, instance: str, sealed: bytes) -> bytes:
        """Open a sealed image.

        Raises:
            Unsealable: It was changed or moved, or its key was.
        """
        return self._sealer.unseal(key, study, self._place(instance), sealed)

    def _place(self, instance: str) -> Place:
        return Place("dicom_spool", self._feed, instance)


class DicomListener:
    """Serves one feed."""

    def __init__(
        self, desk: Desk, find_patient: FindPatient, spool: Spool, settings: Settings
    ) -> None:
        """Take the desk of the feed, what finds its patients, and where images are kept."""
        self._desk = desk
        self._settings = settings
        self._entry = cast("DicomEntry", desk.feed.entry)
        self._find_patient = find_patient
        self._spool = spool
        self._let_go_at = time.monotonic()
        # Studies that failed, and when they are tried again.
        self._not_before: dict[str, float] = {}
        self._refusals = RefusalBook(desk)

    def run(self, stop: threading.Event) -> None:
        """Serve until told to stop.

        Raises:
            ConfigurationError: The port can't be listened on, or a TLS file can't be used.
        """
        entry, tls = self._entry, self._entry.tls
        context = tls_context(tls.certificate, tls.key, tls.clients) if tls else None
        server = DicomServer(_terms(entry), self.keep, self._refused, tls=context)
        port = server.start(entry.host, entry.port)
        how = "DICOM over TLS" if tls else "DICOM"
        self._desk.standing.up(f"{how} on {entry.host}:{port} as {entry.ae_title}")
        try:
            while not stop.wait(_TURN_EVERY_S):
                self.turn(stop)
                self._refusals.tell()
        finally:
            server.stop()
            self._refusals.tell(is_last=True)

    def _refused(self, outcome: str, peer: Peer) -> None:
        """Count what was refused, and note it for the record."""
        self._desk.count(outcome)
        title = peer.title if peer.title in self._entry.callers else UNKNOWN
        self._refusals.note(Refusals(outcome, title, peer.address or None))

    # --- (1) an image comes -----------------------------------------------------------------

    def keep(self, stored: Stored) -> None:
        """Keep an image.

        Raises:
            NotUnderstood: It is not taken.
            NoRoom: There is no room, or it can't be written.
        """
        header = self._header(stored.content, stored.syntax)
        if (header.instance, header.sop_class) != (stored.instance, stored.sop_class):
            says = "The data set is of another SOP class or instance than said."
            raise NotUnderstood(OTHER_INSTANCE, says)
        self._insist_on_room(len(stored.content))
        file = whole_file(stored.content, stored.syntax, stored.sop_class, stored.instance)
        study = self._name("study", header.study, header.patient)
        try:
            is_new = self._spool.keep(study, self._name("instance", header.instance), file)
        except OSError as error:
            log.exception("image-not-kept", route=self._desk.feed.name)
            raise NoRoom("The image can't be written to disk.") from error
        self._desk.count("taken" if is_new else "repeat")

    def _header(self, content: bytes, syntax: str) -> Header:
        entry = self._entry
        return read_header(content, syntax, max_bytes=entry.max_bytes, max_pixels=entry.max_pixels)

    def _insist_on_room(self, size: int) -> None:
        least = self._settings.min_disk_free_bytes
        if shutil.disk_usage(self._spool.folder).free - size < least:
            raise NoRoom("There is too little room on the disk.")

    def _name(self, *parts: str) -> str:
        hashed = self._desk.store.sealer.keyed_hash("dicom", self._desk.feed.name, *parts)
        return hashed[:_NAME_DIGITS]

    # --- (2) a study is complete ------------------------------------------------------------

    def turn(self, stop: threading.Event) -> None:
        """Hand over what is due, and let go of what is not needed any more."""
        for study in self._spool.due(int(self._entry.quiet_s * 1000), to_ms(utc_now())):
            if stop.is_set():
                return
            if self._not_before.get(study, 0.0) > time.monotonic():
                continue
            try:
                self._hand_over(study, stop)
            except Interrupted:
                return
            except TransientError as error:  # the EHR, or our database, is away
                kind = type(error).__name__
                log.warning("study-waits", route=self._desk.feed.name, error=kind)
                stop.wait(_AWAY_WAIT_S)
                return
            except (ContentError, ProcessingError, OSError):
                log.exception("study-not-handed-over", route=self._desk.feed.name)
                self._not_before[study] = time.monotonic() + _FAULT_WAIT_S
        if time.monotonic() > self._let_go_at:
            self._let_go_at = time.monotonic() + _LET_GO_EVERY_S
            self._let_go()

    def _hand_over(self, study: str, stop: threading.Event) -> None:
        handed = self._spool.begin(study, to_ms(utc_now()))
        headers = [self._opened(study, name)[0] for name in handed.instances]
        origin = origin_of(self._desk.feed, self._desk.site(), self._settings.max_body_bytes)
        number = headers[0].patient
        patient_id = self._find_patient(number) or own_patient_id(origin, number)
        bundle = bundle_of(
            headers,
            lambda index: self._opened(study, handed.instances[index])[1],
            patient_id=patient_id,
            version=handed.version,
            origin=origin,
        )
        self._give(bundle, stop)
        self._end(study, handed, patient_id)

    def _give(self, bundle: bytes, stop: threading.Event) -> None:
        try:
            outcome = self._desk.hand_over(bundle, stop)
        except NotTaken as error:
            log.warning("study-refused", issue_type=error.issue_type)
            self._desk.count("study-refused")
            return
        is_taken = not any(each.issues for each in outcome)
        self._desk.count("study" if is_taken else "study-refused")

    def _end(self, study: str, handed: Handed, patient_id: str) -> None:
        reference = f"Patient/{patient_id}"
        key = self._desk.store.sealer.patient_key(self._desk.feed.speaks_for, reference)
        self._spool.end(study, handed, key)

    def _opened(self, study: str, instance: str) -> tuple[Header, bytes]:
        file = self._spool.open(study, instance)
        syntax, content = split_file(file)
        return self._header(content, syntax), file

    # --- (3) a study is let go --------------------------------------------------------------

    def _let_go(self) -> None:
        try:
            with self._desk.store.read() as uow:
                self._spool.let_go(
                    int(self._entry.keep_h * _HOUR_MS),
                    to_ms(utc_now()),
                    lambda patient: bool(uow.erasures.find([patient])),
                )
        except TransientError:
            log.warning("database-away", route=self._desk.feed.name)


def origin_of(feed: Feed, site: Site, max_bytes: int) -> Origin:
    """Give where the studies of a feed come from, by the site file.

    Args:
        feed: The feed.
        site: The site.
        max_bytes: Most bytes of a Bundle.
    """
    return Origin(
        feed=feed.name,
        patient_system=feed.patients.identifier if feed.patients else "",
        has_own_patients=feed.speaks_for == feed.system,
        slices=cast("DicomEntry", feed.entry).slices,
        zone=site.hours.zone if site.hours else UTC,
        max_bytes=max_bytes,
    )


def _terms(entry: DicomEntry) -> Terms:
    return Terms(
        title=entry.ae_title,
        callers=tuple(entry.callers),
        allow=tuple(entry.allow),
        max_bytes=entry.max_bytes,
        max_connections=entry.max_connections,
        idle_s=entry.idle_s,
    )


def spool_folder(data_dir: Path, system: str) -> Path:
    """Give where the images of a system wait."""
    return spools_folder(data_dir) / system


class Dicom:
    """The listener of a feed as the site and the settings have it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def run(self, stop: threading.Event) -> None:
        """Serve until told to stop.

        Raises:
            ConfigurationError: The port can't be listened on, or a TLS file can't be used.
        """
        desk, settings = self._desk, get_settings()
        folder = spool_folder(settings.data_dir, desk.feed.system)
        spool = Spool(folder, SpoolSeals(desk.store.sealer, desk.feed.name))
        timeout_s = settings.ehr_timeout_s
        with finding(
            desk.feed, desk.store, desk.source, site=desk.site, timeout_s=timeout_s
        ) as found:
            DicomListener(desk, found, spool, settings).run(stop)


if __name__ == "__main__":
    serve(KIND, Dicom)
