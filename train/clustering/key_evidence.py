"""What the keys say about a cluster: is it the same thing in the next frame, and does it end where the keys change?

A part that the method cut out of a homogeneous ground passes every rule about shape. It betrays itself here: where the
camera moves, the keys carry it elsewhere than where it is found, and its outline runs where nothing changes.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import one_hot

CARRY_TEMPERATURE = 0.05  # of the affinity between neighbouring frames of a window

Figures = npt.NDArray[np.float64]  # [M]

# F frames, M clusters, K key channels, Q and R tokens of the later and the earlier frame, N tokens of a frame


def stabilities(winner_Fhw: Tensor, key_FKhw: Tensor, clusters: int) -> Figures:
    """IoU of a cluster carried to the next frame by key affinity with the cluster found there; the least of the window.

    0 where a cluster is missing from both of a pair of frames; 1 for a window of one frame.
    """
    mask_FNM = one_hot(winner_Fhw.flatten(1), clusters).bool()
    key_FKN = key_FKhw.flatten(2)
    least_M = torch.ones(clusters, dtype=torch.float64)
    for earlier in range(len(mask_FNM) - 1):
        affinity_QR = torch.softmax(key_FKN[earlier + 1].T @ key_FKN[earlier] / CARRY_TEMPERATURE, dim=1)
        carried_QM = affinity_QR @ mask_FNM[earlier].to(affinity_QR.dtype) > 0.5
        found_QM = mask_FNM[earlier + 1]
        both_M, either_M = (carried_QM & found_QM).sum(dim=0), (carried_QM | found_QM).sum(dim=0)
        least_M = torch.minimum(least_M, both_M.double() / either_M.clamp_min(1))
    return least_M.numpy()


def contrasts(winner_Fhw: Tensor, key_FKhw: Tensor, clusters: int) -> Figures:
    """Mean change of the key between neighbouring tokens on both sides of a cluster's outline, relative to all.

    The change is 1 - cosine. 1 is an outline drawn anywhere, above 1 it follows edges. 0 without any outline, or where
    no key changes at all.
    """
    total_M, pairs_M = torch.zeros(2, clusters, dtype=torch.float64)
    change_sum, change_count = 0.0, 0
    for axis in (1, 2):
        length = winner_Fhw.shape[axis] - 1
        one, other = winner_Fhw.narrow(axis, 0, length), winner_Fhw.narrow(axis, 1, length)
        near, far = key_FKhw.narrow(axis + 1, 0, length), key_FKhw.narrow(axis + 1, 1, length)
        change = (1 - (near * far).sum(dim=1)).double()
        change_sum, change_count = change_sum + float(change.sum()), change_count + change.numel()
        for side in (one[one != other], other[one != other]):
            total_M += torch.bincount(side, change[one != other], minlength=clusters)
            pairs_M += torch.bincount(side, minlength=clusters)
    usual = change_sum / max(1, change_count)
    return (total_M / pairs_M.clamp_min(1) / max(usual, 1e-9)).numpy()
