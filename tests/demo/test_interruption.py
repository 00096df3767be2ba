import os
import signal

import pytest

from sanderling.demo.interruption import SIGNALS, Interruption


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_interrupts(number: signal.Signals) -> None:
    with Interruption(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


def test_what_is_half_done_is_finished_first() -> None:
    done = []

    def work(interruption: Interruption) -> None:
        with interruption.held():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("finished")

    with Interruption() as interruption, pytest.raises(KeyboardInterrupt):
        work(interruption)
    assert done == ["finished"]


def test_the_clean_up_is_not_interrupted() -> None:
    with Interruption() as interruption:
        with interruption.ignored():
            os.kill(os.getpid(), signal.SIGINT)


def test_the_handlers_from_before_come_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interruption():
        pass
    assert [signal.getsignal(number) for number in SIGNALS] == before
