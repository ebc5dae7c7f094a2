"""The conformance suite as a class of tests."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from sb3_ppo_variants.testing.suite import CHECKS, Check, run_check
from sb3_ppo_variants.testing.variant import Variant
from sb3_ppo_variants.training.update_loop import UpdateLoop


class VariantContract:
    """What every variant promises, as one pytest test for each check of :data:`CHECKS`.

    A subclass names a variant, and so gets ``test_save_and_load``, ``test_same_seed`` and so on::

        class TestMyPPO(VariantContract):
            variant = MyPPO
            constructor_kwargs = {"my_coefficient": 0.5}

    A check that cannot be made is skipped, with its reason. The tests of a class share models that they only look at.

    :cvar variant: the class under test, as in :func:`check_variant`
    :cvar constructor_kwargs: its arguments in every check
    """

    variant: ClassVar[type[UpdateLoop]]
    constructor_kwargs: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    _under_test: ClassVar[Variant]

    @classmethod
    def setup_class(cls) -> None:
        """Take up the variant; pytest calls this before the tests.

        :raises ValueError: if ``variant`` is missing, or no variant
        """
        if not hasattr(cls, "variant"):
            raise ValueError(f"{cls.__name__} does not say which class it tests: add variant = YourPPO.")
        cls._under_test = Variant(cls.variant, cls.constructor_kwargs)

    @classmethod
    def teardown_class(cls) -> None:
        """Let the shared models go; pytest calls this after the tests."""
        del cls._under_test


def _test_of(check: Check) -> Callable[[VariantContract], None]:
    def test(self: VariantContract) -> None:
        run_check(check, self._under_test)

    test.__name__ = f"test_{check.__name__.removeprefix('check_')}"
    test.__qualname__ = f"{VariantContract.__name__}.{test.__name__}"
    test.__doc__ = check.__doc__
    return test


for _check in CHECKS:
    _test = _test_of(_check)
    setattr(VariantContract, _test.__name__, _test)
