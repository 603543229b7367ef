"""What there is to choose from, in words: the README's table of strategies.

``python -m subset_selection.catalogue`` prints it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One strategy.

    N examples, K picks, M validation examples, C classes, D features, B batch size, n the examples of a class.
    """

    idea: str
    source: str
    looks_at: str
    cost: str
    """Time and memory of one selection, the pass over the data apart."""
    knobs: tuple[str, ...]
    use: str


NOTHING = "nothing"
LAST_LAYER = "last layer"
CATALOGUE: dict[str, Entry] = {
    "full": Entry("all of the data", "", NOTHING, "none", (), "the yardstick"),
    "random": Entry(
        "one uniform sample for the whole run", "", NOTHING, "O(N)", ("balance",), "the least to beat"
    ),
    "adaptive-random": Entry(
        "a fresh uniform sample every `select_every` epochs",
        "",
        NOTHING,
        "O(N)",
        ("select_every", "balance", "mislabelled"),
        "where reading other files is dear: a subset is kept for some epochs",
    ),
    "rs2": Entry(
        "repeated random sampling without replacement: all examples are visited equally often",
        "Okanovic et al., ICLR 2024",
        NOTHING,
        "O(N) an epoch",
        ("balance", "mislabelled"),
        "first; with `balance=class` where classes are unequal",
    ),
    "rs2-with-replacement": Entry(
        "a fresh uniform sample every epoch",
        "Okanovic et al., ICLR 2024",
        NOTHING,
        "O(N) an epoch",
        ("balance", "mislabelled"),
        "to compare with `rs2`",
    ),
    "glister": Entry(
        "greedily the examples whose gradient step lowers the validation loss most",
        "Killamsetty et al., AAAI 2021",
        LAST_LAYER + ", validation",
        "stochastic O(K·M·C·min(D, 5N/K)), naive O(K·N·C·D), rgreedy O(rounds·N·C·D); memory O((N+M)(C+D))",
        (
            "scope",
            "greedy",
            "greedy_rounds",
            "eta",
            "batch_size",
            "select_every",
            "candidates_per_pick",
            "balance",
            "mislabelled",
        ),
        "to follow the paper; within a point of `rs2` on clean data here, far below with wrong labels",
    ),
    "gradmatch": Entry(
        "few weighted examples whose gradient is that of all, class by class (orthogonal matching pursuit)",
        "Killamsetty et al., ICML 2021",
        LAST_LAYER,
        "O(K·n·(C+D+K/C)); memory O(K·n)",
        ("scope", "lam", "eps", "match", "select_every", "candidates_per_pick", "balance", "mislabelled"),
        "with `match=validation` where labels are wrong and validation is trusted",
    ),
    "gradmatch-pb": Entry(
        "the same over mini-batches of a random partition",
        "Killamsetty et al., ICML 2021",
        LAST_LAYER,
        "O(N·C·D + (N/B)²·C·D); memory O((N/B)² + N·D)",
        ("batch_size", "lam", "eps", "match", "select_every", "candidates_per_pick", "mislabelled"),
        "to follow the paper; the cheapest of the gradient methods",
    ),
    "craig": Entry(
        "the examples whose gradients are nearest to all others', weighted by how many they stand for",
        "Mirzasoleiman et al., ICML 2020",
        LAST_LAYER,
        "O(C·n²·(C+D)); memory 4n² bytes up to n = 20,000, bounded beyond",
        ("scope", "greedy", "select_every", "candidates_per_pick", "balance", "mislabelled"),
        "to follow the paper",
    ),
    "craig-pb": Entry(
        "the same over mini-batches of a random partition",
        "Mirzasoleiman et al., ICML 2020; Killamsetty et al., ICML 2021",
        LAST_LAYER,
        "O(N·C·D + (N/B)²·C·D); memory O((N/B)² + N·D)",
        ("batch_size", "select_every", "candidates_per_pick", "mislabelled"),
        "to follow the paper",
    ),
    "facility-location": Entry(
        "the examples whose features are nearest to all others'",
        "Wei et al., ICML 2015",
        LAST_LAYER,
        "O(C·n²·D); memory as `craig`",
        ("greedy", "select_every", "candidates_per_pick", "balance", "mislabelled"),
        "a representative subset, for training, labelling or storage: level with `rs2` on clean data here",
    ),
    "graph-cut": Entry(
        "similar to all, dissimilar to each other",
        "Iyer et al., ALT 2021",
        LAST_LAYER,
        "O(K·n·D); memory O(N·D)",
        ("select_every", "candidates_per_pick", "balance", "mislabelled"),
        "to follow the paper; 16 points below `rs2` here",
    ),
    "k-centre": Entry(
        "always the example that is farthest from those picked",
        "Sener & Savarese, ICLR 2018",
        LAST_LAYER,
        "O(K·n·D); memory O(N·D)",
        ("select_every", "candidates_per_pick", "balance", "mislabelled"),
        "coverage of rare forms, and of outliers; 8 points below `rs2` here",
    ),
    "herding": Entry(
        "a subset whose mean feature follows the class's",
        "Welling, ICML 2009",
        LAST_LAYER,
        "O(K·n·D); memory O(N·D)",
        ("select_every", "candidates_per_pick", "balance", "mislabelled"),
        "prototypes; 3 points below `rs2` here",
    ),
    "el2n": Entry(
        "the largest errors ‖p − y‖, averaged over the rounds so far",
        "Paul et al., NeurIPS 2021",
        LAST_LAYER,
        "O(N·C)",
        ("select_every", "balance", "mislabelled"),
        "large fractions of clean data, says its paper; at 10% far below random subsets here",
    ),
    "forgetting": Entry(
        "the examples most often unlearned from one round to the next",
        "Toneva et al., ICLR 2019",
        LAST_LAYER,
        "O(N·C)",
        ("select_every", "balance", "mislabelled"),
        "large fractions of clean data, says its paper; at 10% far below random subsets here",
    ),
    "moderate": Entry(
        "those at the median distance from their class's mean",
        "Xia et al., ICLR 2023",
        LAST_LAYER,
        "O(N·D)",
        ("select_every", "candidates_per_pick", "balance", "mislabelled"),
        "where outliers and duplicates both abound, says its paper; 3 points below `rs2` on clean data here",
    ),
    "ccs": Entry(
        "equally many of every hardness, the hardest left out",
        "Zheng et al., ICLR 2023",
        LAST_LAYER,
        "O(N·C)",
        ("hardest_dropped", "select_every", "balance", "mislabelled"),
        "small fractions, says its paper; 7 points below `rs2` here",
    ),
    "infobatch": Entry(
        "examples of below-average loss sit out at random, and count more when they do not",
        "Qin et al., ICLR 2024",
        "training losses",
        "O(N) an epoch; sets its own size",
        ("prune_probability", "final_share"),
        "to save about a third with the accuracy of all data",
    ),
    "loss-filter": Entry(
        "of a batch of candidates, those of highest loss",
        "Jiang et al., 2019; Kawaguchi & Lu, AISTATS 2020",
        "the candidates' losses",
        "a forward pass over `candidates_per_pick`·K examples an epoch",
        ("candidates_per_pick",),
        "not at small budgets: below `rs2` here, and the worst with wrong labels",
    ),
    "rho-loss": Entry(
        "of a batch of candidates, those whose loss exceeds most that of a model trained on validation",
        "Mindermann et al., ICML 2022",
        "the candidates' losses, validation",
        "a training on validation, then as `loss-filter`",
        ("candidates_per_pick",),
        "wrong labels, and a trusted validation set: far ahead of all others here, at 2.5 times the time",
    ),
}


def markdown_table() -> str:
    """One row a strategy."""
    rows = [
        "| strategy | idea | source | looks at | time and memory of a selection | its hyperparameters | when to use it "
        "|",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, entry in CATALOGUE.items():
        knobs = ", ".join(f"`{knob}`" for knob in entry.knobs)
        rows.append(
            f"| `{name}` | {entry.idea} | {entry.source} | {entry.looks_at} | {entry.cost} | {knobs} | {entry.use} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    print(markdown_table())
