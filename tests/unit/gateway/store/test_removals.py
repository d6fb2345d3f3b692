"""Whatever is received, erased, held and expired, in whatever order: the log verifies."""

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.audit import AgentKind, AuditAgent, Source, Step
from gateway.core.audit_rights import changed
from gateway.core.clock import new_id, utc_now
from gateway.core.consent.local import LocalConsent
from gateway.core.errors import Erased, GatewayError
from gateway.core.retention import Retention
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.consenting import record
from gateway.store.erasing import Order, erase, needles_of
from gateway.store.erasures import LegalHold
from gateway.store.evidence import PLACED
from gateway.store.registering import Actor
from gateway.store.retaining import Run, expire
from gateway.store.verification import verify
from tests.installation import Installation, consent, creatinine, installation, reopened

if TYPE_CHECKING:
    from collections.abc import Callable

BY = AuditAgent("os-user:ada", "ada", AgentKind.USER)
SOURCE = Source("site", "cli")
PATIENTS = ("p1", "p2", "p3")

Act = tuple[str, str, int]

acts = st.lists(
    st.tuples(
        st.sampled_from(
            (
                "receive",
                "bundle",
                "both",
                "consent",
                "refuse",
                "erase",
                "hold",
                "lift",
                "expire",
                "later",
            )
        ),
        st.sampled_from(PATIENTS),
        st.integers(1, 4),
    ),
    max_size=14,
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("removals") / "nadi"
    with installation(folder) as nadi, nadi.store.write() as uow:
        site = uow.sites.current().yaml
        uow.sites.apply(f"{site}\nretention: {{after_erasure: afresh}}\n", "test")
    return folder


class World:
    """An installation in which time passes and things are done."""

    def __init__(self, nadi: Installation) -> None:
        self.nadi = nadi
        self.days = 0
        nadi.store._clock = lambda: utc_now() + timedelta(days=self.days)

    def do(self, act: Act) -> None:
        name, patient, number = act
        deeds: dict[str, Callable[[], object]] = {
            "receive": lambda: self.nadi.receive(creatinine(patient, number)),
            "bundle": lambda: self.nadi.receive_bundle(creatinine(patient, number)),
            "both": lambda: self.nadi.receive_bundle(*(creatinine(p, number) for p in PATIENTS)),
            "consent": lambda: self.nadi.receive(consent(patient, version=str(number))),
            "refuse": lambda: self.refuse(patient),
            "erase": lambda: self.erase(patient),
            "hold": lambda: self.hold(patient),
            "lift": lambda: self.lift(patient),
            "expire": lambda: expire(
                self.nadi.store, Retention(is_in_force=True), Run(SOURCE, None, new_id())
            ),
            "later": lambda: self.pass_time(number * 200),
        }
        deeds[name]()

    def pass_time(self, days: int) -> None:
        self.days += days

    def key(self, patient: str) -> str:
        return self.nadi.store.sealer.patient_key("ehr", f"Patient/{patient}")

    def refuse(self, patient: str) -> None:
        said = LocalConsent(
            patient=f"Patient/{patient}",
            system="ehr",
            decision="ai-opt-out",
            means="verbal",
            recorded_at="2026-11-20T08:00:00Z",
            recorded_by="os-user:ada",
        )
        try:
            with self.nadi.store.write() as uow:
                record(uow, said, self.key(patient), Actor(SOURCE, BY, "ada"))
        except Erased:
            pass  # she has not begun anew

    def erase(self, patient: str) -> None:
        order = Order(patient_key=self.key(patient), reason="She asked.", law="s.12")
        try:
            with self.nadi.store.write() as uow:
                needles = needles_of([f"Patient/{patient}"])
                bundles = uow.erasures.bundles_with(order.patient_key, needles)
                erase(uow, order, bundles, Actor(SOURCE, BY, "ada"))
        except GatewayError:
            pass  # on hold, or nothing of hers is held

    def hold(self, patient: str) -> None:
        with self.nadi.store.write() as uow:
            if uow.erasures.holds([self.key(patient)]):
                return
            hold = LegalHold(
                id=new_id(),
                patient_key=self.key(patient),
                placed_ms=uow.now_ms,
                placed_by="ada",
                reason="A case.",
                law="Order 1",
            )
            uow.erasures.place(hold)
            self.told(uow, hold, PLACED)

    def lift(self, patient: str) -> None:
        with self.nadi.store.write() as uow:
            hold = uow.erasures.holds([self.key(patient)]).get(self.key(patient))
            if hold is not None:
                uow.erasures.lift(hold.id, "ada")
                self.told(uow, hold, "lifted")

    def told(self, uow: object, hold: LegalHold, what: str) -> None:
        step = Step(id=new_id(), recorded=uow.now, source=SOURCE, patient_key=hold.patient_key)
        uow.audit(changed(step, "hold", by=BY, about=hold.id, details={"what": what}))

    def findings(self) -> list[str]:
        self.nadi.integrate()
        outside = CheckpointFile(self.nadi.folder).notes()
        verifier = self.nadi.keys.verifier
        with self.nadi.store.read() as uow:
            found = verify(uow, verifier, outside=outside, progress=lambda *_: None).findings
        # The site was applied here without a record, and time only runs forward in jumps.
        return [f"{each.table} {each.row} {each.what}" for each in found if each.table != "sites"]


@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(done=acts)
def test_the_log_verifies_whatever_was_removed(template: Path, done: list[Act]) -> None:
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(template, Path(name) / "nadi")
        with reopened(Path(name) / "nadi") as nadi:
            world = World(nadi)
            for act in done:
                world.do(act)

            assert world.findings() == []
            with nadi.store.read() as uow:
                for patient in PATIENTS:
                    key = world.key(patient)
                    if uow.erasures.closed([key]):
                        assert uow.erasures.held(key)["events"] == 0
