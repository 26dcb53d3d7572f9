"""A leader knows by its own clock when it leads no more."""

from __future__ import annotations

import asyncio

from coil.controller.leader import Leadership
from coil.process.problems import Problems
from coil.store.errors import StoreUnavailable


class Stage:
    """A clock that a test moves, and a store that answers as told; a call may take its time."""

    def __init__(self):
        self.now = 1000.0
        self.answer = True
        self.takes = 0.0
        self.resigned = []
        self.problems = Problems()
        self.leadership = Leadership(self, clock=lambda: self.now, lease=10, problems=self.problems)

    async def identity(self):
        return "one"

    async def lead(self, _role, _holder, _seconds):
        self.now += self.takes
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def resign(self, role, holder):
        self.resigned.append((role, holder))

    async def find_leader(self, _role):
        return None

    def renew(self, *, answer=True, takes=0.0):
        self.answer, self.takes = answer, takes
        asyncio.run(self.leadership._renew())


def test_it_leads_for_less_than_its_lease_from_before_it_asked():
    stage = Stage()
    assert not stage.leadership.is_leading
    stage.renew(takes=3)
    stage.now = 1007.9
    assert stage.leadership.is_leading
    stage.now = 1008.1
    assert not stage.leadership.is_leading


def test_an_answer_that_comes_too_late_makes_nobody_lead():
    stage = Stage()
    stage.renew(takes=9)
    assert not stage.leadership.is_leading


def test_a_call_that_failed_changes_nothing_and_is_told():
    stage = Stage()
    stage.renew()
    stage.now += 4
    stage.renew(answer=StoreUnavailable("away"))
    assert stage.leadership.is_leading
    assert stage.problems.count("leader") == 1
    stage.now += 5
    assert not stage.leadership.is_leading
    stage.renew()
    assert stage.problems.count("leader") == 0


def test_renewals_are_one_term_and_a_lapse_begins_another():
    stage = Stage()
    for _ in range(3):
        stage.renew()
        stage.now += 5
    assert stage.leadership.term == 1
    stage.now += 60
    stage.renew()
    assert stage.leadership.term == 2
    stage.renew(answer=False)
    assert not stage.leadership.is_leading
    stage.renew()
    assert stage.leadership.term == 3


def test_only_who_leads_resigns_and_then_it_does_not_lead():
    stage = Stage()
    asyncio.run(stage.leadership.resign())
    assert stage.resigned == []
    stage.renew()
    asyncio.run(stage.leadership.resign())
    assert stage.resigned == [("controller", stage.leadership.holder)]
    assert not stage.leadership.is_leading
