import pytest
import torch

from models.dialogue.data.records import Entity
from models.dialogue.generators.base import DialogueItem, RetrievedEntity
from models.dialogue.generators.seq2seq.model import Seq2SeqGenerator
from models.dialogue.generators.trained_responder import TrainedResponder
from models.dialogue.retrieval.meta_knowledge import EntityMeta, MetaKnowledge
from models.params.dialogue import GeneratorParams, MetaKnowledgeParams

TEXTS = ["i want a cheap place in the north", "place 1 is a nice place", "the phone number is 01223 4567"] * 4
ENTITIES = tuple(
    RetrievedEntity(
        r, Entity(f"e{r}", "food", {"name": f"place {r}", "phone": f"0122{r}"}), EntityMeta(r + 1, 0.9 - r / 3, False)
    )
    for r in range(4)
)
META = MetaKnowledge(MetaKnowledgeParams(), style="prefix")


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    pico = {"vocab_size": 400, "hidden_size": 32, "num_layers": 1, "num_heads": 2}
    cfg = GeneratorParams(pico=pico, max_response_tokens=10)
    root = tmp_path_factory.mktemp("root")
    made = Seq2SeqGenerator.build(cfg, texts=lambda: TEXTS, special_tokens=META.special_tokens(), root=root, seed=1)
    torch.manual_seed(3)
    for weight in made.parameters():  # untrained weights answer nothing at all
        torch.nn.init.normal_(weight, std=0.5)
    return made


def items(count: int) -> list[DialogueItem]:
    return [DialogueItem(f"z{i}#0", "food", ("a cheap place " * (i % 4 + 1),), ENTITIES[: i % 5]) for i in range(count)]


def test_one_answer_for_each_item_in_order_whatever_the_batch(generator):
    progress: list[int] = []
    answers = TrainedResponder(generator, META, device="cpu", batch_size=3).respond(items(8), on_progress=progress.append)
    alone = TrainedResponder(generator, META, device="cpu", batch_size=1).respond(items(8))
    assert progress == [3, 6, 8] and len({a.text for a in answers}) > 1
    assert [a.text for a in answers] == [a.text for a in alone]
    assert [a.num_prompt_tokens for a in answers] == [a.num_prompt_tokens for a in alone]


def test_the_generator_reads_context_entities_and_meta_knowledge(generator):
    asked = []

    class Spy:
        builder, cfg, num_prompt_tokens = generator.builder, generator.cfg, generator.num_prompt_tokens

        def to(self, device):
            return self

        def eval(self):
            return self

        def generate(self, context_ids, entity_ids, **options):
            asked.append((context_ids, entity_ids, options))
            return [" place 1 " for _ in context_ids]

    responder = TrainedResponder(Spy(), META, device="cpu", num_beams=4)  # type: ignore[arg-type]
    [answer] = responder.respond([DialogueItem("z#0", "food", ("a place",), ENTITIES[:2], {"choice": ("3",)})])
    [(contexts, entities, options)] = asked
    assert contexts == [generator.builder.context_ids(("a place",), {"choice": ("3",)})]
    assert entities == [[generator.builder.entity_ids(e.entity, META.text(e.meta)) for e in ENTITIES[:2]]]
    assert options["num_beams"] == 4 and options["max_new_tokens"] == 10
    assert answer.text == "place 1" and answer.finish == "eos"
    assert answer.num_prompt_tokens == 2 * len(contexts[0]) + sum(map(len, entities[0]))
    assert answer.num_tokens == len(generator.builder.response_ids("place 1")) - 1


def test_nothing_to_answer(generator):
    assert TrainedResponder(generator, META, device="cpu").respond([]) == []


def test_a_response_of_the_longest_length_says_so(generator):
    answers = TrainedResponder(generator, META, device="cpu", max_new_tokens=3).respond(items(4))
    assert all(a.num_tokens <= 10 for a in answers)
    assert {a.finish for a in answers if a.num_tokens >= 2} <= {"length"}
