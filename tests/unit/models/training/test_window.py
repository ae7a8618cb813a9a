import pytest
import torch

from models.training.window import ALL, Component, StepWindow

PARTS = [Component("train/loss"), Component("train/some", "odd"), Component(None)]


def feed(window, steps):
    """Each step has two micro-batches; odd steps have a second component."""
    for step in steps:
        odd = step % 2 == 1
        for _ in range(2):
            window.add_sums(torch.tensor([1.0 + step, 4.0 * odd, 9.0]), num_tokens=5)
        window.close_step(step, kinds={"odd": odd}, figures={"norm": step}, newest={"lr": 0.1 * step})


def test_means_are_over_the_steps_of_a_kind(recording_sink):
    window = StepWindow(recording_sink(), PARTS, total_steps=4, every=4, clock=iter([0.0, 2.0, 2.0]).__next__)
    feed(window, range(4))
    assert window.last == pytest.approx({"train/loss": 2 * (1 + 2 + 3 + 4) / 4, "train/some": 8, "norm": 1.5, "lr": 0.3})


def test_a_component_without_steps_of_its_kind_is_not_reported(recording_sink):
    window = StepWindow(recording_sink(), PARTS, total_steps=4, every=1)
    feed(window, range(1))
    assert window.last.keys() == {"train/loss", "norm", "lr"}


def test_the_open_window_continues_and_counts_once(recording_sink):
    whole, first, main, other = (StepWindow(recording_sink(), PARTS, total_steps=3, every=3) for _ in range(4))
    feed(whole, range(3))
    feed(first, range(2))
    main.restore(first.state(), main=True, device=torch.device("cpu"))
    feed(main, range(2, 3))
    assert main.last == whole.last
    other.restore(first.state(), main=False, device=torch.device("cpu"))
    assert other.state()["sums"] == [0.0] * 3 and other.state()["steps"] == {ALL: 2, "odd": 1}
