"""A model that cannot be loaded ends the server with one line, where nothing of it is installed."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.lm_server.servers import Server


@pytest.mark.parametrize(("engine", "library"), [("text-to-text", "torch"), ("llama", "llama_cpp")])
def test_a_library_that_is_missing_is_named(tmp_path: Path, engine: str, library: str) -> None:
    if find_spec(library):
        pytest.skip(f"{library} is here: nothing is missing")
    server = Server(tmp_path)
    server.engine = engine
    server.start(ready=False)
    assert server.wait() == 1
    log = server.log.read_text()
    assert f"the engine needs {library}, which is not installed" in log
    assert "install an extra of edgelm-lm-server" in log
    assert "Traceback" not in log
