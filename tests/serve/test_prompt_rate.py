"""A stream may prompt so many objects a second on average, and a few seconds' worth at once."""

from serve.prompt_rate import BURST_SECONDS, PromptRate


def test_a_burst_passes_and_then_the_average_holds():
    rate = PromptRate(10)
    assert rate.allows(int(10 * BURST_SECONDS), now=1000.0)
    assert not rate.allows(1, now=1000.0)
    assert rate.allows(10, now=1001.0)
    assert not rate.allows(1, now=1001.05)
    assert sum(rate.allows(1, now=1001.0 + step / 100) for step in range(1, 1001)) in range(98, 102)


def test_a_refused_request_costs_nothing():
    rate = PromptRate(10)
    assert rate.allows(25, now=5.0)
    assert not rate.allows(6, now=5.0)
    assert rate.allows(5, now=5.0)


def test_a_first_frame_larger_than_the_bucket_passes_and_is_waited_for():
    rate = PromptRate(5)
    assert rate.allows(32, now=1000.0), "32 objects at 5 a second: else no client could ever prompt them"
    assert not rate.allows(1, now=1003.5), "17 too many, at 5 a second"
    assert rate.allows(1, now=1003.7)


def test_zero_is_no_limit():
    assert all(PromptRate(0).allows(10**6, now=0.0) for _ in range(3))


def test_a_long_silence_saves_up_no_more_than_a_burst():
    rate = PromptRate(2)
    assert rate.allows(6, now=0.0)
    assert rate.allows(6, now=1e9)
    assert not rate.allows(1, now=1e9)
