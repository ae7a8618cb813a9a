"""Makes the fixtures of `tests/fusion_fixtures.py` known here."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("fusion_fixtures", Path(__file__).parents[1] / "fusion_fixtures.py")
assert _spec and _spec.loader
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
fusion_inputs, fusion_call, recording_sink = _module.fusion_inputs, _module.fusion_call, _module.recording_sink
