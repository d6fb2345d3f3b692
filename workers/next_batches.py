"""(3) Which jobs and deliveries are rung for next: what waits, dealt out into batches.

Ready jobs wait by lane and route, due deliveries by lane, system and source; `gateway.core.sharing`
says who is next. A batch holds one model's jobs or one system's deliveries; what is stat goes first
and in batches of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from adapters.site import Site
from gateway.core.delivery import Passage
from gateway.core.lanes import Lane
from gateway.core.sharing import Heads, Sharing, Waiter, WaitingLine
from gateway.store.unit_of_work import UnitOfWork
from workers.line import Line

#: A batch for a system with a capped rate has so many results as it takes of requests in this time,
#: in seconds; one result may need four requests.
_PACED_S = 2.0


@dataclass(frozen=True)
class NextBatch:
    """What may be rung for together, in its order.

    Attributes:
        kind: Digest of the model, or name of the system.
    """

    waiters: tuple[Waiter, ...]
    kind: str
    is_stat: bool


class Dealer:
    """Deals the room of one queue out to what waits for it; used by one thread."""

    def __init__(self, line: Line, *, longest_wait_s: float) -> None:
        """Take the queue, and after how long what waits is given a share before its turn."""
        self.line = line
        self._sharing = {is_stat: Sharing(int(longest_wait_s * 1000)) for is_stat in (True, False)}

    @property
    def has_room(self) -> bool:
        """Whether anything more may be rung for now."""
        return self.line.room() > 0 or self.line.room(is_stat=True) > 0

    def deal(self, lines: Sequence[WaitingLine], heads: Heads, *, now_ms: int) -> list[NextBatch]:
        """Give the batches that there is room for, of those that nobody was rung for."""
        rung = self.line.rung

        def not_rung(of: WaitingLine, most: int) -> list[Waiter]:
            return [each for each in heads(of, most + len(rung)) if each.id not in rung][:most]

        found: list[NextBatch] = []
        for is_stat in (True, False):
            some = [each for each in lines if (each.lane is Lane.STAT) is is_stat]
            room = self.line.room(is_stat=is_stat)
            if some and room:
                dealt = self._sharing[is_stat].deal(some, not_rung, room=room, now_ms=now_ms)
                found += _by_kind(dealt, is_stat=is_stat)
        return found

    def send(self, batches: Sequence[NextBatch], now_s: float) -> bool:
        """Ring for batches, in their order.

        Returns:
            Whether a small batch was held back; then it has to be tried again soon.

        Raises:
            BrokerAway: Nothing more can be sent now.
        """
        is_holding = False
        for batch in batches:
            ids = [waiter.id for waiter in batch.waiters]
            is_holding |= self.line.send(ids, now_s, is_stat=batch.is_stat)
            rung = self.line.rung
            gone = [waiter for waiter in batch.waiters if waiter.id in rung]
            self._sharing[batch.is_stat].charge(gone)
        return is_holding


def next_jobs(dealer: Dealer, uow: UnitOfWork, site: Site) -> list[NextBatch]:
    """Give the batches of ready jobs that there is room for, by model."""
    if not dealer.has_room:
        return []
    lines = [
        WaitingLine(lane, name, _source(site, name))
        for lane, name in uow.jobs.lines()
        if _may_run(site, name, lane, uow.now)
    ]

    def heads(line: WaitingLine, most: int) -> list[Waiter]:
        found = uow.jobs.head((line.lane, line.name), most)
        return [Waiter(each.id, each.model_digest, each.since_ms, line) for each in found]

    return dealer.deal(lines, heads, now_ms=uow.now_ms)


def next_deliveries(dealer: Dealer, uow: UnitOfWork, site: Site) -> list[NextBatch]:
    """Give the batches of due deliveries that there is room for, as their circuits allow."""
    if not dealer.has_room:
        return []
    known = uow.deliveries.circuits()
    passages = {system: circuit.passage(uow.now_ms) for system, circuit in known.items()}
    lines = [
        WaitingLine(lane, name, name)
        for lane, name in uow.deliveries.lines()
        if passages.get(_system(name)) is not Passage.NONE
    ]

    def heads(line: WaitingLine, most: int) -> list[Waiter]:
        found = uow.deliveries.head((line.lane, line.name), most)
        return [Waiter(key, _system(line.name), since_ms, line) for key, since_ms in found]

    def cut(batch: NextBatch) -> NextBatch:
        is_probe = passages.get(batch.kind) is Passage.ONE
        most = 1 if is_probe else _in_time(site, batch)
        return NextBatch(batch.waiters[:most], batch.kind, batch.is_stat)

    return [cut(batch) for batch in dealer.deal(lines, heads, now_ms=uow.now_ms)]


def _in_time(site: Site, batch: NextBatch) -> int:
    """Say how many results a system can be sent in a while, where the site caps its rate.

    More would hold a thread, and the leases of all of them, for as long as the last one waits.
    """
    system = site.system(batch.kind)
    if system is None or system.per_second is None:
        return len(batch.waiters)
    return max(1, int(system.per_second * _PACED_S))


def _may_run(site: Site, route_name: str, lane: Lane, now: datetime) -> bool:
    route = site.route(route_name)
    return route is None or route.window is None or route.window.lets(lane, now)


def _source(site: Site, route_name: str) -> str:
    route = site.route(route_name)
    return route.source if route else route_name


def _system(line_name: str) -> str:
    return line_name.partition("/")[0]


def _by_kind(waiters: Sequence[Waiter], *, is_stat: bool) -> list[NextBatch]:
    found: dict[str, list[Waiter]] = {}
    for waiter in waiters:
        found.setdefault(waiter.kind, []).append(waiter)
    return [NextBatch(tuple(some), kind, is_stat) for kind, some in found.items()]
