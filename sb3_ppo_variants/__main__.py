"""``python -m sb3_ppo_variants`` is ``ppo-variants``."""

from sb3_ppo_variants.cli import main

if __name__ == "__main__":
    main()
