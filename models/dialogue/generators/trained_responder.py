"""A trained generator as a responder (§3.6 of MK-TOD: retrieve, prepend meta knowledge, generate)."""

from collections.abc import Sequence
from typing import Literal

import torch

from models.dialogue.generators.base import Answer, DialogueItem, Progress
from models.dialogue.generators.trainable import AnyGenerator
from models.dialogue.retrieval.meta_knowledge import MetaKnowledge
from models.lm.prompts import plan_batches


class TrainedResponder:
    """Answers greedily or by beam search from all entities of a turn."""

    def __init__(
        self,
        generator: AnyGenerator,
        meta: MetaKnowledge,
        *,
        device: torch.device | str,
        num_beams: int = 1,
        max_new_tokens: int | None = None,
        batch_size: int = 32,
    ) -> None:
        """Prepare the generator for inference.

        Args:
            generator: The generator; moved to `device` and put into evaluation mode.
            meta: How meta knowledge is written before an entity: as in training.
            device: Where to compute.
            num_beams: Beams; 1 = greedy.
            max_new_tokens: Longest response; None = the longest of training.
            batch_size: Turns answered together.
        """
        self._generator, self._meta, self._device = generator.to(device).eval(), meta, torch.device(device)
        self._num_beams, self._batch_size = num_beams, batch_size
        self._max_new_tokens = max_new_tokens or generator.cfg.max_response_tokens

    @torch.inference_mode()
    def respond(self, items: Sequence[DialogueItem], *, on_progress: Progress | None = None) -> list[Answer]:
        """Return one answer for each item, in order; turns of similar size are answered together."""
        builder = self._generator.builder
        contexts = list(builder.contexts([(item.context, item.dynamic) for item in items]))
        entities = [[builder.entity_ids(e.entity, self._meta.text(e.meta)) for e in item.entities] for item in items]
        sizes = [self._generator.num_prompt_tokens(c, e) for c, e in zip(contexts, entities, strict=True)]
        answers: dict[int, Answer] = {}
        for batch in plan_batches(sizes, max_rows=self._batch_size):
            texts = self._generator.generate(
                [contexts[i] for i in batch],
                [entities[i] for i in batch],
                num_beams=self._num_beams,
                max_new_tokens=self._max_new_tokens,
                device=self._device,
            )
            answers.update((i, self._answer(text, sizes[i])) for i, text in zip(batch, texts, strict=True))
            if on_progress is not None:
                on_progress(len(answers))
        return [answers[i] for i in range(len(items))]

    def _answer(self, text: str, num_prompt_tokens: int) -> Answer:
        """Count the text's tokens again: generation returns the text alone."""
        count = len(self._generator.builder.response_ids(text)) - 1
        finish: Literal["eos", "length"] = "length" if count >= self._max_new_tokens - 1 else "eos"
        return Answer(text.strip(), num_prompt_tokens, count, finish)
