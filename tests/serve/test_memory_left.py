"""What is left is what the tighter of machine and control group leaves."""

import pytest

from serve.memory_left import memory_left_bytes


@pytest.fixture
def machine(tmp_path):
    """Writes a machine with 8 MiB available, in a group whose parent has a limit."""
    (tmp_path / "meminfo").write_text("MemTotal:  16384 kB\nMemAvailable:   8192 kB\n")
    (tmp_path / "groups").write_text("0::/pods/one\n")
    inner = tmp_path / "tree" / "pods" / "one"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text("4096\n")

    def left():
        return memory_left_bytes(tmp_path / "meminfo", tmp_path / "groups", tmp_path / "tree")

    return inner, left


def test_without_a_limit_it_is_what_the_machine_has(machine):
    _, left = machine
    assert left() == 8 * 2**20


def test_the_tightest_limit_on_the_way_up_counts(machine):
    inner, left = machine
    (inner / "memory.max").write_text(f"{6 * 2**20}\n")
    assert left() == 6 * 2**20 - 4096
    (inner.parent / "memory.max").write_text(f"{3 * 2**20}\n")
    (inner.parent / "memory.current").write_text(f"{2**20}\n")
    assert left() == 2 * 2**20
    (inner.parent / "memory.current").write_text(f"{4 * 2**20}\n")
    assert left() == 0


def test_where_nothing_can_be_read_nothing_is_claimed(tmp_path):
    missing = tmp_path / "missing"
    assert memory_left_bytes(missing, missing, missing) is None


def test_this_machine_has_some_memory_left():
    left = memory_left_bytes()
    assert left is None or 2**20 < left < 2**50
