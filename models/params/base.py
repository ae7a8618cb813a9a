"""What every params section is: frozen, closed, described."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen group of parameters; unknown keys are errors; every field carries a description (the documentation)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
