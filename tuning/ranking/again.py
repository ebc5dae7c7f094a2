"""The command that makes one line of a ranking again."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..study.study_file import load_study, shipped_studies


def again(protocol: Mapping[str, Any], name: str, env_ids: Sequence[str]) -> str:
    """Return the command that tunes and tests one algorithm of a study again, alone.

    Nothing that an algorithm's runs depend on is another algorithm's, or another environment's.

    :param protocol: of the study; of a study that is not shipped only the file's name is known
    :param name: of the algorithm or configuration
    :param env_ids: environments
    """
    study = protocol["study"]
    if study not in shipped_studies():
        return f"ppo-variants rank {study}.yml --algos {name}"
    shipped = load_study(study)
    options = {"--algos": name}
    if set(env_ids) != set(shipped.environments):
        options["--envs"] = ",".join(env_ids)
    given = {"seed": shipped.seed, "sampler": shipped.sampler, "pruner": shipped.pruner}
    options |= {f"--{key}": str(protocol[key]) for key, value in given.items() if protocol[key] != value}
    untuned = ["--no-tune"] if shipped.budget.trials and not protocol["budget"]["trials"] else []
    words = [word for option in options.items() for word in option]
    return " ".join(["ppo-variants rank", study, *words, *untuned])
