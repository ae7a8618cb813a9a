"""The target with its loss inside `forward`, so that DDP and FSDP see one module from inputs to loss."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from models.errors import SourceError
from models.fusion.buckets import TailMode, TeacherRows
from models.fusion.losses import FusionLoss, fusion_loss, fusion_loss_from_logits
from models.fusion.train.batches import FusionBatch
from models.lm.head import head_of
from models.lm.lora import through_head

logger = logging.getLogger(__name__)

_LossOfRows = Callable[[slice, TeacherRows | None], FusionLoss]


class FusionOutput(NamedTuple):
    """The losses of one micro-batch.

    Attributes:
        loss: Scalar, to be differentiated.
        infer: Loss of the response rows (inference mode), or None if there are none.
        train: Loss of the ground-truth rows (training mode), or None if there are none.
    """

    loss: Tensor
    infer: FusionLoss | None
    train: FusionLoss | None


class FusionModule(nn.Module):
    """A causal language model whose forward pass is the fusion loss of a micro-batch (eq. 3 and 6 of ProFuser).

    Attributes:
        lm: The target, or its `PeftModel`.
        fused: Whether head and loss are computed together; heads that are more than a matrix product need full logits.
    """

    def __init__(self, lm: nn.Module, *, temperature: float = 1.0, tail: TailMode = "bucket", chunk: int = 1024) -> None:
        """Wrap `lm`; the settings are those of `fusion_loss`."""
        super().__init__()
        self.lm = lm
        self._temperature, self._tail, self._chunk = temperature, tail, chunk
        self._backbone: Callable[..., Tensor] | None = None
        try:
            self._backbone = head_of(self.causal_lm).backbone
        except SourceError as err:
            logger.warning("%s The loss is computed from full logits, which takes more memory.", err)

    @property
    def fused(self) -> bool:
        """Whether logits exist for one chunk of response rows at a time only."""
        return self._backbone is not None

    @property
    def causal_lm(self) -> Any:
        """The language model inside adapters."""
        lm: Any = self.lm
        return lm.get_base_model() if hasattr(lm, "get_base_model") else lm

    def causal_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state of this module under the names of `causal_lm`."""
        prefix = next(f"{name}." for name, module in self.named_modules() if module is self.causal_lm)
        return {key.removeprefix(prefix): tensor for key, tensor in state.items()}

    def forward(self, batch: FusionBatch, *, scale_infer: float, scale_train: float, beta: float) -> FusionOutput:
        """Return scale_infer · Σ(SFT + β·KL) over responses + scale_train · the same over ground truths.

        Args:
            batch: One micro-batch. Without positions its loss is 0, with a gradient of 0 for every parameter.
            scale_infer: w_infer over the number of response tokens of the whole optimiser step.
            scale_train: w_train over the number of ground-truth tokens of the whole optimiser step.
            beta: β.
        """
        loss_of = self._fused_loss(batch, beta) if self.fused else self._logits_loss(batch, beta)
        split = batch.num_infer
        infer = loss_of(slice(0, split), batch.infer_teacher) if split else None
        # A batch without positions takes this branch: every parameter must take part, or DDP would wait for it.
        train = loss_of(slice(split, None), batch.train_teacher) if batch.num_train or not split else None
        terms = [scale * mode.objective for scale, mode in ((scale_infer, infer), (scale_train, train)) if mode is not None]
        return FusionOutput(terms[0] if len(terms) == 1 else terms[0] + terms[1], infer, train)

    def _fused_loss(self, batch: FusionBatch, beta: float) -> _LossOfRows:
        assert self._backbone is not None
        # index_select: the backward of indexing takes a hundred times as long on the CPU.
        hidden = self._backbone(batch.input_ids, None).flatten(0, 1).index_select(0, batch.positions)
        # Looked up at every call: FSDP replaces the parameters, one kept from before would be stale.
        states, weight, bias = through_head(self.causal_lm.get_output_embeddings(), hidden)

        def loss_of(rows: slice, teacher: TeacherRows | None) -> FusionLoss:
            return fusion_loss(
                states[rows],
                weight,
                bias,
                batch.labels[rows],
                teacher,
                beta=beta,
                temperature=self._temperature,
                tail=self._tail,
                chunk=self._chunk,
            )

        return loss_of

    def _logits_loss(self, batch: FusionBatch, beta: float) -> _LossOfRows:
        logits = self.lm(input_ids=batch.input_ids, use_cache=False).logits.flatten(0, 1).index_select(0, batch.positions)

        def loss_of(rows: slice, teacher: TeacherRows | None) -> FusionLoss:
            return fusion_loss_from_logits(
                logits[rows], batch.labels[rows], teacher, beta=beta, temperature=self._temperature, tail=self._tail
            )

        return loss_of
