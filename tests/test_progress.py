import pytest

from keras_fmm.progress import Progress


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


def test_short_work_shows_nothing(capsys):
    clock = Clock()
    progress = Progress(10, clock=clock)
    for _ in range(10):
        clock.seconds += 0.49
        progress.add(1)
    assert capsys.readouterr().out == ""


def test_long_work_shows_a_bar_once_five_seconds_have_passed(capsys):
    clock = Clock()
    progress = Progress(10, unit_name="image", clock=clock)
    clock.seconds = 4.9
    progress.add(3)
    assert capsys.readouterr().out == ""
    clock.seconds = 5.0
    progress.add(3)
    assert "6/10" in capsys.readouterr().out
    clock.seconds = 9.0
    progress.add(4)
    shown = capsys.readouterr().out
    assert "10/10" in shown
    assert shown.endswith("\n")


def test_work_that_is_done_needs_no_bar(capsys):
    clock = Clock()
    progress = Progress(1, clock=clock)
    clock.seconds = 60.0
    progress.add(1)
    assert capsys.readouterr().out == ""


def test_it_can_be_silenced_and_forced(capsys):
    clock = Clock()
    silent = Progress(2, verbose=0, clock=clock)
    clock.seconds = 100.0
    silent.add(2)
    assert capsys.readouterr().out == ""
    forced = Progress(2, verbose=1)
    forced.add(1)
    assert "1/2" in capsys.readouterr().out


def test_more_than_all_is_all(capsys):
    progress = Progress(2, verbose=1)
    progress.add(float("inf"))
    progress.add(1)
    assert capsys.readouterr().out.count("2/2") == 1


@pytest.mark.parametrize("verbose", ["yes", 3, None, -1])
def test_another_verbosity_is_refused(verbose):
    with pytest.raises(ValueError, match="`verbose` must be one of 'auto', 0, 1, 2. Received: ver"):
        Progress(2, verbose)


def test_a_file_gets_few_whole_lines(capsys):
    clock = Clock()
    progress = Progress(100, unit_name="image", clock=clock)
    for _ in range(100):
        clock.seconds += 1.0
        progress.add(1)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{n}/100 - {n}s" for n in (5, 35, 65, 95, 100)]
