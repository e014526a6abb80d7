"""Batches to look at again."""

import json

from skspectral.calibration.witnesses import Glimpse, Witnesses


def glimpse(number, n_states, *pairs):
    return Glimpse(number, (number, number + 1), n_states, frozenset(pairs))


A, B, C = ("", "gru"), ("gru", "linear"), ("gru", "relu")
BATCHES = [glimpse(0, 5, A), glimpse(1, 9, A), glimpse(2, 2, A), glimpse(3, 5, A, B)]
BATCHES += [glimpse(4, 5, B), glimpse(5, 5, C)]


def of(batches):
    found = Witnesses()
    for batch in batches:
        found = found.plus(batch)
    return found


def test_they_are_the_first_the_shortest_the_longest_and_those_of_a_new_way():
    found = of(BATCHES)
    assert [each.number for each in found] == [0, 1, 2, 3, 5]
    assert (found.shortest, found.longest) == (BATCHES[2], BATCHES[1])


def test_parts_give_the_same_as_the_whole():
    parts = [glimpse(i, each.n_states, *each.path) for i, each in enumerate(BATCHES[3:])]
    joined = of(BATCHES[:3]).followed_by(of(parts), 3)
    assert [each.number for each in joined] == [0, 1, 2, 3, 5]


def test_they_are_written_and_read():
    found = of(BATCHES)
    assert Witnesses.from_json(json.loads(json.dumps(found.as_json()))) == found
    assert Witnesses.from_json(json.loads(json.dumps(Witnesses().as_json()))) == Witnesses()
