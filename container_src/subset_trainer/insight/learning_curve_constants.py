"""Made by ``python -m benchmarks.learning_curves --fit``, on half of the tables of LCDB; not by hand."""

SCORE_DEVIATIONS = 1.787
"""Half the width of a 90% interval for a score, in deviations of the curve."""
GAIN_DEVIATIONS = 2.525
"""The same for the difference of two scores."""
RISK: tuple[tuple[float, ...], ...] = (
    (1.701, -1.037, -0.3836, 0.4373, 0.06321, 0.238, 0.2391, 0.5924, -0.3917),
    (1.465, -0.545, 0.5114, 0.4487, -0.2738, 0.08241, 0.05498, 0.2825, -0.2867),
    (1.107, -0.6211, 0.363, 0.4813, -0.2875, 0.116, 0.06189, 0.3546, -0.2837),
)
"""Of each step of the plan, the offset and the weights of the eight features in the logit of the risk."""
