"""What a check found, one line a law; and tests made of it for pytest."""

import dataclasses
import functools

import numpy as np

FAILS = ("BROKEN", "crash")
RANK = ("crash", "BROKEN", "allowed", "small", "note", "ok", "skipped")  # worst first


class Broken(AssertionError):
    """A law does not hold; the message is the report."""


@dataclasses.dataclass
class Finding:
    """One law's verdict, what was found where another was expected, the usual cause.

    verdict: ok, note (a convention), small (the whole run is off by less than 0.015),
    BROKEN, crash (the code failed), skipped (nothing to judge), allowed (by the user).
    """

    law: str
    verdict: str
    found: str = ""
    cause: str = ""


@dataclasses.dataclass
class Report:
    """The verdicts of one check; printed, a table.

    kind: what the sampler is. mean, std: of what it makes from data N(0.3, 0.5^2);
    expected: of what a correct sampler makes on the same times. steps: the three
    numbers of each step. broken: the names of the laws that do not hold.
    """

    title: str = ""
    allow: tuple = ()
    kind: str = ""
    mean: float = float("nan")
    std: float = float("nan")
    expected: tuple = ()
    steps: list = dataclasses.field(default_factory=list)
    findings: list = dataclasses.field(default_factory=list)

    def add(self, law, verdict, found="", cause=""):
        if law in self.allow and verdict in FAILS:
            verdict = "allowed"
        self.findings.append(Finding(law, verdict, found, cause))

    def judge(self, laws, evidence):
        """Add what each judge of a table of laws says."""
        for name, (judge, cause) in laws.items():
            if (said := judge(evidence)) is not None:
                self.add(name, *said[:2], said[2] if len(said) > 2 else cause)

    def __getitem__(self, law):
        """The worst finding of a law; skipped, if the check had nothing to judge."""
        mine = [f for f in self.findings if f.law == law] or [Finding(law, "skipped")]
        return min(mine, key=lambda f: RANK.index(f.verdict))

    @property
    def broken(self):
        return list(dict.fromkeys(f.law for f in self.findings if f.verdict in FAILS))

    def check(self):
        """Raise `Broken` if a law does not hold; return the report otherwise."""
        if self.broken:
            raise Broken(f"\n{self}")
        return self

    def __str__(self):
        lines = [f"{self.title} {self.kind}".strip()]
        for f in self.findings:
            lines.append(f"  {f.law:10s} {f.verdict:8s} {f.found}".rstrip())
            if f.cause and f.verdict not in ("ok", "skipped"):
                lines.append(f"{'':21s} Usual cause: {f.cause}.")
        if self.expected:
            made, right = f"{self.mean:.3f} / {self.std:.3f}", self.expected
            lines.append(
                f"  Data N(0.3, 0.5^2) come out as {made} (mean / std), "
                f"correct {right[0]:.3f} / {right[1]:.3f}."
            )
        return "\n".join(lines)


def law(table, name, cause="", needs=()):
    """Enter a judge into a table of laws, with the usual cause.

    A judge returns (verdict, what was found), a third if the usual cause is another,
    or None where there is nothing to judge. needs: what its evidence must be.
    """

    def enter(judge):
        def judge_or_none(evidence):
            fits = all(getattr(evidence, need) for need in needs)
            return judge(evidence) if fits else None

        table[name] = judge_or_none, cause
        return judge

    return enter


def allowed(laws, known):
    """The laws as a tuple, or ValueError if one is not known."""
    laws = (laws,) if isinstance(laws, str) else tuple(laws)
    for law in laws:
        if law not in known:
            raise ValueError(
                f"allow holds {law!r}, expected laws such as {next(iter(known))!r}"
            )
    return laws


def case(name, check, *args, **kwargs):
    """Return a named check for `parametrize`; it runs when its first test does."""
    return name, check, functools.cache(lambda: check(*args, **kwargs))


def parametrize(*cases):
    """Return a decorator for pytest: one test for each law and case.

    The test function takes `law` and calls it; a law that is broken raises
    `Broken`, one that does not apply is skipped. Raises ImportError where pytest is
    absent.
    """
    try:
        import pytest
    except ImportError as error:
        message = "laws.parametrize needs pytest: pip install pytest"
        raise ImportError(message) from error

    def one(name, law, run):
        def test():
            finding = run()[law]
            if finding.verdict in FAILS:
                raise Broken(f"{name}: {law}: {finding.found}\n{run()}")
            if finding.verdict == "skipped":
                pytest.skip(f"{law}: {finding.found or 'does not apply'}")

        return pytest.param(test, id=f"{name}-{law}")

    return pytest.mark.parametrize(
        "law", [one(name, law, run) for name, check, run in cases for law in check.laws]
    )


def steps_to_try(T):
    """Return numbers of steps, rising, that between them meet the usual errors.

    1, 2, 3, 27, a divisor, two non-divisors, T / 2 + 1, T - 1, T, and the least n for
    which counting down by T / n in floating point makes n + 1 times. A list, so that
    `hypothesis.strategies.sampled_from` shrinks to the smallest. Raises ValueError
    unless T is an integer of at least 1.

    >>> steps_to_try(1000)
    [1, 2, 3, 27, 50, 61, 301, 501, 999, 1000]
    """
    if not isinstance(T, int | np.integer) or T < 1:
        raise ValueError(f"T is {T!r}, expected an integer of at least 1")
    divisors = [n for n in range(2, T) if T % n == 0]
    middle = min(divisors, key=lambda n: abs(n - T / 20), default=1)
    others = [n for n in range(T * 3 // 10 + 1, T) if T % n][:1]
    trap = [n for n in range(2, T) if len(np.arange(T, 0, -T / n)) != n][:1]
    tried = {1, 2, 3, 27, middle, *others, *trap, T // 2 + 1, T - 1, T}
    return sorted(int(n) for n in tried if n <= T and n >= 1)
