"""MuJoCo's windows and films on machines without a display. Other environments draw in memory by themselves."""

import os
import subprocess
import sys

import gymnasium as gym

MEND = (
    "without a display MuJoCo draws by EGL or OSMesa, and neither works: type apt-get install libegl1 libegl-mesa0, "
    "or apt-get install libosmesa6 and export MUJOCO_GL=osmesa."
)

_DRAW = "import mujoco; context = mujoco.GLContext(8, 8); context.make_current(); context.free()"
_PROBE_SECONDS = 60


def check_window(env_id: str | None) -> None:
    """Stop before MuJoCo opens a window that nobody can see: glfw 2.11 ends the process then, without a message.

    :param env_id: of the environment that is to be watched
    :raises ValueError: if it needs a display and there is none
    """
    if _is_mujoco(env_id) and not has_display():
        raise ValueError(
            f"{env_id} needs a display to be watched: add --no-render, or film it with ppo-variants record-video."
        )


def prepare_film(env_id: str | None) -> None:
    """Let MuJoCo draw off screen where there is no display, in this process and those that it starts.

    gymnasium 1.4 takes GLFW unless told otherwise, and that needs a display even for frames in memory.

    :param env_id: of the environment that is to be filmed
    :raises ValueError: if nothing can draw here
    """
    if not _is_mujoco(env_id) or has_display():
        return
    renderer = off_screen_renderer()
    if renderer is None:
        raise ValueError(f"{env_id} cannot be filmed here: {MEND}")
    os.environ["MUJOCO_GL"] = renderer


def has_display() -> bool:
    """Tell whether windows can open."""
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def off_screen_renderer() -> str | None:
    """Name what draws MuJoCo's frames without a display, None if nothing does: ``MUJOCO_GL``, or else the first."""
    wanted = os.environ.get("MUJOCO_GL")
    return next(filter(_draws, [wanted] if wanted else ["egl", "osmesa"]), None)


def _draws(renderer: str) -> bool:
    """Try it, in a process of its own: a missing driver may end the process."""
    command = [sys.executable, "-c", _DRAW]
    environment = os.environ | {"MUJOCO_GL": renderer}
    try:
        process = subprocess.run(command, env=environment, capture_output=True, timeout=_PROBE_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return False
    return process.returncode == 0


def _is_mujoco(env_id: str | None) -> bool:
    spec = gym.registry.get(env_id) if env_id else None
    return spec is not None and "mujoco" in str(spec.entry_point)
