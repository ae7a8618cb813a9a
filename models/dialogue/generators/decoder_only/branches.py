"""Log-probabilities of a response behind prompts that begin alike, the common beginning computed once.

A turn is one row: its prefix, then the branches one after the other. A branch attends to the prefix and to itself, and its
positions go on where the prefix ends, so that it cannot tell that there are others. Nothing is padded but the end of a row, and
there is no cache: layers may be recomputed for gradient checkpointing.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from models.dialogue.generators.trainable import Ids, pad_ids, token_logprobs
from models.errors import SourceError
from models.lm.head import Head, backbone_module, head_of
from models.lm.lora import through_head


@dataclass(frozen=True, slots=True)
class Branches:
    """Prompts with a common beginning, and the response behind each.

    Attributes:
        prefix: The beginning.
        suffixes: The rest of each prompt, at least one token.
        response: The response, end token included.
    """

    prefix: Ids
    suffixes: Sequence[Ids]
    response: Ids


@dataclass(frozen=True, slots=True)
class _Rows:
    """Token rows in the order in which they are computed.

    Attributes:
        ids: Tokens of each row.
        positions: Position of each token in its prompt.
        branches: Branch of each token, from 1 on; 0 = prefix.
        predicting: (row, place) of the states that predict the response tokens, by branch and token.
    """

    ids: list[list[int]]
    positions: list[list[int]]
    branches: list[list[int]]
    predicting: list[tuple[int, int]]


def _rows(turns: Sequence[Branches], *, together: bool) -> _Rows:
    """Lay out the branches, those of a turn in one row if `together`, else each in a row of its own."""
    rows = _Rows([], [], [], [])
    for turn in turns:
        for number, suffix in enumerate(turn.suffixes, start=1):
            if number == 1 or not together:
                rows.ids.append(list(turn.prefix))
                rows.positions.append(list(range(len(turn.prefix))))
                rows.branches.append([0] * len(turn.prefix))
            # The last token of a response predicts nothing that is wanted.
            more = [*suffix, *turn.response[:-1]]
            first = len(rows.ids[-1]) + len(suffix) - 1
            rows.predicting.extend((len(rows.ids) - 1, first + j) for j in range(len(turn.response)))
            rows.ids[-1] += more
            rows.positions[-1] += range(len(turn.prefix), len(turn.prefix) + len(more))
            rows.branches[-1] += [number] * len(more)
    return rows


class BranchReader:
    """A causal LM that reads branches.

    Attributes:
        model: The model; adapters may be in its layers.
    """

    def __init__(self, model: PreTrainedModel, *, pad_id: int, longest: int) -> None:
        """Find out how the model can read.

        Args:
            model: Any causal LM.
            pad_id: An id that has an embedding.
            longest: Tokens of the longest prompt with its response.
        """
        self.model, self._pad_id = model, pad_id
        self._head: Head | None
        try:
            self._head = head_of(model)
        except SourceError:  # a head that is more than a matrix product: full logits, which take more memory
            self._head = None
        self.shares = self._head is not None and _takes_trees(model, longest=longest) and self._agrees()

    def logprobs(self, turns: Sequence[Branches]) -> Tensor:
        """Return log p of every response token, float32[N]: by turn, branch and token."""
        together = self.shares and any(len(turn.suffixes) > 1 for turn in turns)
        labels = [i for turn in turns for _ in turn.suffixes for i in turn.response]
        return self._logprobs(_rows(turns, together=together), labels, together=together)

    def _logprobs(self, rows: _Rows, labels: Sequence[int], *, together: bool) -> Tensor:
        device = self.model.device
        ids, _ = pad_ids(rows.ids, pad_id=self._pad_id, device=device)
        width = ids.shape[1]
        places = torch.tensor([row * width + place for row, place in rows.predicting], device=device)
        wanted = torch.tensor(labels, dtype=torch.int64, device=device)
        if self._head is None:
            logits = self.model(input_ids=ids, use_cache=False).logits.flatten(0, 1).index_select(0, places)
            return torch.log_softmax(logits.float(), -1).gather(1, wanted[:, None]).squeeze(1)
        # Padding stands at the end, where no token attends to it.
        more = self._tree(rows, device=device) if together else {}
        hidden = self._head.backbone(ids, more.pop("attention_mask", None), **more).flatten(0, 1).index_select(0, places)
        states, weight, bias = through_head(self.model.get_output_embeddings(), hidden)
        return token_logprobs(states, weight, wanted, bias=bias)

    def _tree(self, rows: _Rows, *, device: torch.device) -> dict[str, Tensor]:
        """Return `position_ids` int64[R, L] and `attention_mask` [R, 1, L, L], True where a token attends."""
        positions, _ = pad_ids(rows.positions, pad_id=0, device=device)
        branch, _ = pad_ids(rows.branches, pad_id=-1, device=device)
        order = torch.arange(branch.shape[1], device=device)
        mask = (order[:, None] >= order) & ((branch[:, None] == 0) | (branch[:, :, None] == branch[:, None]))
        if self.model.config._attn_implementation != "eager":
            return {"position_ids": positions, "attention_mask": mask[:, None]}
        dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else self.model.dtype
        added = torch.zeros(mask.shape, dtype=dtype, device=device).masked_fill(~mask, torch.finfo(dtype).min)
        return {"position_ids": positions, "attention_mask": added[:, None]}

    @torch.no_grad()
    def _agrees(self) -> bool:
        """Whether branches in one row have the log-probabilities that they have in rows of their own, on a small example."""
        embedding: Any = self.model.get_input_embeddings()
        used, modes = embedding.weight, [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        numbers = torch.randint(min(len(used), 1000), (24,), generator=torch.Generator().manual_seed(0)).tolist()
        turn = Branches(numbers[:8], (numbers[8:11], numbers[11:18]), numbers[18:])
        twice = [*turn.response, *turn.response]
        try:
            with torch.autocast(self.model.device.type, enabled=False):
                apart, together = (self._logprobs(_rows([turn], together=t), twice, together=t) for t in (False, True))
        finally:
            for module, training in modes:
                module.training = training
        tolerance = 1e-4 if used.dtype == torch.float32 else 0.1
        return bool(torch.allclose(apart, together, rtol=tolerance, atol=tolerance))


def _takes_trees(model: PreTrainedModel, *, longest: int) -> bool:
    """Whether a model takes positions and a mask of its own, and sees all of a prompt in every layer."""
    backbone = backbone_module(model)
    if backbone is None or "position_ids" not in inspect.signature(backbone.forward).parameters:
        return False
    if model.config._attn_implementation not in ("sdpa", "eager"):
        return False
    config = model.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    slides = getattr(config, "use_sliding_window", True)
    return all(window is None or not slides or window >= longest for window in windows)
