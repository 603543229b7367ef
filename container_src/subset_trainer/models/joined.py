"""Networks for a table's rows with free text: the table's inputs and the features of each text, in common layers.

An example is one row: the table's D inputs, followed by the L numbers of each text. The common layers see words and
columns together, so that a word may count only where a column has some value; the last linear layer's input, by which
examples are selected, depends on both.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from subset_trainer.models.text_encoder import Body, TextEncoder


class JoinedNGrams(nn.Module):
    """float32 [B, D + L1 + … + LT] → logits [B, C]: the mean of each text's n-grams' embeddings beside the table's
    inputs.

    A text's pairs of words are often its own, so that a network learns it by heart from them and leaves the columns
    unused. In training a share of the n-grams is therefore left out, others in each step (Iyyer et al., "Deep Unordered
    Composition Rivals Syntactic Methods for Text Classification", ACL 2015, section 2.3).

    Args:
        bags: for each text, its buckets int [B, L] → [B, F].
        widths: D, L1, …, LT.
        dropout: the share of n-grams, and of features, that is left out in training.
        head: [B, D + T · F] → logits.
    """

    def __init__(
        self, bags: Sequence[nn.EmbeddingBag], widths: Sequence[int], dropout: float, head: nn.Module
    ) -> None:
        super().__init__()
        self.widths = list(widths)
        self.bags = nn.ModuleList(bags)
        self.nothing = bags[0].num_embeddings - 1
        features = nn.BatchNorm1d(sum(bag.embedding_dim for bag in bags))
        self.norm = nn.Sequential(features, nn.Dropout(dropout))
        self.dropout = dropout
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        table, *texts = inputs.split(self.widths, 1)
        found = [bag(self._some(buckets)) for bag, buckets in zip(self.bags, texts, strict=True)]
        logits: Tensor = self.head(torch.cat([table, self.norm(torch.cat(found, 1))], 1))
        return logits

    def _some(self, buckets: Tensor) -> Tensor:
        if self.training and self.dropout:
            buckets = torch.where(torch.rand_like(buckets) < self.dropout, self.nothing, buckets)
        return buckets.int()


class JoinedEncoder(TextEncoder):
    """float32 [B, D + T · L] → logits [B, C]: the encoder's features of each text beside the table's inputs.

    Args:
        inputs: D.
        texts: T; all are of the same length L.
        head: [B, D + T · F] → logits.
    """

    def __init__(self, given: Body, inputs: int, texts: int, head: nn.Module) -> None:
        super().__init__(given, 1)
        self.inputs, self.texts = inputs, texts
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        table, texts = inputs.tensor_split([self.inputs], 1)
        ids = texts.reshape(len(inputs) * self.texts, -1).int()
        found = self.features(ids).view(len(inputs), -1)
        logits: Tensor = self.head(torch.cat([table, found.to(table.dtype)], 1))
        return logits

    def example(self, ids: Tensor) -> Tensor:
        table = torch.zeros(len(ids), self.inputs)
        return torch.cat([table, ids.float().repeat(1, self.texts)], 1)
