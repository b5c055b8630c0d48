"""One signal asks to stop, two stop at once, and handlers are put back."""

import os
import signal

import pytest

from imagic_jax.runtime.interrupt import stop_flag


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_sets_the_flag_second_stops(number):
    before = signal.getsignal(number)
    with stop_flag() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.signal == number
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
