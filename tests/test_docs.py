"""Documents say what the code says."""

from pathlib import Path

from dist_hdnn.layers.architectures import ARCHITECTURES, INTEGRATORS, Architecture, architecture

DOCS = Path(__file__).parents[1] / "docs"


def row(each: Architecture) -> str:
    """One line of the table of architectures."""
    symplectic = "yes" if each.symplectic else "determinant 1" if each.volume_preserving else "no"
    inverse = "yes" if each.invertible else "no"
    rounds = str(each.rounds(True, False))
    columns = each.name, each.equation, ", ".join(each.integrators), symplectic, inverse, rounds, each.source
    return f"| {' | '.join(columns)} |"


def test_every_architecture_is_in_the_table_with_its_properties() -> None:
    table = (DOCS / "architectures.md").read_text()
    missing = [row(architecture(name)) for name in ARCHITECTURES if row(architecture(name)) not in table]
    assert not missing, "docs/architectures.md lacks:\n" + "\n".join(missing)


def test_every_integrator_is_in_the_table_with_its_order() -> None:
    table = (DOCS / "architectures.md").read_text()
    missing = [line for one in INTEGRATORS.values() if (line := f"| {one.name} | {one.order} |") not in table]
    assert not missing, "docs/architectures.md lacks:\n" + "\n".join(missing)
