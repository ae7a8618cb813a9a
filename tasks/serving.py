"""A fused model as an MLflow model: logged by path (safetensors), loaded when it is served, never before.

MLflow executes this file by itself ("models from code"): `mlflow models serve -m models:/<id> --env-manager local`, or
`mlflow.pyfunc.load_model("models:/<id>").predict(["question"], params={"max_new_tokens": 64})`.
"""

from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from typing_extensions import override


class FusedModel(PythonModel):
    """Answers single-turn questions greedily through the target's own chat template."""

    model: Any
    tokenizer: Any

    @override
    def load_context(self, context: PythonModelContext) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = context.artifacts["model"]
        self.model = AutoModelForCausalLM.from_pretrained(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    @override
    def predict(self, context: PythonModelContext, model_input: list[str], params: dict[str, Any] | None = None) -> list[str]:
        answers = []
        for question in model_input:
            messages = [{"role": "user", "content": question}]
            encoded = self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
            most = int((params or {}).get("max_new_tokens", 128))
            out = self.model.generate(**encoded, max_new_tokens=most, do_sample=False)
            answers.append(self.tokenizer.decode(out[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True))
        return answers


set_model(FusedModel())
