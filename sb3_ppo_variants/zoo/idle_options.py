"""Options of rl_zoo3 2.9 that do nothing in the company they are in: rl_zoo3 is silent about them."""

from collections.abc import Collection, Sequence

_TUNING = ("-optimize", "--optimize-hyperparameters")
_ONLY_TUNING = (
    "--n-trials",
    "--max-total-trials",
    "--n-jobs",
    "--sampler",
    "--pruner",
    "--n-startup-trials",
    "--n-evaluations",
    "--optimization-log-path",
    "--no-optim-plots",
)
_NOT_TUNING = ("--eval-freq", "--save-freq", "--log-interval", "-P", "--progress", "-uuid", "--uuid")
_EVALUATING = ("--eval-episodes", "--n-eval-envs", "--eval-env-kwargs")
_TRACKING = ("--wandb-project-name", "--wandb-entity", "--wandb-group", "-tags", "--wandb-tags")
_COMPARING = ("-vs", "--versus", "-iqm", "--iqm", "-ci", "--ci-size")
_REPLAYING = ("--save-replay-buffer", "--truncate-last-trajectory")

_Reasons = list[tuple[Collection[str], bool, str]]
"""Options, whether they do nothing in this company, and why."""

# Of each of these a script takes the first and forgets the others
_EITHER_OR = (
    ("--stochastic", "--deterministic"),
    ("--load-best", "--load-checkpoint", "--load-last-checkpoint"),
)


def refuse_contradictions(name: str, arguments: Sequence[str]) -> None:
    """Refuse options of which only one can hold.

    :param name: of the command
    :param arguments: its options as they were typed
    :raises ValueError: at the first that contradict each other
    """
    given = _given(name, arguments)
    for alternatives in _EITHER_OR:
        typed = [option for option in alternatives if option in given]
        if len(typed) > 1:
            raise ValueError(f"{' and '.join(typed)} cannot both hold: leave one out.")
    if given & {*_TUNING} and given & {"-i", "--trained-agent"}:
        raise ValueError("-i goes on with one model, and tuning begins many: leave it out, or type train.")


def idle_options(name: str, arguments: Sequence[str], *, off_policy: bool) -> list[str]:
    """Return one line for each reason why some of the options do nothing.

    :param name: of the command
    :param arguments: its options as they were typed
    :param off_policy: whether the algorithm has a replay buffer
    """
    given = _given(name, arguments)
    reasons: _Reasons = []
    if name in ("train", "optimize"):
        reasons = _of_training(given, arguments, off_policy)
    elif name == "plot-from-file":
        reasons = _of_plots(given)
    elif name == "load-from-hub":
        reasons = [(("--verbose",), True, "rl_zoo3's script does not read it")]
    return [
        f"{', '.join(typed)} does nothing here: {reason}"
        for options, is_idle, reason in reasons
        if is_idle and (typed := [option for option in options if option in given])
    ]


def _of_training(given: set[str], arguments: Sequence[str], off_policy: bool) -> _Reasons:
    is_tuning = bool(given & {*_TUNING})
    return [
        (_ONLY_TUNING, not is_tuning, "it is for tuning: ppo-variants optimize"),
        (_NOT_TUNING, is_tuning, "the trials of a study do not read it"),
        (
            _EVALUATING,
            not is_tuning and _value(arguments, "--eval-freq") == "-1",
            "--eval-freq -1 asks for no evaluation",
        ),
        (_TRACKING, "--track" not in given, "it needs --track"),
        (_REPLAYING, not off_policy, "this algorithm has no replay buffer"),
        (("--study-name",), is_tuning and "--storage" not in given, "without --storage no study is kept"),
        (("--n-trials",), is_tuning and "--max-total-trials" in given, "--max-total-trials counts instead"),
    ]


def _of_plots(given: set[str]) -> _Reasons:
    return [
        (_COMPARING, not given & {"-r", "--rliable"}, "it needs --rliable"),
        (("--no-million",), "--skip-timesteps" in given, "--skip-timesteps leaves that plot out"),
    ]


def _given(name: str, arguments: Sequence[str]) -> set[str]:
    typed = {argument.partition("=")[0] for argument in arguments if argument.startswith("-")}
    return typed | ({_TUNING[0]} if name == "optimize" else set())


def _value(arguments: Sequence[str], option: str) -> str | None:
    for index, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == option:
            return value or next(iter(arguments[index + 1 :]), None)
    return None
