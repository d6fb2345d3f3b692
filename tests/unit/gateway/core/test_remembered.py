from gateway.core.remembered import once_per_object


def test_each_object_is_worked_on_once() -> None:
    asked: list[tuple[int, ...]] = []

    @once_per_object
    def total(numbers: tuple[int, ...]) -> int:
        asked.append(numbers)
        return sum(numbers)

    numbers = tuple(range(3))

    assert [total(numbers), total(numbers)] == [3, 3]
    assert asked == [numbers]


def test_equal_objects_are_different_objects() -> None:
    @once_per_object
    def first(numbers: list[int]) -> int:
        return numbers[0]

    one, other = [1], [1]

    assert first(one) == first(other) == 1
    other[0] = 2
    assert first(one) == 1


def test_objects_that_are_gone_never_answer_for_new_ones() -> None:
    @once_per_object
    def doubled(numbers: list[int]) -> int:
        return 2 * numbers[0]

    assert [doubled([number]) for number in range(500)] == [2 * number for number in range(500)]
