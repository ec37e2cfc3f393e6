"""Intervals and tests for accuracies over items that share images, passages, facts or histories (docs/spec/iit.md#figures).

Every function works on dense arrays: `values` are 0/1 (or 0 … 1) per item, `clusters` are integer codes per item (see `codes`,
`components`), `histories` are, per item, the labels of the clusters in its history. Items that share neither are independent. All
intervals are 95%, two-sided. A file per kind:

* `dependence`: which items depend on each other; variances, one-way and two-way; the effective number of items
* `histories`: the history clusters of items as arrays, and sums over items that share one
* `means`: accuracies and means over tiers, with Wilson's interval
* `paired`: differences over the same items; retention
* `exact`: exact tests and Holm's correction
* `rates`: shares of items, with an interval that allows for skewness
* `guessing`: rates corrected for lucky guesses
* `power`: the smallest difference that a test finds
"""

from evaluators.statistics.dependence import Dependence, Histories, components
from evaluators.statistics.exact import Z, holm, mcnemar_exact, sign_flip
from evaluators.statistics.guessing import corrected_rates, guess_alike, known
from evaluators.statistics.histories import Floats, HistoryCodes, Ints, codes
from evaluators.statistics.means import chance_corrected, linear, mean, weighted_mean, wilson
from evaluators.statistics.paired import paired, paired_means, retention, with_holm
from evaluators.statistics.rates import FEW, few_items, rate

__all__ = [
    "FEW",
    "Dependence",
    "Floats",
    "Histories",
    "HistoryCodes",
    "Ints",
    "Z",
    "chance_corrected",
    "codes",
    "components",
    "corrected_rates",
    "few_items",
    "guess_alike",
    "holm",
    "known",
    "linear",
    "mcnemar_exact",
    "mean",
    "paired",
    "paired_means",
    "rate",
    "retention",
    "sign_flip",
    "weighted_mean",
    "wilson",
    "with_holm",
]
