"""The README's Python does what its comment says."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_readme_runs_and_prints_what_it_claims(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    claimed = re.search(r"print\(.*?\)  # ([\d.]+)", code).group(1)
    exec(compile(code, str(README), "exec"), {})
    assert capsys.readouterr().out.strip() == claimed
