"""The callback that asks for checkpoints."""

from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback

from sb3_ppo_variants.resume import archive


class ResumableCheckpoint(BaseCallback):
    """Keep a run so that, killed at any moment, it can be taken up again and end with the same bits.

    .. code-block:: python

        callbacks = [ResumableCheckpoint("run", every=50_000), EvalCallback(eval_env, ...)]
        ClipPPO("MlpPolicy", env, seed=1).learn(1_000_000, callback=callbacks)
        # and after it was killed, with environments and callbacks made in the same way:
        ClipPPO.resume("run", env).learn(1_000_000, callback=callbacks)

    A checkpoint is written before the first rollout that begins at or after each multiple of ``every``, and all
    environments are reset there (:func:`~sb3_ppo_variants.resume.seed_at`): choose ``every`` many times as long as an
    episode. The last two checkpoints stay. At the resume

    - the model, the global random generators, ``VecNormalize`` and other wrappers' plain data get their states back,
      and so do callbacks: each attribute that is plain data or can be pickled. An attribute with the name of an
      argument of the constructor is a setting, to be passed anew, until it holds something else than at the beginning.
      A callback is known by its class and its place among those of the same class;
    - environments that are attributes of callbacks, as in ``EvalCallback``, are kept and reset like those of training;
    - ``progress.csv``, ``progress.json``, ``log.txt``, TensorBoard's files and Monitor's lose what the killed run
      wrote after the checkpoint. Other files that callbacks write are theirs: SB3's write them whole each time.

    Not kept: what an environment remembers beyond ``reset(seed=...)``; within the processes of ``SubprocVecEnv``,
    wrappers' data and Monitor's files. Wall-clock times go on from those at the checkpoint.

    :param folder: where the checkpoints lie; of one run alone
    :param every: environment steps between checkpoints, at least; >= 1
    :raises ValueError: if ``every`` is no such number; when training starts, if the folder has checkpoints of a run
        that went further, or the model has no ``resume``
    """

    def __init__(self, folder: str | Path, every: int) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every={every!r} must be a whole number of environment steps, 1 or more.")
        super().__init__()
        self.folder = Path(folder)
        self.every = every

    def refuse_other_runs(self, steps: int) -> None:
        """Refuse a folder whose checkpoints this run would remove.

        :param steps: environment steps that the run has behind it
        :raises ValueError: if there is a checkpoint after more
        """
        newer = [path for path in archive.checkpoints(self.folder) if archive.steps_of(path) > steps]
        if newer:
            raise ValueError(
                f"{newer[0]} is the checkpoint of a run after {archive.steps_of(newer[0])} steps, and this one is at "
                f"{steps}: resume that run, choose another folder, or remove the file."
            )

    def _init_callback(self) -> None:
        if not hasattr(self.model, "resume"):
            name = type(self.model).__name__
            raise ValueError(f"{name} cannot be resumed: use a variant, or resumable({name}) for the class.")

    def _on_step(self) -> bool:
        return True
