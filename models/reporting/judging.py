"""What a stage asks of judges behind endpoints: requests, and their tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.params.teach import ScorerSpec
from models.reporting.corpus_size import CorpusSize

# Of a judge, whose tokenizer is not known: a large vocabulary on English.
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Judging:
    """Requests to judges, where each answer is graded at the first reply.

    Attributes:
        calls: Requests: answers × judges.
        sent_tokens: Tokens of the requests: grading prompt, conversation, answer.
        reply_tokens: Tokens of the replies at most.
    """

    calls: int
    sent_tokens: int
    reply_tokens: int


def judging_of(scorers: Sequence[ScorerSpec], corpus: CorpusSize, *, answers: int, answer: int) -> Judging | None:
    """Return what the judges among the scorers are asked; None without judges or answers.

    Args:
        scorers: The voters.
        corpus: How long prompts are.
        answers: Number of answers that every judge grades.
        answer: Tokens of one, of the model that gave it.
    """
    from models.generation.judge import JUDGE_SYSTEM

    judges = [scorer for scorer in scorers if scorer.kind == "judge"]
    if not judges or not answers:
        return None
    sent = -int(-(len(JUDGE_SYSTEM) + corpus.prompt_bytes + answer * corpus.bytes_per_token) // _BYTES_PER_TOKEN)
    calls = answers * len(judges)
    return Judging(calls, calls * sent, answers * sum(judge.max_tokens for judge in judges))
