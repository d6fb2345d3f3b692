from workers.clock_watch import ClockWatch

NOW_MS = 1_700_000_000_000


def nothing_on_record() -> None:
    return None


def test_a_clock_that_goes_on_was_not_set_back() -> None:
    watch = ClockWatch()

    looks = [watch.set_back_by(NOW_MS + n * 1000, 50.0 + n, nothing_on_record) for n in range(5)]

    assert looks == [0] * 5


def test_a_clock_that_is_set_back_is_noticed_until_something_was_done() -> None:
    watch = ClockWatch()
    watch.set_back_by(NOW_MS, 50.0, nothing_on_record)

    first = watch.set_back_by(NOW_MS - 3_598_000, 52.0, nothing_on_record)
    again = watch.set_back_by(NOW_MS - 3_596_000, 54.0, nothing_on_record)
    watch.go_on()
    after = watch.set_back_by(NOW_MS - 3_594_000, 56.0, nothing_on_record)

    assert (first, again, after) == (3_600_000, 3_600_000, 0)


def test_a_clock_set_forward_is_no_concern_and_the_way_back_is_noticed() -> None:
    watch = ClockWatch()
    watch.set_back_by(NOW_MS, 50.0, nothing_on_record)

    forward = watch.set_back_by(NOW_MS + 3_602_000, 52.0, nothing_on_record)
    back = watch.set_back_by(NOW_MS + 4_000, 54.0, nothing_on_record)

    assert (forward, back) == (0, 3_600_000)


def test_a_small_correction_is_left_alone() -> None:
    watch = ClockWatch()
    watch.set_back_by(NOW_MS, 50.0, nothing_on_record)

    assert watch.set_back_by(NOW_MS - 3_000, 52.0, nothing_on_record) == 0


def test_a_process_that_begins_compares_with_what_is_on_record() -> None:
    assert ClockWatch().set_back_by(NOW_MS, 50.0, lambda: NOW_MS + 90_000) == 90_000
    assert ClockWatch().set_back_by(NOW_MS, 50.0, lambda: NOW_MS - 90_000) == 0
