import pytest

from models.dialogue.train.arguments import make_dialogue_arguments
from models.errors import ParamsError
from models.params.dialogue import DialogueParams, JointParams
from models.params.fusion import FusionParams
from models.training.arguments import agree_on_execution, micro_batch_size, set_steps
from models.training.checkpoints import CheckpointFolder


def joint(batch, micro):
    return JointParams(batch_size=batch, micro_batch_size=micro)


def fusion(batch, micro):
    return FusionParams(targets=("x",), batch_size=batch, micro_batch_size=micro)


@pytest.mark.parametrize("params", [joint, fusion])
@pytest.mark.parametrize(
    ("batch", "micro", "world", "expected"), [(64, 8, 1, 8), (64, 8, 4, 8), (8, 8, 2, 4), (12, 4, 4, 3), (6, 6, 6, 1)]
)
def test_micro_batch_divides_the_share_of_a_process(params, batch, micro, world, expected):
    assert micro_batch_size(params(batch, micro), section="x", world_size=world) == expected


def test_uneven_shares_are_refused():
    with pytest.raises(ParamsError, match=r"`dialogue\.joint\.batch_size` must be a multiple of the 3 processes, but is 8"):
        micro_batch_size(joint(8, 4), section="dialogue.joint", world_size=3)


@pytest.mark.parametrize(("first", "then", "kept"), [(4, 2, 4), (3, 4, 4)])
def test_the_first_micro_batch_is_kept_where_it_divides_the_step(tmp_path, first, then, kept):
    args = make_dialogue_arguments(DialogueParams(), device="cpu", output_dir=tmp_path)
    folder = CheckpointFolder(tmp_path / "resume", fingerprint="f", keep=1)
    agree_on_execution(folder, args, joint(12, first), section="x", threads=3)
    found = agree_on_execution(folder, args, joint(8, then), section="x", threads=1)
    assert (found.micro_batch_size, found.threads) == (kept, 3)


def test_steps_are_cut_by_micro_batches_and_processes(tmp_path):
    args = make_dialogue_arguments(DialogueParams(), device="cpu", output_dir=tmp_path)
    set_steps(args, total_steps=5, batch_size=8, micro=2)
    assert (args.max_steps, args.per_device_train_batch_size, args.gradient_accumulation_steps) == (5, 2, 4)
    assert args.device.type == "cpu" and not args.bf16
