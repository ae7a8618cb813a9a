"""The training as a whole: its trajectory against a plain loop, accumulation, reports, phases, errors."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from filelock import FileLock
from transformers import AutoModelForCausalLM

from models.errors import ArtifactError, NumericsError, ParamsError, SignalError
from models.fusion.prompt_pools import PromptPools
from models.fusion.schedule import plan_steps, resolve_schedule
from models.fusion.signals.shard import write_shard
from models.fusion.signals.store import SignalStore
from models.fusion.train.record import FusionRecord
from models.fusion.train.run import train_fusion


def train(call, sink, **changes):
    return train_fusion(sink=sink, **{"log_every": 1, **call, **changes})


def weights_of(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def assert_close(a, b, atol):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=atol, rtol=0)


def curves(sink, *names):
    return {name: [row[name] for row in sink.rows.values() if name in row] for name in names}


# --- the trajectory ----------------------------------------------------------------------------------------------------------


def row_sums(model, sample):
    """SFT and KL of one sample by definition: no batch, no padding, the whole vocabulary in float64."""
    prompt, response = (torch.from_numpy(a.astype(np.int64)) for a in (sample.prompt_ids, sample.token_ids))
    logits = model(torch.cat([prompt, response])[None]).logits[0].double()
    log_q = F.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
    sft = -log_q[torch.arange(len(response)), response].sum()
    kl = torch.zeros((), dtype=torch.float64)
    for t in np.flatnonzero(sample.has_teacher):
        ids = torch.from_numpy(sample.topk_ids[t].astype(np.int64))
        tail = float(np.exp(np.float64(sample.tail[t])))
        top = F.softmax(torch.from_numpy(sample.topk_logprobs[t].astype(np.float64)), dim=0) * (1 - tail)
        p, q = torch.cat([top, torch.tensor([tail])]), log_q[t].exp()
        q = torch.cat([q[ids], (1 - q[ids].sum())[None]])
        kl = kl + (p * (p.log() - q.log())).sum()
    return sft, kl, len(response)


def pools_of(ids, stores):
    train, infer = ([i for i, id_ in enumerate(ids) if id_ in stores[mode]] for mode in ("train", "infer"))
    return PromptPools.of(train=np.array(train), infer=np.array(infer))


def plain_loop(call):
    """Eq. 3 and 6 written out: returns the model after the last step, and loss and gradient norm of every step."""
    cfg, model = call["cfg"], AutoModelForCausalLM.from_pretrained(call["target"].location)
    stores = {m: SignalStore.open(call[f"{m}_store"]) for m in ("train", "infer")}
    ids = [*stores["train"].ids, *(i for i in stores["infer"].ids if i not in stores["train"])]
    plan = plan_steps(
        resolve_schedule(call["method"], cfg), pools=pools_of(ids, stores), batch_size=cfg.batch_size, budget=cfg.budget
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=cfg.lr, betas=(cfg.adam_beta1, cfg.adam_beta2), weight_decay=0)
    losses, norms = [], []
    for step in range(plan.total_steps):
        w = plan.weights_at(step)
        drawn = {"infer": plan.winners_at(step, seed=cfg.seed), "train": plan.order_at(step, seed=cfg.seed)}
        loss, tokens = 0.0, 0
        for mode, weight in (("infer", w.w_infer), ("train", w.w_train)):
            sums = [row_sums(model, stores[mode][i]) for i in (ids[k] for k in drawn[mode]) if i in stores[mode]]
            tokens += sum(n for _, _, n in sums) if weight else 0
            own = sum(n for _, _, n in sums) if cfg.normalise == "mode" else 1
            loss = loss + weight * sum((sft + w.beta * kl) / own for sft, kl, _ in sums)
        loss = loss if cfg.normalise == "mode" else loss / tokens
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm).item())
        for group in optimiser.param_groups:
            group["lr"] = cfg.lr * plan.lr_factor(step, cfg)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    return model.state_dict(), losses, norms


@pytest.mark.parametrize(
    ("method", "more", "steps"),
    [
        ("profuser", {}, 6),
        ("simul", {"normalise": "tokens"}, 6),
        ("profuser", {"budget": "ground_truth", "normalise": "tokens"}, 9),
    ],
)
def test_trajectory_equals_a_plain_loop(fusion_call, recording_sink, method, more, steps):
    # 22 prompts in batches of 8: the third step of each epoch is short, and one sample is missing on each side.
    call, sink = fusion_call(method=method, epochs=2.0, beta=0.5, **more), recording_sink()
    record = train(call, sink)
    expected, losses, norms = plain_loop(call)
    assert record.total_steps == steps == len(sink.rows)
    # The norm too: clipping and Adam would hide a loss of the wrong scale.
    for name, values in (("train/loss", losses), ("train/grad_norm", norms)):
        np.testing.assert_allclose(curves(sink, name)[name], values, atol=1e-5, rtol=1e-5, err_msg=name)
    assert_close(weights_of(call["out"] / "model"), expected, atol=2e-4)
    assert losses[0] != pytest.approx(losses[-1], abs=1e-2)


LOSSES = ("train/loss", "train/sft_gt", "train/kl_gt", "train/sft_response", "train/kl_response")


@pytest.mark.parametrize(("method", "normalise"), [("profuser", "mode"), ("simul", "mode"), ("simul", "tokens")])
def test_accumulation_changes_nothing(fusion_call, recording_sink, method, normalise):
    runs = {}
    for micro in (8, 1):
        call = fusion_call(f"micro{micro}", method=method, micro_batch_size=micro, normalise=normalise)
        sink = recording_sink()
        train(call, sink)
        runs[micro] = curves(sink, *LOSSES)
    assert len(runs[8]["train/loss"]) == 12
    for name in LOSSES:
        np.testing.assert_allclose(runs[8][name], runs[1][name], atol=1e-5, err_msg=name)


def test_activation_checkpointing_changes_nothing(fusion_call, recording_sink):
    runs = {}
    for on in (False, True):
        call, sink = fusion_call(f"gc{on}", gradient_checkpointing=on, epochs=2.0), recording_sink()
        train(call, sink)
        runs[on] = curves(sink, *LOSSES)
    for name in LOSSES:
        np.testing.assert_allclose(runs[True][name], runs[False][name], atol=1e-6, err_msg=name)


def test_bfloat16_autocast_stays_near_float32(fusion_call, recording_sink):
    runs = {}
    for dtype in ("float32", "bfloat16"):
        call, sink = fusion_call(dtype, dtype=dtype, epochs=2.0, method="simul"), recording_sink()
        train(call, sink)
        runs[dtype] = np.array(curves(sink, "train/loss")["train/loss"])
        assert {t.dtype for t in weights_of(call["out"] / "model").values()} == {torch.float32}
    difference = np.abs(runs["float32"] - runs["bfloat16"])
    assert 0 < difference.max() < 0.05


# --- methods, phases, optimiser ----------------------------------------------------------------------------------------------


def test_methods_see_their_modes_only(fusion_call, recording_sink):
    seen = {}
    for method in ("sft", "fusellm", "inference_only"):
        call, sink = fusion_call(method, method=method, epochs=1.0), recording_sink()
        record = train(call, sink)
        seen[method] = {name for row in sink.rows.values() for name in row if name in LOSSES}
        assert [p.model for p in record.phases] == ["model"] and not (call["out"] / "phase-1").exists()
        if method == "sft":
            assert curves(sink, "train/kl_gt")["train/kl_gt"] == [0.0] * 3 and record.phases[0].beta == 0
        expected = (0, 137) if method == "inference_only" else (145, 0)
        assert (record.train_tokens, record.infer_tokens) == expected
    ground_truth = {"train/loss", "train/sft_gt", "train/kl_gt"}
    response = {"train/loss", "train/sft_response", "train/kl_response"}
    assert seen == {"sft": ground_truth, "fusellm": ground_truth, "inference_only": response}


@pytest.mark.parametrize(("method", "empty"), [("sft", "infer_store"), ("inference_only", "train_store")])
def test_a_mode_without_any_sample_stops_only_who_trains_it(fusion_call, recording_sink, tmp_path, method, empty):
    call = fusion_call(method=method, epochs=1.0)
    write_shard(tmp_path / "none", 0, SignalStore.open(call[empty]).spec, [])
    call[empty] = tmp_path / "none"
    assert train(call, recording_sink()).total_steps == 3
    other = fusion_call("other", method="profuser")
    other[empty] = tmp_path / "none"
    if method == "sft":
        with pytest.raises(ParamsError, match="Phase 1 of 2 must have prompts with a winning answer, but is without any"):
            train(other, recording_sink())
    else:  # the winners that are replayed are all there is
        assert train(other, recording_sink()).train_tokens == 0


def test_record_of_phases_and_tokens(fusion_call, recording_sink):
    call, sink = fusion_call(), recording_sink()
    record = train(call, sink)
    assert [(p.first_step, p.last_step, p.w_infer, p.w_train, p.model) for p in record.phases] == [
        (1, 6, 1.0, 0.0, "phase-1"),
        (7, 12, 0.1, 1.0, "model"),
    ]
    # Two epochs of responses in phase 1, two of both in phase 2; each store lacks one of the 22 prompts.
    assert (record.infer_tokens, record.train_tokens) == (4 * 137, 2 * 145)
    assert (record.response.samples, record.response.missing, record.ground_truth.missing) == (21, 1, 1)
    assert record.final["train/loss"] == sink.rows[12]["train/loss"] and "train/tokens_per_s" not in record.final
    assert FusionRecord.read(call["out"]) == record
    assert sink.done[-1] == (12, 12, "steps")
    assert {p.name for p in call["out"].iterdir()} == {"model", "phase-1", "record.json"}


def test_record_of_a_schedule_at_the_budget_of_the_ground_truth(fusion_call, recording_sink):
    """Phases of either mode take prompts of that mode alone; what was spent on each is kept, and what a token weighs."""
    phases = [{"w_infer": 1.0, "w_train": 0.0}, {"w_infer": 0.5, "w_train": 1.0, "epochs": 3.0}]
    call = fusion_call(method="mine", schedules={"mine": phases}, budget="ground_truth", epochs=1.0)
    record = train(call, recording_sink())
    assert [(p.first_step, p.last_step) for p in record.phases] == [(1, 3), (4, 6)]
    seen = record.exposure
    assert (seen.total_steps, seen.extra_steps) == (6, 3)
    assert (seen.ground_truth.passes, seen.winners.passes) == (1.0, 2.0)  # the replay draws from its own prompts
    assert record.phases[0].token_weight is None and record.phases[0].infer_tokens == 137
    tokens = record.phases[1].infer_tokens, record.phases[1].train_tokens
    assert tokens[1] == 145 and record.phases[1].token_weight == pytest.approx(0.5 * 145 / tokens[0])
    assert FusionRecord.read(call["out"]) == record


def test_result_of_phase_one_is_the_model_at_the_switch(fusion_call, recording_sink):
    """`inference_only` and `profuser` take the same steps until the switch; a schedule of one's own stops there."""
    both, sink = fusion_call("both", lr_schedule="constant"), recording_sink()
    train(both, sink)
    phase = {"w_infer": 1.0, "w_train": 0.0, "epochs": 2.0}
    first = fusion_call("first", method="mine", schedules={"mine": [phase]}, lr_schedule="constant", warmup_ratio=0.06)
    train(first, recording_sink())
    assert_close(weights_of(both["out"] / "phase-1"), weights_of(first["out"] / "model"), atol=0)


def test_optimiser_restart_acts_at_the_switch(fusion_call, recording_sink):
    curve = {}
    for switch in ("keep", "restart"):
        call, sink = fusion_call(switch, optimiser_at_switch=switch, lr_schedule="constant", warmup_ratio=0.0), recording_sink()
        train(call, sink)
        curve[switch] = curves(sink, "train/loss")["train/loss"]
    # Step 7 is computed before the first update with fresh moments.
    assert curve["keep"][:7] == curve["restart"][:7]
    assert abs(curve["keep"][7] - curve["restart"][7]) > 1e-4


def test_weight_decay_spares_norms(fusion_call, recording_sink):
    results = {}
    for decay in (0.0, 2.0):
        call = fusion_call(f"wd{decay}", weight_decay=decay, epochs=0.3, method="sft", warmup_ratio=0.0)
        assert train(call, recording_sink()).total_steps == 1
        results[decay] = weights_of(call["out"] / "model")
    start = weights_of(call["target"].location)
    for name, plain in results[0.0].items():
        shrunk = plain - (0.0 if "norm" in name else 3e-3 * 2.0) * start[name]
        torch.testing.assert_close(results[2.0][name], shrunk, atol=1e-6, rtol=0)


# --- reports -----------------------------------------------------------------------------------------------------------------


def test_reports_are_means_over_the_window(fusion_call, recording_sink):
    rows = {}
    for every in (1, 4):
        sink = recording_sink()
        train(fusion_call(f"log{every}", micro_batch_size=2), sink, log_every=every)
        rows[every] = sink.rows
    assert list(rows[4]) == [4, 8, 12]
    for step, row in rows[4].items():
        window = [rows[1][s] for s in range(step - 3, step + 1)]
        for name in (*LOSSES, "train/grad_norm"):
            values = [r[name] for r in window if name in r]
            assert row.get(name) == (pytest.approx(np.mean(values), abs=1e-9) if values else None), (step, name)
        assert row["train/lr"] == window[-1]["train/lr"]
        assert (row["train/w_infer"], row["train/w_train"]) == ((1.0, 0.0) if step == 4 else (0.1, 1.0))
        assert row["train/tokens_per_s"] > 0


def test_learning_rate_of_each_step(fusion_call, recording_sink):
    phases = [
        {"w_infer": 1.0, "w_train": 0.0, "epochs": 2.0},
        {"w_infer": 0.1, "w_train": 1.0, "epochs": 2.0, "lr": 1e-3, "beta": 0.0, "weights": "linear"},
    ]
    call, sink = fusion_call(method="mine", schedules={"mine": phases}), recording_sink()
    record = train(call, sink)
    cfg = call["cfg"]
    plan = plan_steps(resolve_schedule("mine", cfg), num_prompts=22, batch_size=8)
    assert record.phases[1].lr == 1e-3
    got = [(row["train/lr"], row["train/w_infer"]) for row in sink.rows.values()]
    expected = [(cfg.lr * plan.lr_factor(s, cfg), plan.weights_at(s).w_infer) for s in range(12)]
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert all(row["train/kl_gt"] == 0.0 for step, row in sink.rows.items() if step > 6)


# --- errors ------------------------------------------------------------------------------------------------------------------


def test_numerics_error_names_step_phase_and_sample(fusion_call, recording_sink, pico_folder, tmp_path):
    from models.lm.resolve import resolve_source
    from models.params.sources import SourceSpec

    call = fusion_call(checkpoints={"every_steps": 1}, beta=0.0)
    stores = [SignalStore.open(call["train_store"]), SignalStore.open(call["infer_store"])]
    inputs = {(i, s): {*store[i].prompt_ids, *store[i].token_ids[:-1]} for s, store in enumerate(stores) for i in store.ids}
    token, victim = next(  # a token that one ground truth alone feeds to the model
        (int(t), i)
        for (i, s), tokens in inputs.items()
        for t in sorted(tokens)
        if s == 0 and sum(t in other for other in inputs.values()) == 1
    )
    model = AutoModelForCausalLM.from_pretrained(pico_folder("mistral"))
    model.get_input_embeddings().weight.data[token] = math.nan
    model.save_pretrained(tmp_path / "nan")
    for path in pico_folder("mistral").glob("token*"):
        (tmp_path / "nan" / path.name).write_bytes(path.read_bytes())
    call["target"] = resolve_source(SourceSpec(name="nan", model=str(tmp_path / "nan"), chat_template="plain"), root=tmp_path)
    cfg = call["cfg"]
    ids = [*stores[0].ids, "p003"]
    pools = pools_of(ids, dict(zip(("train", "infer"), stores, strict=True)))
    plan = plan_steps(resolve_schedule("profuser", cfg), pools=pools, batch_size=8)
    step = next(s for s in range(6, 12) if victim in [ids[i] for i in plan.order_at(s, seed=cfg.seed)])

    with pytest.raises(NumericsError) as error:
        train(call, recording_sink())
    text = str(error.value)
    assert f"Training step {step + 1} of 12 (phase 2, w_infer 0.1, w_train 1)" in text
    assert f"not finite: `{victim}`;" in text and "the loss is nan" in text
    assert all(f"`{ids[i]}`" in text for i in plan.order_at(step, seed=cfg.seed))
    # The bad step was not applied: the newest checkpoint is the one before it.
    newest = max(int(p.name.split("-")[1]) for p in call["resume_dir"].glob("checkpoint-*"))
    assert newest == step and f"The checkpoint `checkpoint-{step}` is kept" in text
    assert not call["out"].exists()


def test_divergence_is_reported_without_a_culprit(fusion_call, recording_sink):
    call = fusion_call(lr=1e30, warmup_ratio=0.0, checkpoints={"every_steps": 50})
    with pytest.raises(NumericsError, match=r"step 2 of 12 \(phase 1.*lower `fusion.lr`"):
        train(call, recording_sink())


def test_fsdp_on_the_cpu_is_refused(fusion_call, recording_sink):
    call = fusion_call(runtime={"fsdp": True, "nproc": 2})
    with pytest.raises(ParamsError, match=r"`runtime.fsdp` needs accelerators: on the CPU accelerate does not shard"):
        train(call, recording_sink())


def test_processes_must_share_a_step_evenly(fusion_call, recording_sink):
    with pytest.raises(ParamsError, match=r"`fusion.batch_size` must be a multiple of the 3 processes, but is 8"):
        train(fusion_call(runtime={"nproc": 3}), recording_sink())


def test_nothing_is_printed(fusion_call, recording_sink, capfd):
    train(fusion_call(epochs=1.0, method="sft"), recording_sink())
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_folder_in_use_is_refused_and_left_alone(fusion_call, recording_sink, monkeypatch):
    call = fusion_call(epochs=1.0, method="sft")
    call["resume_dir"].mkdir(parents=True)
    monkeypatch.setattr("models.training.guard._LOCK_WAIT_S", 0.1)
    with FileLock(str(call["resume_dir"] / "lock")):
        with pytest.raises(ArtifactError, match="another process trains in it"):
            train(call, recording_sink())
        assert {p.name for p in call["resume_dir"].iterdir()} == {"lock"} and not call["out"].exists()
    assert train(call, recording_sink()).total_steps == 3


def test_store_of_another_tokenizer_is_refused(fusion_call, recording_sink):
    call = fusion_call()
    call["target"] = replace(call["target"], tokenizer_digest="0" * 64)
    with pytest.raises(SignalError, match="`tokenizer_digest` of the signal store"):
        train(call, recording_sink())


def test_process_is_left_as_it_was(fusion_call, recording_sink):
    before = torch.get_num_threads()
    call = fusion_call(epochs=1.0, method="sft", gradient_checkpointing=True, runtime={"threads": before + 1})
    train(call, recording_sink())
    assert torch.get_num_threads() == before
    config = json.loads((call["out"] / "model" / "config.json").read_text())
    assert config == json.loads((Path(call["target"].location) / "config.json").read_text())
