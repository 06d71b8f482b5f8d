"""Fixtures that more than one room uses."""

from served import event_loop_thread, running, start

__all__ = ["event_loop_thread", "running", "start"]
