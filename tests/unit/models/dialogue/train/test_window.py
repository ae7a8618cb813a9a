import pytest
import torch

from models.dialogue.train.module import DialogueOutput
from models.dialogue.train.schedule import StepMode
from models.dialogue.train.window import DialogueTotals, DialogueWindow

NAMES = {"nll": "train/nll", "objective": "train/mml", "q_max": "train/q_max"}


class Sink:
    def __init__(self):
        self.rows = {}

    def log(self, metrics, *, step):
        self.rows[step] = dict(metrics)

    def progress(self, done, total, *, unit):
        pass


def output(loss, *sums):
    return DialogueOutput(torch.tensor(loss), torch.tensor(sums), torch.zeros(1))


def totals(step, *, joint=True):
    return DialogueTotals(step, num_tokens=20, num_turns=4, mode=StepMode(joint, joint))


def feed(window, steps):
    """Step 0 trains the generator alone; each step has two micro-batches."""
    for step in steps:
        joint = step > 0
        for _ in range(2):
            window.add(
                output(1.0 + step, 10.0, 6.0 if joint else 0.0, 0.0, 2.0, 0.0, 0.0), totals(step, joint=joint), num_tokens=10
            )
        window.end_step(totals(step, joint=joint), {"train/lr": 0.5 - 0.1 * step})


def test_means_over_steps_with_their_own_denominators():
    sink = Sink()
    feed(DialogueWindow(sink, total_steps=3, every=3, names=NAMES, clock=lambda: 0.0), range(3))
    row = sink.rows[3]
    assert row["train/loss"] == pytest.approx(2 * (1 + 2 + 3) / 3)
    assert row["train/nll"] == pytest.approx(20 / 20) and row["train/q_max"] == pytest.approx(4 / 4)
    assert row["train/mml"] == pytest.approx(12 / 4)  # over the two joint steps
    assert row["train/lr"] == pytest.approx(0.4) and "train/ctr" not in row


def test_generator_steps_report_no_objective():
    sink = Sink()
    feed(DialogueWindow(sink, total_steps=3, every=1, names=NAMES), range(1))
    assert "train/mml" not in sink.rows[1] and "train/nll" in sink.rows[1]


def test_open_window_goes_on_where_it_was():
    sinks = Sink(), Sink()
    whole = DialogueWindow(sinks[0], total_steps=3, every=3, names=NAMES, clock=lambda: 0.0)
    feed(whole, range(3))
    first = DialogueWindow(Sink(), total_steps=3, every=3, names=NAMES)
    feed(first, range(2))
    second = DialogueWindow(sinks[1], total_steps=3, every=3, names=NAMES, clock=lambda: 0.0)
    second.restore(first.state(), main=True, device=torch.device("cpu"))
    feed(second, range(2, 3))
    assert second.last == whole.last
    other = DialogueWindow(Sink(), total_steps=3, every=3, names=NAMES)
    other.restore(first.state(), main=False, device=torch.device("cpu"))
    assert other.state()["sums"] == [0.0] * 7
