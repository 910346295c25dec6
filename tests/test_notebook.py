"""Twelve cells as a notebook runs them: stopped, resumed, in a thread, with figures."""

import pytest

WITHOUT = "pip install nbclient ipykernel ipywidgets"
nbclient = pytest.importorskip("nbclient", reason=WITHOUT)
pytest.importorskip("ipykernel", reason=WITHOUT)
pytest.importorskip("ipywidgets", reason=WITHOUT)
nbformat = pytest.importorskip("nbformat.v4", reason=WITHOUT)

CELLS = """
import _thread, threading, numpy as np
from nanodiff import Run, cosine, data, sample, viz
--
bars = np.zeros((20, 8, 8)); bars[:10, 2:4] = bars[10:, :, 2:4] = 1
images, labels, names = data.pictures(bars, 8, 1, labels=["flat"] * 10 + ["high"] * 10)
--
run = Run.of_pictures(images, names, steps=12, batch=4, seed=0, channels=(8, 8)); run
--
context = data.one_hot(labels, 2)
run.learn(images, context, "bars.npz", 4, lambda run: _thread.interrupt_main())
--
run = Run.resume("bars.npz"); run
--
run.learn(images, context, "bars.npz", 4)
--
run = Run.resume("bars.npz", steps=20)
thread = threading.Thread(target=run.learn, args=(images, context, "bars.npz", 4))
thread.start(); thread.join(); run.trained()
--
made = sample(run.trained(), ["flat", "flat+high"], n=4, steps=4,
              rng=np.random.default_rng(0))
--
viz.show(made, columns=4, titles=["flat", "both"])
--
viz.loss(run.losses)
--
viz.schedules({"cosine": cosine(50)})
--
cosine(50)
"""


def test_a_notebook_is_stopped_resumed_and_shows_its_figures(tmp_path):
    cells = [nbformat.new_code_cell(text) for text in CELLS.strip().split("\n--\n")]
    assert len(cells) == 12
    nbclient.NotebookClient(
        nbformat.new_notebook(cells=cells), timeout=300, kernel_name="python3",
        allow_errors=True, resources={"metadata": {"path": str(tmp_path)}},
    ).execute()  # fmt: skip
    kinds = [[found.output_type for found in cell.outputs] for cell in cells]
    bar, value = "display_data", "execute_result"
    assert kinds == [[], [], [value], [bar, "error"], [value], [bar], [bar, value],
                     [bar], [value], [value], [value], [value]]  # fmt: skip
    stopped = cells[3].outputs[1]
    said = stopped.ename, stopped.evalue
    assert said == ("Stopped", "saved bars.npz after step 5")
    shown = {i: cell.outputs[-1].data for i, cell in enumerate(cells)
             if value in kinds[i]}  # fmt: skip
    starts = {2: "Run(0 of 12 ", 4: "Run(5 of 12 ", 6: "Pretrained(", 11: "Schedule("}
    for i, start in starts.items():
        assert shown[i]["text/plain"].startswith(start)
        assert len(shown[i]["text/plain"]) < 200
    assert [i for i in shown if "image/png" in shown[i]] == [8, 9, 10]
