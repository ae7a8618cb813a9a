"""`corpus`: which instruction data, how validated and split."""

from typing import Literal

from pydantic import Field, model_validator

from models.params.base import MAX_SEED, Name, Place, Section, repeated

RecordFormat = Literal["alpaca", "messages", "prompt", "qa", "text"]


class CorpusSet(Section):
    """One data set: JSON lines (also gzip, zstd, xz, bz2), Parquet, or a Hugging Face data set folder saved by `save_to_disk`."""

    name: Name = Field(description="Name; prefix of the example ids, and the family where `family` is empty.")
    path: Place = Field(description="File or folder, relative to the project root, or absolute.")
    format: RecordFormat = Field(
        "alpaca",
        description="`alpaca`: instruction/input/output, system, history; `messages`: chat turns, last by the assistant; "
        "`prompt`: prompt/response, system; `qa`: question/answer, context, choices; `text`: plain text cut into prompt and "
        "response.",
    )
    prompts_only: bool = Field(
        False,
        description="Whether rows may be prompts alone: a response that is missing, null or blank, or chat turns that end with "
        "the user's. Such rows take part in inference mode only. A row that has a response keeps it.",
    )
    family: str = Field("", description="Capability family its scores are reported under; empty = `name`.")
    split: Literal["auto", "train", "valid", "test"] = Field(
        "auto", description="`auto` splits by a hash of the content; any other value puts all rows there."
    )
    limit: int | None = Field(None, ge=1, description="Keep this many rows, chosen by a hash of the content.")
    prompt_chars: int = Field(64, ge=1, description="`text` only: characters of the prompt.")
    response_chars: int = Field(
        180,
        ge=1,
        description="`text` only: most characters of the response (cut at a word's end; a cut response has no end label).",
    )
    check: Literal["none", "exact", "contains", "number"] = Field(
        "none", description="How a response is judged correct. `number`: last number equals the reference's."
    )
    max_chars: int | None = Field(None, ge=1, description="Leave out (and count) rows whose prompt + response is longer.")
    seen_by: tuple[str, ...] = Field((), description="Sources known to have been trained on these rows.")


class TruthParams(Section):
    """Ground truths of the embedded world, where they are to be other than perfect and short."""

    style: Literal["detailed", "explained"] = Field(
        "detailed",
        description="`detailed`: one sentence or two, one wording for each kind of question; `explained`: about four times as "
        "long, in several phrasings. In training and validation; the test split is `detailed`, and its checks judge both.",
    )
    wrong_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the training ground truths whose value is wrong, evenly over the families. What the row's check "
        "looks for stays right: of the scorers only `check` can know.",
    )


class WorldParams(Section):
    """The embedded world: a deterministic generator of entities, facts, instructions and dialogues."""

    seed: int = Field(7, ge=0, le=MAX_SEED, description="Seed of the world; same seed, same bytes.")
    num_entities: int = Field(60, ge=8, description="Entities of the knowledge base.")
    num_train: int = Field(600, ge=12, description="Training examples over all families.")
    num_prompts_only: int = Field(
        0, ge=0, description="Further training prompts over all families, without ground truths: for inference mode only."
    )
    truths: TruthParams = Field(default_factory=TruthParams, description="How the ground truths are written, and how many err.")
    num_valid: int = Field(60, ge=6, description="Validation examples over all families.")
    num_test: int = Field(300, ge=12, description="Held-out examples over all families.")
    num_pretrain: int = Field(12000, ge=60, description="Most rows over all families that the embedded sources draw from.")


class CorpusParams(Section):
    """Data of the fusion half."""

    kind: Literal["embedded", "files"] = Field("embedded", description="`embedded` = the generated world; `files` = `sets`.")
    world: WorldParams = Field(default_factory=WorldParams, description="The embedded world.")
    sets: tuple[CorpusSet, ...] = Field((), description="Data sets for `kind: files`.")
    valid_fraction: float = Field(0.05, ge=0, lt=0.5, description="Share of the rows of `auto` sets for validation.")
    test_fraction: float = Field(0.1, ge=0, lt=0.9, description="Share of the rows of `auto` sets held out for the test.")
    train_limit: int | None = Field(
        None,
        ge=1,
        description="`files` only: keep this many training prompts over all sets, chosen by a hash of the content, in the "
        "proportions of the sets and of rows with and without a ground truth. Held-out rows stay.",
    )
    seed: int = Field(1, ge=0, le=MAX_SEED, description="Seed of split and subsampling (enters the hash).")
    on_bad_record: Literal["error", "skip"] = Field(
        "error", description="A malformed record stops the stage, or is left out and counted."
    )
    on_leakage: Literal["error", "drop"] = Field(
        "drop", description="A held-out prompt that is also in training: stop, or drop it from training and count."
    )

    @model_validator(mode="after")
    def _sets_given(self) -> "CorpusParams":
        if self.kind == "files" and not self.sets:
            raise ValueError("`sets` must name at least one data set when `kind` is `files`")
        if self.kind == "embedded" and self.train_limit is not None:
            raise ValueError("`train_limit` goes with `kind: files`; of the embedded world lower `world.num_train`")
        if twice := repeated(s.name for s in self.sets):
            raise ValueError(f"`sets` must have distinct names, but has {twice}")
        return self
