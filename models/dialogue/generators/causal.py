"""A local causal LM, such as the fused model, as a response generator: in-context learning, nothing is trained."""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace

from models.dialogue.generators.base import Answer, DialogueItem, Progress
from models.dialogue.generators.in_context import InContext, first_utterance, report_cuts
from models.errors import SourceError
from models.lm.answers import generate_responses
from models.lm.loading import LoadedSource
from models.lm.prompts import PromptItem
from models.params.teach import ResponseParams
from models.schema import Message
from models.tokenization.chat import render_prompt

_log = logging.getLogger(__name__)


def _is_mark(token: str) -> bool:
    """Whether an added token is more than a run of blanks or a single sign."""
    return len(token.strip()) > 1


class CausalResponder:
    """Answers greedily through the model's own chat template.

    A context shorter than the lengths requested is not an error: the response gets at most half of it, the prompt the rest;
    what does not fit is cut and counted (`Answer.cuts`). If a template rejects system messages, the instructions go into the
    first user message.
    """

    def __init__(self, source: LoadedSource, in_context: InContext, *, batch_size: int = 8) -> None:
        """Settle the lengths for this model.

        Args:
            source: The model.
            in_context: How its prompts are made.
            batch_size: Turns answered together.

        Raises:
            SourceError: The model's template cannot render a prompt.
        """
        self._source, self._batch_size = source, batch_size
        # A rendered prompt is parsed for special tokens: those that a user or an entity spells are taken apart by a blank.
        tokens = sorted(filter(_is_mark, source.codec.tokenizer.get_added_vocab()), key=len, reverse=True)
        self._spelled = re.compile("|".join(map(re.escape, tokens)) or r"(?!)")
        length = source.source.context_length
        most = min(in_context.max_new_tokens, length // 2)
        if most < in_context.max_new_tokens:
            _log.warning("%s has a context of %d tokens: responses end after %d", source.source.name, length, most)
        self._in_context = replace(
            in_context,
            prompt=replace(in_context.prompt, system_role=self._takes_system()),
            max_prompt_tokens=min(in_context.max_prompt_tokens, length - most),
            max_new_tokens=most,
        )

    def respond(self, items: Sequence[DialogueItem], *, on_progress: Progress | None = None) -> list[Answer]:
        """Return one answer for each item, in order.

        Raises:
            NumericsError: The model's logits are NaN.
        """
        fitted = self._in_context.fit(items, count=self._count)
        prompts = [PromptItem(item.id, chat.messages) for item, chat in zip(items, fitted, strict=True)]
        cfg = ResponseParams(max_new_tokens=self._in_context.max_new_tokens, batch_size=self._batch_size)
        responses = generate_responses(self._source, prompts, cfg, on_progress=on_progress)
        longest = self._in_context.max_prompt_tokens
        answers = [
            Answer(first_utterance(r.text), min(chat.num_tokens, longest), r.num_tokens, r.finish, chat.cuts)
            for r, chat in zip(responses, fitted, strict=True)
        ]
        report_cuts(answers, model=self._source.source.name)
        return answers

    def _count(self, messages: Sequence[Message]) -> int:
        codec = self._source.codec
        return len(codec.encode_prompts([self._render(messages)])[0])

    def _render(self, messages: Sequence[Message]) -> str:
        codec = self._source.codec
        plain = [
            replace(m, content=self._spelled.sub(lambda token: f"{token[0][0]} {token[0][1:]}", m.content)) for m in messages
        ]
        return render_prompt(self._source.source.chat_template, plain, **codec.template_variables)

    def _takes_system(self) -> bool:
        """Whether the template renders a system message, and with its text: some leave it out without a word."""
        probe = "These are the instructions"
        user = Message("user", "hello")
        try:
            return probe in self._render([Message("system", probe), user])
        except SourceError:
            self._render([user])  # a template that renders nothing at all is the caller's error
            _log.info("the template of %s takes no system message", self._source.source.name)
            return False
