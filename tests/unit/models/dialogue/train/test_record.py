from models.dialogue.train.record import DialogueRecord
from models.dialogue.train.selection import Chosen
from models.records import to_row


def test_round_trip(tmp_path):
    chosen = Chosen(4, {"valid/nll": 0.5})
    record = DialogueRecord(
        variant="prompt",
        setting="condensed",
        objective="mml",
        num_turns=3,
        num_entities=12,
        num_retrieved=7,
        generator_steps=1,
        total_steps=9,
        temperature=0.1,
        edges=(0.25, 0.75),
        start={"valid/nll": 3.0},
        best_generator=chosen,
        best_retriever=Chosen(0, {}),
        digests={"best_generator": "ab"},
        final={"train/loss": 1.0},
    )
    record.write(tmp_path)
    assert DialogueRecord.read(tmp_path) == record
    assert to_row(record)["best_generator"] == {"step": 4, "metrics": {"valid/nll": 0.5}}
