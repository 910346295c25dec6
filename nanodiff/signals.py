"""Ctrl-C and the like, taken between two steps, so that nothing is cut in half."""

import signal
import threading

from nanodiff import check
from nanodiff.parallel import ALONE


class Stopped(KeyboardInterrupt):
    """A signal has stopped a run, which is saved. signal: its number."""

    def __init__(self, message, signal):
        super().__init__(message)
        self.signal = signal


class Signals:
    """`with Signals(team) as signals:` notes SIGINT, SIGTERM and SIGHUP in `caught`.

    So they take effect where the code asks, between two steps. If the process of a team
    is not busy, the first raises Stopped at once: what it waits for may never come, and
    Open MPI's mpiexec kills all a quarter of a second later. A second SIGINT raises
    KeyboardInterrupt at once. A SIGHUP that is ignored, as under nohup, stays so.
    Python allows handlers in the main thread only; elsewhere nothing is caught.
    """

    def __init__(self, team=ALONE):
        check.thing("team", team, "a Team", "busy", "stopped")
        self.caught, self.message, self.before, self.team = None, None, {}, team

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                before = number and signal.getsignal(number)
                ignored = name == "SIGHUP" and before is signal.SIG_IGN
                if before is not None and not ignored:  # None: not Python's to restore
                    self.before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error):
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.caught and error[0] is None:
            raise Stopped(self.message, self.caught)

    def _handle(self, number, frame):
        if self.caught and number == signal.SIGINT:
            raise KeyboardInterrupt("stopped at once, by a second Ctrl-C")
        now = self.caught is None and not self.team.busy
        self.caught, self.team.stopped = self.caught or number, True
        if self.message or now:
            raise Stopped(self.message, self.caught)

    def raise_from_now(self, message):
        """Raise Stopped with this message if a signal has come, and when one comes."""
        self.message = message
        if self.caught:
            raise Stopped(message, self.caught)
