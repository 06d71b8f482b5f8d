"""Several processes that learn as one: the same losses and weights as a single process with the same global batch.

torchrun starts the processes and says in the environment which one this is. Each takes an equal share of every batch.
What makes the result that of one process:
  keys    of all shares are gathered before the losses that compare clips with each other (`Group.gathered`)
  norms   take their statistics over the whole batch (`SyncedBatchNorm2d`)
  grads   are averaged; what is gathered sends back the sum of all processes' gradients, so that the average of the
          gradients is the gradient of the mean over all shares, whether a loss was computed on a share or on everything
Process 0 alone decides, writes and prints; the others wait for it with patience, and for each other only so long.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from maskstream.errors import MaskstreamError

PATIENT_HOURS = 48  # what process 0 does alone (decoding, clustering, scoring) may take long

T = TypeVar("T")


class WorkerLost(MaskstreamError):
    """Another process of the run is gone or silent; what was saved last is whole."""


class StoppedElsewhere(MaskstreamError):
    """Process 0 failed at what it does for all; it says itself why."""


@dataclass(frozen=True)
class Group:
    """This process among those of the run; alone by default, and then nothing is ever sent."""

    rank: int = 0
    size: int = 1
    silent_seconds: float = 0.0  # how long a process may keep the others waiting within a step
    patient: Any = None  # torch's group for what process 0 does alone

    @property
    def leads(self) -> bool:
        """Whether this is process 0, which alone writes and prints."""
        return self.rank == 0

    def share(self, count: int, setting: str) -> range:
        """Items of a batch of `count` that are this process's. Raises ValueError naming the setting that is uneven."""
        if count % self.size:
            fitting = (count // self.size + 1) * self.size
            raise ValueError(
                f"{setting}={count} cannot be shared evenly by {self.size} processes; "
                f"choose a multiple of {self.size}, for example --set {setting}={fitting}"
            )
        each = count // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def gathered(self, share: Tensor) -> Tensor:
        """Shares [b, ...] of all processes as one [B, ...] in order; gradients flow back to whom they belong."""
        return share if self.size == 1 else _Gather.apply(share.contiguous(), self)  # type: ignore[no-untyped-call]

    def gathered_all(self, shares: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`gathered` of each tensor by name."""
        return {name: self.gathered(share) for name, share in shares.items()}

    def averaged(self, value: Tensor) -> Tensor:
        """Mean of the processes' values, without gradient; the same to the last bit in each of them."""
        if self.size == 1:
            return value
        total = value.clone()
        self.call(lambda: dist.all_reduce(total))
        return total / self.size

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace gradients by their means; in one message, which is simpler than overlapping many and exact.

        A parameter that no sample of this share used counts as zero; one that no process used has no gradient still.
        """
        if self.size == 1:
            return
        used = self.averaged(torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device))
        learning = [p for p, share in zip(parameters, used.tolist(), strict=True) if share > 0]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
        mean = self.averaged(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        parts = mean.split([gradient.numel() for gradient in gradients])
        for parameter, gradient, part in zip(learning, gradients, parts, strict=True):
            parameter.grad = gradient.copy_(part.view(gradient.shape))

    def follow_first(self, module: nn.Module) -> None:
        """Weights and statistics of process 0 in all processes."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                self._from_first(tensor)

    def _from_first(self, tensor: Tensor) -> None:
        sent = tensor.detach().contiguous()
        self.call(lambda: dist.broadcast(sent, 0))
        if sent.data_ptr() != tensor.data_ptr():
            tensor.copy_(sent)

    def once(self, make: Callable[[], T]) -> T:
        """What `make` returns in process 0, in all processes; they wait as long as it takes. The value is pickled.

        When it fails, process 0 raises what happened and the others `StoppedElsewhere`.
        """
        if self.size == 1:
            return make()
        if self.leads:
            try:
                made = make()
            except BaseException as error:
                failure = [False, str(error)]
                self.call(lambda: dist.broadcast_object_list(failure, 0, self.patient))
                raise
            self.call(lambda: dist.broadcast_object_list([True, made], 0, self.patient))
            return made
        answer: list[Any] = [None, None]
        self.call(lambda: dist.broadcast_object_list(answer, 0, self.patient))
        if not answer[0]:
            raise StoppedElsewhere(str(answer[1]))
        received: T = answer[1]
        return received

    def call(self, collective: Callable[[], T]) -> T:
        """Run what needs all processes. Raises WorkerLost when one is gone or silent for too long."""
        try:
            return collective()
        except RuntimeError as error:  # torch has no narrower type for a lost connection
            reason = str(error).strip().splitlines()[0][:200]
            raise WorkerLost(
                f"process {self.rank} of {self.size} lost another process of the run, or waited for it for more than "
                f"{self.silent_seconds:g} s ({reason})"
            ) from error

    def close(self) -> None:
        """Leave the group."""
        if self.size > 1:
            dist.destroy_process_group()


def is_distributed(environment: Mapping[str, str]) -> bool:
    """Whether torchrun started this process as one of several."""
    return int(environment.get("WORLD_SIZE", "1")) > 1


def join(device: torch.device, silent_seconds: float) -> Group:
    """The group that torchrun's variables in the environment describe; alone without them.

    Messages go by gloo between CPUs and by nccl between GPUs. Raises WorkerLost when the others do not come.
    """
    if not is_distributed(os.environ):
        return Group()
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    alone = Group(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), silent_seconds)
    alone.call(lambda: dist.init_process_group(backend, timeout=timedelta(seconds=silent_seconds)))
    patient = alone.call(lambda: dist.new_group(backend="gloo", timeout=timedelta(hours=PATIENT_HOURS)))
    return Group(alone.rank, alone.size, silent_seconds, patient)


class _Gather(torch.autograd.Function):
    """All shares in order. Backward: everybody's gradient of my share, summed."""

    @staticmethod
    def forward(ctx: Any, share: Tensor, group: Group) -> Tensor:
        ctx.group = group
        parts = [torch.empty_like(share) for _ in range(group.size)]
        group.call(lambda: dist.all_gather(parts, share))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total, group = gradients[0].contiguous().clone(), ctx.group
        group.call(lambda: dist.all_reduce(total))
        return total.chunk(group.size)[group.rank], None


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the shares of all processes, on CPUs too; statistics are combined as in Chan et al., 1979."""

    group: Group

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input.float()
        count = x.shape[0] * x.shape[2] * x.shape[3] * self.group.size
        own_var_C, own_mean_C = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        mean_GC, var_GC = self.group.gathered(torch.stack((own_mean_C, own_var_C))[None]).unbind(dim=1)
        mean_C = mean_GC.mean(dim=0)
        var_C = (var_GC + (mean_GC - mean_C).square()).mean(dim=0)
        self._keep(mean_C.detach(), var_C.detach() * (count / max(1, count - 1)))
        scale_C = self.weight * torch.rsqrt(var_C + self.eps)
        shift_C = self.bias - mean_C * scale_C
        return (x * scale_C[:, None, None] + shift_C[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _keep(self, mean_C: Tensor, var_C: Tensor) -> None:
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean_C, self.momentum)
        self.running_var.lerp_(var_C, self.momentum)


def synchronise_norms(module: nn.Module, group: Group) -> None:
    """Make the batch norms of `module` take their statistics over all processes; names and weights stay."""
    if group.size == 1:
        return
    for part in module.modules():
        if type(part) is nn.BatchNorm2d:
            part.__class__ = SyncedBatchNorm2d
            part.group = group  # type: ignore[assignment]
