"""A text classifier that Hugging Face's Trainer trains on a fifth of its data, chosen again every other epoch."""

import sys
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

from subset_selection.hf import SubsetTrainer

torch.manual_seed(0)
labels = torch.randint(10, (3_000,))
tokens = torch.randint(100, (3_000, 8))
tokens[:, 3:5] = torch.randint(6, (3_000, 2)) + 6 * labels[:, None]  # two words of its class
rows: Any = [
    {"input_ids": ids, "label": label} for ids, label in zip(tokens.tolist(), labels.tolist(), strict=True)
]

config: dict[str, Any] = {"num_labels": 10, "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 1}
shape: dict[str, Any] = {"num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 8}
trainer = SubsetTrainer(
    model=BertForSequenceClassification(BertConfig(**config, **shape)),
    args=TrainingArguments(
        sys.argv[1] if len(sys.argv) > 1 else "hugging_face",  # the folder of its checkpoints
        num_train_epochs=10,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=256,
        learning_rate=0.005,
        save_strategy="epoch",
        save_total_limit=1,
        use_cpu=True,
        report_to=[],
    ),
    train_dataset=rows[:2_000],
    eval_dataset=rows[2_000:],
    compute_metrics=lambda answers: {"accuracy": (answers.predictions.argmax(1) == answers.label_ids).mean()},
    selection={"strategy": "gradmatch", "fraction": 0.2, "select_every": 2},
)
trainer.train(resume_from_checkpoint=len(sys.argv) > 2)  # from its last checkpoint: it resumes
print(f"accuracy on 1000 test examples: {trainer.evaluate()['eval_accuracy']:.1%}")
