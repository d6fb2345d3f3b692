"""What is sent by DICOM and not taken is answered as docs/dicom.md says, over real sockets."""

from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.dicom.spool import Spool
from adapters.hl7v2.identity import plain_id
from gateway.listeners.desk import Desk
from gateway.listeners.dicom import DicomListener, SpoolSeals
from gateway.settings import Settings
from tests.bad_images import MOST_BYTES, MOST_PIXELS, BadImage, cases
from tests.conftest import Api
from tests.dicom import film, send
from tests.factories import SITE
from tests.listening import listening

ARCHIVE = f"""\
  pacs:
    kind: dicom
    patients: {{of: ehr, identifier: "https://hospital.example/mrn", find: id}}
    receive:
      - dicom: {{port: 2575, callers: [SCANNER], quiet_s: 0.5, idle_s: 2, max_bytes: {MOST_BYTES},
                max_pixels: {MOST_PIXELS}MORE}}
routes:"""
CASES = list(cases())
PLAIN = [case for case in CASES if case.has_room and not case.more]
OTHERS = [case for case in CASES if case not in PLAIN]


def site(more: str = "") -> str:
    return SITE.replace("routes:", ARCHIVE.replace("MORE", more))


def make_in(folder: Path, *, has_room: bool = True) -> Callable[[Desk], DicomListener]:
    def make(desk: Desk) -> DicomListener:
        spool = Spool(folder, SpoolSeals(desk.store.sealer, desk.feed.name))
        free = 0 if has_room else 2**60
        settings = Settings(data_dir=folder, min_disk_free_bytes=free)
        return DicomListener(desk, plain_id, spool, settings)

    return make


@pytest.mark.parametrize("api", [site()], indirect=True)
def test_each_is_answered_as_the_page_says_and_the_next_image_is_taken(api: Api, tmp_path: Path):
    with listening(api, site(), "pacs/dicom", make=make_in(tmp_path / "spool")) as feed:
        told = {case.what: case.send(feed.port) for case in PLAIN}
        (then,) = send(feed.port, film("good"))

    assert told == {case.what: case.answer for case in PLAIN}
    assert then.Status == 0


@pytest.mark.parametrize("case", OTHERS, ids=lambda case: case.what)
def test_what_a_site_or_a_full_disk_refuses_is_answered_as_the_page_says(
    api: Api, tmp_path: Path, case: BadImage
):
    with api.store.write() as uow:
        uow.sites.apply(site(case.more), "test")
    make = make_in(tmp_path / "spool", has_room=case.has_room)

    with listening(api, site(case.more), "pacs/dicom", make=make) as feed:
        told = case.send(feed.port)

    assert told == case.answer
