"""CORDS's data loaders, drop-in: the same names, arguments and schedule, and this package's selections.

In a script, ``from cords.utils.data.dataloader.SL.adaptive import GLISTERDataLoader`` becomes ``from
subset_selection.cords import GLISTERDataLoader``; ``subset_selection.cords.nonadaptive`` has the loaders that select
once. A ``CRAIGDataLoader`` is in both of CORDS's packages, and so it is here; this package's own is the adaptive one.
SELCON, for regression, is refused.

The loaders take CORDS's ``(train_loader, val_loader, dss_args, logger, **kwargs)``, with ``dss_args`` a DotMap or a
dict, yield its ``(input, label, weight)`` and keep its schedule: the first ``select_every`` epochs of an adaptive
loader read a random subset. They draw from the global generators of NumPy, Python and torch what CORDS draws, so that
the same seeds give what CORDS picks and the batches that it yields, index for index and in a whole script, where CORDS
is right. They differ where it is wrong:

- the model is evaluated in eval mode, in the order of the data set, also if ``train_loader`` shuffles;
- CRAIG's weights and picks belong to the examples that were measured, by the distances of its paper, and the loader
  that selects once can be made;
- GRAD-MATCH uses ``lam`` and ``eps`` on every device, and does not stop at a duplicate; per batch it matches the
  gradient of all examples, where a short last batch does not count as a full one;
- RGreedy picks exactly the budget, a budget of all examples works, a class may be absent from the validation set;
- ``SaturatedCoverageDataLoader`` maximises saturated coverage, not facility location; chunks may be of any size;
- any model that ends in a linear layer works; an unknown ``selection_type`` or ``greedy`` is refused.

Source: CORDS 0.0.4, https://github.com/decile-team/cords (MIT).
"""

from typing import TYPE_CHECKING

from subset_selection.cords.adaptive import (
    AdaptiveDSSDataLoader,
    CRAIGDataLoader,
    GLISTERDataLoader,
    GradMatchDataLoader,
    OLRandomDataLoader,
    RandomDataLoader,
)
from subset_selection.cords.base import DSSDataLoader, without_selcon
from subset_selection.cords.nonadaptive import (
    FacLocDataLoader,
    GraphCutDataLoader,
    NonAdaptiveDSSDataLoader,
    SaturatedCoverageDataLoader,
    SumRedundancyDataLoader,
)

__all__ = [
    "AdaptiveDSSDataLoader",
    "CRAIGDataLoader",
    "DSSDataLoader",
    "FacLocDataLoader",
    "GLISTERDataLoader",
    "GradMatchDataLoader",
    "GraphCutDataLoader",
    "NonAdaptiveDSSDataLoader",
    "OLRandomDataLoader",
    "RandomDataLoader",
    "SaturatedCoverageDataLoader",
    "SumRedundancyDataLoader",
]

if not TYPE_CHECKING:
    __getattr__ = without_selcon(__name__)
