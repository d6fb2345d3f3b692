# ruff: noqa: INP001 - a folder of one model's files, not a package
"""The network of note-specialty: a BERT encoder, masked mean pooling, a softmax head; in PyTorch.

The encoder is all-MiniLM-L6-v2: 6 layers, width 384, 12 heads.

Source: Devlin et al., BERT (2019); Reimers and Gurevych, Sentence-BERT (2019), for mean pooling;
Guo et al., On Calibration of Modern Neural Networks (2017), for the temperature.
"""

import io
import json
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

WIDTH, HEADS, INNER, LAYERS, WORDS = 384, 12, 1536, 6, 30522
EPSILON, DROPOUT = 1e-12, 0.1
KEPT = 3
"""How many layers, from below, stay as they were pretrained; so do the word vectors."""
HIDDEN = 1e4
"""What is taken off the logit of a padded token, so that its share of attention is 0."""
MAX_TOKENS = 128
"""Most tokens of a note: the longest of the training texts has 116."""


class Layer(nn.Module):  # type: ignore[misc]
    """One layer of BERT: attention, then a wide layer; each is added to its input and normalised.

    PyTorch's own attention module fixes the length of a text when it is exported, so it is not
    used here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ask = nn.Linear(WIDTH, 3 * WIDTH)
        self.gather = nn.Linear(WIDTH, WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.widen = nn.Linear(WIDTH, INNER)
        self.narrow = nn.Linear(INNER, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, vectors: Tensor, hide: Tensor) -> Tensor:
        """Transform token vectors.

        Args:
            vectors: float32 (n, length, 384).
            hide: float32 (n, 1, 1, length), 0 for a token and very negative for padding.
        """
        attended = self.drop(self.gather(self._attend(vectors, hide)))
        vectors = self.norm1(vectors + attended)
        inner = nn.functional.gelu(self.widen(vectors))
        return self.norm2(vectors + self.drop(self.narrow(inner)))

    def _attend(self, vectors: Tensor, hide: Tensor) -> Tensor:
        n, length = vectors.shape[0], vectors.shape[1]
        query, key, value = (
            part.view(n, length, HEADS, WIDTH // HEADS).transpose(1, 2)
            for part in self.ask(vectors).split(WIDTH, dim=-1)
        )
        likeness = query @ key.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5
        shares = self.drop(torch.softmax(likeness + hide, dim=-1))
        return (shares @ value).transpose(1, 2).reshape(n, length, WIDTH)


class Encoder(nn.Module):  # type: ignore[misc]
    """Token ids to the mean of the last layer's token vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.word = nn.Embedding(WORDS, WIDTH)
        self.position = nn.Parameter(torch.zeros(MAX_TOKENS, WIDTH))
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.drop = nn.Dropout(DROPOUT)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def start(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Give the token vectors after the layers that training leaves as they are.

        Args:
            ids: int64 (n, length), token ids, padded.
            mask: int64 (n, length), 1 for a token and 0 for padding.

        Returns:
            float32 (n, length, 384).
        """
        vectors = self.drop(self.norm(self.word(ids) + self.position[: ids.shape[1]]))
        for layer in self.layers[:KEPT]:
            vectors = layer(vectors, _hide(mask))
        return vectors

    def finish(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Run the other layers and take the mean over the tokens: float32 (n, 384)."""
        for layer in self.layers[KEPT:]:
            vectors = layer(vectors, _hide(mask))
        weight = mask.unsqueeze(-1).to(torch.float32)
        return (vectors * weight).sum(1) / weight.sum(1)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embed notes: float32 (n, 384)."""
        return self.finish(self.start(ids, mask), mask)


def _hide(mask: Tensor) -> Tensor:
    return (mask[:, None, None, :].to(torch.float32) - 1) * HIDDEN


class Router(nn.Module):  # type: ignore[misc]
    """Encoder and head: the logit of each specialty."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.drop = nn.Dropout(DROPOUT)
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits, float32 (n, classes)."""
        return self.head(self.drop(self.encoder(ids, mask)))


class Answering(nn.Module):  # type: ignore[misc]
    """The router as it is shipped: its logits divided by the temperature, then softmax."""

    def __init__(self, router: Router, temperature: float) -> None:
        super().__init__()
        self.router, self.temperature = router, temperature

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Probabilities, float32 (n, classes)."""
        return torch.softmax(self.router(ids, mask) / self.temperature, dim=1)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read the float32 arrays of a safetensors file: header length, JSON header, raw arrays."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    body = np.frombuffer(content, dtype=np.uint8, offset=8 + length)
    return {
        name: torch.from_numpy(
            body[slice(*each["data_offsets"])].view("<f4").reshape(each["shape"]).copy()
        )
        for name, each in header.items()
        if name != "__metadata__" and each["dtype"] == "F32"
    }


def pretrained(path: Path) -> Encoder:
    """Load the encoder from the weights of all-MiniLM-L6-v2 (safetensors, BERT's names)."""
    bert = read_safetensors(path)
    state = {
        # All tokens are of type 0, so its vector is added to every position once and for all.
        "position": bert["embeddings.position_embeddings.weight"][:MAX_TOKENS]
        + bert["embeddings.token_type_embeddings.weight"][0],
        "word.weight": bert["embeddings.word_embeddings.weight"],
        "norm.weight": bert["embeddings.LayerNorm.weight"],
        "norm.bias": bert["embeddings.LayerNorm.bias"],
    }
    for number in range(LAYERS):
        state |= _layer(bert, f"encoder.layer.{number}.", f"layers.{number}.")
    encoder = Encoder()
    encoder.load_state_dict(state)
    return encoder


def _layer(bert: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    names = {
        "gather.": "attention.output.dense.",
        "norm1.": "attention.output.LayerNorm.",
        "widen.": "intermediate.dense.",
        "narrow.": "output.dense.",
        "norm2.": "output.LayerNorm.",
    }
    state: dict[str, Tensor] = {}
    for kind in ("weight", "bias"):
        state |= {f"{new}{to}{kind}": bert[f"{old}{name}{kind}"] for to, name in names.items()}
        parts = [bert[f"{old}attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
        state[f"{new}ask.{kind}"] = torch.cat(parts)
    return state


def to_onnx(router: Router, temperature: float) -> bytes:
    """Export the network with dynamic batch and length, weights inside.

    Returns:
        An ONNX model: `input_ids`, `attention_mask` (int64, n x length) → `probabilities`.
    """
    example = torch.tensor([[101, 3255, 2003, 102], [101, 102, 0, 0]])
    target = io.BytesIO()
    axes = {0: "n", 1: "length"}
    torch.onnx.export(
        Answering(router, temperature).eval(),
        (example, (example > 0).long()),
        target,
        input_names=["input_ids", "attention_mask"],
        output_names=["probabilities"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "probabilities": {0: "n"}},
        opset_version=17,
        dynamo=False,
    )
    return target.getvalue()
