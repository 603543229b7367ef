"""Made by ``python -m benchmarks.learning_curves --fit``, on half of the tables of LCDB; not by hand."""

SCORE_DEVIATIONS = 1.787
"""Half the width of a 90% interval for a score, in deviations of the curve."""
GAIN_DEVIATIONS = 2.525
"""The same for the difference of two scores."""
RISK: tuple[tuple[float, ...], ...] = (
    (0.7014, -1.543, -0.7993, 0.3819, -0.02305, 0.3131, 0.3076, -0.1247, 0.003885, 1.395),
    (-0.3098, -1.092, 0.2232, 0.3371, -0.1272, 0.2254, 0.08984, -0.1795, 0.03228, 0.687),
    (-0.4304, -1.153, 0.07831, 0.4449, -0.2063, 0.23, 0.07697, -0.1735, 0.04936, 0.8326),
)
"""Of each step of the plan, the offset and the weights of the nine features in the logit of the risk."""
RISK_BEFORE: tuple[tuple[float, ...], ...] = (
    (1.199, -1.531, -0.1824, 0.3705, -0.08085, 0.3652, 0.2827, -0.3049, -0.026, 0.9945),
    (0.8754, -1.488, -0.2792, 0.4588, -0.1376, 0.4436, 0.3781, -0.2737, -0.005538, 1.122),
)
"""The same of the point before the last, from the second step."""
