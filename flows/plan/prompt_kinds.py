"""What `plan` says of training prompts without a ground truth: which methods use them, and which scorers can vote on them."""

import numpy as np

from flows.context import StageContext
from flows.plan.fusion_sizes import corpus_size
from models.fusion.exposure import exposure, without_winners
from models.fusion.prompt_pools import PromptPools
from models.fusion.schedule import plan_steps, resolve_schedule
from models.planning.footprint import CorpusSize


def pools_of(corpus: CorpusSize) -> PromptPools:
    """Return the pools that a corpus gives where every prompt gets a winner."""
    return PromptPools.of(train=np.arange(corpus.num_truths), infer=np.arange(corpus.num_train))


def prompt_lines(ctx: StageContext) -> list[str]:
    """Return lines on training prompts without a ground truth; none where there are none, or nothing is known of the corpus."""
    corpus = corpus_size(ctx)
    if corpus is None or not corpus.num_prompts_only:
        return []
    cfg, methods = ctx.params.fusion, ctx.params.methods
    lines = [
        f"{corpus.num_prompts_only:,} of {corpus.num_train:,} training prompts have no ground truth: they take part in inference "
        "mode only."
    ]
    lines += [f"fuse@{method} has no phase in inference mode: it does not see them." for method in without_winners(methods, cfg)]
    for method in methods if corpus.num_truths else ():
        schedule = resolve_schedule(method, cfg)
        plan = plan_steps(schedule, pools=pools_of(corpus), batch_size=cfg.batch_size, budget=cfg.budget)
        seen = exposure(plan, cfg)
        lines.append(
            f"fuse@{method}: {seen.ground_truth.passes:.3g} passes over {corpus.num_truths:,} ground truths, "
            f"{seen.winners.passes:.3g} over the winning answers to {corpus.num_train:,} prompts."
        )
    return lines


def prompt_warnings(ctx: StageContext) -> list[str]:
    """Return warnings on training prompts without a ground truth that no method uses, or no scorer can vote on."""
    corpus = corpus_size(ctx)
    if corpus is None or not corpus.num_prompts_only:
        return []
    alone, cfg, methods = f"{corpus.num_prompts_only:,}", ctx.params.fusion, ctx.params.methods
    found = []
    if len(without_winners(methods, cfg)) == len(methods):
        found.append(
            f"none of the methods ({', '.join(methods)}) has a phase in inference mode: the {alone} prompts without a ground "
            "truth are answered and scored to no effect. Add one that has, such as `profuser`, or leave the prompts out."
        )
    scorers = ctx.params.teach.rewards.scorers
    voters = [scorer.name for scorer in scorers if not scorer.sees_truth]
    if not voters:
        found.append(
            f"all of `teach.rewards.scorers` compare with the ground truth: none votes on the {alone} prompts without one, so "
            "they have no winner. Add one that does not, such as `confidence`, a reward model or a judge."
        )
    elif len(voters) % 2 == 0 and len(voters) < len(scorers):
        found.append(
            f"on the {alone} prompts without a ground truth an even number of scorers votes ({', '.join(voters)}): where one "
            "half disagrees with the other, their mean z-scored reward decides."
        )
    return found
