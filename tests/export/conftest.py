"""Fixtures of the tests of batches."""

from batches import copied_batch, exports, finished_batch, on_a_gpu, tensorrt_runs

__all__ = ["copied_batch", "exports", "finished_batch", "on_a_gpu", "tensorrt_runs"]
