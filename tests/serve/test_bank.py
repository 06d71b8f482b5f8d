"""The bank takes what it is given, or a share of what is left, and never promises more than there is."""

import pytest

from serve import bank
from serve.config import ConfigError


@pytest.fixture
def left(monkeypatch):
    def set_left(num_bytes):
        monkeypatch.setattr(bank, "memory_left_bytes", lambda: num_bytes)

    return set_left


def test_without_a_size_it_takes_half_of_what_is_left(left):
    left(2**26)
    assert bank.bank_pool(0).total_bytes == 2**25
    assert bank.bank_pool(2**22).total_bytes == 2**22
    left(None)
    with pytest.raises(ConfigError, match="bank_mib = 0"):
        bank.bank_pool(0)


def test_a_bank_that_does_not_fit_is_refused_before_anyone_relies_on_it(left):
    left(2**22)
    bank.secure(bank.bank_pool(2**22), reserve=True)
    with pytest.raises(ConfigError, match="8 MiB, but 4 MiB of memory are left"):
        bank.secure(bank.bank_pool(2**23), reserve=False)


def test_where_it_is_not_known_how_much_is_left_the_setting_is_believed(left):
    left(None)
    bank.secure(bank.bank_pool(2**23), reserve=False)
