import pytest

from models.dialogue.train.arguments import dialogue_micro_batch, make_dialogue_arguments, set_dialogue_steps
from models.errors import ParamsError
from models.params.dialogue import DialogueParams


def params(batch, micro):
    return DialogueParams(joint={"batch_size": batch, "micro_batch_size": micro})


@pytest.mark.parametrize(
    ("batch", "micro", "world", "expected"), [(64, 8, 1, 8), (64, 8, 4, 8), (8, 8, 2, 4), (12, 4, 4, 3), (6, 6, 6, 1)]
)
def test_micro_batch_divides_the_share_of_a_process(batch, micro, world, expected):
    assert dialogue_micro_batch(params(batch, micro), world_size=world) == expected


def test_uneven_shares_are_refused():
    with pytest.raises(ParamsError, match=r"`dialogue\.joint\.batch_size` must be a multiple of the 3 processes, but is 8"):
        dialogue_micro_batch(params(8, 4), world_size=3)


def test_arguments(tmp_path):
    args = make_dialogue_arguments(params(8, 4), device="cpu", output_dir=tmp_path)
    set_dialogue_steps(args, total_steps=5, batch_size=8, micro=2)
    assert (args.max_steps, args.per_device_train_batch_size, args.gradient_accumulation_steps) == (5, 2, 4)
    assert args.device.type == "cpu" and not args.bf16
