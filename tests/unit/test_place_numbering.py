"""GPU indices are aligned, exact about NVLink domains, and the same every time."""

from solvers.place_checker import check
from solvers.place_numbering import cost, numbered
from tests.place_cases import make


def test_powers_of_two_are_aligned() -> None:
    problem = make(sizes=[1, 2, 4], racks=[0], kinds=[0, 1, 2])
    placement = numbered(problem, [(0,), (0,), (0,)])
    assert placement is not None
    assert placement.group_gpu_indices == (((6,),), ((4, 5),), ((0, 1, 2, 3),))


def test_three_gpus_leave_the_other_half_whole() -> None:
    placement = numbered(make(sizes=[3, 4], racks=[0]), [(0,), (0,)])
    assert placement is not None
    assert placement.group_gpu_indices == (((4, 5, 6),), ((0, 1, 2, 3),))


def test_domains_are_packed_where_largest_into_fullest_fails() -> None:
    # Largest into the fullest domain gives 4+3, 3+2+2 and no place for the last 2.
    problem = make(sizes=[4, 3, 3, 2, 2, 2], racks=[0], gpus=16, domain=8, one_domain=[True] * 6)
    placement = numbered(problem, [(0,)] * 6)
    assert placement is not None
    assert check(problem, placement) == []


def test_no_numbering_where_domains_cannot_hold_the_groups() -> None:
    bound = make(sizes=[3, 3, 2], racks=[0], domain=4, one_domain=[True, True, True])
    assert numbered(bound, [(0,)] * 3) is None
    free = make(sizes=[3, 3, 2], racks=[0], domain=4, one_domain=[True, True, False])
    placement = numbered(free, [(0,)] * 3)
    assert placement is not None
    assert check(free, placement) == []


def test_no_numbering_beyond_the_gpus_of_a_node() -> None:
    assert numbered(make(sizes=[8, 1], racks=[0]), [(0,), (0,)]) is None
    assert numbered(make(sizes=[8, 8], racks=[0], domain=4), [(0,), (0,)]) is None


def test_cost_counts_moves_nodes_and_partly_full_nodes() -> None:
    problem = make(sizes=[4, 2, 12], racks=[0] * 4, current=[1, 0, -1])
    placement = numbered(problem, [(0,), (0,), (2, 3)])
    assert placement is not None
    assert placement.moves_gpus == 4
    # What a group of two nodes leaves of its second one is open to nobody: that node counts as full.
    assert cost(problem, placement) == (4, 3, 1)
    assert placement.group_gpu_indices[2] == (tuple(range(8)), tuple(range(4)))
