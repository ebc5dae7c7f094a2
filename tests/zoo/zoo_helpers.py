"""What the tests of rl_zoo3's commands share. They run in this process, because importing rl_zoo3 takes seconds."""

import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from sb3_ppo_variants.zoo.commands import run

TESTS = Path(__file__).parent


def command(name: str, *arguments: object) -> None:
    """Run a command as ``ppo-variants name arguments``, up to the one line that it prints for a ValueError."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv)
        run(name, [str(argument) for argument in arguments])


def refusal(name: str, *arguments: object) -> str:
    """Return the line that a command ends with."""
    with pytest.raises(ValueError) as error:  # noqa: PT011 -- the tests look at the message
        command(name, *arguments)
    return " ".join(str(error.value).split())


def frames(video: Path) -> np.ndarray:
    """Return all frames of a video, as heights x widths x colours."""
    reader = imageio_ffmpeg.read_frames(str(video))
    width, height = next(reader)["size"]
    return np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])
