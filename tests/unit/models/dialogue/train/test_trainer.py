from pathlib import Path

import pytest
import torch
from support import dialogue_parts as parts

from models.dialogue.agent.loading import load_agent
from models.dialogue.train.arguments import make_dialogue_arguments
from models.dialogue.train.run import train_dialogue
from models.dialogue.train.trainer import DialogueTrainer
from models.dialogue.train.window import DialogueWindow
from models.errors import ArtifactError, NumericsError
from models.metrics_sink import NullSink
from models.training.arguments import set_steps
from models.training.checkpoints import CheckpointFolder
from models.training.guard import exclusive


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return parts.make_folders(tmp_path_factory.mktemp("town"))


def make_trainer(folders, tmp_path, **params):
    made = parts.make_parts(folders, **params)
    checkpoints = CheckpointFolder(tmp_path / "resume", fingerprint="f" * 64, keep=1)
    args = make_dialogue_arguments(made.cfg, device="cpu", output_dir=checkpoints.writing)
    set_steps(args, total_steps=made.schedule.total_steps, batch_size=8, micro=4)
    window = DialogueWindow(NullSink(), total_steps=made.schedule.total_steps, every=1, names={"nll": "train/nll"})
    made.trainer = DialogueTrainer(
        made.module,
        args,
        turns=made.turns,
        collator=made.collator,
        schedule=made.schedule,
        window=window,
        checkpoints=checkpoints,
        seed=0,
        extra=(dict, lambda state: None),
    )
    made.window = window
    return made


def test_groups_have_their_own_rates_and_decay(folders, tmp_path):
    made = make_trainer(folders, tmp_path, learn_temperature=True, generator_steps=2, steps=2)
    optimizer = made.trainer.create_optimizer()
    scheduler = made.trainer.create_scheduler(4, optimizer)
    assert [(g["part"], g["weight_decay"]) for g in optimizer.param_groups] == [
        ("retriever", 0.01),
        ("retriever", 0.0),
        ("generator", 0.01),
        ("generator", 0.0),
    ]
    assert any(p is made.module.log_temperature for p in optimizer.param_groups[1]["params"])
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    assert count == len([p for p in made.module.parameters() if p.requires_grad])
    assert scheduler.get_last_lr() == pytest.approx([0.0, 0.0, 3e-3, 3e-3])


def test_frozen_retriever_is_in_no_group(folders, tmp_path):
    made = make_trainer(folders, tmp_path, beta=0.0)
    assert {group["part"] for group in made.trainer.create_optimizer().param_groups} == {"generator"}


def test_clips_are_apart(folders, tmp_path):
    made = make_trainer(folders, tmp_path, max_grad_norm=0.5)
    made.trainer.create_optimizer()
    for name, parameter in made.module.named_parameters():
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, 100.0 if name.startswith("generator.") else 1e-6)
    made.trainer._seen = [type("Seen", (), {"loss": torch.tensor(1.0), "turns": (), "by_turn": torch.zeros(0)})()]
    made.trainer._totals = type(made.trainer._totals)(0, 10, 8, made.schedule.mode_at(0))
    made.window.add(type("O", (), {"loss": torch.tensor(1.0), "sums": torch.zeros(6)})(), made.trainer._totals, num_tokens=1)
    made.trainer._clip_grad_norm(made.module)
    norm = torch.stack([p.grad.norm() for p in made.generator.parameters()]).norm()
    assert float(norm) == pytest.approx(0.5, rel=1e-3)
    assert all(p.grad.eq(1e-6).all() for p in made.retriever.parameters())  # untouched by the generator's large gradient
    assert made.window.last["train/grad_norm_generator"] > 1000


def test_a_loss_that_is_not_finite_names_the_turn(folders, tmp_path, monkeypatch):
    made = make_trainer(folders, tmp_path, micro_batch_size=4)
    compute, poisoned = type(made.module).forward, {}

    def forward(self, batch, **options):
        output = compute(self, batch, **options)
        if not poisoned:
            poisoned["id"] = made.data.train[batch.turns[1]].id
            by_turn = output.by_turn.clone()
            by_turn[1] = torch.nan
            return output._replace(loss=output.loss * torch.nan, by_turn=by_turn)
        return output

    monkeypatch.setattr(type(made.module), "forward", forward)
    with pytest.raises(NumericsError) as caught:
        made.trainer.resume(None)
    assert f"Turns with a loss that is not finite: `{poisoned['id']}`;" in str(caught.value)
    assert "Training step 1 of 8" in str(caught.value)


def test_only_one_process_trains_in_a_folder(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("models.training.guard._LOCK_WAIT_S", 0.1)
    call = parts.town.make_call(tmp_path, "run", data=folders.data, warm=folders.warm)
    with exclusive(call["resume_dir"]), pytest.raises(ArtifactError, match="must be free, but another process trains in it"):
        train_dialogue(call.pop("cfg"), call.pop("index"), sink=NullSink(), **call)


def test_no_steps_give_the_warm_start_itself(folders, tmp_path):
    call = parts.town.make_call(tmp_path, "run", data=folders.data, warm=folders.warm, steps=0)
    sink = parts.town.RecordingSink()
    out = call["out"]
    record = train_dialogue(call.pop("cfg"), call.pop("index"), sink=sink, **call)
    assert list(sink.rows) == [0] and record.best_generator.step == record.best_retriever.step == 0 and record.final == {}
    weights = Path("retriever") / "model.safetensors"
    for kind in ("best_generator", "best_retriever"):
        assert (out / kind / weights).read_bytes() == (folders.warm / weights).read_bytes()


@pytest.mark.parametrize("params", [{"dtype": "bfloat16"}, {"generator": {"gradient_checkpointing": True}}])
def test_result_is_a_working_agent(folders, tmp_path, params):
    generator = parts.town.dialogue_params().generator.model_dump() | params.pop("generator", {})
    options = {"steps": 2, "variant": "prefix", "generator": generator, **params}
    call = parts.town.make_call(tmp_path, "run", data=folders.data, warm=folders.warm, **options)
    out = call["out"]
    record = train_dialogue(call.pop("cfg"), call.pop("index"), sink=NullSink(), **call)
    assert 0 < record.final["train/loss"] < 1000
    agent = load_agent(out, folders.data / "kb.jsonl", device="cpu")
    reply = agent.reply(["i want thai food in the north"])
    assert len(reply.entities) == 3 and isinstance(reply.text, str)
