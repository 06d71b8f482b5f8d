"""Signals act at once, but within what defers them they wait; impatience is heard."""

import os
import signal

import pytest

from train import interruption
from train.interruption import Interruption, Stopped


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def test_a_signal_acts_at_once_and_says_which_it_was() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with pytest.raises(Stopped) as stop, Interruption().listening():
            send(number)
        assert stop.value.signal_number == number
        assert signal.Signals(number).name in str(stop.value)


def test_a_deferred_signal_waits_and_its_echo_too() -> None:
    asked = Interruption()
    with asked.listening(), asked.deferred():
        assert not asked.asked
        send(signal.SIGINT)
        send(signal.SIGTERM)  # as torchrun does after the terminal
        assert asked.asked == signal.SIGINT


def test_one_more_signal_later_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "ECHO_SECONDS", 0.0)
    asked = Interruption()
    with asked.listening(), asked.deferred():
        send()
        with pytest.raises(Stopped):
            send()


def test_the_handlers_before_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption().listening():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
