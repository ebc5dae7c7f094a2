"""The mutation list follows the code; ``make mutants`` runs it."""

import pytest
from mutants import MUTANTS, ROOT, Mutant, source_of


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.fault)
def test_its_text_stands_once_in_the_code_and_its_tests_exist(mutant: Mutant) -> None:
    text = source_of(mutant).read_text("utf-8")
    assert text.count(mutant.source) == 1
    assert mutant.replacement != mutant.source
    assert (ROOT / mutant.tests).is_file()


def test_there_are_at_least_twenty() -> None:
    assert len({(mutant.file, mutant.source, mutant.replacement) for mutant in MUTANTS}) >= 20
