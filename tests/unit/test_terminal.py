"""What commands say to a person, and when a signal ends them."""

import signal

import pytest

from service.cli.terminal import uninterrupted


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_no_signal_comes_in_between_what_must_not_be_left_half_done(sign: signal.Signals) -> None:
    heard: list[int] = []
    before = signal.signal(sign, lambda number, _: heard.append(number))
    try:
        with uninterrupted():
            signal.raise_signal(sign)
        assert not heard
        signal.raise_signal(sign)
    finally:
        signal.signal(sign, before)

    assert heard == [sign]
