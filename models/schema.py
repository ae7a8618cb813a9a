"""Plain records that pass between the steps, frozen and slotted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Check = Literal["none", "exact", "contains", "number"]
Split = Literal["train", "valid", "test"]
Finish = Literal["eos", "length", "content_filter"]
WithoutWinner = Literal["", "empty", "truncated", "abstained", "gate", "wrong"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One instruction, with its ground-truth response where there is one.

    Attributes:
        id: Stable identity, unique in the corpus.
        family: Capability family (knowledge, reasoning, safety, …) or data set name; scores are per family.
        messages: The prompt, last turn by the user. For plain text continuation one user message with `format` text.
        response: Ground-truth response y_i; None if there is only a prompt, which takes part in inference mode alone.
        answer: What `check` looks for in a model's response, or None.
        check: How correctness is tested: `exact` (normalised equality), `contains`, `number` (last number), `none`.
        seen_by: Names of sources known to have been trained on this row.
        ended: Whether the response is complete; one that its reader truncated has no end label.
    """

    id: str
    family: str
    messages: tuple[Message, ...]
    response: str | None = None
    answer: str | None = None
    check: Check = "none"
    seen_by: tuple[str, ...] = ()
    ended: bool = True

    @property
    def ground_truth(self) -> str:
        """The response of an example that has one.

        Raises:
            ValueError: There is only a prompt.
        """
        if self.response is None:
            raise ValueError(f"example `{self.id}` has no ground truth; ask for `response` where there may be none")
        return self.response

    @property
    def judgeable(self) -> bool:
        """Whether there is something to compare an answer with: a ground truth, or what its check looks for."""
        return self.response is not None or self.check != "none"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict; defaults are left out."""
        row: dict[str, Any] = {
            "id": self.id,
            "family": self.family,
            "messages": [{"role": m.role, "content": m.content} for m in self.messages],
        }
        if self.response is not None:
            row["response"] = self.response
        if self.answer is not None:
            row["answer"] = self.answer
            row["check"] = self.check
        if self.seen_by:
            row["seen_by"] = list(self.seen_by)
        if not self.ended:
            row["ended"] = False
        return row


@dataclass(frozen=True, slots=True)
class ResolvedSource:
    """A source model made concrete: where it is, what exactly it is, how it is spoken to.

    Attributes:
        name: Name used in params, tables and file names.
        location: Folder or hub id. A relative folder is relative to the file that holds this record.
        revision: Hub revision, or None for a folder.
        digest: sha256 over config and weights (folder) or `hub:<id>@<revision>`.
        tokenizer_digest: sha256 over the tokenizer's behaviour-defining files.
        chat_template: Jinja text, rendered as `apply_chat_template` of transformers does.
        context_length: Longest input in tokens.
        dtype: Weights' dtype when loaded for inference.
        architecture: `config.architectures[0]`.
        num_parameters: Parameters of the model.
        head_size: Rows of the output head (may exceed the tokenizer's vocabulary).
        vocab_size: len(tokenizer).
        trust_remote_code: Whether the repository's own code may run.
        end_ids: Tokens that end a turn, the label of a finished answer first; ids of the generation config included.
        template_date: ISO date that the chat template sees as today.
        notes: Sentences that its user must know.
    """

    name: str
    location: str
    revision: str | None
    digest: str
    tokenizer_digest: str
    chat_template: str
    context_length: int
    dtype: Literal["float32", "bfloat16", "float16"]
    architecture: str
    num_parameters: int
    head_size: int
    vocab_size: int
    trust_remote_code: bool = False
    end_ids: tuple[int, ...] = ()
    template_date: str = "2024-07-26"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """A source's response to one prompt (ỹ_i^j of the paper).

    Attributes:
        id: Example id.
        source: Name of the source.
        sample: Number of the sample.
        text: The answer.
        num_tokens: Tokens written, without the end token.
        finish: `eos` where the source ended it; `length` or `content_filter` where something else did: such a text has no end.
        prompt_truncated: Whether the prompt lost its beginning.
        problem: Why an endpoint gave no answer; "" where it gave one.
    """

    id: str
    source: str
    sample: int
    text: str
    num_tokens: int
    finish: Finish
    prompt_truncated: bool = False
    problem: str = ""

    @property
    def ended(self) -> bool:
        """Whether the source ended its answer."""
        return self.finish == "eos" and not self.problem


@dataclass(frozen=True, slots=True)
class SourceScore:
    """One source on one text: summed cross-entropy over the response and its size.

    Attributes:
        nll: Σ −log p over response tokens and, unless the text was cut, the end token, nats, float64.
        num_tokens: Tokens summed.
        num_bytes: UTF-8 bytes of the response.
        lossless: Whether the source's tokenizer reproduces the text byte for byte.
    """

    nll: float
    num_tokens: int
    num_bytes: int
    lossless: bool


@dataclass(frozen=True, slots=True)
class Advantage:
    """The winning sources of one example in both modes.

    Attributes:
        id: Example id.
        family: Its family.
        train_winner: Source with the lowest cross-entropy on the ground truth (M^MinCE, eq. 1); None without a ground truth.
        infer_winner: Source of the response that won the vote (eq. 2); None if there is none.
        infer_sample: Which of its samples; None without a winner.
        train_scores: Source name → cross-entropy in the unit of `teach.advantage.ce_unit`; empty without a ground truth.
        infer_votes: `source#sample` → number of votes, for the answers that could win.
        tie: The rule that decided the vote: `votes`, `reward`, `ce` or `order`; `none` if there was no vote. (Who wins is
            another matter where `teach.rewards.winner` is not `vote`.)
        infer_rewards: `source#sample` → mean z-scored reward.
        without_winner: Why there is no winner: all answers are `empty`, the others `truncated`, every scorer `abstained`, or the
            vote was not clear enough for the `gate` (`teach.rewards.accept`), or an oracle knows that all are `wrong`; "" with a
            winner.
    """

    id: str
    family: str
    train_winner: str | None
    infer_winner: str | None
    infer_sample: int | None
    train_scores: Mapping[str, float]
    infer_votes: Mapping[str, int]
    tie: Literal["votes", "reward", "ce", "order", "none"] = "votes"
    infer_rewards: Mapping[str, float] = field(default_factory=dict)
    without_winner: WithoutWinner = ""
