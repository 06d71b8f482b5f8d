"""Fixtures that more than one room uses."""

from exported import copied_artifact, small_artifact, small_checkpoint_file
from hypothesis import settings
from served import event_loop_thread, running, start

__all__ = ["copied_artifact", "event_loop_thread", "running", "small_artifact", "small_checkpoint_file", "start"]

settings.register_profile("maskstream", deadline=None)  # a busy machine is no failure
settings.load_profile("maskstream")
