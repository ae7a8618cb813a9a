"""What a generator's kind allows."""

import pytest
from pydantic import ValidationError

from models.params.dialogue import DialogueParams


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"generator": {"lora": {"rank": 4}}}, "`lora` must be left out unless `kind` is `causal`"),
        ({"generator": {"chat_template": "chatml"}}, "`chat_template` must be left out"),
        ({"generator": {"model": "fused:sft"}}, "`kind` must be `causal` for the model `fused:sft`"),
        ({"generator": {"model": "folder/a.GGUF"}}, "`kind` must be `causal`"),
        ({"generator": {"kind": "causal", "pico": {"dropout": 0.1}}}, "no dropout, for kind `causal`"),
        ({"generator": {"kind": "causal", "pico": {"hidden_size": 18, "num_heads": 2}}}, "multiple of twice `num_heads`"),
        ({"generator": {"kind": "causal"}, "joint": {"objective": "adist"}}, "must not be adist"),
        ({"generator": {"kind": "causal", "lora": {"base_dtype": "bfloat16"}}}, "must be float32 unless"),
    ],
)
def test_what_a_kind_has_not_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DialogueParams.model_validate(given)


def test_a_causal_generator_takes_adapters() -> None:
    given = {"generator": {"kind": "causal", "lora": {"base_dtype": "bfloat16"}}, "joint": {"dtype": "bfloat16"}}
    assert DialogueParams.model_validate(given).generator.lora is not None
    assert DialogueParams().generator.kind == "seq2seq"
