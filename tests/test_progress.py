"""Bars of progress are seen in a notebook, and not written into log files."""

import contextlib
import io

from ipykernel.iostream import OutStream
from tqdm import tqdm

from drlib.series.progress import bars_in_notebooks


class KernelStream(OutStream):
    """A kernel's error stream that keeps what it is told."""

    def __init__(self):
        self.text = io.StringIO()

    def write(self, text: str) -> int:
        return self.text.write(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False

    def __del__(self):
        pass


def drawn(stream) -> None:
    with contextlib.redirect_stderr(stream), bars_in_notebooks():
        list(tqdm(range(3), desc="train", disable=None, mininterval=0))


def test_a_notebook_shows_the_bar_with_the_time_left():
    stream = KernelStream()
    drawn(stream)
    assert "train: 100%" in stream.text.getvalue() and "<00:00" in stream.text.getvalue()


def test_a_log_file_stays_free_of_bars():
    stream = io.StringIO()
    drawn(stream)
    assert stream.getvalue() == ""
