# ruff: noqa: INP001 - a folder of one model's files, not a package
"""The network of note-specialty: a pretrained BERT encoder and a trained head; in PyTorch.

The encoder is all-MiniLM-L6-v2: 6 layers, width 384, 12 heads; it stays as it was published. The
head looks at the mean of its token vectors and at the tokens themselves, each weighed by how rare
it is: what an encoder of general English makes of a word of medicine is vague, the word is not.

Encoder and head are exported apart, so that the encoder can be quantized and measured once and any
head put on it.

Source: Devlin et al., BERT (2019); Reimers and Gurevych, Sentence-BERT (2019), for mean pooling;
Spärck Jones, A Statistical Interpretation of Term Specificity (1972), for rarity.
"""

import io
import json
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import compose
from torch import Tensor, nn

Floats = npt.NDArray[np.float64]

WIDTH, HEADS, INNER, LAYERS, WORDS = 384, 12, 1536, 6, 30522
EPSILON = 1e-12
HIDDEN = 1e4
"""What is taken off the logit of a padded token, so that its share of attention is 0."""
MAX_TOKENS = 128
"""Most tokens of a note: the longest of the training texts has 116."""
OPSET = 17
EMBEDDING = "embedding"
_INPUTS = ("input_ids", "attention_mask")


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

    def forward(self, vectors: Tensor, hide: Tensor) -> Tensor:
        """Transform token vectors.

        Args:
            vectors: float32 (n, length, 384).
            hide: float32 (n, 1, 1, length), 0 for a token and very negative for padding.
        """
        attended = self.gather(self._attend(vectors, hide))
        vectors = self.norm1(vectors + attended)
        inner = nn.functional.gelu(self.widen(vectors))
        return self.norm2(vectors + self.narrow(inner))

    def _attend(self, vectors: Tensor, hide: Tensor) -> Tensor:
        n, length = vectors.shape[0], vectors.shape[1]
        query, key, value = (
            part.view(n, length, HEADS, WIDTH // HEADS).transpose(1, 2)
            for part in self.ask(vectors).split(WIDTH, dim=-1)
        )
        likeness = query @ key.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5
        shares = torch.softmax(likeness + hide, dim=-1)
        return (shares @ value).transpose(1, 2).reshape(n, length, WIDTH)


class Encoder(nn.Module):  # type: ignore[misc]
    """Token ids to the mean of the last layer's token vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.word = nn.Embedding(WORDS, WIDTH)
        self.position = nn.Parameter(torch.zeros(MAX_TOKENS, WIDTH))
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embed notes.

        Args:
            ids: int64 (n, length), token ids, padded.
            mask: int64 (n, length), 1 for a token and 0 for padding.

        Returns:
            float32 (n, 384).
        """
        vectors = self.norm(self.word(ids) + self.position[: ids.shape[1]])
        for layer in self.layers:
            vectors = layer(vectors, _hide(mask))
        weight = mask.unsqueeze(-1).to(torch.float32)
        return (vectors * weight).sum(1) / weight.sum(1)


@dataclass(frozen=True)
class Head:
    """What is trained: a straight line on the embedding and on the tokens, each of length 1.

    Attributes:
        meaning: (384, classes) weights of the embedding.
        rarity: (words,) how much a token counts; 0 for one that no training note has.
        tokens: (words, classes) weights of the tokens.
        bias: (classes,).
        temperature: What the logits are divided by.
    """

    meaning: Floats
    rarity: Floats
    tokens: Floats
    bias: Floats
    temperature: float = 1.0


class _HeadGraph(nn.Module):  # type: ignore[misc]
    """The head as a graph; tokens that count for nothing share one row."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        known = np.flatnonzero(head.rarity)
        place = np.zeros(WORDS, dtype=np.int64)
        place[known] = np.arange(1, len(known) + 1)
        none = np.zeros((1, head.tokens.shape[1]))
        self.temperature = head.temperature
        self.register_buffer("place", torch.from_numpy(place))
        self.register_buffer("rarity", _float32(np.concatenate([[0.0], head.rarity[known]])))
        self.register_buffer("tokens", _float32(np.concatenate([none, head.tokens[known]])))
        self.register_buffer("meaning", _float32(head.meaning))
        self.register_buffer("bias", _float32(head.bias))

    def forward(self, ids: Tensor, mask: Tensor, embedding: Tensor) -> Tensor:
        """Probabilities, float32 (n, classes)."""
        places = self.place[ids]
        counted = self.rarity[places] * mask.to(torch.float32)
        # |bag|² is the sum over the pairs of places that hold the same token.
        same = (ids.unsqueeze(1) == ids.unsqueeze(2)).to(torch.float32)
        pairs = (counted.unsqueeze(1) @ same @ counted.unsqueeze(2)).flatten(1)
        bag = (counted.unsqueeze(2) * self.tokens[places]).sum(1) / pairs.sqrt().clamp(min=1e-6)
        unit = embedding / embedding.norm(dim=1, keepdim=True)
        return torch.softmax((unit @ self.meaning + bag + self.bias) / self.temperature, dim=1)


def _float32(values: Floats) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _hide(mask: Tensor) -> Tensor:
    return (mask[:, None, None, :].to(torch.float32) - 1) * HIDDEN


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


def encoder_to_onnx(encoder: Encoder) -> bytes:
    """Export the encoder with dynamic batch and length, weights inside.

    Returns:
        An ONNX model: `input_ids`, `attention_mask` (int64, n x length) → `embedding`.
    """
    return _exported(encoder, _example(), (*_INPUTS, EMBEDDING))


def with_head(encoder: bytes, head: Head) -> bytes:
    """Put a head on an encoder, quantized or not; the head itself stays in fp32.

    Returns:
        An ONNX model: `input_ids`, `attention_mask` (int64, n x length) → `probabilities`.
    """
    example = (*_example(), torch.ones(2, WIDTH))
    graph = _exported(_HeadGraph(head), example, (*_INPUTS, EMBEDDING, "probabilities"))
    lower, upper = onnx.load_from_string(encoder), onnx.load_from_string(graph)
    upper.ir_version = lower.ir_version
    upper = compose.add_prefix(upper, "head/", rename_inputs=False, rename_outputs=False)
    for each in list(upper.graph.input)[: len(_INPUTS)]:
        upper.graph.input.remove(each)
    return bytes(_merged(lower, upper).SerializeToString())


def _merged(lower: onnx.ModelProto, upper: onnx.ModelProto) -> onnx.ModelProto:
    """The nodes of both; what the upper asks for by name, the lower has."""
    joined = onnx.ModelProto()
    joined.CopyFrom(lower)
    joined.graph.node.extend(upper.graph.node)
    joined.graph.initializer.extend(upper.graph.initializer)
    del joined.graph.output[:]
    joined.graph.output.extend(upper.graph.output)
    onnx.checker.check_model(joined)
    return joined


def _example() -> tuple[Tensor, Tensor]:
    ids = torch.tensor([[101, 3255, 2003, 102], [101, 102, 0, 0]])
    return ids, (ids > 0).long()


def _exported(network: nn.Module, example: tuple[Tensor, ...], names: tuple[str, ...]) -> bytes:
    """Export a network; the last of the names is its output's."""
    axes = {name: {0: "n", 1: "length"} if name in _INPUTS else {0: "n"} for name in names}
    target = io.BytesIO()
    with warnings.catch_warnings():
        # The newer exporter needs a package more: decision 0014.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network.eval(),
            example,
            target,
            input_names=list(names[:-1]),
            output_names=[names[-1]],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    return target.getvalue()
