"""What ``corelock top`` shows, without a terminal."""

from __future__ import annotations

from typing import Optional

import pytest

from corelock.render.spark import sparkline
from corelock.render.text import cells
from corelock.top.board import VIEWS, Board
from corelock.top.history import History
from corelock.top.lines import text_of
from corelock.top.sorting import Field, Sorting
from tests.pictures import active, locks, picture, worst


def board(*pictures: object, **options: bool) -> Board:
    made = Board("redis-server[4210]", 1.0, **options)
    for each in pictures or (picture(),):
        made.add(each)  # type: ignore[arg-type]
    return made


def screen(of: Board, width: int = 80, height: int = 24) -> list[str]:
    return [text_of(line).rstrip() for line in of.lines(width, height)]


def names(of: Board, **size: int) -> list[str]:
    """The first words of the table's lines, without the head and the whole."""
    lines = screen(of, **size)
    start = next(at for at, line in enumerate(lines) if line.startswith("all ")) + 1
    table = lines[start : next(at for at, line in enumerate(lines) if "worst wait" in line)]
    return [line.split()[0] for line in table if line]


# --- numbers --------------------------------------------------------------------


def test_numbers_are_per_second() -> None:
    half = active(waits=4, wait_ns=6_000_000, holds=1, hold_ns=500_000, hold_p99_ns=None)
    shown = picture(threads=(half,))
    two_seconds = shown.activity.__class__(0, 2_000_000_000, None, (half,), ())
    made = board(picture(activity=two_seconds))
    line = next(line for line in screen(made) if line.startswith("worker[4211]"))
    assert line.split()[1:7] == ["2", "3.00m", "250u", "0.5", "250u", "-"]


def test_all_is_the_sum() -> None:
    line = next(line for line in screen(board()) if line.startswith("all "))
    assert line.split()[1:3] == ["111", "53.0m"]


def test_who_did_nothing_this_time_stays_for_as_long_as_its_history() -> None:
    made = board(picture(1), *(picture(n, threads=(active(),)) for n in range(2, 61)))
    idle = next(line for line in screen(made) if line.startswith("bio_lazy_free[4212]"))
    assert idle.split()[1:7] == ["-"] * 6
    made.add(picture(61, threads=(active(),)))
    assert names(made) == ["worker[4211]"]


def test_the_history_is_of_what_is_sorted_by() -> None:
    made = board(*(picture(n) for n in (1, 2, 3, 4)))
    lines = screen(made)
    assert next(line for line in lines if line.startswith("worker")).endswith("▂▄▆█")
    assert next(line for line in lines if line.startswith("bio_lazy")).endswith("████")
    assert "wait time, last" in lines[3]
    made.sort(3)
    assert "hold time, last" in screen(made)[3]


def test_a_sparkline_shows_what_is_not_nothing() -> None:
    assert sparkline([0, 0.001, 1000], 4) == "  ▁█"
    assert sparkline([1.0] * 9, 3) == "███"
    assert sparkline([], 3) == "   "
    assert sparkline([1, 0, 2], 3, ascii_only=True).isascii()


def test_histories_forget() -> None:
    history: History[int] = History(length=2)
    history.add(1.0, [("a", 1)])
    history.add(1.0, [("b", 2)])
    assert history.known() == [(1, None), (2, 2)]
    assert history.series("a") == [(1.0, 1), (1.0, None)]
    history.add(1.0, [])
    assert history.known() == [(2, None)]


# --- sorting, filtering, scrolling ------------------------------------------------


def test_it_is_sorted_by_the_column_with_the_mark() -> None:
    made = board()
    assert names(made) == ["worker[4211]", "bio_lazy_free[4212]", "*htop[999]"]
    assert "▾time" in screen(made)[3]
    made.reverse()
    assert names(made)[0] == "*htop[999]"
    assert "▴time" in screen(made)[3]
    made.reverse()
    made.sort(3)  # hold time
    assert names(made)[0] == "bio_lazy_free[4212]"
    made.sort(2)  # around the end: by name
    assert names(made) == ["bio_lazy_free[4212]", "*htop[999]", "worker[4211]"]


def test_each_view_keeps_what_it_is_sorted_by() -> None:
    made = board()
    made.sort(1)
    made.show("operations")
    assert "▾time" in screen(made)[3]
    made.show("threads")
    assert "▾p99" in screen(made)[3]


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        ("HTOP", ["*htop[999]"]),
        ("421", ["worker[4211]", "bio_lazy_free[4212]", "*htop[999]"]),  # the process's, too
        ("[4212]", ["bio_lazy_free[4212]"]),
        ("nobody", []),
    ],
)
def test_a_filter_keeps_what_has_it_in_its_name(typed: str, left: list[str]) -> None:
    made = board()
    for character in typed:
        made.type(character)
    assert names(made) == left
    assert f"filter: {typed}_" in screen(made)[1]
    made.stop_typing(keep=True)
    assert names(made) == left
    made.stop_typing(keep=False)
    assert len(names(made)) == 3


def test_a_filter_can_be_taken_back_by_the_character() -> None:
    made = board()
    for character in "htopx":
        made.type(character)
    assert names(made) == []
    made.erase()
    assert names(made) == ["*htop[999]"]


def test_a_thousand_threads_scroll_and_end() -> None:
    threads = tuple(active(f"t{n}", n, wait_ns=10_000 - n) for n in range(1, 1001))
    made = board(picture(threads=threads))
    first = names(made)
    assert first[0] == "t1[1]" and 5 <= len(first) <= 12
    made.scroll(10)
    assert names(made)[0] == "t11[11]"
    assert "from 11 of 1,000 threads" in screen(made)[1]
    made.scroll(1 << 30)
    assert names(made)[-1] == "t1000[1000]"
    made.scroll(-(1 << 30))
    assert names(made) == first


# --- the rest of the screen -------------------------------------------------------


def test_a_pause_holds_the_picture_and_loses_nothing() -> None:
    made = board(picture(1))
    made.pause()
    before = screen(made)
    assert "PAUSED" in before[0]
    made.add(picture(2))
    made.add(picture(3))
    assert screen(made) == before
    made.pause()
    after = screen(made)
    assert "14:02:03" in after[0] and "PAUSED" not in after[0]
    assert next(line for line in after if line.startswith("worker")).endswith("▃▅█")


def test_the_end_is_shown_even_while_paused() -> None:
    made = board(picture(1))
    made.pause()
    made.add(picture(2, ended="redis-server[4210] has exited"))
    assert "redis-server[4210] has exited" in screen(made)[0]


def test_losses_are_shown_by_cause() -> None:
    assert screen(board())[-2] == "nothing lost"
    lossy = picture(losses={"map_full": 12_345, "ring_full": 3})
    assert screen(board(lossy))[-2] == "incomplete: map_full 12,345, ring_full 3"


def test_the_worst_wait_has_its_blame_and_stacks() -> None:
    text = "\n".join(screen(board()))
    assert "worst wait 8.00m W munmap  worker[4211]" in text
    assert "due to  75% 6.00m  *htop[999]  R pread64\n" in text
    assert "24% 1.90m  bio_lazy_free[4212]  W munmap c\n" in text
    assert "waiter  __vm_munmap < __munmap < arena_purge" in text
    assert "holder  __mmap_lock_do_trace_released < __vm_munmap" in text


def test_blame_that_is_not_of_this_wait_alone_says_so() -> None:
    text = "\n".join(screen(board(picture(worst=worst(exact=False)))))
    assert "its munmap waits so far:  30% 6.00m" in text
    assert "60% 12.1m  others, and unknown\n" in text


def test_the_worst_wait_can_have_the_whole_screen() -> None:
    made = board()
    made.resize_pane()
    text = "\n".join(screen(made, height=40))
    assert "__vm_munmap+0x1a0" in text and "hold 7.00m  read  " not in text
    assert "hold 7.00m" in text
    assert "THREAD" not in text


def test_no_wait_is_the_worst() -> None:
    text = "\n".join(screen(board(picture(worst=None))))
    assert "no wait of 100u or longer lately" in text


def test_holders_are_those_of_the_latest_look() -> None:
    made = board(picture(1))
    made.show("holders")
    assert "looking ..." in "\n".join(screen(made))
    made.add(picture(2, locks=locks()))
    line = next(line for line in screen(made) if line.startswith("redis-server[4210]"))
    assert line.split() == [
        "redis-server[4210]", "*htop[999]?", "pread64", "R", "2.50s+", "12", "█",
    ]  # fmt: skip
    made.add(picture(3, locks=locks().__class__((), 3)))
    assert "no lock of 3 address spaces was held" in "\n".join(screen(made))
    made.add(picture(4, problem="cannot look"))
    assert "cannot look" in "\n".join(screen(made))


def test_processes_are_told_apart_where_there_are_several() -> None:
    other = active("nginx", 7, pid=7, mm=("nginx", 7), wait_ns=1 << 40)
    text = screen(board(picture(threads=(active(), other))))
    assert text[3].startswith("PROCESS")
    assert text[5].startswith("nginx[7]") and "nginx[7]" in text[5][9:]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    ("width", "height"), [(80, 24), (140, 40), (200, 60), (60, 16), (20, 8), (5, 3), (80, 1)]
)
def test_a_screen_is_as_large_as_it_is(view: str, width: int, height: int) -> None:
    long_names = tuple(
        active("名" * 5 + str(n), 1 << 20 | n, mm=("p" * 15, n), by="thread") for n in range(40)
    )
    for large, threads in ((False, None), (True, long_names)):
        made = board(picture(threads=threads, locks=locks(), losses={"map_full": 1}))
        made.show(view)
        made.large_pane = large
        lines = [text_of(line) for line in made.lines(width, height)]
        assert [cells(line) for line in lines] == [width] * height


def test_ascii_where_there_is_nothing_else() -> None:
    text = "\n".join(screen(board(picture(1), picture(2), ascii_only=True)))
    assert text.isascii()
    assert "vtime" in text


def test_before_the_first_picture() -> None:
    made = Board("all processes", 5.0)
    assert "the first figures come after 5s" in "\n".join(screen(made))


def test_the_screen_as_it_was_looked_at(request: pytest.FixtureRequest) -> None:
    made = board(*(picture(n, locks=locks()) for n in (1, 2, 3)))
    shown: list[str] = []
    view: Optional[str]
    for view in VIEWS:
        made.show(view)
        shown += [f"=== {view}", *screen(made)]
    expected = (request.path.parent / "top_screens.txt").read_text(encoding="utf-8")
    assert "\n".join(shown) + "\n" == expected


def test_who_did_nothing_is_last_whichever_way_round() -> None:
    sorting = Sorting([Field[int]("count", float)], "count")
    for reverse, order in (False, [9, 5, 1, 0, 0]), (True, [1, 5, 9, 0, 0]):
        sorting.reverse = reverse
        items = [5, 0, 9, 0, 1]
        sorting.sort(items, lambda item: (str(item), item))
        assert items == order
