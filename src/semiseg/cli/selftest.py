"""`semiseg selftest`: the program tries itself on this machine."""


def faults(*, rounds: int = 20, seed: int = 0, kinds: str = "all") -> None:
    """Disturb small runs, resume them, and hold each against the same run left alone: weights, record, files.

    A round takes some eight seconds on a CPU. The exit status is 1 where something was lost.

    Parameters
    ----------
    rounds
        How many.
    seed
        Of the first round; round i has SEED + i, and `--rounds 1 --seed N` with the same kinds repeats one.
    kinds
        Names with commas between them: kill, write, worker, rank, signal, two, full, readonly, files, short.
    """
    from semiseg.cli.main import main  # which registers this command
    from semiseg.studies.faults import rounds as harness

    chosen = () if kinds == "all" else tuple(name.strip() for name in kinds.split(","))
    outcomes = harness.run_rounds(main, rounds, seed, chosen)
    if any(outcome.problems for outcome in outcomes):
        raise SystemExit(1)
