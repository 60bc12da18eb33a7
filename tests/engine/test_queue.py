"""Queue order: fair to visitors, single pictures first, nobody starves."""

from __future__ import annotations

import itertools
import random
from statistics import median

import pytest

from ipa_app.engine.queue import FairQueue, Limits
from ipa_app.errors import UserError

MOST_PICTURES = 8


def queue_of(*waiting: tuple[str, str] | tuple[str, str, int], limits: Limits | None = None) -> FairQueue[str]:
    """Return a queue of (item, visitor, number of pictures); the number is one by default."""
    queue: FairQueue[str] = FairQueue(limits or Limits())
    for item, visitor, *pictures in waiting:
        count = pictures[0] if pictures else 1
        queue.add(item, visitor=visitor, pictures=count, bulk=count > 1)
    return queue


def anything(_item: str) -> bool:
    return True


def order_of_rest(queue: FairQueue[str], item: str, pictures: int) -> list[str]:
    """Draw an item's remaining pictures, and return the order with the single ones that cut in."""
    drawn = []
    for _ in range(pictures):
        while (single := queue.cut_in(anything)) is not None:
            drawn.append(single)
        queue.next_batch(1)
        drawn.append(item)
    return drawn


def test_visitors_take_turns_and_each_keeps_their_own_order() -> None:
    queue = queue_of(("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c"), ("b2", "b"))
    assert list(queue) == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert [queue.begin() for _ in range(6)] == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert not len(queue)


def test_who_comes_back_does_not_wait_for_what_another_one_asked_for_before() -> None:
    queue = queue_of(*((f"a{number}", "a") for number in range(50)), ("b0", "b"))
    drawn = []
    for number in range(1, 21):
        drawn.append(queue.begin())
        if drawn[-1].startswith("b"):
            queue.add(f"b{number}", visitor="b")
    assert [item[0] for item in drawn] == ["a", "b"] * 10


def test_who_asks_for_more_while_their_many_are_drawn_waits_behind_who_has_had_none() -> None:
    queue = queue_of(("many", "a", 8))
    assert queue.begin() == "many"
    queue.next_batch(1)
    queue.add("more", visitor="a")
    for number in range(4):
        queue.add(f"b{number}", visitor="b")
    assert list(queue) == ["b0", "b1", "b2", "b3", "more"]


def test_single_pictures_go_before_requests_of_many() -> None:
    queue = queue_of(("many", "a", 4), ("fewer", "b", 2), ("single", "c"))
    assert list(queue) == ["single", "fewer", "many"]


def test_a_single_picture_waits_for_one_picture_of_a_request_of_many() -> None:
    queue = queue_of(("many", "a", 4))
    assert queue.begin() == "many"
    queue.add("b1", visitor="b")
    queue.add("b2", visitor="b")
    queue.add("c1", visitor="c")
    queue.add("d", visitor="d", pictures=2, bulk=True)
    assert order_of_rest(queue, "many", 3) == ["b1", "c1", "many", "b2", "many", "many"]
    assert list(queue) == ["d"]


def test_what_does_not_fit_does_not_cut_in() -> None:
    queue = queue_of(("many", "a", 4))
    queue.begin()
    queue.add("of another model", visitor="b")
    queue.add("fits", visitor="c")
    assert queue.cut_in(lambda item: item == "fits") == "fits"
    assert queue.cut_in(lambda item: item == "fits") is None
    assert list(queue) == ["of another model"]


def test_what_lets_others_pass_cuts_in_where_it_is_said_that_it_may() -> None:
    queue = queue_of(("searching", "a"))
    queue.begin()
    queue.add("many", visitor="b", pictures=4, bulk=True)
    queue.add("single", visitor="c")
    assert [queue.cut_in(anything, bulk=True) for _ in range(3)] == ["single", "many", None]


@pytest.mark.parametrize("gone", ["a1", "a2", "b1"])
def test_what_is_taken_out_leaves_the_order_as_if_it_had_never_come(gone: str) -> None:
    items = [("a1", "a"), ("a2", "a", 3), ("a3", "a"), ("b1", "b"), ("b2", "b"), ("c1", "c", 2)]
    queue = queue_of(*items)
    assert queue.remove(gone)
    assert not queue.remove(gone)
    assert list(queue) == list(queue_of(*(item for item in items if item[0] != gone)))


def test_what_joins_a_batch_counts_as_its_visitors_turn() -> None:
    queue = queue_of(("a1", "a"), ("b1", "b"), ("b2", "b"), ("c1", "c"), ("a2", "a"))
    assert queue.begin() == "a1"
    queue.join("b1")
    queue.join("b2")
    queue.add("b3", visitor="b")
    assert list(queue) == ["c1", "a2", "b3"]


def test_one_visitor_may_have_so_many_and_others_still_come() -> None:
    queue = queue_of(("a1", "a"), ("a2", "a"), limits=Limits(total=4, each=2))
    with pytest.raises(UserError, match="You already have 2 requests waiting"):
        queue.add("a3", visitor="a")
    queue.add("b1", visitor="b")
    queue.add("c1", visitor="c")
    with pytest.raises(UserError, match=r"The app is busy \(4 requests waiting\)"):
        queue.add("d1", visitor="d")
    queue.begin()
    queue.add("d1", visitor="d")


def test_the_pictures_that_wait_have_so_much_memory_and_one_request_may_have_more() -> None:
    queue: FairQueue[str] = FairQueue(Limits(megabytes=1))
    queue.add("large", visitor="a", size=5 * 10**6)
    with pytest.raises(UserError, match=r"busy \(1 request"):
        queue.add("small", visitor="b", size=1)
    queue.begin()
    queue.add("small", visitor="b", size=10**6)
    with pytest.raises(UserError, match="busy"):
        queue.add("smaller", visitor="c", size=1)


def test_with_a_visitor_of_a_hundred_requests_the_others_wait_for_two_rounds_at_most() -> None:
    visitors = [f"visitor {number}" for number in range(19)]
    queue = queue_of(
        *((f"hog {number}", "hog") for number in range(100)), *((visitor, visitor) for visitor in visitors)
    )
    drawn, waits, asked = [], [], dict.fromkeys(visitors, 0)
    while len(queue):
        item = queue.begin()
        drawn.append(item)
        if item in asked:
            waits.append(len(drawn) - asked[item])
            if len(drawn) < 300:
                asked[item] = len(drawn)
                queue.add(item, visitor=item)
    assert median(waits) <= 2 * 20
    assert max(waits) <= 2 * 20
    assert drawn.count("hog 99") == 1


@pytest.mark.parametrize("seed", range(25))
def test_nobody_starves_whatever_the_others_do(seed: int) -> None:
    chance = random.Random(seed)
    count = chance.randint(2, 12)
    crowd = [f"visitor {number}" for number in range(count)]
    queue: FairQueue[tuple[str, int, int]] = FairQueue(Limits())
    numbers, time, arrived, ended = itertools.count(), 0, {}, {}

    def arrive(visitor: str, pictures: int) -> None:
        item = (visitor, next(numbers), pictures)
        own = sum(each[2] for each in queue if each[0] == visitor)
        arrived[item] = (time, own)
        queue.add(item, visitor=visitor, pictures=pictures, bulk=pictures > 1)

    def picture(item: tuple[str, int, int], *, last: bool) -> None:
        nonlocal time
        time += 1
        if last:
            ended[item] = time
        # The crowd keeps asking: some for one picture again and again, others for as many as they can.
        for visitor in crowd:
            mine = [each for each in queue if each[0] == visitor]
            if len(mine) < chance.choice((1, 1, 3)) and time < 400:
                arrive(visitor, chance.choice((1, 1, 1, 2, MOST_PICTURES)))
        if mine := [each for each in queue if chance.random() < 0.02]:
            gone = chance.choice(mine)
            queue.remove(gone)
            del arrived[gone]

    for visitor in crowd:
        arrive(visitor, 1)
    while len(queue):
        item = queue.begin()
        for number in range(item[2]):
            while number and (single := queue.cut_in(lambda _: True)) is not None:
                picture(single, last=True)
            if number:
                queue.next_batch(1)
            picture(item, last=number == item[2] - 1)
    assert ended.keys() == arrived.keys()
    for item, (since, own) in arrived.items():
        assert ended[item] - since <= (count + 1) * (own + item[2] + 2 * MOST_PICTURES), item


def test_an_operator_sets_the_limits() -> None:
    assert Limits.from_environment({}) == Limits()
    given = {"IPA_MOST_WAITING": "7", "IPA_MOST_WAITING_EACH": " 2 ", "IPA_WAITING_MEGABYTES": ""}
    assert Limits.from_environment(given) == Limits(total=7, each=2)


def test_what_is_live_comes_after_all_else_and_counts_for_nothing() -> None:
    queue = queue_of(("b1", "b"), ("a1", "a"))
    for number in range(5):
        queue.add_live(f"live {number}", visitor="a")
    queue.add("a2", visitor="a")
    queue.add("c1", visitor="c", pictures=8, bulk=True)
    assert list(queue) == ["b1", "a1", "a2", "c1", "live 4"]
    assert [queue.begin() for _ in range(5)] == ["b1", "a1", "a2", "c1", "live 4"]
    assert len(queue) == 0


def test_live_items_replace_each_other_and_their_visitors_take_turns() -> None:
    queue = queue_of(limits=Limits(total=2))
    assert queue.add_live("a1", visitor="a") is None
    assert queue.add_live("b1", visitor="b") is None
    assert queue.add_live("a2", visitor="a") == "a1", "there is room for it, as it makes room"
    with pytest.raises(UserError, match="busy"):
        queue.add_live("c1", visitor="c")
    assert list(queue) == ["a2", "b1"]
    assert queue.begin() == "a2"
    queue.add_live("a3", visitor="a")
    assert [queue.begin() for _ in range(2)] == ["b1", "a3"]


def test_a_live_item_that_replaces_another_takes_its_room_and_no_more() -> None:
    queue = queue_of(limits=Limits(megabytes=1))
    queue.add_live("a1", visitor="a", size=500_000)
    queue.add_live("b1", visitor="b", size=400_000)
    queue.add_live("a2", visitor="a", size=600_000)
    with pytest.raises(UserError, match="busy"):
        queue.add_live("a3", visitor="a", size=600_001)
    assert list(queue) == ["a2", "b1"]


def test_a_live_item_does_not_cut_in_and_can_be_taken_out() -> None:
    queue = queue_of(("many", "b", 4))
    queue.add_live("live", visitor="a")
    assert queue.begin() == "many"
    assert order_of_rest(queue, "many", 3) == ["many"] * 3
    assert queue.remove("live")
    assert not queue.remove("live")
    assert len(queue) == 0
