"""`alignment`: how a source's distribution is carried over to the target's tokens."""

from typing import Literal

from pydantic import Field

from models.params.base import Section


class AlignmentParams(Section):
    """Token alignment and vocabulary map."""

    mode: Literal["byte_exact", "min_edit_distance"] = Field(
        "byte_exact",
        description="`byte_exact`: a target position is taught only where a source token starts at the same byte; "
        "`min_edit_distance`: the ancestors' MinED (dynamic time warping over token strings), off-by-one corrected.",
    )
    vocab_map: Literal["bytes", "min_edit_distance"] = Field(
        "bytes", description="`bytes`: equal bytes, otherwise the first piece under the target tokenizer; or MinED strings."
    )
    fallback: Literal["mask", "next_token"] = Field(
        "mask", description="Where no alignment exists: no distribution (only SFT), or a one-hot on the next token."
    )
    label_path: bool = Field(
        True,
        description="`byte_exact` only: the target's token gets the probability that the source gives to its bytes: of longer "
        "tokens that agree with the text, and of all its tokens up to the same end where they are shorter. Otherwise this "
        "probability stays where the vocabulary map puts it, and a sure source may contradict the text.",
    )
    advantage: Literal["sample", "token"] = Field(
        "sample",
        description="Who teaches a ground truth. `sample`: the source with the lowest cross-entropy on the text (Min-CE, eq. 1); "
        "`token`: at each token of the target the source with the lowest cross-entropy per byte on the token's bytes.",
    )
    advantage_window: int = Field(
        0,
        ge=0,
        description="`advantage: token` only: tokens on each side that are averaged as well.",
    )

    @property
    def for_map(self) -> "AlignmentParams":
        """The section with defaults for all that does not decide a vocabulary map."""
        return AlignmentParams(vocab_map=self.vocab_map)
