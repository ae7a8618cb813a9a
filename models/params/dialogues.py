"""`dialogues`: which dialogues and knowledge base, how read and split."""

from typing import Literal

from pydantic import Field, model_validator

from models.params.base import MAX_SEED, Place, Section
from models.params.requests import RequestParams

DialogueFormat = Literal["embedded", "smd", "camrest", "multiwoz", "maker", "jsonl"]
DistractorKind = Literal["alike", "apart"]


Setting = Literal["large_scale", "condensed"]


class TownParams(Section):
    """The embedded town's knowledge base and dialogues."""

    seed: int = Field(2026, ge=0, le=MAX_SEED, description="Seed of the town; same seed, same bytes.")
    num_entities: int = Field(90, ge=8, description="Entities of the knowledge base.")
    num_dialogues: int = Field(400, ge=10, description="Dialogues (train, valid and test 8:1:1).")


class RenewParams(Section):
    """Test sets of entities never seen in training."""

    values: bool = Field(False, description="Replace names, addresses, phones and postcodes of the KB and the test dialogues.")
    distractors: int = Field(0, ge=0, description="New entities added to the knowledge base (large_scale only).")
    distractor_kind: DistractorKind = Field(
        "alike",
        description="`alike`: they have the properties (area, food, …) of the known ones, so that many fit a request as well; "
        "`apart`: properties of their own, so that none fits what is asked for in the words of the knowledge base.",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the new values.")


class DialoguesParams(Section):
    """Data of the dialogue half."""

    kind: DialogueFormat = Field(
        "embedded",
        description="`embedded` = the generated town; `smd`, `camrest`, `multiwoz` = the published raw files; "
        "`maker` = MAKER's processed files; `jsonl` = your own (docs/tutorial.md).",
    )
    town: TownParams = Field(default_factory=TownParams, description="The embedded town.")
    path: Place = Field("", description="Folder of the files, relative to the project root.")
    setting: Setting = Field(
        "large_scale",
        description="`large_scale`: one knowledge base for all dialogues; `condensed`: each dialogue has its own rows.",
    )
    train_text: Literal["graphdialog", "cdnet"] = Field(
        "graphdialog",
        description="`multiwoz` only: text of the training dialogues (GraphDialog's copy has little punctuation).",
    )
    test_text: Literal["graphdialog", "cdnet"] = Field(
        "cdnet", description="`multiwoz` only: text of the validation and test dialogues."
    )
    dynamic_values: Literal["issued", "published"] = Field(
        "issued",
        description="From when on a system knows what a real-time query gives (`ref` of a booking, `choice`): `issued`, from the "
        "turn whose answer issues it; `published`, from the first turn where the data set has it so. The latter leaks: a system "
        "that prints these values alone scores in Entity F1.",
    )
    dynamic_attributes: tuple[str, ...] = Field(
        (),
        description="Attributes of the knowledge base that hold such values: `issued` takes them off the entities and gives them "
        "from the turn that issues them. (`ref` and `choice` of `multiwoz` and `maker` are known to be dynamic.)",
    )
    on_bad_record: Literal["error", "skip"] = Field(
        "error", description="A malformed record stops the stage, or is left out and counted."
    )
    requests: RequestParams = Field(default_factory=RequestParams, description="How the user's wishes are read.")
    limit: int | None = Field(None, ge=1, description="Keep this many dialogues of each split (the first ones); null = all.")
    renew: RenewParams = Field(default_factory=RenewParams, description="Entities never seen in training, and distractors.")

    @model_validator(mode="after")
    def _path_given(self) -> "DialoguesParams":
        if self.kind != "embedded" and not self.path:
            raise ValueError(f"`path` must name the folder of the files when `kind` is `{self.kind}`")
        return self
